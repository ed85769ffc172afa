"""Where the value of a variable is looked for, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from dbb.pipeline.model import Tree, Value, subtree

if TYPE_CHECKING:
    from dbb.pipeline.values import Hole

Found: TypeAlias = "Value | Hole"

SEARCH_ORDER = ("file", "list", "exec", "job", "module", "block", "archive", "site")
"""Sections whose current member is searched for a name, in this order, before the top level."""
_OF_MODULE = ("file", "list", "wrapper")


@dataclass(frozen=True, slots=True)
class Scope:
    """What names mean at one place of a pipeline.

    Parameters
    ----------
    root
        The whole tree.
    late
        Names that only a quantum knows, each with its hole; they win. Also dotted ones: ``file.red.fullname``.
    current
        Values that win over everything written in the tree.
    search
        Searched next, in order: a file section, a list section, a data line.
    chosen
        The current member of each section of `SEARCH_ORDER`, as ``{"module": "warp", "block": "coadd"}``.
    """

    root: Tree
    late: Mapping[str, Hole] = field(default_factory=dict)
    current: Mapping[str, Value] = field(default_factory=dict)
    search: tuple[Mapping[str, Found], ...] = ()
    chosen: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Found | None:
        """Return the value of `name`, without regard to case, or None. A dotted name is a path from the top.

        In a module ``file.…``, ``list.…``, ``wrapper.…`` and ``exec_N.…`` are paths in it.
        """
        name = name.lower()
        hole = self.late.get(name)
        if hole is not None:
            return hole
        return self._at(name) if "." in name else self._search(name)

    def _search(self, name: str) -> Found | None:
        for values in self._places():
            value = values.get(name)
            if value is not None:
                return value
        return None

    def _places(self) -> Iterator[Mapping[str, Found]]:
        yield self.current
        yield from self.search
        for section in SEARCH_ORDER:
            if section in self.chosen:
                yield subtree(self.root, section, self.chosen[section])
        yield self.root

    def _at(self, name: str) -> Found | None:
        path = name.split(".")
        if "module" in self.chosen and (path[0] in _OF_MODULE or path[0].startswith("exec_")):
            inner = self._descend(subtree(self.root, "module", self.chosen["module"]), path)
            if inner is not None:
                return inner
            if path[0] == "wrapper" and len(path) == 2:
                return self._search(path[1])
        return self._descend(self.root, path)

    @staticmethod
    def _descend(tree: Value, path: list[str]) -> Value | None:
        for name in path:
            if not isinstance(tree, dict):
                return None
            inner = tree.get(name)
            if inner is None:
                return None
            tree = inner
        return tree

    def within(self, *search: Mapping[str, Found], **current: Value) -> Scope:
        """Return a scope that searches `search` before this one's, and has more current values."""
        return replace(self, search=(*search, *self.search), current={**self.current, **current})
