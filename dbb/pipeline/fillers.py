"""Texts with holes made ready to be filled many times over."""

from __future__ import annotations

from collections.abc import Mapping

from dbb.pipeline.values import Hole, Parts, holes, pad, render


class Filler:
    """Parts made ready to be filled many times: one formatting operation for each quantum.

    Parameters
    ----------
    parts
        What to fill.
    """

    __slots__ = ("_format", "_pads", "_parts", "parts")

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._parts: Parts | None = None
        self._pads = False
        words = []
        for part in parts:
            if isinstance(part, str):
                words.append(part.replace("%", "%%"))
            elif isinstance(part, Hole) and not set(part.name) & set("()%:"):
                self._pads = self._pads or part.width > 0
                words.append(f"%({part.name}:{part.width})s" if part.width else f"%({part.name})s")
            else:
                self._parts = parts
        self._format = "".join(words)

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the text for `values`.

        Raises
        ------
        KeyError
            If a value is missing.
        VariableError
            As `render`.
        """
        if self._parts is not None:
            return render(self._parts, values)
        if self._pads and type(values) is not Padding:
            values = Padding(values)
        return self._format % values

    @property
    def names(self) -> set[str]:
        """The names of the holes."""
        return set(holes(self.parts))


class Padding(dict[str, str]):
    """Values by name; ``name:N`` is the number padded with zeros to N digits."""

    def __missing__(self, key: str) -> str:
        name, colon, width = key.rpartition(":")
        if not colon:
            raise KeyError(key)
        value = self[key] = pad(self[name], int(width), name)
        return value
