"""A snapshot: an SQLite file with what a campaign needs of a registry, that every reading command reads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from dbb import __version__
from dbb.errors import ConflictError, DbbError
from dbb.exchange.choice import NOTED, Choice, chosen_file, chosen_run, note_choice
from dbb.exchange.content import metadata_tables, own_tables
from dbb.exchange.fetch import stream
from dbb.exchange.rows import chosen_rows
from dbb.registry import Database
from dbb.registry._insert import insert_rows
from dbb.registry._tables import SCHEMA_VERSION, dbb_schema, desfile
from dbb.registry._turns import describe
from dbb.registry.snapshots import SNAPSHOT_ID, dbb_snapshot
from dbb.storage import scratch_folder

Progress = Callable[[int], object]
_SETTINGS = ("journal_mode=OFF", "synchronous=OFF", "cache_size=-64000")
_ANALYZED = 1000
"""Of each index so many rows are looked at for the planner: how alike they are shows in these."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is in a snapshot, or would be.

    Parameters
    ----------
    files
        How many files of each filetype.
    runs
        How many runs.
    size
        Of the file in bytes; 0 in a dry run.
    """

    files: dict[str, int]
    runs: int
    size: int = 0


def write_snapshot(
    db: Database,
    path: str | os.PathLike[str],
    choice: Choice,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Snapshot:
    """Write a snapshot of a registry to `path`.

    Parameters
    ----------
    db
        The registry.
    path
        An SQLite file that does not exist yet. It is made aside, and is there entirely or not at all.
    choice
        What of the registry is wanted.
    dry_run
        Choose only, and count.
    progress
        Called with the number of rows written now and then.

    Raises
    ------
    ConflictError
        If there is something at `path`.
    NotFoundError, ParseError, UsageError, MissingError
        If `choice` cannot be understood; see `dbb.exchange.choice.note_choice`.

    Notes
    -----
    One transaction gives one view of the registry. From SQLite no row passes through Python; from PostgreSQL they are
    streamed, so that the memory needed does not grow with them.
    """
    target = Path(path)
    if os.path.lexists(target):
        raise ConflictError(f"{target} exists: choose another name or remove it first")
    if dry_run:
        with _view(db) as conn:
            note_choice(db, conn, choice)
            return _counted(conn)
    with scratch_folder(target) as folder:
        aside = folder / "snapshot"
        engine = _open(aside)
        _make_tables(db, engine)
        with _view(db, aside) as conn:
            note_choice(db, conn, choice)
            done = _counted(conn)
            _copy(db, conn, engine, choice, progress)
        _finish(db, engine, choice, sum(done.files.values()))
        size = aside.stat().st_size
        _move(aside, target)
    return Snapshot(done.files, done.runs, size)


@contextmanager
def _view(db: Database, attached: Path | None = None) -> Iterator[sa.Connection]:
    """Give a connection with one view of a registry in which temporary tables can be made.

    On SQLite the file `attached` is there, to be written, as the schema ``snapshot``.
    """
    try:
        with db.engine.connect() as conn:
            if db.dialect == "sqlite":
                yield from _sqlite_view(conn, attached)
            else:
                conn.execution_options(isolation_level="REPEATABLE READ")
                with conn.begin() as transaction:
                    yield conn
                    transaction.rollback()
    except DatabaseError as error:
        raise DbbError(f"the registry refused: {describe(error)}") from error


def _sqlite_view(conn: sa.Connection, attached: Path | None) -> Iterator[sa.Connection]:
    driver: Any = conn.connection.driver_connection
    # what is chosen is closed by construction, and looking up both ends of every relation is dear
    driver.execute("PRAGMA foreign_keys=OFF")
    try:
        if attached is not None:
            driver.execute("ATTACH ? AS snapshot", (str(attached.absolute()),))
            for setting in _SETTINGS:
                driver.execute(f"PRAGMA snapshot.{setting}")
        with conn.begin():
            yield conn
            for table in NOTED.sorted_tables:
                conn.execute(sa.schema.DropTable(table))
    finally:
        if attached is not None:
            driver.execute("DETACH snapshot")
        driver.execute("PRAGMA foreign_keys=ON")


def _counted(conn: sa.Connection) -> Snapshot:
    chosen = desfile.c.id.in_(sa.select(chosen_file.c.id))
    statement = sa.select(desfile.c.filetype, sa.func.count()).where(chosen).group_by(desfile.c.filetype)
    files = dict(tuple(row) for row in conn.execute(statement.order_by(desfile.c.filetype)))
    return Snapshot(files, conn.scalar(sa.select(sa.func.count()).select_from(chosen_run)) or 0)


def _open(path: Path) -> sa.Engine:
    """Return an engine for a file that nobody else sees yet: what is lost with the machine is made anew."""
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), poolclass=sa.NullPool)

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: object) -> None:
        for setting in _SETTINGS:
            connection.execute(f"PRAGMA {setting}")

    return engine


def _make_tables(db: Database, engine: sa.Engine) -> None:
    tables = [dbb_schema, dbb_snapshot, *own_tables().values(), *metadata_tables(db).values()]
    with engine.begin() as conn:
        conn.exec_driver_sql(f"PRAGMA application_id={SNAPSHOT_ID}")
        for table in tables:
            conn.execute(sa.schema.CreateTable(table))


def _copy(db: Database, conn: sa.Connection, engine: sa.Engine, choice: Choice, progress: Progress | None) -> None:
    written = 0
    for table, rows in chosen_rows(db, conn, choice):
        names = [column.name for column in table.columns]
        if db.dialect == "sqlite":
            there = sa.table(table.name, *map(sa.column, names), schema="snapshot")
            written += conn.execute(sa.insert(there).from_select(names, rows)).rowcount
            if progress is not None:
                progress(written)
            continue
        with engine.begin() as target:
            for batch in stream(conn, rows):
                insert_rows(target, table, names, batch)
                written += len(batch)
                if progress is not None:
                    progress(written)


def _finish(db: Database, engine: sa.Engine, choice: Choice, files: int) -> None:
    """Make the indexes, now that all rows are there, and say what the file is."""
    moment = time.time()
    with engine.begin() as conn:
        for table in (*own_tables().values(), *metadata_tables(db).values()):
            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                conn.execute(sa.schema.CreateIndex(index))
        known = {"version": SCHEMA_VERSION, "dbb": __version__, "mapper": db.mapper_name, "created_date": moment}
        conn.execute(sa.insert(dbb_schema).values(known))
        source = db.engine.url.render_as_string()  # with a password masked
        said = {"source": source, "chosen": str(choice), "files": files, "dbb": __version__, "created_date": moment}
        conn.execute(sa.insert(dbb_snapshot).values(said))
        conn.exec_driver_sql(f"PRAGMA analysis_limit={_ANALYZED}")
        conn.exec_driver_sql("ANALYZE")


def _move(aside: Path, target: Path) -> None:
    """Put the finished file in its place, where nothing may have appeared meanwhile."""
    aside.chmod(0o444)
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    try:
        os.link(aside, target)
    except FileExistsError as error:
        raise ConflictError(f"{target} appeared while it was being made: nothing was changed") from error
    except OSError:  # a file system without hard links
        aside.rename(target)
