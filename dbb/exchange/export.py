"""A registry as a folder of Parquet files, a folder for each run in each table's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dbb.exchange.content import metadata_tables, own_tables
from dbb.exchange.fetch import plain, stream
from dbb.exchange.manifest import NO_RUN, Part, describe_part, write_manifest
from dbb.exchange.parquet import write_rows
from dbb.registry import Database
from dbb.registry._tables import desfile, ops_filetype, ops_filetype_metadata, pfw_attempt, task
from dbb.registry.runs import all_runs
from dbb.storage import new_folder

Progress = Callable[[int], object]
_BATCH = 50_000
_ATTEMPT, _ROOT = sa.bindparam("attempt", type_=sa.BigInteger), sa.bindparam("root", type_=sa.BigInteger)
_BY_FILE = {
    "file_archive_info": "desfile_id",
    "image_corners": "desfile_id",
    "opm_was_derived_from": "child_desfile_id",
}
_BY_TASK = {"compress_task": "task_id", "opm_used": "task_id", "event_log": "job_task_id"}
_NOT_BY_RUN = {"proctag"}


@dataclass(frozen=True, slots=True)
class Exported:
    """What is in an exported folder, or would be: rows of each table, files, bytes."""

    rows: dict[str, int]
    parts: int = 0
    size: int = 0


def export_registry(
    db: Database, folder: str | os.PathLike[str], *, dry_run: bool = False, progress: Progress | None = None
) -> Exported:
    """Write all of a registry to a folder of Parquet files.

    Parameters
    ----------
    db
        The registry.
    folder
        A folder that does not exist yet. It is made aside, and is there entirely or not at all.
    dry_run
        Count only.
    progress
        Called with the number of rows written now and then.

    Raises
    ------
    ConflictError
        If there is something at `folder`.

    Notes
    -----
    One view of the registry. The same registry gives the same bytes. A batch of 50 000 rows is in memory at a time.
    """
    if dry_run:
        return _counted(db)
    parts: list[Part] = []
    done: dict[str, int] = {}
    with new_folder(Path(folder)) as aside, db.read() as conn, conn.begin():
        for path, table, statement, values in _pieces(db, conn):
            batches = stream(conn, statement, values, _BATCH)
            count = write_rows(aside / path, table, batches)
            if not count:
                continue
            parts.append(describe_part(aside, path, count))
            done[table.name] = done.get(table.name, 0) + count
            if progress is not None:
                progress(sum(done.values()))
        write_manifest(aside, db.mapper_name, db.filetypes(), parts)
    return Exported(done, len(parts), sum(part.filesize for part in parts))


def _tables(db: Database) -> dict[str, sa.Table]:
    """Return the tables that are exported: what filetypes are stands in the manifest."""
    known = own_tables() | metadata_tables(db)
    return {name: table for name, table in known.items() if table not in (ops_filetype, ops_filetype_metadata)}


def _counted(db: Database) -> Exported:
    with db.read() as conn:
        tables = _tables(db).values()
        counts = {table.name: conn.scalar(sa.select(sa.func.count()).select_from(table)) or 0 for table in tables}
    return Exported({name: count for name, count in counts.items() if count})


def _pieces(db: Database, conn: sa.Connection) -> Iterator[tuple[str, sa.Table, sa.Select[Any], dict[str, Any]]]:
    """Give each file that may have rows: its path, its table, the SELECT of the rows, and the values for that."""
    by_run: dict[str, tuple[sa.Table, sa.Select[Any], sa.Select[Any]]] = {}
    for name, table in _tables(db).items():
        conditions = _of_run(table)
        if conditions is None:
            yield f"{name}/part.parquet", table, _ordered(table, sa.true(), db.dialect), {}
        else:
            some, rest = (_ordered(table, condition, db.dialect) for condition in conditions)
            by_run[name] = table, some, rest
    described = set(metadata_tables(db))
    roots = dict(tuple(row) for row in conn.execute(sa.select(pfw_attempt.c.id, pfw_attempt.c.task_id)))
    runs = {attempt: str(run) for attempt, run in all_runs(conn).items()}
    for attempt in (None, *sorted(runs, key=lambda attempt: runs[attempt])):
        used = described & _used_tables(db, conn, attempt)
        values = {} if attempt is None else {"attempt": attempt, "root": roots[attempt]}
        for name, (table, some, rest) in by_run.items():
            if name in used or name not in described:
                path = f"{name}/run={NO_RUN if attempt is None else runs[attempt]}/part.parquet"
                yield path, table, rest if attempt is None else some, values


def _used_tables(db: Database, conn: sa.Connection, attempt: int | None) -> set[str | None]:
    """Return the metadata tables of a run's files."""
    mine = desfile.c.pfw_attempt_id.is_(None) if attempt is None else desfile.c.pfw_attempt_id == attempt
    filetypes = conn.scalars(sa.select(desfile.c.filetype).where(mine).distinct()).all()
    return {db.filetype(name).table for name in filetypes}


def _of_run(table: sa.Table) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]] | None:
    """Return the conditions that rows of a table belong to a run, and to none; None if it is not parted by runs."""
    if table is task:
        roots = sa.select(pfw_attempt.c.task_id).where(pfw_attempt.c.task_id.is_not(None))
        none = sa.and_(
            task.c.id.not_in(roots), sa.or_(task.c.root_task_id.is_(None), task.c.root_task_id.not_in(roots))
        )
        return sa.or_(task.c.root_task_id == _ROOT, task.c.id == _ROOT), none
    if table.name in _BY_TASK:
        some, none = _of_run(task) or (sa.true(), sa.false())
        column = table.c[_BY_TASK[table.name]]
        return column.in_(sa.select(task.c.id).where(some)), column.in_(sa.select(task.c.id).where(none))
    if table.name in _BY_FILE or table.name not in own_tables():
        column = table.c[_BY_FILE.get(table.name, "desfile_id")]
        mine = sa.select(desfile.c.id).where(desfile.c.pfw_attempt_id == _ATTEMPT)
        return column.in_(mine), column.in_(sa.select(desfile.c.id).where(desfile.c.pfw_attempt_id.is_(None)))
    if "pfw_attempt_id" in table.c and table.name not in _NOT_BY_RUN:
        return table.c.pfw_attempt_id == _ATTEMPT, table.c.pfw_attempt_id.is_(None)
    return None


def _ordered(table: sa.Table, condition: sa.ColumnElement[bool], dialect: str) -> sa.Select[Any]:
    columns: list[sa.Column[Any]] = list(table.primary_key.columns) or list(table.columns)
    # by bytes, as on SQLite, whatever the language of the database; and nothing before something
    as_bytes = [
        column.collate("C") if dialect == "postgresql" and isinstance(column.type, sa.Text) else column
        for column in columns
    ]
    order = [one.asc() if table.primary_key.columns else one.asc().nulls_first() for one in as_bytes]
    return sa.select(*(plain(column, dialect) for column in table.columns)).where(condition).order_by(*order)
