"""What is in a registry: its tables, and which of their columns hold the number of something in another one."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from dbb.registry import Database
from dbb.registry._runtables import metadata
from dbb.registry._tables import dbb_schema

FILE, TASK, RUN, OVERLAPS = "file", "task", "run", "overlaps"
"""What has a number of its own in a registry."""
_REFERENCES = {
    **dict.fromkeys(("desfile_id", "parent_desfile_id", "child_desfile_id", "tar_id"), FILE),
    **dict.fromkeys(("task_id", "wgb_task_id", "parent_task_id", "root_task_id", "job_task_id"), TASK),
    **dict.fromkeys(("pfw_block_task_id", "pfw_job_task_id", "pfw_wrapper_task_id"), TASK),
    "pfw_attempt_id": RUN,
    "overlap_version_id": OVERLAPS,
}
_TOGETHER = 200  # SQLite joins 500 SELECTs at most
_NUMBERED = {"desfile": FILE, "task": TASK, "pfw_attempt": RUN, "overlap_version": OVERLAPS}


def own_tables() -> dict[str, sa.Table]:
    """Return the tables that every registry has, but for the one that says its version: referred ones come first."""
    return {table.name: table for table in metadata.sorted_tables if table is not dbb_schema}


def metadata_tables(db: Database) -> dict[str, sa.Table]:
    """Return the metadata tables of a registry by name."""
    tables = (db.table(filetype) for filetype in db.filetypes().values())
    return {table.name: table for table in tables if table is not None}


def filled_tables(db: Database, conn: sa.Connection) -> dict[str, sa.Table]:
    """Return the metadata tables that have rows: a camera has a hundred filetypes, and a survey files of ten."""
    tables = metadata_tables(db)
    some = [sa.select(sa.literal(name)).where(sa.exists(sa.select(table))) for name, table in tables.items()]
    found: set[str] = set()
    for start in range(0, len(some), _TOGETHER):
        found.update(conn.scalars(sa.union_all(*some[start : start + _TOGETHER])))
    return {name: table for name, table in tables.items() if name in found}


def references(table: sa.Table) -> Iterator[tuple[str, str]]:
    """Give the columns of a table that hold numbers, and of what: the first one may be its own."""
    if table.name in _NUMBERED:
        yield "id", _NUMBERED[table.name]
    for column in table.columns:
        if column.name in _REFERENCES:
            yield column.name, _REFERENCES[column.name]
