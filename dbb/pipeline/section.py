"""A file or list section of a module: its keys with their variables replaced, and errors that say where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from dbb.errors import PipelineError, VariableError
from dbb.pipeline.lists import list_items
from dbb.pipeline.model import Pipeline, Tree, Value
from dbb.pipeline.scope import Scope
from dbb.pipeline.values import settled_text

TRUTHS: Mapping[str, bool] = {
    **dict.fromkeys(("true", "t", "y", "yes", "1"), True),
    **dict.fromkeys(("false", "f", "n", "no", "0"), False),
}
"""What stands for true and false, in lower case."""

Line: TypeAlias = "dict[str, dict[str, str]]"
"""One data line: the files on it by nickname, each with its ``filename``, ``compression`` and keys."""


@dataclass(frozen=True, slots=True)
class Section:
    """One ``<file>`` or ``<list>`` section.

    Parameters
    ----------
    kind
        ``"file"`` or ``"list"``.
    module, name
        The module and the section's own name.
    tree
        The keys as written.
    scope
        What names mean here: the section's own keys, then those of the module, block and top level.
    pipeline
        Where all of it stands.
    inside
        The sections around it, below `kind`.
    """

    kind: str
    module: str
    name: str
    tree: Tree
    scope: Scope
    pipeline: Pipeline
    inside: tuple[str, ...] = ()

    def text(self, key: str, **current: Value) -> str | None:
        """Return the value of one of the section's own keys with its variables replaced, or None if it lacks it.

        A variable with several values stays one text. `current` holds values that win over all others.

        Raises
        ------
        PipelineError
            If a variable has no value; names the section and the key.
        """
        value = self.tree.get(key)
        if value is None or isinstance(value, dict):
            return None
        return self.expand(str(value), key, **current)

    def items(self, key: str) -> list[str]:
        """Return the values of a comma list, such as ``divide_by``; empty if the section lacks the key."""
        text = self.text(key)
        return [item for item in list_items(text) if item] if text else []

    def flag(self, key: str, default: bool = False) -> bool:
        """Return a key that is true or false.

        Raises
        ------
        PipelineError
            If it is neither.
        """
        text = self.text(key)
        return default if text is None else self.truth(text, key)

    def truth(self, text: str, key: str) -> bool:
        """Return what a text of `key` says that is true or false.

        Raises
        ------
        PipelineError
            If it is neither.
        """
        truth = TRUTHS.get(text.strip().lower())
        if truth is None:
            raise self.error(f"{key} = {text}: expected True or False", key)
        return truth

    def expand(self, text: str, key: str = "", **current: Value) -> str:
        """Replace the variables of a text as if it stood in this section."""
        scope = self.scope.within(**current) if current else self.scope
        try:
            return settled_text(text, scope)
        except VariableError as error:
            raise type(error)(f"{self.title}, {key or 'text'}: {error.problem}", self.place(key)) from None

    @property
    def title(self) -> str:
        """How messages call it."""
        return f"module {self.module}, {self.kind} {self.name}"

    def place(self, key: str = "") -> object:
        """Return where `key`, or the section, was written; None for a pipeline made by a program."""
        path = ("module", self.module, self.kind, *self.inside, self.name)
        return self.pipeline.place(*path, key) if key else self.pipeline.place(*path)

    def error(self, problem: str, key: str = "") -> PipelineError:
        """Return an error that names the section and its place."""
        return PipelineError(f"{self.title}: {problem}", self.place(key))


def section_of(pipeline: Pipeline, scope: Scope, kind: str, name: str, tree: Mapping[str, Value]) -> Section:
    """Return a section of the module that `scope` has chosen."""
    return Section(kind, scope.chosen["module"], name, dict(tree), scope.within(tree), pipeline)
