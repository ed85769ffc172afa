"""Keys that are nearly, but not quite, known ones."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping

from dbb.errors import VariableError
from dbb.pipeline.known_keys import NAMING_KEYS
from dbb.pipeline.model import Value
from dbb.pipeline.values import variables

_CLOSE = 0.8
_LONGEST = 40  # longer keys than this are nobody's slip of the pen
_WORD = re.compile(r"[\w-]+")
_COLUMN = re.compile(r"\$\(([^()]*)\)")


def words_in_use(tree: Mapping[str, Value]) -> frozenset[str]:
    """Return in lower case all names that the texts of a tree use: as variable, as column, or as a key to choose by."""
    return frozenset(word.lower() for word in _words(tree))


def _words(tree: Mapping[str, Value]) -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _words(value)
            continue
        text = str(value)
        if "$" in text:
            for name in _named(text) + _COLUMN.findall(text):
                yield from name.split(".")
        if key in NAMING_KEYS:
            yield from _WORD.findall(text)


def _named(text: str) -> list[str]:
    try:
        return [name for _, name in variables(text)]
    except VariableError:
        return []  # braces without end: said when the text is expanded


def misspelt(tree: Mapping[str, Value], known: Collection[str], used: Collection[str]) -> Iterator[tuple[str, str]]:
    """Give the keys of a section that are nearly known ones, and what they may be meant for.

    Parameters
    ----------
    tree
        The section.
    known
        The keys that mean something in it.
    used
        Names that the operator's own texts use.
    """
    for key in tree:
        if key in known or key in used or len(key) > _LONGEST:
            continue
        near = difflib.get_close_matches(key, sorted(set(known) - tree.keys()), n=1, cutoff=_CLOSE)
        if near and not key.startswith(f"{near[0]}_"):  # such as modnamepat_tile, which some other module uses
            yield key, near[0]
