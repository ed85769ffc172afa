"""Engines and transactions: SQLite in WAL mode with immediate write transactions, PostgreSQL through psycopg 3."""

from __future__ import annotations

import json
import logging
import os
import random
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

from dbb.errors import DbbError, NotFoundError, UsageError
from dbb.registry.snapshots import IMMUTABLE, file_uri, is_snapshot, refuse_snapshot

BUSY_SECONDS = 30
_TRIES = 5
_log = logging.getLogger(__name__)
_WRITERS = int.from_bytes(b"dbb")  # the advisory lock of a PostgreSQL registry's writers
_LIST = 50  # below this length an IN list is bound value by value
T = TypeVar("T")


def open_engine(url: str, *, create: bool = False) -> sa.Engine:
    """Return an engine for a registry URL; nothing is connected yet.

    Raises
    ------
    UsageError
        If the URL cannot be read, or names neither SQLite nor PostgreSQL.
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
            return sa.create_engine(parsed, pool_size=2, max_overflow=2, pool_pre_ping=True)
        except ModuleNotFoundError as error:
            raise DbbError("PostgreSQL needs psycopg: pip install 'mini-dbb[postgres]'") from error
    if backend != "sqlite":
        raise UsageError(
            f"registry {parsed.render_as_string()!r}: only sqlite and postgresql are supported, not {backend}"
        )
    if parsed.database and parsed.database != ":memory:" and not create and not Path(parsed.database).exists():
        raise NotFoundError("registry", url, hint="There is no such file: make one with 'dbb create'")
    if parsed.database and is_snapshot(path := str(Path(parsed.database).absolute())):
        frozen = _sqlite_engine(parsed.set(database=file_uri(path), query={"uri": "true", **IMMUTABLE}))
        frozen.update_execution_options(dbb_snapshot=True)
        return frozen
    return _sqlite_engine(parsed if create else _readable(parsed))


def _readable(url: sa.URL) -> sa.URL:
    """Return the URL that opens an SQLite file which may not be written, or only in a folder that may not."""
    file = Path(url.database or ":memory:")
    if not url.database or url.database == ":memory:" or (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
        return url
    # immutable: SQLite needs no files beside it; but a log that is there holds rows that must not be missed
    how = {"mode": "ro"} if Path(f"{file}-wal").exists() else IMMUTABLE
    return url.set(database=file_uri(str(file.absolute())), query={"uri": "true", **how})


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    in_memory = not url.database or url.database == ":memory:"
    pool = sa.StaticPool if in_memory else sa.QueuePool
    engine = sa.create_engine(url, poolclass=pool, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions behind our back
        connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA cache_size=-32000")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("dbb_no_transaction", False):
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("dbb_write", False) else "BEGIN")

    return engine


def outside_transaction(engine: sa.Engine) -> sa.Connection:
    """Return a connection for the few statements that must not, or need not, be part of a transaction."""
    level = {"isolation_level": "AUTOCOMMIT"} if engine.dialect.name == "postgresql" else {}
    return engine.connect().execution_options(dbb_no_transaction=True, **level)


def describe(error: BaseException) -> str:
    """Return the first line of a database error, without SQL and parameters."""
    original = getattr(error, "orig", None) or error
    reason = str(original).strip().splitlines() or ["no reason given"]
    return f"{type(original).__name__}: {reason[0]}"


def run_transaction(
    engine: sa.Engine, work: Callable[[sa.Connection], T], keep: Callable[[T], bool] = lambda result: True
) -> T:
    """Run `work` in one write transaction, one at a time in a registry; it must be safe to repeat.

    It is run again if a program that does not wait for its turn came between.

    What it did is undone if it raises, or if `keep` says so of its result.

    Raises
    ------
    ConflictError
        If the registry is a snapshot.
    DbbError
        If the database refuses for another reason, or still after several tries.
    """
    if engine.get_execution_options().get("dbb_snapshot", False):
        refuse_snapshot(engine)
    began = time.monotonic()
    for attempt in range(1, _TRIES + 1):
        try:
            with engine.connect().execution_options(dbb_write=True) as connection, connection.begin() as transaction:
                if engine.dialect.name == "postgresql":
                    # as BEGIN IMMEDIATE on SQLite: what is found to be unknown stays so until it is inserted
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITERS)))
                result = work(connection)
                if not keep(result):
                    transaction.rollback()
                return result
        except DBAPIError as error:
            waited = time.monotonic() - began
            if attempt == _TRIES or waited > BUSY_SECONDS * 1.5 or not _is_passing(error):
                raise DbbError(f"the registry refused: {describe(error)}") from error
            if waited > BUSY_SECONDS / 2:
                _log.warning("the registry has been busy for %.0f s; trying again", waited)
        time.sleep(random.uniform(0.02, 0.1) * 2**attempt)  # noqa: S311  # jitter, no secret
    raise AssertionError("unreachable: the last try returns or raises")


def _is_passing(error: DBAPIError) -> bool:
    original = error.orig
    if isinstance(original, sqlite3.Error):
        return getattr(original, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
    # unique violation (somebody registered the same file just now), serialization failure, deadlock
    return getattr(original, "sqlstate", "") in {"23505", "40001", "40P01"}


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
