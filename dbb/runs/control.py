"""What whoever runs the jobs of a run says of it: jobs that are ready, cannot begin or were ended; all is cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import sqlalchemy as sa

from dbb.errors import ConflictError, NotFoundError, UsageError
from dbb.registry import Database
from dbb.registry._connect import one_of
from dbb.registry._insert import run_many
from dbb.registry._runtables import attempt_state, pfw_block, pfw_job, pfw_wrapper
from dbb.registry._tables import now, pfw_attempt, task
from dbb.runs.find import find_run
from dbb.runs.states import (
    BAD,
    FAILED,
    KILLED,
    OPEN,
    READY,
    STATES,
    STATUS_DELETED,
    STATUS_FAILED,
    STATUS_LOST,
    SUCCEEDED,
    UNREADY,
    WAITING,
)
from dbb.runs.tasks import end_children, end_tasks, roll_up

_CANCELLED = "cancelled by its operator"
_BEGUN = sa.and_(task.c.state.in_(OPEN), task.c.state.not_in(WAITING))


class JobMark(NamedTuple):
    """The state of a job that its own events do not tell, and what there is to say of it."""

    state: str
    reason: str | None = None


def mark_jobs(db: Database, run: str, marks: Mapping[str, JobMark]) -> None:
    """Note what became of jobs without their doing, with all that belongs to them.

    Parameters
    ----------
    db
        The registry.
    run
        ``Ht0_r11p95``.
    marks
        By the job's name: ``ready`` when those it waits for are done, ``blocked`` when one of them failed, ``failed``
        if it could not be started, ``killed`` if it was ended, ``succeeded`` if there was nothing to do. A job that is
        over stays what it is.

    Raises
    ------
    NotFoundError
        If a job or the run is unknown; nothing was changed.
    UsageError
        If a state is none.
    """
    wrong = sorted({mark.state for mark in marks.values()} - set(STATES))
    if wrong:
        raise UsageError(f"there is no state {wrong[0]!r}: choose from {', '.join(STATES)}")
    if marks:
        db.write(lambda conn: _mark(conn, run, marks))


def _mark(conn: sa.Connection, run: str, marks: Mapping[str, JobMark]) -> None:
    attempt, dialect = find_run(conn, run), conn.dialect.name
    named = sa.select(task.c.label, task.c.id, task.c.state, pfw_job.c.pfw_block_task_id).where(
        task.c.id == pfw_job.c.task_id,
        pfw_job.c.pfw_attempt_id == attempt.id,
        task.c.name == "job",
        one_of(task.c.label, list(marks), dialect),
    )
    jobs = {row.label: row for row in conn.execute(named)}
    unknown = sorted(marks.keys() - jobs.keys())
    if unknown:
        raise NotFoundError("job", unknown[0], hint=f"Run {attempt.run} has none of this name")
    marked = {row.id: marks[name] for name, row in jobs.items() if row.state in OPEN}
    rows = [
        {"job": number, "new_state": mark.state, "new_reason": mark.reason, **_end(mark.state, dialect)}
        for number, mark in sorted(marked.items())
    ]
    run_many(conn, _set_mark(), rows)
    _mark_below(conn, marked)
    roll_up(conn, {row.pfw_block_task_id for row in jobs.values()}, {attempt.task}, {})


@cache
def _set_mark() -> sa.Update:
    given: dict[str, sa.BindParameter[str]] = {name: sa.bindparam(f"new_{name}") for name in ("state", "reason")}
    values = {**given, "status": sa.bindparam("new_status"), "end_time": sa.bindparam("new_end")}
    return sa.update(task).where(task.c.id == sa.bindparam("job")).values(values)


def _end(state: str, dialect: str) -> dict[str, object]:
    if state in {SUCCEEDED, FAILED, KILLED}:
        status = {SUCCEEDED: 0, FAILED: STATUS_FAILED, KILLED: STATUS_LOST}[state]
        return {"new_status": status, "new_end": now(dialect)}
    return {"new_status": None, "new_end": None}


def _mark_below(conn: sa.Connection, jobs: Mapping[int, JobMark]) -> None:
    dialect = conn.dialect.name
    groups: dict[JobMark, list[int]] = {}
    for number, mark in jobs.items():
        groups.setdefault(mark, []).append(number)
    for mark, numbers in groups.items():
        below = sa.select(task.c.id).where(one_of(task.c.parent_task_id, numbers, dialect))
        steps = list(conn.scalars(below))
        for parents in (numbers, steps):
            if mark.state == READY:
                waiting = sa.and_(one_of(task.c.parent_task_id, parents, dialect), task.c.state == UNREADY)
                conn.execute(sa.update(task).where(waiting).values(state=READY))
            elif mark.state in BAD:
                end_children(conn, parents, mark.reason or f"its job is {mark.state}")


def job_reason(db: Database, run: str, name: str) -> str:
    """Return what a job has said of its end, or nothing.

    Raises
    ------
    NotFoundError, AmbiguousError, UsageError
        If `run` is none, or several.
    """
    with db.read() as conn:
        mine = sa.and_(pfw_job.c.pfw_attempt_id == find_run(conn, run).id, task.c.id == pfw_job.c.task_id)
        said = conn.scalar(sa.select(task.c.reason).where(mine, task.c.label == name, task.c.state.in_(BAD)))
        return said or ""


def mark_steps(db: Database, run: str, marks: Mapping[int, JobMark]) -> None:
    """Note what became of steps without their doing, by their numbers; those that are over stay what they are.

    Raises
    ------
    NotFoundError, AmbiguousError, UsageError
        If `run` is none, or several.
    """
    if marks:
        db.write(lambda conn: _mark_steps(conn, run, marks))


def _mark_steps(conn: sa.Connection, run: str, marks: Mapping[int, JobMark]) -> None:
    attempt, dialect = find_run(conn, run), conn.dialect.name
    steps = sa.select(pfw_wrapper.c.wrapnum, pfw_wrapper.c.task_id).where(
        pfw_wrapper.c.pfw_attempt_id == attempt.id, one_of(pfw_wrapper.c.wrapnum, list(marks), dialect)
    )
    groups: dict[JobMark, list[int]] = {}
    for wrapnum, number in conn.execute(steps):
        groups.setdefault(marks[wrapnum], []).append(number)
    for mark, numbers in groups.items():
        end = _end(mark.state, dialect)
        values = {"state": mark.state, "reason": mark.reason, "status": end["new_status"], "end_time": end["new_end"]}
        for owner in (task.c.id, task.c.parent_task_id):
            open_ones = sa.and_(one_of(owner, numbers, dialect), task.c.state.in_(OPEN))
            conn.execute(sa.update(task).where(open_ones).values(values))


def close_run(db: Database, run: str, why: str) -> None:
    """Note that what a run has not begun never will begin, and that what it left running was killed.

    Raises
    ------
    NotFoundError, AmbiguousError, UsageError
        If `run` is none, or several.
    """
    db.write(lambda conn: _close(conn, run, why))


def _close(conn: sa.Connection, run: str, why: str) -> None:
    attempt = find_run(conn, run)
    below = sa.and_(task.c.root_task_id == attempt.task, task.c.id != attempt.task)
    end_tasks(conn, below, STATUS_LOST, why)
    blocks = conn.scalars(sa.select(pfw_block.c.task_id).where(pfw_block.c.pfw_attempt_id == attempt.id))
    roll_up(conn, set(blocks), {attempt.task}, {})


def running_tasks(db: Database, run: str) -> int:
    """Return how many tasks of a run have begun and not ended.

    Raises
    ------
    NotFoundError, AmbiguousError, UsageError
        If `run` is none, or several.
    """
    with db.read() as conn:
        mine = sa.and_(task.c.root_task_id == find_run(conn, run).task, _BEGUN)
        return conn.scalar(sa.select(sa.func.count()).select_from(task).where(mine)) or 0


def mark_cancelled(db: Database, run: str) -> int:
    """Note that a run was cancelled by its operator; return how many of its tasks had begun and not ended.

    What runs is killed with status 5, what has not begun is blocked, and the data of the run are junk. Its files stay.

    Raises
    ------
    NotFoundError, AmbiguousError, UsageError
        If `run` is none, or several.
    ConflictError
        If the run is over; nothing was changed.
    """
    return db.write(lambda conn: _cancel(conn, run))


def _cancel(conn: sa.Connection, run: str) -> int:
    attempt = find_run(conn, run)
    if attempt.state not in OPEN:
        raise ConflictError(f"run {attempt.run} is over ({attempt.state}): there is nothing to cancel")
    mine = task.c.root_task_id == attempt.task
    running = conn.scalar(sa.select(sa.func.count()).select_from(task).where(mine, _BEGUN)) or 0
    end_tasks(conn, mine, STATUS_DELETED, _CANCELLED)
    moment = now(conn.dialect.name)
    over = {"state": KILLED, "status": STATUS_DELETED, "end_time": moment, "reason": _CANCELLED}
    conn.execute(sa.update(task).where(task.c.id == attempt.task).values(over))
    state = {"data_state": "JUNK", "processing_state": "FAIL"}
    conn.execute(sa.update(attempt_state).where(attempt_state.c.pfw_attempt_id == attempt.id).values(state))
    changed = {"data_state": "JUNK", "state_change_date": moment}
    conn.execute(sa.update(pfw_attempt).where(pfw_attempt.c.id == attempt.id).values(changed))
    return int(running)
