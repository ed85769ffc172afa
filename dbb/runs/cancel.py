"""Ending a run from outside: who runs its jobs is told by a file in its folder, jobs that nobody runs by a signal."""

from __future__ import annotations

from pathlib import Path

from dbb.errors import ConflictError
from dbb.registry import Database
from dbb.runs.alive import end_orphans, is_submitted
from dbb.runs.control import mark_cancelled, running_tasks
from dbb.runs.engines import engine_of
from dbb.runs.kept import run_folder

_MARK = "cancelled"


def cancel_run(db: Database, run: str, *, dry_run: bool = False) -> int:
    """Cancel a run; return how many of its tasks had begun and not ended.

    Raises
    ------
    NotFoundError, AmbiguousError, UsageError
        If `run` is none, or several.
    MissingError
        If it was not started by ``dbb submit``.
    ConflictError
        If it is over.
    DbbError
        If its engine cannot end its jobs; the registry says already that it is cancelled.
    """
    folder = run_folder(db, run)
    if dry_run:
        return running_tasks(db, run)
    try:
        ended = mark_cancelled(db, run)
    except ConflictError:
        if not is_cancelled(folder):
            raise
        ended = 0  # cancelled before; perhaps its engine could not be reached then
    if folder.is_dir():
        (folder / _MARK).touch()
        if not is_submitted(folder):  # whoever attends it ends its jobs
            end_orphans(folder)
            engine = engine_of(db, run)
            if engine is not None:
                engine.cancel(folder)
    return ended


def is_cancelled(folder: Path) -> bool:
    """Whether the run in a folder was cancelled."""
    return (folder / _MARK).exists()
