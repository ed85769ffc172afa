"""Values out of JSON objects, each of the type that it must have; what is wrong is named with its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dbb.errors import UnsafePathError, UsageError

_MUST = object()
_LONGEST_NAME, _LONGEST_PATH = 255, 3000  # of Linux, the second with room for the folder that it is in


def _is_for_paths(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:  # halves of surrogate pairs
        return False


class Entry:
    """Takes values out of a JSON object, each of the type that it must have.

    Parameters
    ----------
    value
        The object.
    place
        Where it stands, for messages.

    Raises
    ------
    UsageError
        From every method, if a value is missing or of another type; names the place and the key.
    """

    def __init__(self, value: object, place: str) -> None:
        if not isinstance(value, Mapping):
            raise UsageError(f"{place} must be an object, not {str(value)[:80]!r}")
        self.value, self.place = value, place

    def _typed(self, key: str, kind: type | tuple[type, ...], name: str, default: Any) -> Any:
        value = self.value.get(key, default)
        if value is _MUST or not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            given = "is missing" if value is _MUST else f"is {str(value)[:80]!r}"
            raise UsageError(f"{self.place}: {key!r} {given}; it must be {name}")
        return value

    def text(self, key: str, default: Any = None) -> str:
        """Return a text."""
        return str(self._typed(key, str, "a text", _MUST if default is None else default))

    def maybe_text(self, key: str) -> str | None:
        """Return a text or None."""
        return None if self.value.get(key) is None else self.text(key)

    def flag(self, key: str, default: bool) -> bool:
        """Return a boolean."""
        return bool(self._typed(key, bool, "true or false", default))

    def number(self, key: str, default: Any = None) -> int:
        """Return an integer."""
        return int(self._typed(key, int, "an integer", _MUST if default is None else default))

    def maybe_number(self, key: str) -> float | None:
        """Return a positive number or None."""
        if self.value.get(key) is None:
            return None
        value = self._typed(key, (int, float), "a number", _MUST)
        try:
            number = float(value)
        except OverflowError:
            number = 0.0
        if not 0 < number < float("inf"):
            raise UsageError(f"{self.place}: {key!r} must be greater than 0, and finite")
        return number

    def table(self, key: str) -> Mapping[str, Any]:
        """Return an object, empty where there is none."""
        found: Mapping[str, Any] = self._typed(key, Mapping, "an object", {})
        return found

    def items(self, key: str) -> Sequence[Any]:
        """Return a list, empty where there is none."""
        found: Sequence[Any] = self._typed(key, list, "a list", [])
        return found

    def place_text(self, key: str) -> str:
        """Return a text that a path or URL may be, wherever it leads.

        Raises
        ------
        UnsafePathError
            If no path can have such characters.
        """
        text = self.text(key)
        if not _is_for_paths(text):
            raise UnsafePathError(f"{self.place}: {key} {text[:80]!r} has characters that no path can have")
        return text

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts."""
        found = self.items(key)
        if not all(isinstance(one, str) for one in found):
            raise UsageError(f"{self.place}: {key!r} must be a list of texts")
        return tuple(found)

    def path(self, key: str, default: Any = None) -> str:
        """Return a path that stays inside of the folder that it is relative to.

        Raises
        ------
        UnsafePathError
            If it does not.
        """
        return self.inner_path(self.text(key, default), key)

    def inner_path(self, path: str, key: str) -> str:
        """Return `path` if it stays inside of the folder that it is relative to.

        Raises
        ------
        UnsafePathError
            If it does not.
        """
        parts = path.split("/")
        if not _is_for_paths(path) or any(part in {"", ".", ".."} for part in parts):
            raise UnsafePathError(f"{self.place}: {key} {path!r} must be relative, without '.', '..' or empty parts")
        if len(path) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in parts):
            raise UnsafePathError(f"{self.place}: {key} {path[:80]!r}… is longer than file systems take")
        return path

    def name(self, key: str, default: Any = None) -> str:
        """Return what may be part of a file's name.

        Raises
        ------
        UnsafePathError
            If it may not.
        """
        name = self.path(key, default)
        if "/" in name:
            raise UnsafePathError(f"{self.place}: {key} {name!r} must not have a '/'")
        return name

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """Return one of some texts, by default the first."""
        value = self.text(key, choices[0])
        if value not in choices:
            raise UsageError(f"{self.place}: {key} {value!r} is none of {', '.join(choices)}")
        return value

    def entries(self, key: str) -> list[Entry]:
        """Return a list of objects."""
        return [Entry(one, f"{self.place}, {key} {n}") for n, one in enumerate(self.items(key), start=1)]
