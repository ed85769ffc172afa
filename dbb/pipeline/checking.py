"""All that is wrong with a submit file, in one go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dbb.errors import PipelineError
from dbb.pipeline.check import static_findings
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
        told = ((error.problem, error.place), *error.others)
        return [Problem(text, place if isinstance(place, Place) else None) for text, place in told]
    static = static_findings(pipeline)
    found = [*pipeline.problems, *static.problems]
    errors = [problem for problem in found if problem.severity == "error"]
    places, texts = {problem.place for problem in errors} - {None}, {problem.text for problem in errors}
    planned = problems(pipeline, registry, broken=static.modules)
    found += [problem for problem in planned if problem.place not in places and problem.text not in texts]
    return sorted(found, key=lambda one: (one.place is None, str(one.place and one.place.file), _line(one)))


def _line(problem: Problem) -> int:
    return problem.place.line if problem.place else 0
