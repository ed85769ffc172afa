"""All that is wrong with a submit file, in one go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dbb.errors import PipelineError
from dbb.pipeline.check import static_problems
from dbb.pipeline.model import Place, Problem
from dbb.pipeline.planner import problems
from dbb.pipeline.reading import read_pipeline
from dbb.pipeline.sources import RegistrySource


def check_file(path: Path, settings: Mapping[str, str] | None = None, registry: RegistrySource = None) -> list[Problem]:
    """Return the problems of a submit file: of its text, of its sections, and of the plan as far as one can be made.

    Raises
    ------
    UsageError
        If the file is not there or of no known language.
    """
    try:
        pipeline = read_pipeline(path, settings)
    except PipelineError as error:
        return [Problem(error.problem, error.place if isinstance(error.place, Place) else None)]
    found = [*pipeline.problems, *static_problems(pipeline)]
    told = {problem.place for problem in found if problem.place is not None and problem.severity == "error"}
    found += [problem for problem in problems(pipeline, registry) if problem.place not in told]
    return sorted(found, key=lambda one: (one.place is None, str(one.place and one.place.file), _line(one)))


def _line(problem: Problem) -> int:
    return problem.place.line if problem.place else 0
