"""Engines and transactions: SQLite in WAL mode with immediate write transactions, PostgreSQL through psycopg 3."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler

from dbb.errors import DbbError, NotFoundError, UsageError
from dbb.registry._filesystem import refuse_network
from dbb.registry._turns import connect_patiently, take_turn
from dbb.registry.snapshots import IMMUTABLE, file_uri, is_snapshot

BUSY_MILLISECONDS = 30_000
"""How long SQLite itself waits where a statement must, other than for the turn of a writer."""
_LIST = 50  # below this length an IN list is bound value by value


def open_engine(url: str, *, create: bool = False) -> sa.Engine:
    """Return an engine for a registry URL; nothing is connected yet.

    Raises
    ------
    UsageError
        If the URL cannot be read, names neither SQLite nor PostgreSQL, or an SQLite file on a network file system.
    NotFoundError
        If it names an SQLite file that is not there and `create` is false.
    """
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:
        # not the text itself, which may hold a password
        raise UsageError("the registry is no URL: write sqlite:///file.db or postgresql+psycopg://…") from error
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
        try:
            return _postgres_engine(parsed)
        except ModuleNotFoundError as error:
            raise DbbError("PostgreSQL needs psycopg: pip install 'mini-dbb[postgres]'") from error
    if backend != "sqlite":
        raise UsageError(
            f"registry {parsed.render_as_string()!r}: only sqlite and postgresql are supported, not {backend}"
        )
    if not parsed.database or parsed.database == ":memory:":
        return _sqlite_engine(parsed)
    if not create and not Path(parsed.database).exists():
        raise NotFoundError("registry", url, hint="There is no such file: make one with 'dbb create'")
    return _open_file(parsed, Path(parsed.database).absolute(), create=create)


def _open_file(url: sa.URL, file: Path, *, create: bool) -> sa.Engine:
    frozen = url.set(database=file_uri(str(file)), query={"uri": "true", **IMMUTABLE})
    if is_snapshot(str(file)):
        engine = _sqlite_engine(frozen)
        engine.update_execution_options(dbb_snapshot=True)
        return engine
    writable = create or (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK))
    if not writable and not Path(f"{file}-wal").exists():  # a log that is there holds rows that must not be missed
        return _sqlite_engine(frozen)  # nobody can be writing: SQLite needs no files beside it
    refuse_network(file, create=create)
    return _sqlite_engine(url if writable else frozen.set(query={"uri": "true", "mode": "ro"}))


def _postgres_engine(url: sa.URL) -> sa.Engine:
    # A program keeps one connection, and has two at most while it reads and writes at once: so a server whose limit is
    # 100, as it is if nobody says otherwise, serves a hundred programs.
    engine = sa.create_engine(url, pool_size=1, max_overflow=3, pool_pre_ping=True)
    where = f"the PostgreSQL server at {url.host or 'this machine'}"

    @sa.event.listens_for(engine, "do_connect")
    def _connect(dialect: Any, _record: object, args: Any, options: Any) -> Any:
        return connect_patiently(lambda: dialect.connect(*args, **options), dialect.dbapi.OperationalError, where)

    return engine


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    in_memory = not url.database or url.database == ":memory:"
    pool = sa.StaticPool if in_memory else sa.QueuePool
    engine = sa.create_engine(url, poolclass=pool, connect_args={"check_same_thread": False})

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions behind our back
        connection.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA cache_size=-32000")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        options = connection.get_execution_options()
        if options.get("dbb_write", False):
            take_turn(connection, BUSY_MILLISECONDS)
        elif not options.get("dbb_no_transaction", False):
            connection.exec_driver_sql("BEGIN")

    return engine


def outside_transaction(engine: sa.Engine) -> sa.Connection:
    """Return a connection for the few statements that must not, or need not, be part of a transaction."""
    level = {"isolation_level": "AUTOCOMMIT"} if engine.dialect.name == "postgresql" else {}
    return engine.connect().execution_options(dbb_no_transaction=True, **level)


def one_of(column: sa.ColumnElement[Any], values: Sequence[object], dialect: str) -> sa.ColumnElement[bool]:
    """Return ``column IN values`` for a list of any length, bound as one value where it is long."""
    if len(values) < _LIST:
        return column.in_(values)
    if dialect == "postgresql":
        return column == sa.any_(sa.cast(sa.literal(_array(values), sa.Text), sa.ARRAY(column.type)))
    listed = sa.func.json_each(json.dumps(list(values))).table_valued("value")
    return column.in_(sa.select(listed.c.value))


def _array(values: Sequence[object]) -> str:
    """Return values as PostgreSQL writes an array, which the driver takes much longer for."""
    texts = [str(value).replace("\\", r"\\").replace('"', r"\"") for value in values if value is not None]
    return "{" + ",".join(f'"{text}"' for text in texts) + "}"


def rows_table(
    rows: Sequence[Sequence[object]] | None, columns: Sequence[str], dialect: str, texts: Sequence[str] = ()
) -> sa.Subquery:
    """Return rows of integers, and of text in the columns `texts`, as a table that is one bound value.

    Without `rows` it is a JSON text that is given as ``rows`` when the statement is executed.
    """
    text = sa.bindparam("rows", type_=sa.Text) if rows is None else sa.literal(json.dumps(rows), sa.Text)
    if dialect == "postgresql":
        value = sa.func.json_array_elements(sa.cast(text, sa.JSON)).table_valued("value").c.value
        items = [sa.type_coerce(value, sa.JSON)[at].as_string() for at in range(len(columns))]
        typed = [
            item if name in texts else sa.cast(item, sa.BigInteger) for item, name in zip(items, columns, strict=True)
        ]
    else:
        value = sa.func.json_each(text).table_valued("value").c.value
        typed = [sa.func.json_extract(value, f"$[{at}]") for at in range(len(columns))]
    kinds = [sa.Text if name in texts else sa.BigInteger for name in columns]
    chosen = [sa.type_coerce(item, kind).label(name) for item, kind, name in zip(typed, kinds, columns, strict=True)]
    return sa.select(*chosen).subquery("given")


def compile_once(statement: sa.Select[Any], dialect: sa.Dialect) -> SQLCompiler:
    """Return a statement for `run_compiled`: what SQLAlchemy does for each execution costs more than a small one does.

    It must have no list to expand, and give and take only values that the driver knows.
    """
    compiled = statement.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)
    return compiled


def run_compiled(conn: sa.Connection, statement: SQLCompiler, values: Mapping[str, object]) -> Sequence[Any]:
    """Return the rows of a statement that was compiled once."""
    given = statement.construct_params(values)
    parameters = tuple(given[name] for name in statement.positiontup) if statement.positiontup else given
    return conn.exec_driver_sql(statement.string, parameters).all()
