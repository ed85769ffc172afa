"""What an operator asks of a run: how much of it is done, how long it took, what failed and why, what is missing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from dbb.registry import Database
from dbb.registry._runtables import pending_use, pfw_job, pfw_wrapper, planned_file, task_message
from dbb.registry._tables import desfile, file_archive_info, now, task
from dbb.runs.copies import count_waiting
from dbb.runs.find import BegunRun, find_run
from dbb.runs.states import BLOCKED, ERROR, FAILED, INCOMPLETE, KILLED, LEVELS, MEANINGS, RUNNING, STATES, SUCCEEDED
from dbb.runs.tasks import seconds

_SLOWEST = 10
_WHY = {
    SUCCEEDED: "the step succeeded, but the file is not there",
    FAILED: "the step failed",
    BLOCKED: "the step was blocked",
    KILLED: "the step was killed",
    INCOMPLETE: "the programs of the step ended well, but the file is not there",
    RUNNING: "the step is running",
}
_NOT_YET = "the step was not run yet"
_NOT_KEPT = "it was made, but is in no archive"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know of a run.

    Parameters
    ----------
    section
        ``run``, ``modules``, ``slowest``, ``failures``, ``missing``, ``inputs`` or ``transfers``.
    what
        The run, a module, a step or job, a filetype or a file.
    state
        Of what this tells.
    count
        Of how many.
    seconds
        How long: of the run by the clock, of modules all steps together.
    text
        More: the first message of what failed, why a file is missing.
    """

    section: str
    what: str
    state: str | None
    count: int | None
    seconds: float | None
    text: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return all columns."""
        return asdict(self)


def run_report(db: Database, run: str, *, verbose: bool = False) -> list[Finding]:
    """Return what there is to know of a run, in order of sections.

    Parameters
    ----------
    db
        The registry.
    run
        ``Ht0_r11p95`` or ``r11p95``.
    verbose
        Name each missing file, instead of counting them by filetype and reason.

    Raises
    ------
    NotFoundError, AmbiguousError, UsageError
        If `run` is none, or several.

    Notes
    -----
    Nine statements, whatever the size of the run.
    """
    with db.read() as conn:
        attempt = find_run(conn, run)
        return [
            _whole(conn, attempt),
            *_modules(conn, attempt.id),
            *_slowest(conn, attempt.id),
            *_failures(conn, attempt.id),
            *_missing(conn, attempt.id, verbose=verbose),
            *_inputs(conn, attempt.id),
            *_transfers(conn, attempt.id),
        ]


def _transfers(conn: sa.Connection, attempt: int) -> Iterator[Finding]:
    for files, size in count_waiting(conn, [attempt]).values():
        yield Finding("transfers", "outputs", "waiting", files, None, f"{size} bytes are to be copied home")


def _whole(conn: sa.Connection, attempt: BegunRun) -> Finding:
    row = conn.execute(sa.select(task.c.start_time, task.c.end_time).where(task.c.id == attempt.task)).one()
    last = row.end_time if row.end_time is not None else now(conn.dialect.name)
    took = None if row.start_time is None else _difference(row.start_time, last)
    return Finding("run", str(attempt.run), attempt.state, None, took, MEANINGS[attempt.state])


def _difference(start: Any, end: Any) -> float | None:
    first, last = seconds(start), seconds(end)
    # a clock that was put back must not make a step the quickest of all
    return None if first is None or last is None else round(max(0.0, last - first), 3)


def elapsed(dialect: str) -> sa.ColumnElement[Any]:
    """Return how many seconds a task took."""
    difference: Any = task.c.end_time - task.c.start_time
    return sa.func.extract("epoch", difference) if dialect == "postgresql" else difference


def _modules(conn: sa.Connection, attempt: int) -> Iterator[Finding]:
    step = pfw_wrapper.c
    spent = sa.func.sum(elapsed(conn.dialect.name))
    rows = conn.execute(
        sa.select(step.modname, task.c.state, sa.func.count(), spent, sa.func.min(step.wrapnum))
        .where(step.pfw_attempt_id == attempt, task.c.id == step.task_id)
        .group_by(step.modname, task.c.state)
    ).all()
    first: dict[str, int] = {}
    for row in rows:
        first[row.modname] = min(row[4], first.get(row.modname, row[4]))
    for module, state, count, used, _ in sorted(rows, key=lambda row: (first[row.modname], STATES.index(row.state))):
        yield Finding("modules", module, state, count, None if used is None else round(float(used), 3), None)


def _slowest(conn: sa.Connection, attempt: int) -> Iterator[Finding]:
    step, took = pfw_wrapper.c, elapsed(conn.dialect.name)
    rows = conn.execute(
        sa.select(step.modname, step.wrapnum, step.wrapkeys, task.c.state, took)
        .where(step.pfw_attempt_id == attempt, task.c.id == step.task_id)
        .where(task.c.end_time.is_not(None), task.c.start_time.is_not(None))
        .order_by(took.desc(), step.wrapnum)
        .limit(_SLOWEST)
    )
    for module, wrapnum, keys, state, spent in rows:
        yield Finding("slowest", f"{module} #{wrapnum}", state, None, round(max(0.0, float(spent)), 3), keys)


def _failures(conn: sa.Connection, attempt: int) -> Iterator[Finding]:
    message = task_message.alias("first")
    first = (
        sa.select(message.c.message)
        .where(message.c.task_id == task.c.id, message.c.message_lvl == ERROR)
        .order_by(message.c.message_time, message.c.log_line)
        .limit(1)
        .scalar_subquery()
    )
    bad = task.c.state.in_([FAILED, KILLED, INCOMPLETE])
    columns = task.c.state, task.c.status, task.c.reason, first.label("message")
    step, job = pfw_wrapper.c, pfw_job.c
    steps = conn.execute(
        sa.select(step.modname, step.wrapnum, step.wrapkeys, *columns)
        .where(step.pfw_attempt_id == attempt, task.c.id == step.task_id, bad)
        .order_by(step.wrapnum)
    )
    for row in steps:
        keys = f" ({row.wrapkeys})" if row.wrapkeys else ""
        yield Finding("failures", f"{row.modname} #{row.wrapnum}{keys}", row.state, None, None, _told(row))
    failing = sa.exists().where(
        step.pfw_job_task_id == job.task_id, step.task_id == (inner := task.alias("inner")).c.id
    )
    failing = failing.where(inner.c.state.in_([FAILED, KILLED, INCOMPLETE]))
    jobs = conn.execute(
        sa.select(job.jobnum, *columns)
        .where(job.pfw_attempt_id == attempt, task.c.id == job.task_id, bad, sa.not_(failing))
        .order_by(job.jobnum)
    )
    for one in jobs:
        yield Finding("failures", f"job {one.jobnum:04d}", one.state, None, None, _told(one))


def _told(row: Any) -> str:
    status = None if row.status is None else f"status {row.status}"
    return ": ".join(part for part in (status, row.reason, row.message) if part)


def _missing(conn: sa.Connection, attempt: int, *, verbose: bool) -> Iterator[Finding]:
    file, maker = desfile.c, task.alias("maker")
    mine = sa.and_(
        file.filename == planned_file.c.filename, file.pfw_attempt_id == attempt, maker.c.id == file.wgb_task_id
    )
    by_step = sa.or_(maker.c.id == planned_file.c.task_id, maker.c.parent_task_id == planned_file.c.task_id)
    made = sa.exists().where(mine, by_step)
    kept = sa.exists().where(mine, by_step, file_archive_info.c.desfile_id == file.id)
    wanted = planned_file.c
    select = (
        sa.select(wanted.filename, wanted.filetype, wanted.optional, task.c.state, task.c.reason, made.label("made"))
        .add_columns(pfw_wrapper.c.wrapnum)
        .where(wanted.pfw_attempt_id == attempt, task.c.id == wanted.task_id, pfw_wrapper.c.task_id == wanted.task_id)
        .where(sa.not_(sa.case((wanted.saved, kept), else_=made)))
        .order_by(pfw_wrapper.c.wrapnum, wanted.position)
    )
    counts: dict[tuple[str, str, str], int] = {}
    for row in conn.execute(select):
        why = _why(row)
        if verbose:
            yield Finding("missing", row.filename, row.state, 1, None, f"{why} (step {row.wrapnum})")
        else:
            key = row.filetype or "file", row.state, why
            counts[key] = counts.get(key, 0) + 1
    for (filetype, state, why), count in counts.items():
        yield Finding("missing", filetype, state, count, None, why)


def _why(row: Any) -> str:
    if row.made:
        return _NOT_KEPT if row.state in {SUCCEEDED, INCOMPLETE} else f"{_NOT_KEPT}: {_WHY.get(row.state, _NOT_YET)}"
    why = _WHY.get(row.state, _NOT_YET)
    if row.state == SUCCEEDED and row.optional:
        why = "the step succeeded without this file, which is optional"
    return f"{why}: {row.reason}" if row.state == BLOCKED and row.reason else why


def _inputs(conn: sa.Connection, attempt: int) -> Iterator[Finding]:
    """Give the files that were read and that the steps which make them never reported."""
    use = pending_use.c
    rows = conn.execute(
        sa.select(use.filename, use.compression, sa.func.count())
        .where(use.pfw_attempt_id == attempt, use.task_id.is_not(None))
        .group_by(use.filename, use.compression)
        .order_by(use.filename, use.compression)
    )
    for filename, compression, count in rows:
        text = "it was read, but the step that makes it has not reported it"
        yield Finding("inputs", f"{filename}{compression}", None, count, None, text)


@dataclass(frozen=True, slots=True)
class RunMessage:
    """A message of a run: when (ISO 8601), how grave, of which step (None: of a job), what it says, and where."""

    time: str | None
    level: str
    wrap: int | None
    modname: str | None
    message: str
    log_file: str | None
    log_line: int | None
    pattern: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return all columns."""
        return asdict(self)


def run_messages(db: Database, run: str, level: str = "info") -> list[RunMessage]:
    """Return the messages of a run that are at least as grave as `level`, in order of time.

    Raises
    ------
    NotFoundError, AmbiguousError, UsageError
        If `run` is none, or several.
    """
    names = {number: name for name, number in LEVELS.items()}
    said = task_message.c
    with db.read() as conn:
        attempt = find_run(conn, run)
        rows = conn.execute(
            sa.select(task_message, pfw_wrapper.c.wrapnum, pfw_wrapper.c.modname)
            .select_from(task_message.outerjoin(pfw_wrapper, pfw_wrapper.c.task_id == said.task_id))
            .where(said.pfw_attempt_id == attempt.id, said.message_lvl <= LEVELS[level])
            .order_by(said.message_time, pfw_wrapper.c.wrapnum, said.log_line, said.message)
        ).all()
    return [
        RunMessage(
            _iso(seconds(row.message_time)),
            names.get(row.message_lvl, str(row.message_lvl)),
            row.wrapnum,
            row.modname,
            row.message,
            row.log_file,
            row.log_line,
            row.ops_message_pattern_id,
        )
        for row in rows
    ]


def _iso(time: float | None) -> str | None:
    return None if time is None else dt.datetime.fromtimestamp(time, dt.UTC).isoformat(timespec="seconds")
