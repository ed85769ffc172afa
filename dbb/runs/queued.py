"""How runs and their jobs stand, beside what the queue of their engine says where that is something else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from dbb.engine import Engine
from dbb.errors import DbbError, NotFoundError
from dbb.registry import Database
from dbb.registry._connect import one_of
from dbb.registry._runtables import pfw_attempt_val, pfw_job
from dbb.registry._tables import task
from dbb.runs.engines import ENGINE, find_engine
from dbb.runs.jobs import job_status
from dbb.runs.kept import RUN_FOLDER
from dbb.runs.states import RUNNING, WAITING
from dbb.runs.status import RunStatus, run_status

_AT_ONCE = 16
_ABSENT = "not in the queue"


@dataclass(frozen=True, slots=True)
class QueueView:
    """What a queue says of a run that the registry does not.

    Parameters
    ----------
    jobs
        By the numbers of jobs, what it says of them.
    remarks
        What it says of the run itself, or why it could not be asked.
    """

    jobs: Mapping[int, str] = field(default_factory=dict)
    remarks: Sequence[str] = ()

    @property
    def summary(self) -> str:
        """Return all in a line: jobs are counted, and the first reason is given."""
        counts = Counter(words.partition(":")[0] for words in self.jobs.values())
        reason = next((words for words in self.jobs.values() if ":" in words), "").partition(":")[2]
        said = [f"{count} {word}" for word, count in sorted(counts.items())]
        return "; ".join(
            [*self.remarks, *([", ".join(said) + (f" ({reason.strip()})" if reason else "")] if said else [])]
        )


class _Asked(NamedTuple):
    """A run whose engine has a queue, and the states of its jobs by name."""

    engine: Engine
    folder: Path
    jobs: dict[str, tuple[int, str]]


def status_rows(db: Database, run: str | None = None, *, campaign: str | None = None) -> list[dict[str, Any]]:
    """Return the columns of `run_status`, and ``queue``: None where the queue says the same, or there is none.

    Raises
    ------
    NotFoundError, AmbiguousError, UsageError
        If `run` is none, or several.
    """
    rows = run_status(db, run, campaign=campaign)
    views = queue_views(db, [row for row in rows if row.is_open])
    return [row.as_dict() | {"queue": views[row.run].summary or None if row.run in views else None} for row in rows]


def job_rows(db: Database, run: str, *, verbose: bool = False) -> tuple[list[dict[str, Any]], Sequence[str]]:
    """Return the columns of `job_status`, with ``queue`` as `status_rows` has it, and what is to be said of the run.

    Raises
    ------
    NotFoundError, AmbiguousError, UsageError
        If `run` is none, or several.
    """
    name = run_status(db, run)[0]
    view = queue_views(db, [name]).get(name.run, QueueView()) if name.is_open else QueueView()
    rows = job_status(db, run, verbose=verbose)
    return [row.as_dict() | {"queue": view.jobs.get(row.job)} for row in rows], view.remarks


def queue_views(db: Database, runs: Sequence[RunStatus]) -> dict[str, QueueView]:
    """Ask the queues of runs that are open; runs whose engine has none are absent.

    Notes
    -----
    Two statements. All queues are asked at the same time, in a thread each: an engine answers, or gives up, within some
    seconds.
    """
    asked = _asked(db, {one.id: one.run for one in runs})
    if not asked:
        return {}
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(_AT_ONCE, len(asked))) as pool:
        return dict(zip(asked, pool.map(_view, asked.values()), strict=True))


def _asked(db: Database, runs: Mapping[int, str]) -> dict[str, _Asked]:
    """Return the runs, given by their attempts, whose engine has a queue."""
    if not runs:
        return {}
    value = pfw_attempt_val.c
    with db.read() as conn:
        kept = sa.and_(value.key.in_([ENGINE, RUN_FOLDER]), one_of(value.pfw_attempt_id, list(runs), db.dialect))
        said: dict[int, dict[str, str]] = {number: {} for number in runs}
        for number, key, text in conn.execute(sa.select(value.pfw_attempt_id, value.key, value.val).where(kept)):
            said[number][key] = text
        engines = {name: _with_queue(name) for name in {one[ENGINE] for one in said.values() if ENGINE in one}}
        found: dict[int, _Asked] = {}
        for number, one in said.items():
            engine = engines.get(one.get(ENGINE, ""))
            if engine is not None and RUN_FOLDER in one:
                found[number] = _Asked(engine, Path(one[RUN_FOLDER]), {})
        if not found:
            return {}
        mine = sa.and_(one_of(pfw_job.c.pfw_attempt_id, list(found), db.dialect), task.c.id == pfw_job.c.task_id)
        rows = sa.select(pfw_job.c.pfw_attempt_id, task.c.label, pfw_job.c.jobnum, task.c.state).where(mine)
        for number, name, jobnum, state in conn.execute(rows):
            found[number].jobs[name] = jobnum, state
    return {runs[number]: one for number, one in found.items()}


def _with_queue(name: str) -> Engine | None:
    try:
        engine = find_engine(name)
    except NotFoundError:  # one that a program brought itself, or whose plug-in is not here
        return None
    return None if type(engine).queue is Engine.queue else engine


def _view(asked: _Asked) -> QueueView:
    try:
        queue = asked.engine.queue(asked.folder)
    except DbbError as error:
        return QueueView(remarks=(str(error),))
    if not queue:
        return QueueView(remarks=(f"{asked.engine.name} knows nothing of it",))
    jobs = {
        number: words for name, (number, state) in asked.jobs.items() if (words := _differs(state, queue.get(name)))
    }
    others = [f"{name} {words}" for name, words in sorted(queue.items()) if name not in asked.jobs]
    return QueueView(dict(sorted(jobs.items())), [one for one in others if not one.endswith(" running")])


def _differs(state: str, words: str | None) -> str:
    """Return what the queue says of a job, or nothing if that is what the registry says."""
    if words is None:
        return _ABSENT if state == RUNNING else ""
    expected = "running" if state == RUNNING else "idle" if state in WAITING else ""
    return "" if words == expected else words
