"""Where checks of a pipeline put what they find."""

from __future__ import annotations

from dataclasses import dataclass, field

from dbb.errors import VariableError
from dbb.pipeline.lists import list_items
from dbb.pipeline.model import Pipeline, Problem
from dbb.pipeline.scope import Scope
from dbb.pipeline.values import settled_text


@dataclass(slots=True)
class Findings:
    """Problems of one pipeline, each with the place of the path that it is about.

    Parameters
    ----------
    pipeline
        What is checked.
    problems
        What was found.
    modules
        The modules that have errors.
    """

    pipeline: Pipeline
    problems: list[Problem] = field(default_factory=list)
    modules: set[str] = field(default_factory=set)

    def error(self, text: str, *path: str) -> None:
        """Note what no plan can be made with."""
        self.problems.append(Problem(text, self.pipeline.place(*path)))
        if path[:1] == ("module",):
            self.modules.update(path[1:2])

    def warning(self, text: str, *path: str) -> None:
        """Note what is probably not meant."""
        self.problems.append(Problem(text, self.pipeline.place(*path), "warning"))

    @staticmethod
    def text(text: str, scope: Scope) -> str | None:
        """Return `text` with its variables replaced, or None if the settings alone do not tell."""
        if "$" not in text:
            return text
        try:
            return settled_text(text, scope)
        except VariableError:
            return None  # what is wrong with variables comes to light when the plan is made

    def items(self, text: str | None, *path: str) -> list[str]:
        """Return in lower case the values of a comma list that stands at `path`, without empty ones."""
        try:
            return [item.lower() for item in list_items(text or "") if item]
        except VariableError as error:
            self.error(error.problem, *path)
            return []
