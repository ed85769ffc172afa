"""Compressed outputs: each step or job that has some gets a task that used the plain files and made the others."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import sqlalchemy as sa

from dbb.registry._connect import one_of
from dbb.registry._insert import insert_rows, run_many, take_ids
from dbb.registry._runtables import compress_task
from dbb.registry._tables import desfile, opm_used, task
from dbb.runs.facts import Compressed, Facts
from dbb.runs.files import COMPRESS, MadeFiles, find_made
from dbb.runs.states import STATUS_OK, SUCCEEDED
from dbb.runs.tasks import moment

_TASK = ("id", "name", "info_table", "start_time", "end_time", "status", "parent_task_id", "root_task_id", "state")
_Pairs = list[tuple[int, int]]


def register_compressed(conn: sa.Connection, made: MadeFiles, facts: Facts) -> tuple[list[int], _Pairs, _Pairs]:
    """Make compressed files the work of a task of their own.

    Returns
    -------
    tasks, used, derived
        These tasks, and the pairs of task and file, and of parent and child, that follow.
    """
    used: _Pairs = []
    derived: _Pairs = []
    if not facts.compressed:
        return [], used, derived
    wanted = [(one.owner, *name) for one in facts.compressed for name in (one.source, one.target) if name is not None]
    files = find_made(conn, wanted, made)
    tasks = _tasks_of(conn, facts.compressed)
    mine = []
    for one in facts.compressed:
        source = files.get((one.owner, *one.source))
        target = None if one.target is None else files.get((one.owner, *one.target))
        if source is not None:
            used.append((tasks[one.owner], source))
        if target is not None:
            mine.append({"file": target, "maker": tasks[one.owner]})
        if source is not None and target is not None:
            derived.append((source, target))
    if mine:
        this = desfile.c.id == sa.bindparam("file")
        run_many(conn, sa.update(desfile).where(this).values(wgb_task_id=sa.bindparam("maker")), mine)
    return sorted(tasks.values()), used, derived


def _tasks_of(conn: sa.Connection, compressed: Sequence[Compressed]) -> dict[int, int]:
    """Return the task that compresses the files of each step or job, made where there is none."""
    dialect = conn.dialect.name
    first = {one.owner: one for one in reversed(compressed)}
    mine = one_of(task.c.parent_task_id, list(first), dialect)
    rows = conn.execute(sa.select(task.c.parent_task_id, task.c.id).where(mine, task.c.name == COMPRESS))
    found = {row.parent_task_id: row.id for row in rows}
    new = {owner: one for owner, one in first.items() if owner not in found}
    if not new:
        return found
    fresh = dict(zip(new, take_ids(conn, task, len(new)), strict=True))
    tasks, facts = [], []
    for owner, number in fresh.items():
        one, time = new[owner], moment(new[owner].time, dialect)
        facts.append((number, *_words(one.argv)))
        tasks.append((number, COMPRESS, "compress_task", time, time, STATUS_OK, owner, one.job.root, SUCCEEDED))
    insert_rows(conn, task, _TASK, tasks)
    insert_rows(conn, compress_task, ("task_id", "name", "cmdargs"), facts)
    return found | fresh


def _words(argv: Sequence[str]) -> tuple[str | None, str | None]:
    return (argv[0], shlex.join(argv[1:])) if argv else (None, None)


def count_compressed(conn: sa.Connection, tasks: Sequence[int]) -> None:
    """Bring the counts of tasks that compress up to date with the files that they used and made."""
    if not tasks:
        return
    this = compress_task.c.task_id
    asked = sa.select(sa.func.count()).select_from(opm_used).where(opm_used.c.task_id == this).scalar_subquery()
    made = (
        sa.select(sa.func.count(sa.distinct(desfile.c.filename))).where(desfile.c.wgb_task_id == this).scalar_subquery()
    )
    before = (
        sa.select(sa.func.sum(desfile.c.filesize))
        .where(desfile.c.id == opm_used.c.desfile_id, opm_used.c.task_id == this)
        .scalar_subquery()
    )
    after = sa.select(sa.func.sum(desfile.c.filesize)).where(desfile.c.wgb_task_id == this).scalar_subquery()
    conn.execute(
        sa.update(compress_task)
        .where(one_of(this, list(tasks), conn.dialect.name))
        .values(num_requested=asked, num_failed=asked - made, tot_bytes_before=before, tot_bytes_after=after)
    )
