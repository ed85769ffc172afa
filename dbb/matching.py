"""Texts read backwards: fixed parts and fields between them, matched in bounded time.

A regular expression of several texts tries all ways to divide a name among them, which takes for ever where none fits.
Here a way that led nowhere is remembered and not tried again, and there is an end to trying.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dbb.errors import UsageError

MOST = 100_000
"""How many ends of fields are tried in one text: a tenth of a second."""


@dataclass(frozen=True, slots=True)
class Field:
    """A part of a text that is not fixed; where fields have the same key, they say the same.

    Parameters
    ----------
    key
        Its name.
    ends
        Gives for a text and the place where the field begins the places where it may end, those preferred first.
    """

    key: str
    ends: Callable[[str, int], Iterable[int]]


class Matcher:
    """Matches texts with fixed parts and fields.

    Parameters
    ----------
    parts
        Texts and fields in order.
    what
        What the parts were made from, for errors.
    """

    def __init__(self, parts: Iterable[str | Field], what: str) -> None:
        self._what, self._head = what, ""
        self._fields: list[Field] = []
        self._tails: list[str] = []
        for part in parts:
            if isinstance(part, Field):
                self._fields.append(part)
                self._tails.append("")
            elif self._fields:
                self._tails[-1] += part
            else:
                self._head += part
        keys = [field.key for field in self._fields]
        self._is_first = [key not in keys[:place] for place, key in enumerate(keys)]
        # keys whose value was found before this place, and counts from here on
        self._open = [sorted(set(keys[:place]) & set(keys[place:])) for place in range(len(keys))]

    def match(self, text: str) -> dict[str, str] | None:
        """Return the values of the fields, those preferred where several ways are possible, or None if there is none.

        Raises
        ------
        UsageError
            If there are too many ways to try.
        """
        if not text.startswith(self._head):
            return None
        values: dict[str, str] = {}
        failed: set[tuple[object, ...]] = set()
        tries = iter(range(MOST))
        frames: list[tuple[int, tuple[object, ...], Iterator[int]]] = []
        at = len(self._head)
        while True:
            place = len(frames)
            if place < len(self._fields):
                state = (place, at, *(values[key] for key in self._open[place]))
                if state not in failed:
                    frames.append((at, state, self._ends(place, text, at, values, tries)))
            elif at == len(text):
                return values
            while frames:
                start, state, ends = frames[-1]
                end = next(ends, None)
                if end is not None:
                    break
                failed.add(state)
                frames.pop()
            else:
                return None
            place = len(frames) - 1
            values[self._fields[place].key] = text[start:end]
            at = end + len(self._tails[place])

    def _ends(self, place: int, text: str, at: int, values: Mapping[str, str], tries: Iterator[int]) -> Iterator[int]:
        """Give the places where a field may end so that what is fixed follows."""
        field, tail = self._fields[place], self._tails[place]
        last = place == len(self._fields) - 1
        ends = field.ends(text, at) if self._is_first[place] else _same(values[field.key], text, at)
        for end in ends:
            if next(tries, None) is None:
                raise UsageError(
                    f"{self._what} can be read backwards in too many ways: put fixed text between its keys"
                )
            if text.startswith(tail, end) and (not last or end + len(tail) == len(text)):
                yield end


def _same(value: str, text: str, at: int) -> Sequence[int]:
    return [at + len(value)] if text.startswith(value, at) else []
