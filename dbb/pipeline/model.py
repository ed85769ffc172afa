"""What a pipeline is: settings as plain nested data, each knowing where it was written.

A submit language (WCL, or a program of your own) gives a `Pipeline`; nothing below this module knows a language.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from dbb.errors import UsageError

_LIST, _DATA = "<list>", "<data>"
"""What stands in JSON for a list and for a text from data: no section is called so."""


class Data(str):
    """A text that came from data (a query, a list line, one value of a loop).

    It is taken as it is: never split at commas, never searched for variables. So patch ``8,6`` stays one patch.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Items:
    """Several values given by a program as a list; each is taken as it is."""

    values: tuple[Data, ...]

    def __str__(self) -> str:
        return ",".join(self.values)


Value: TypeAlias = "str | Items | Tree"
Tree: TypeAlias = dict[str, Value]
"""Settings by name. A `str` was written by the operator and may hold variables, lists and ranges."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written; ``str()`` gives ``submit.des:12``."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a pipeline: an error, or a warning where a plan can be made all the same."""

    text: str
    place: Place | None = None
    severity: str = "error"

    def __str__(self) -> str:
        return f"{self.place}: {self.severity}: {self.text}" if self.place else f"{self.severity}: {self.text}"


@dataclass(frozen=True)
class Pipeline:
    """Everything a submit file says, as plain data; `Pipeline.of` makes one from what a program has.

    Parameters
    ----------
    tree
        The settings. Keys are lower case, but those inside ``cmdline``.
    places
        Where a section or key was written, by its path in the tree.
    folder
        Where query programs are looked for first, and relative names begin.
    problems
        What the reader noticed and could pass over.
    """

    tree: Tree
    places: Mapping[tuple[str, ...], Place] = field(default_factory=dict)
    folder: Path = Path()
    problems: tuple[Problem, ...] = ()

    @classmethod
    def of(cls, settings: Mapping[str, object], folder: Path | str = ".") -> Pipeline:
        """Make a pipeline from nested mappings of texts, numbers, booleans and lists.

        A list gives several values, each as it is; a text may hold variables and lists as a submit file does.

        Raises
        ------
        UsageError
            If a value is of another type, or a key is no text.

        Examples
        --------
        >>> Pipeline.of({"tract": 0, "patch": ["8,6", "8,7"], "module": {"warp": {"optional": True}}}).tree
        {'tract': '0', 'patch': Items(values=('8,6', '8,7')), 'module': {'warp': {'optional': 'True'}}}
        """
        return cls(_tree(settings, ()), folder=Path(folder))

    def as_dict(self) -> dict[str, object]:
        """Return what JSON holds: settings and folder; places and problems are left out."""
        return {"tree": _plain(self.tree), "folder": str(self.folder.absolute())}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Pipeline:
        """Return the pipeline that `as_dict` described."""
        return cls(_from_plain(data["tree"]), folder=Path(data["folder"]))

    def place(self, *path: str) -> Place | None:
        """Return where `path`, or the nearest section around it, was written."""
        while path:
            if path in self.places:
                return self.places[path]
            path = path[:-1]
        return None


def subtree(tree: Mapping[str, Value], *path: str) -> Tree:
    """Return the section at `path`, or an empty one if there is none."""
    for name in path:
        inner = tree.get(name)
        if not isinstance(inner, dict):
            return {}
        tree = inner
    return dict(tree) if not isinstance(tree, dict) else tree


def merge(base: Tree, over: Mapping[str, Value]) -> None:
    """Put `over` into `base`: sections key by key, other values replaced."""
    for key, value in over.items():
        known = base.get(key)
        if isinstance(value, dict):
            if not isinstance(known, dict):
                known = base[key] = {}
            merge(known, value)
        else:
            base[key] = value


def _plain(tree: Tree) -> dict[str, object]:
    return {
        key: _plain(value) if isinstance(value, dict) else {_LIST: list(value.values)} if isinstance(value, Items)
        else {_DATA: value} if isinstance(value, Data) else value
        for key, value in tree.items()
    }  # fmt: skip


def _from_plain(tree: Mapping[str, Any]) -> Tree:
    found: Tree = {}
    for key, value in tree.items():
        if isinstance(value, str):
            found[key] = value
        elif _LIST in value:
            found[key] = Items(tuple(Data(item) for item in value[_LIST]))
        else:
            found[key] = Data(value[_DATA]) if _DATA in value else _from_plain(value)
    return found


def _tree(settings: Mapping[str, object], path: tuple[str, ...]) -> Tree:
    tree: Tree = {}
    for key, value in settings.items():
        if not isinstance(key, str):
            raise UsageError(f"pipeline, {'.'.join(path) or 'top level'}: the key {key!r} is no text")
        name = key if "cmdline" in path else key.lower()
        tree[name] = _tree(value, (*path, name)) if isinstance(value, Mapping) else _value(value, (*path, name))
    return tree


def _value(value: object, path: tuple[str, ...]) -> Value:
    if isinstance(value, str | Items):
        return value
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return Items(tuple(Data(item) for item in value))
    raise UsageError(f"pipeline, {'.'.join(path)}: {value!r} is neither text, number, list nor section")
