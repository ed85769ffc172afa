"""What a run keeps in its folder: what was planned, from what, and how it is to be run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from dbb.errors import MissingError, NotFoundError, UsageError
from dbb.pipeline.model import Pipeline
from dbb.registry import Database
from dbb.runs.begin import attempt_values

T = TypeVar("T")
RUN_FOLDER = "run_folder"
"""The setting of an attempt that says where its folder is."""
WORKFLOW = "workflow.json"
"""The plan. Whoever starts or attends the jobs of the run holds this file locked."""
PIPELINE = "pipeline.json"
SUBMISSION = "submission.json"
"""How many jobs may run at once, how often one is started again, and what was taken over from an earlier attempt."""


def read_kept(folder: Path, name: str, make: Callable[[Any], T]) -> T:
    """Return what `make` makes of the JSON in a file that ``dbb submit`` left in the folder of a run.

    Raises
    ------
    NotFoundError
        If the file, or the folder, is gone.
    UsageError
        If something else is in it.
    """
    try:
        return make(json.loads((folder / name).read_text(encoding="utf-8")))
    except OSError as error:
        raise NotFoundError("folder of a run", str(folder), hint=f"Its {name} cannot be read: {error}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        why = f"{type(error).__name__}: {str(error)[:200]}"
        raise UsageError(f"{folder / name} is not what 'dbb submit' wrote there ({why})") from error


def run_folder(db: Database, run: str) -> Path:
    """Return the folder of a run.

    Raises
    ------
    NotFoundError
        If there is no such run.
    MissingError
        If it was not submitted by ``dbb submit``.
    """
    folder = attempt_values(db, run).get(RUN_FOLDER)
    if folder is None:
        raise MissingError(f"run {run} has no folder: 'dbb submit' did not start it")
    return Path(folder)


def read_submitted(folder: Path) -> Pipeline:
    """Return the pipeline that a run was planned from.

    Raises
    ------
    NotFoundError
        If the folder of the run is gone.
    UsageError
        If something else is in its place.
    """
    return read_kept(folder, PIPELINE, Pipeline.from_dict)
