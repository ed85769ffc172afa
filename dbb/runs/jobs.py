"""The jobs and steps of a run, one row for each step that is of interest."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from dbb.registry import Database
from dbb.registry._connect import one_of
from dbb.registry._runtables import pfw_block, pfw_exec, pfw_job, pfw_wrapper
from dbb.registry._tables import task
from dbb.runs.find import find_run
from dbb.runs.states import BLOCKED, FAILED, INCOMPLETE, KILLED, OPEN, RUNNING, SUCCEEDED, WAITING

_WORDS = {SUCCEEDED: "DONE", FAILED: "FAIL", BLOCKED: "BLOCKED", KILLED: "KILLED", INCOMPLETE: "INCOMPLETE"}


@dataclass(frozen=True, slots=True)
class StepStatus:
    """How a step of a job stands, or a job of which no step is of interest.

    Parameters
    ----------
    block, job, jk
        Its block, the number and the keys of its job.
    ended
        How many of the job's steps are over, of how many, as ``2/3``.
    jstate, jstatus
        Of the job: ``PRE`` before it begins, ``EXEC``, ``POST`` when its steps are over and it is not, ``DONE``,
        ``FAIL``, ``BLOCKED``, ``KILLED`` or ``INCOMPLETE``; and its exit status.
    wrap, modname, wk
        Number, module and keys of the step.
    state, status
        Of the step: ``WAIT`` before it begins, ``PRE`` before its first program, ``EXEC``, ``POST`` when its programs
        are over and it is not, then as the job; and its exit status.
    reason
        What there is to say of the step's or the job's end.
    """

    block: str
    job: int
    jk: str
    ended: str
    jstate: str
    jstatus: int | None
    wrap: int | None
    modname: str | None
    wk: str | None
    state: str | None
    status: int | None
    reason: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return all columns."""
        return asdict(self)


def job_status(db: Database, run: str, *, verbose: bool = False) -> list[StepStatus]:
    """Return the steps of a run that are under way, went wrong, or are the last of their job that went well.

    Parameters
    ----------
    db
        The registry.
    run
        ``Ht0_r11p95`` or ``r11p95``.
    verbose
        Return all steps.

    Raises
    ------
    NotFoundError, AmbiguousError, UsageError
        If `run` is none, or several.

    Notes
    -----
    Six statements.
    """
    with db.read() as conn:
        attempt = find_run(conn, run)
        jobs = _jobs(conn, attempt.id)
        counts = _ended(conn, attempt.id)
        steps = _steps(conn, attempt.id, verbose=verbose)
        running = [row.task_id for of_job in steps.values() for row in of_job if row.state == RUNNING]
        programs = _programs(conn, running)
    found = []
    for job in jobs:
        over = counts.get(job.task_id, 0)
        about = (
            job.name,
            job.jobnum,
            job.jobkeys or "",
            f"{over}/{job.expect_num_wrap}",
            _job_word(job, over),
            job.status,
        )
        shown = [
            StepStatus(*about, row.wrapnum, row.modname, row.wrapkeys, _word(row, programs), row.status, row.reason)
            for row in steps.get(job.task_id, [])
        ]
        found += shown or [StepStatus(*about, None, None, None, None, None, job.reason)]
    return found


def _jobs(conn: sa.Connection, attempt: int) -> list[Any]:
    job = pfw_job.c
    return list(
        conn.execute(
            sa.select(
                *(job[name] for name in ("task_id", "jobnum", "jobkeys", "expect_num_wrap")),
                pfw_block.c.name,
                task.c.state,
                task.c.status,
                task.c.reason,
            )
            .where(
                job.pfw_attempt_id == attempt, task.c.id == job.task_id, pfw_block.c.task_id == job.pfw_block_task_id
            )
            .order_by(job.jobnum)
        )
    )


def _ended(conn: sa.Connection, attempt: int) -> dict[int, int]:
    child, job = task.alias("child"), pfw_job.c
    over = sa.and_(
        child.c.parent_task_id == job.task_id,
        child.c.name == "wrapper",
        child.c.state.in_([SUCCEEDED, FAILED, KILLED, INCOMPLETE]),
    )
    select = sa.select(job.task_id, sa.func.count()).where(job.pfw_attempt_id == attempt, over).group_by(job.task_id)
    return {row[0]: row[1] for row in conn.execute(select)}


def _steps(conn: sa.Connection, attempt: int, *, verbose: bool) -> dict[int, list[Any]]:
    step = pfw_wrapper.c
    names = ("task_id", "pfw_job_task_id", "wrapnum", "modname", "wrapkeys")
    select = (
        sa.select(*(step[name] for name in names), task.c.state, task.c.status, task.c.reason)
        .where(step.pfw_attempt_id == attempt, task.c.id == step.task_id)
        .order_by(step.wrapnum)
    )
    if not verbose:
        other, its = pfw_wrapper.alias("other"), task.alias("its")
        last = (
            sa.select(sa.func.max(other.c.wrapnum))
            .where(other.c.pfw_attempt_id == attempt, its.c.id == other.c.task_id, its.c.state == SUCCEEDED)
            .group_by(other.c.pfw_job_task_id)
        )
        select = select.where(sa.or_(task.c.state.in_([RUNNING, FAILED, KILLED, INCOMPLETE]), step.wrapnum.in_(last)))
    found: dict[int, list[Any]] = {}
    for row in conn.execute(select):
        found.setdefault(row.pfw_job_task_id, []).append(row)
    return found


def _programs(conn: sa.Connection, steps: Collection[int]) -> dict[int, set[str]]:
    """Return in which states the programs of steps are."""
    which = one_of(pfw_exec.c.pfw_wrapper_task_id, list(steps), conn.dialect.name)
    select = sa.select(pfw_exec.c.pfw_wrapper_task_id, task.c.state).where(which, task.c.id == pfw_exec.c.task_id)
    found: dict[int, set[str]] = {}
    for step, state in conn.execute(select.distinct()):
        found.setdefault(step, set()).add(state)
    return found


def _job_word(job: Any, over: int) -> str:
    if job.state == RUNNING:
        return "POST" if over == job.expect_num_wrap else "EXEC"
    return "PRE" if job.state in WAITING else _WORDS[job.state]


def _word(row: Any, programs: dict[int, set[str]]) -> str:
    if row.state == RUNNING:
        states = programs.get(row.task_id, set())
        if not states - set(WAITING):
            return "PRE"
        return "POST" if states.isdisjoint(OPEN) else "EXEC"
    return "WAIT" if row.state in WAITING else _WORDS[row.state]
