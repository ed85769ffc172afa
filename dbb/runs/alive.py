"""What of a run is still there: ``dbb submit`` itself, and jobs, which go on when that was killed.

Processes of this machine are known by files that they hold locked, jobs elsewhere by the queue of their engine.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from dbb.engine import Engine
from dbb.errors import ConflictError, DbbError, IntegrityError
from dbb.jobs.events import read_events
from dbb.locks import is_held
from dbb.runs.kept import WORKFLOW

_MOST_SHOWN = 5


def is_submitted(folder: Path) -> bool:
    """Whether somebody starts or attends jobs of the run in a folder."""
    return is_held(folder / WORKFLOW)


def live_jobs(folder: Path) -> list[Path]:
    """Return the folders of jobs of a run that run now."""
    return [job for job in sorted((folder / "jobs").glob("*/")) if any(is_held(file) for file in _files(job))]


def check_nobody_runs(folder: Path, run: str, engine: Engine | None = None) -> None:
    """Make sure that nothing of a run is alive, on this machine or in the queue of its engine.

    Raises
    ------
    ConflictError
        If something is, or the queue does not answer.
    """
    what_to_do = f"wait for its end, or end it with 'dbb cancel {run}'"
    if is_submitted(folder):
        raise ConflictError(f"'dbb submit' still runs {run}, or 'dbb attend' looks after it: {what_to_do}")
    alive = [job.name for job in live_jobs(folder)] or _queued(folder, run, engine)
    if alive:
        more = f" and {len(alive) - _MOST_SHOWN} more" if len(alive) > _MOST_SHOWN else ""
        raise ConflictError(
            f"jobs of {run} still run though 'dbb submit' is gone: {', '.join(alive[:_MOST_SHOWN])}{more}: {what_to_do}"
        )


def _queued(folder: Path, run: str, engine: Engine | None) -> list[str]:
    if engine is None:
        return []
    try:
        return [f"{name} ({word})" for name, word in sorted(engine.queue(folder).items())]
    except DbbError as error:
        raise ConflictError(f"jobs of {run} may still run: {error}") from error


def end_orphans(folder: Path) -> None:
    """Ask the jobs of a run that nobody attends to end, as far as they run on this machine."""
    for job in live_jobs(folder):
        for file in job.glob("events.*.jsonl"):
            pid = _pid(file) if is_held(file) else None
            if pid is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGTERM)


def _files(job: Path) -> Iterator[Path]:
    """Give what a live job holds: its record, and before it has one the log that its engine gave it."""
    yield from job.glob("events.*.jsonl")
    yield from job.glob("run.*.log")


def _pid(file: Path) -> int | None:
    """Return the process of this machine that writes an event file."""
    with contextlib.suppress(OSError, IntegrityError):
        for _, event in read_events(file):
            pid = event.get("pid")
            return pid if event.get("host") == os.uname().nodename and isinstance(pid, int) else None
    return None
