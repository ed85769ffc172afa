"""Texts with holes made ready to be filled many times over."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence

from dbb.pipeline.values import Hole, Parts, holes, pad, render


class Filler:
    """Parts made ready to be filled many times: one formatting operation for each quantum.

    Parameters
    ----------
    parts
        What to fill.
    """

    __slots__ = ("_format", "_padded", "_pick", "_rendered", "parts")

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        slots = [part for part in parts if isinstance(part, Hole)]
        self._rendered = len(slots) + sum(isinstance(part, str) for part in parts) < len(parts)
        self._format = "".join(part.replace("%", "%%") if isinstance(part, str) else "%s" for part in parts)
        self._pick = picker([hole.name for hole in slots])
        self._padded = [(number, hole) for number, hole in enumerate(slots) if hole.width]

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the text for `values`.

        Raises
        ------
        KeyError
            If a value is missing.
        VariableError
            As `render`.
        """
        if self._rendered:
            return render(self.parts, values)
        if not self._padded:
            return self._format % self._pick(values)
        filled = list(self._pick(values))
        for number, hole in self._padded:
            filled[number] = pad(filled[number], hole.width, hole.name)
        return self._format % tuple(filled)

    @property
    def names(self) -> set[str]:
        """The names of the holes."""
        return set(holes(self.parts))


def picker(keys: Sequence[str]) -> Callable[[Mapping[str, str]], tuple[str, ...]]:
    """Return what gives the values of `keys`, in that order; it raises KeyError if one is missing."""
    if len(keys) == 1:
        key = keys[0]
        return lambda values: (values[key],)
    return operator.itemgetter(*keys) if keys else lambda values: ()
