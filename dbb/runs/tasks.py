"""Rows of tasks: finding those of jobs, and changing their states, up to the block and the attempt they belong to."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from dbb.registry._connect import one_of
from dbb.registry._insert import run_many
from dbb.registry._runtables import RUSAGE, attempt_state, event_log, pfw_exec, pfw_job, pfw_wrapper
from dbb.registry._tables import now, pfw_attempt, task
from dbb.registry.runs import Run
from dbb.runs.facts import Facts, JobRows, State
from dbb.runs.states import (
    BAD,
    BLOCKED,
    KILLED,
    OPEN,
    READY,
    RUNNING,
    STATES,
    STATUS_DELETED,
    STATUS_FAILED,
    STATUS_LOST,
    STATUS_OK,
    SUCCEEDED,
    WAITING,
    summary,
)

_EXEC = ("cmdargs", "version", *RUSAGE)


def moment(time: float | None, dialect: str) -> float | dt.datetime | None:
    """Return seconds since 1970 as columns of times hold them."""
    return dt.datetime.fromtimestamp(time, dt.UTC) if time is not None and dialect == "postgresql" else time


def seconds(time: Any) -> float | None:
    """Return what a column of times holds as seconds since 1970; the inverse of `moment`."""
    return time.timestamp() if isinstance(time, dt.datetime) else time


def find_jobs(conn: sa.Connection, wanted: Collection[tuple[Run, str]]) -> dict[tuple[Run, str], JobRows]:
    """Return the rows of jobs by run and name; those that no run of the registry has are left out.

    Notes
    -----
    Three statements.
    """
    names = list({name for _, name in wanted})
    select = (
        sa.select(
            *(pfw_attempt.c[name] for name in ("id", "unitname", "reqnum", "attnum", "task_id")),
            pfw_job.c.pfw_block_task_id,
            task.c.id.label("job_id"),
            task.c.label,
        )
        .where(pfw_job.c.task_id == task.c.id, pfw_attempt.c.id == pfw_job.c.pfw_attempt_id)
        .where(task.c.name == "job", one_of(task.c.label, names, conn.dialect.name))
    )
    found: dict[tuple[Run, str], JobRows] = {}
    for row in conn.execute(select):
        key = Run(row.unitname, row.reqnum, row.attnum), row.label
        if key in wanted:
            found[key] = JobRows(row.id, row.task_id, row.pfw_block_task_id, row.job_id)
    by_task = {job.task: job for job in found.values()}
    mine = one_of(pfw_wrapper.c.pfw_job_task_id, list(by_task), conn.dialect.name)
    wrapper = pfw_wrapper.c
    for number, wrapnum, job in conn.execute(
        sa.select(wrapper.task_id, wrapper.wrapnum, wrapper.pfw_job_task_id).where(mine)
    ):
        by_task[job].wrappers[wrapnum] = number
    execs = sa.select(
        pfw_exec.c.task_id, pfw_exec.c.execnum, pfw_exec.c.pfw_wrapper_task_id, pfw_exec.c.pfw_job_task_id
    )
    for number, execnum, step, job in conn.execute(
        execs.where(pfw_exec.c.pfw_wrapper_task_id == wrapper.task_id).where(mine)
    ):
        by_task[job].execs[step, execnum] = number
    return found


def begin_again(conn: sa.Connection, jobs: Sequence[JobRows]) -> None:
    """Forget the states of jobs of which a later try is known; what they made and said stays."""
    if not jobs:
        return
    dialect = conn.dialect.name
    steps = [number for job in jobs for number in job.wrappers.values()]
    execs = [number for job in jobs for number in job.execs.values()]
    nothing = dict.fromkeys(("reason", "status", "start_time", "end_time", "exec_host"))
    tasks = [*(job.task for job in jobs), *steps, *execs]
    conn.execute(sa.update(task).where(one_of(task.c.id, tasks, dialect)).values(state=READY, **nothing))
    mine = one_of(pfw_exec.c.task_id, execs, dialect)
    conn.execute(sa.update(pfw_exec).where(mine).values(dict.fromkeys(_EXEC)))


@cache
def _set_state() -> sa.Update:
    given: dict[str, sa.BindParameter[Any]] = {name: sa.bindparam(f"new_{name}") for name in State._fields}
    return (
        sa.update(task)
        .where(task.c.id == sa.bindparam("task"))
        .values(
            state=given["state"],
            reason=given["reason"],
            status=given["status"],
            end_time=given["end"],
            start_time=sa.func.coalesce(sa.cast(given["start"], task.c.start_time.type), task.c.start_time),
            exec_host=sa.func.coalesce(sa.cast(given["host"], sa.Text), task.c.exec_host),
        )
    )


def write_states(conn: sa.Connection, states: Mapping[int, State]) -> None:
    """Change tasks to what was last said of each."""
    dialect = conn.dialect.name
    rows = [
        {
            "task": number,
            "new_state": one.state,
            "new_reason": one.reason,
            "new_status": one.status,
            "new_end": moment(one.end, dialect),
            "new_start": moment(one.start, dialect),
            "new_host": one.host,
        }
        for number, one in sorted(states.items())
    ]
    run_many(conn, _set_state(), rows)


@cache
def _set_exec() -> sa.Update:
    given: dict[str, Any] = {
        name: sa.func.coalesce(sa.cast(sa.bindparam(f"new_{name}"), pfw_exec.c[name].type), pfw_exec.c[name])
        for name in _EXEC
    }
    return sa.update(pfw_exec).where(pfw_exec.c.task_id == sa.bindparam("task")).values(given)


def write_execs(conn: sa.Connection, execs: Mapping[int, Mapping[str, Any]]) -> None:
    """Note with which arguments programs ran, in which version, and what they used of the machine."""
    columns = [(f"new_{name}", name) for name in _EXEC]
    rows = [
        {"task": number, **{given: known.get(name) for given, name in columns}}
        for number, known in sorted(execs.items())
    ]
    run_many(conn, _set_exec(), rows)


def leave_behind(conn: sa.Connection, facts: Facts) -> None:
    """End what belongs to a job or step that ended badly, and was not said to have ended itself."""
    jobs = [job for job, said in facts.jobs.values() if said.state in BAD]
    steps = [number for number, said in facts.steps.items() if said.state in BAD]
    end_children(conn, [job.task for job in jobs])
    end_children(conn, [*steps, *(number for job in jobs for number in job.wrappers.values())])


def end_children(conn: sa.Connection, parents: Sequence[int], reason: str = "what it belongs to has ended") -> None:
    """End the open tasks below tasks that ended badly: what runs is killed, the rest is blocked."""
    if parents:
        below = one_of(task.c.parent_task_id, list(parents), conn.dialect.name)
        end_tasks(conn, below, STATUS_LOST, reason)


def end_tasks(conn: sa.Connection, which: sa.ColumnElement[bool], status: int, reason: str) -> None:
    """End the open tasks among `which`: what runs is killed, what has not begun is blocked."""
    killed = {"state": KILLED, "status": status, "end_time": now(conn.dialect.name), "reason": reason}
    conn.execute(sa.update(task).where(which, task.c.state == RUNNING).values(killed))
    conn.execute(sa.update(task).where(which, task.c.state.in_(WAITING)).values(state=BLOCKED, reason=reason))


def roll_up(conn: sa.Connection, blocks: Collection[int], roots: Collection[int], began: Mapping[int, float]) -> None:
    """Make blocks, and the attempts whose tasks are `roots`, what the jobs and blocks below them are.

    Parameters
    ----------
    conn
        The caller's transaction.
    blocks, roots
        Ids of tasks below which something changed.
    began
        When jobs below them began, in seconds since 1970; the earliest counts.

    Notes
    -----
    As long as something below is open this looks at no more than one task of each state.
    """
    for level, name in ((blocks, "job"), (roots, "block")):
        states = _states_below(conn, level, name)
        for number, there in states.items():
            _settle(conn, number, summary(there), began.get(number))
    done = _attempts(conn, roots)
    for attempt, state in done.items():
        verdict = "NEW" if state in OPEN else "PASS" if state == SUCCEEDED else "FAIL"
        of_attempt = attempt_state.c.pfw_attempt_id == attempt
        conn.execute(sa.update(attempt_state).where(of_attempt).values(processing_state=verdict))


@cache
def _select_states(name: str) -> sa.Select[Any]:
    child = task.alias("child")
    mine = sa.and_(child.c.parent_task_id == task.c.id, child.c.name == name)
    return sa.select(task.c.id, *(sa.exists().where(mine, child.c.state == state).label(state) for state in STATES))


def _states_below(conn: sa.Connection, tasks: Iterable[int], name: str) -> dict[int, dict[str, int]]:
    mine = one_of(task.c.id, sorted(tasks), conn.dialect.name)
    rows = conn.execute(_select_states(name).where(mine).order_by(task.c.id))
    return {number: dict(zip(STATES, map(int, there), strict=True)) for number, *there in rows}


def _settle(conn: sa.Connection, number: int, state: str, began: float | None) -> None:
    dialect = conn.dialect.name
    values: dict[str, Any] = {"state": state, "status": None, "end_time": None, "reason": None}
    if began is not None:
        first = moment(began, dialect)
        known = task.c.start_time
        values["start_time"] = sa.case((sa.or_(known.is_(None), known > first), first), else_=known)
    if state not in OPEN:
        below = task.alias("below")
        last = sa.select(sa.func.max(below.c.end_time)).where(below.c.parent_task_id == number).scalar_subquery()
        status = STATUS_OK if state == SUCCEEDED else STATUS_LOST if state == KILLED else STATUS_FAILED
        values |= {"end_time": last, "status": status}
    # what its operator cancelled stays so, whatever its jobs say at their end
    kept = sa.or_(task.c.status.is_(None), task.c.status != STATUS_DELETED)
    conn.execute(sa.update(task).where(task.c.id == number, kept).values(values))


def _attempts(conn: sa.Connection, roots: Collection[int]) -> dict[int, str]:
    mine = one_of(pfw_attempt.c.task_id, sorted(roots), conn.dialect.name)
    rows = conn.execute(sa.select(pfw_attempt.c.id, task.c.state).where(task.c.id == pfw_attempt.c.task_id, mine))
    return {row.id: row.state for row in rows}


def count_tries(conn: sa.Connection, jobs: Sequence[JobRows]) -> None:
    """Note for each job how many event files of it are known, and the last try among them."""
    log = event_log.c
    mine = one_of(log.job_task_id, [job.task for job in jobs], conn.dialect.name)
    select = sa.select(log.job_task_id, sa.func.max(log.trynum), sa.func.count()).where(mine).group_by(log.job_task_id)
    known = {number: (latest, count) for number, latest, count in conn.execute(select)}
    for job in jobs:
        job.latest, job.tries = known.get(job.task, (0, 0))
