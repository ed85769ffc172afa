"""Attending a run that its engine goes on with: what its jobs do is merged, until it is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dbb.errors import ConflictError, NotFoundError
from dbb.locks import claimed
from dbb.pipeline.settings import message_section, settings_of
from dbb.pipeline.workflow import Workflow
from dbb.registry import Database
from dbb.runs.engines import engine_of
from dbb.runs.find import find_run
from dbb.runs.jobfiles import JobWriter, job_settings
from dbb.runs.kept import SUBMISSION, WORKFLOW, read_kept, read_submitted, run_folder
from dbb.runs.poststage import bring_home, waits_for_home
from dbb.runs.states import OPEN
from dbb.runs.submit import Submitted
from dbb.runs.takeover import TakenOver
from dbb.runs.work import Say, Work


def attend(db: Database, run: str, *, dry_run: bool = False, say: Say | None = None) -> Submitted:
    """Attend a run until it is over; return what became of it.

    Parameters
    ----------
    db
        The registry.
    run
        Its name.
    dry_run
        Only see whether that would go; `Submitted.problems` are those so far.
    say
        Takes a line for each job that ends.

    Raises
    ------
    NotFoundError, AmbiguousError, UsageError
        If `run` is none, or several, or its folder is gone, or its engine does not go on by itself.
    MissingError
        If it was not started by ``dbb submit``.
    ConflictError
        If somebody attends it, or it is over.

    Notes
    -----
    When this is interrupted, the run goes on, and can be attended again. A run that is over is attended if its engine
    has something of it: then its operator has started there what was not done.
    """
    folder = run_folder(db, run)
    engine = engine_of(db, run)
    if engine is None:
        raise NotFoundError("engine of a run", run, hint="No plug-in has the engine that it was given to")
    if not (folder / WORKFLOW).exists():
        raise NotFoundError("folder of a run", str(folder))
    with claimed(folder / WORKFLOW) as ours:
        if not ours:
            raise ConflictError(f"somebody attends {run} already; 'dbb status {run} --watch' shows how it stands")
        with db.read() as conn:
            state = find_run(conn, run).state
        is_over = state not in OPEN
        if is_over and not engine.queue(folder):
            if waits_for_home(db, run):
                return _bring_home(db, run, folder, dry_run=dry_run)
            raise ConflictError(f"run {run} is over ({state}): 'dbb job {run}' tells what became of its jobs")
        work, workflow, taken = _reopen(db, folder)
        if is_over and not dry_run:
            work.begin_again()
        if say is not None:
            work.say = say
        if not dry_run:
            try:
                engine.attend(work)
                work.close(f"engine {engine.name} did not start it")
                work.bring_home()
            finally:
                work.stop()
    counts = len(workflow.jobs), work.problems, len(taken.done)
    return Submitted(work.run, folder, *counts, is_over=not dry_run, unmoved=work.unmoved)


def _bring_home(db: Database, run: str, folder: Path, *, dry_run: bool) -> Submitted:
    """Copy home what a run that is over has only in its target archive."""
    work, workflow, taken = _reopen(db, folder)
    unmoved = "" if dry_run else bring_home(db, run)
    return Submitted(work.run, folder, len(workflow.jobs), work.problems, len(taken.done), unmoved=unmoved)


def _reopen(db: Database, folder: Path) -> tuple[Work, Workflow, TakenOver]:
    workflow = read_kept(folder, WORKFLOW, Workflow.from_dict)
    pipeline = read_submitted(folder)
    at_once, retries, taken = read_kept(folder, SUBMISSION, _how)
    settings = settings_of(pipeline)
    writer = JobWriter(db, workflow, job_settings(settings, message_section(pipeline)), folder)
    work = Work(db, writer, workflow.jobs, taken, settings=settings)
    work.at_once, work.retries = at_once, retries
    work.restore()
    return work, workflow, taken


def _how(data: Any) -> tuple[int, int, TakenOver]:
    return int(data["at_once"]), int(data["retries"]), TakenOver.from_dict(data["taken"])
