"""What tasks read and what came from what: files named in events, found among those that are registered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

import sqlalchemy as sa

from dbb.registry._connect import one_of
from dbb.registry._insert import insert_missing_rows, insert_rows, run_many
from dbb.registry._runtables import pending_use, planned_file
from dbb.registry._tables import desfile, opm_used, opm_was_derived_from
from dbb.registry.provenance import files_at
from dbb.runs.compressed import count_compressed, register_compressed
from dbb.runs.facts import Derived, Facts, JobRows, Used
from dbb.runs.files import MadeFiles, find_made
from dbb.runs.states import WARNING

_USED = ("task_id", "desfile_id")
_DERIVED = ("parent_desfile_id", "child_desfile_id")
_PENDING = ("pfw_attempt_id", "filename", "compression", "task_id", "child_desfile_id")
_Name = tuple[str, str]


@dataclass(slots=True)
class _Relations:
    """Rows to insert, each once, in order."""

    used: dict[tuple[int, int], None] = field(default_factory=dict)
    derived: dict[tuple[int, int], None] = field(default_factory=dict)
    pending: dict[tuple[int, str, str, int | None, int | None], None] = field(default_factory=dict)


def register_relations(conn: sa.Connection, made: MadeFiles, facts: Facts) -> None:
    """Note which files tasks read, and which files came from which.

    A file is looked for where the event says that it is, then by its name among those of the run, then among all. One
    that a step of the run makes, but has not reported yet, is noted when that is merged.

    Notes
    -----
    A fixed number of statements, and one more for each archive.
    """
    rows = _Relations()
    packers, packed_from, packed_to = register_compressed(conn, made, facts)
    rows.used |= dict.fromkeys(packed_from)
    rows.derived |= dict.fromkeys(packed_to)
    children = find_made(conn, [(one.owner, *one.child) for one in facts.derived], made)
    parents = find_made(conn, [(one.owner, *one.parent) for one in facts.derived], made)
    _add_used(conn, facts, rows)
    given = _inputs(conn, [one for one in facts.derived if (one.owner, *one.parent) not in parents], rows)
    loose = []
    for one in facts.derived:
        child = children.get((one.owner, *one.child))
        parent = parents.get((one.owner, *one.parent)) or given.get((one.task, *one.parent))
        if child is None:
            text = f"{''.join(one.child)} was derived from {''.join(one.parent)}, but never said to be made"
            facts.complain(one.job, one.owner, text, WARNING)
        elif parent is None:
            loose.append((one, child))
        elif parent != child:
            rows.derived[parent, child] = None
    _find_by_name(conn, [(one.job, one.owner, one.parent, None, child) for one, child in loose], facts, rows)
    _resolve_pending(conn, made, rows)
    insert_missing_rows(conn, opm_used, _USED, list(rows.used))
    insert_missing_rows(conn, opm_was_derived_from, _DERIVED, list(rows.derived))
    insert_rows(conn, pending_use, _PENDING, list(rows.pending))
    count_compressed(conn, packers)


def _add_used(conn: sa.Connection, facts: Facts, rows: _Relations) -> None:
    placed = [(one.archive, one.relpath) for one in facts.used if one.archive is not None and one.relpath is not None]
    there = files_at(conn, placed)
    loose: list[Used] = []
    for one in facts.used:
        number = None if one.archive is None or one.relpath is None else there.get((one.archive, one.relpath))
        if number is None:
            loose.append(one)
        else:
            rows.used[one.task, number] = None
    # of a step's own files it is the one that this try made
    wanted = [(one.job, one.owner, (one.filename, one.compression), one.task, None) for one in loose]
    _find_by_name(conn, wanted, facts, rows)


def _inputs(conn: sa.Connection, derived: Sequence[Derived], rows: _Relations) -> dict[tuple[int, str, str], int]:
    """Return what tasks are known to have read, by task, name and compression."""
    tasks = {one.task for one in derived}
    if not tasks:
        return {}
    dialect = conn.dialect.name
    mine: dict[int, list[int]] = {number: [] for number in tasks}
    for number, file in rows.used:
        if number in mine:
            mine[number].append(file)
    found: dict[tuple[int, str, str], int] = {}
    new = {file for files in mine.values() for file in files}
    names = sa.select(desfile.c.id, desfile.c.filename, desfile.c.compression)
    called = {
        row.id: (row.filename, row.compression)
        for row in conn.execute(names.where(one_of(desfile.c.id, sorted(new), dialect)))
    }
    found |= {(number, *called[file]): file for number, files in mine.items() for file in files}
    before = sa.select(opm_used.c.task_id, desfile.c.filename, desfile.c.compression, desfile.c.id)
    before = before.where(desfile.c.id == opm_used.c.desfile_id, one_of(opm_used.c.task_id, sorted(tasks), dialect))
    return {(row.task_id, row.filename, row.compression): row.id for row in conn.execute(before)} | found


_Wanted = tuple[JobRows, int, _Name, int | None, int | None]
"""A job, the step that complains, the name of a file, and the task that read it or the file that came from it."""


def _find_by_name(conn: sa.Connection, wanted: Sequence[_Wanted], facts: Facts, rows: _Relations) -> None:
    if not wanted:
        return
    dialect = conn.dialect.name
    names = list({name[0] for _, _, name, _, _ in wanted})
    file = desfile.c
    select = sa.select(file.id, file.wgb_task_id, file.filename, file.compression, file.pfw_attempt_id)
    there: dict[_Name, dict[int | None, list[tuple[int, int | None]]]] = {}
    for number, maker, filename, compression, attempt in conn.execute(
        select.where(one_of(file.filename, names, dialect)).order_by(file.id)
    ):
        there.setdefault((filename, compression), {}).setdefault(attempt, []).append((number, maker))
    absent = {(job.attempt, name[0]) for job, _, name, _, _ in wanted if job.attempt not in there.get(name, {})}
    planned = _planned(conn, absent)
    for job, owner, name, task_id, child in wanted:
        candidates = there.get(name, {})
        own = candidates.get(job.attempt)
        if own is None and (job.attempt, name[0]) in planned:
            rows.pending[job.attempt, *name, task_id, child] = None
            continue
        fitting = own or sorted((one for some in candidates.values() for one in some), key=itemgetter(0))
        if not fitting:
            text = f"{''.join(name)} was read, but no file of this name is registered"
            facts.complain(job, owner, text, WARNING)
            continue
        # several tries of one task may each have made it
        if len({number if maker is None else (maker,) for number, maker in fitting}) > 1:
            text = f"{''.join(name)} was read, and {len(fitting)} files have this name: the newest is taken for it"
            facts.complain(job, owner, text, WARNING)
        _relate(rows, fitting[-1][0], task_id, child)


def _relate(rows: _Relations, number: int, task_id: int | None, child: int | None) -> None:
    if task_id is not None:
        rows.used[task_id, number] = None
    if child is not None and child != number:
        rows.derived[number, child] = None


def _planned(conn: sa.Connection, wanted: Iterable[tuple[int, str]]) -> set[tuple[int, str]]:
    by_attempt: dict[int, list[str]] = {}
    for attempt, filename in wanted:
        by_attempt.setdefault(attempt, []).append(filename)
    found: set[tuple[int, str]] = set()
    for attempt, names in by_attempt.items():
        mine = planned_file.c.pfw_attempt_id == attempt
        select = sa.select(planned_file.c.filename).where(
            mine, one_of(planned_file.c.filename, names, conn.dialect.name)
        )
        found |= {(attempt, name) for name in conn.scalars(select)}
    return found


def _resolve_pending(conn: sa.Connection, made: MadeFiles, rows: _Relations) -> None:
    """Give the files that are new now to the tasks that had read them before they were reported."""
    names = {(one.job.attempt, one.filename, one.compression): number for number, one in made.fresh.items()}
    use, attempts = pending_use.c, sorted({attempt for attempt, _, _ in names})
    if not conn.scalar(sa.select(sa.exists().where(use.pfw_attempt_id.in_(attempts)))):
        return
    mine = sa.and_(
        use.pfw_attempt_id.in_(attempts), one_of(use.filename, list({name for _, name, _ in names}), conn.dialect.name)
    )
    done = set()
    for attempt, filename, compression, task_id, child in conn.execute(sa.select(pending_use).where(mine)).all():
        number = names.get((attempt, filename, compression))
        if number is not None:
            _relate(rows, number, task_id, child)
            done.add((attempt, filename, compression))
    if done:
        columns = _PENDING[:3]
        this = sa.and_(*(use[name] == sa.bindparam(f"its_{name}") for name in columns))
        values = [{f"its_{name}": value for name, value in zip(columns, one, strict=True)} for one in sorted(done)]
        run_many(conn, sa.delete(pending_use).where(this), values)
