"""What the numbers of an exported registry are in the one that it goes into: those of what is known, and new ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from dbb.errors import TableError
from dbb.exchange.content import FILE, OVERLAPS, RUN, TASK, references
from dbb.exchange.incoming import MOST
from dbb.registry._tables import BIG, desfile, file_archive_info, overlap_version, pfw_attempt, task

_NUMBERED = {FILE: desfile, TASK: task, RUN: pfw_attempt, OVERLAPS: overlap_version}
_COMPARED = ("filesize", "md5sum", "sha256")
Incoming = Mapping[str, sa.Table]


def _map(kind: str) -> sa.Table:
    return sa.Table(
        f"in_number_of_{kind}",
        sa.MetaData(),
        sa.Column("old", BIG, primary_key=True, autoincrement=False),
        sa.Column("new", BIG, nullable=False, unique=True),
        sa.Column("fresh", sa.Boolean, nullable=False),
        prefixes=["TEMPORARY"],
    )


NUMBERS = {kind: _map(kind) for kind in _NUMBERED}
"""For each kind of thing a temporary table: its old number, its new one, and whether it is new itself."""
_FILES, _TASKS, _RUNS, _OVERLAPS = (NUMBERS[kind] for kind in (FILE, TASK, RUN, OVERLAPS))


def make_maps(conn: sa.Connection) -> None:
    """Make the tables of `NUMBERS`."""
    for table in NUMBERS.values():
        conn.execute(sa.schema.CreateTable(table))


def same(one: sa.ColumnElement[Any], other: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Return that two values are equal, or both missing."""
    return one.is_not_distinct_from(other)


def contradicts(one: Any, other: Any) -> sa.ColumnElement[bool]:
    """Return that two rows of files say something different of their bytes, or are of different filetypes."""
    differ = [sa.and_(one.c[name].is_not(None), one.c[name] != other.c[name]) for name in _COMPARED]
    return sa.func.coalesce(sa.or_(*differ, one.c.filetype != other.c.filetype), sa.false())


def _known(conn: sa.Connection, numbers: sa.Table, pairs: sa.Select[Any]) -> int:
    """Note pairs of old and new numbers; of several old ones for a new one, and the other way round, the first."""
    given = pairs.subquery("pairs")
    old, new = given.c
    first = sa.select(old.label("old"), sa.func.min(new).label("new")).group_by(old).subquery("first")
    chosen = sa.select(sa.func.min(first.c.old), first.c.new, sa.false()).group_by(first.c.new)
    free = chosen.where(first.c.new.not_in(sa.select(numbers.c.new)), first.c.old.not_in(sa.select(numbers.c.old)))
    statement = sa.insert(numbers).from_select(["old", "new", "fresh"], free)
    return conn.execute(statement, execution_options={"preserve_rowcount": True}).rowcount


def _fresh(conn: sa.Connection, kind: str, given: sa.Table) -> None:
    """Give numbers after all that there are to what is not known; an empty registry keeps the old ones."""
    numbers = NUMBERS[kind]
    highest = sa.select(sa.func.max(_NUMBERED[kind].c.id)).scalar_subquery()
    offset = conn.scalar(sa.select(sa.func.coalesce(highest, 0))) or 0
    last = conn.scalar(sa.select(sa.func.max(given.c.id))) or 0
    if offset + last >= MOST:
        raise TableError(f"the numbers of {_NUMBERED[kind].name} in the folder go up to {last}: they cannot be")
    rest = sa.select(given.c.id, given.c.id + sa.literal(offset, BIG), sa.true())
    rest = rest.where(given.c.id.not_in(sa.select(numbers.c.old)))
    conn.execute(sa.insert(numbers).from_select(["old", "new", "fresh"], rest))
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql(f"ANALYZE {numbers.name}")


def number_overlaps(conn: sa.Connection, given: Incoming) -> None:
    """Find the overlap versions that are known by name."""
    theirs = given["overlap_version"]
    _known(conn, _OVERLAPS, sa.select(theirs.c.id, overlap_version.c.id).where(theirs.c.name == overlap_version.c.name))
    _fresh(conn, OVERLAPS, theirs)


def number_runs(conn: sa.Connection, given: Incoming) -> None:
    """Find the runs that are known: request, unit and attempt number are the same."""
    theirs, names = given["pfw_attempt"], ("reqnum", "unitname", "attnum")
    alike = [theirs.c[name] == pfw_attempt.c[name] for name in names]
    _known(conn, _RUNS, sa.select(theirs.c.id, pfw_attempt.c.id).where(*alike))
    _fresh(conn, RUN, theirs)


def number_tasks(conn: sa.Connection, given: Incoming) -> None:
    """Find the tasks that are known: those of known runs, and what has the same name and place below a known one."""
    theirs, runs = given["task"], given["pfw_attempt"]
    mine = sa.select(runs.c.task_id, pfw_attempt.c.task_id).where(
        _RUNS.c.old == runs.c.id, _RUNS.c.new == pfw_attempt.c.id, pfw_attempt.c.task_id.is_not(None)
    )
    _known(conn, _TASKS, mine.where(runs.c.task_id.is_not(None)))
    roots = sa.select(runs.c.task_id).where(runs.c.task_id.is_not(None))
    own = sa.select(pfw_attempt.c.task_id).where(pfw_attempt.c.task_id.is_not(None))
    ours_alone = [task.c.parent_task_id.is_(None), task.c.id.not_in(own)]
    alone = [theirs.c.parent_task_id.is_(None), theirs.c.id.not_in(roots)]
    _known(conn, _TASKS, _alike(_ranked(theirs, None, alone), _ranked(task, None, ours_alone)))
    while True:
        below = [
            theirs.c.parent_task_id == _TASKS.c.old,
            sa.not_(_TASKS.c.fresh),
            theirs.c.id.not_in(sa.select(_TASKS.c.old)),
        ]
        known = sa.select(_TASKS.c.new).where(sa.not_(_TASKS.c.fresh))
        ours = _ranked(task, task.c.parent_task_id, [task.c.parent_task_id.in_(known)])
        if not _known(conn, _TASKS, _alike(_ranked(theirs, _TASKS.c.new, below), ours)):
            break
    _fresh(conn, TASK, theirs)


def _ranked(table: sa.Table, parent: Any, conditions: Sequence[sa.ColumnElement[bool]]) -> sa.Subquery:
    """Return tasks with their place among those of the same parent, name and label."""
    above = sa.literal(0, BIG) if parent is None else parent
    label = sa.func.coalesce(table.c.label, "")
    place = sa.func.row_number().over(partition_by=[above, table.c.name, label], order_by=table.c.id)
    columns = [table.c.id, above.label("above"), table.c.name, label.label("label"), place.label("place")]
    return sa.select(*columns).where(*conditions).subquery()


def _alike(theirs: sa.Subquery, ours: sa.Subquery) -> sa.Select[Any]:
    names = ("above", "name", "label", "place")
    return sa.select(theirs.c.id, ours.c.id).where(*(theirs.c[name] == ours.c[name] for name in names))


def number_files(conn: sa.Connection, given: Incoming) -> None:
    """Find the files that are known: at the same place in the same archive, or in another one with the same checksum.

    A file that no archive has is the one of the same name, run and bytes that no archive has here.
    """
    theirs, places, here = given["desfile"], given["file_archive_info"], file_archive_info
    path = [places.c[name] == here.c[name] for name in ("filename", "path", "compression")]
    at_place = sa.select(places.c.desfile_id, here.c.desfile_id)
    _known(conn, _FILES, at_place.where(*path, places.c.archive_name == here.c.archive_name))
    run = sa.select(_RUNS.c.new).where(_RUNS.c.old == theirs.c.pfw_attempt_id).scalar_subquery()
    alike = [sa.not_(contradicts(theirs, desfile)), same(desfile.c.pfw_attempt_id, run)]
    sums = sa.or_(theirs.c.md5sum == desfile.c.md5sum, theirs.c.sha256 == desfile.c.sha256)
    copies = at_place.where(*path, places.c.desfile_id == theirs.c.id, here.c.desfile_id == desfile.c.id, sums, *alike)
    _known(conn, _FILES, copies)
    nowhere = [
        theirs.c.id.not_in(sa.select(places.c.desfile_id)),
        sa.not_(sa.exists().where(here.c.desfile_id == desfile.c.id)),
        theirs.c.filename == desfile.c.filename,
        theirs.c.compression == desfile.c.compression,
        *(same(theirs.c[name], desfile.c[name]) for name in _COMPARED),
    ]
    _known(conn, _FILES, sa.select(theirs.c.id, desfile.c.id).where(*nowhere, *alike))
    _fresh(conn, FILE, theirs)


def check_references(conn: sa.Connection, tables: Mapping[str, sa.Table], given: Incoming) -> None:
    """Make sure that whatever the rows refer to is in the folder.

    Raises
    ------
    TableError
        If something is not; names the table and the column.
    """
    for name, table in tables.items():
        for column, kind in references(table):
            number = given[name].c[column]
            lost = sa.select(number).where(number.is_not(None), number.not_in(sa.select(NUMBERS[kind].c.old))).limit(1)
            if (found := conn.scalar(lost)) is not None:
                raise TableError(f"table {name}, column {column}: there is no {kind} {found} in the folder")
