"""What follows from metadata, worked out once for all rows that have the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Derive = Callable[[Mapping[str, object]], dict[str, object]]


class _Noted(Mapping[str, object]):
    """Metadata that remember what they were asked for."""

    def __init__(self, known: Mapping[str, object]) -> None:
        self._known = known
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> object:
        self.asked.add(name)
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        self.asked.update(self._known)
        return iter(self._known)

    def __len__(self) -> int:
        self.asked.update(self._known)
        return len(self._known)


def fill_gaps(names: Sequence[str], columns: Sequence[Sequence[Any]], derive: Derive) -> list[Sequence[Any]]:
    """Return columns of metadata with what follows from other columns where there is no value.

    Parameters
    ----------
    names
        Of the columns.
    columns
        Values, None where there is none.
    derive
        Returns what follows from the values of one row; of those that it looks at, and of nothing else.

    Notes
    -----
    Rows that agree in all that `derive` looked at so far get the same answer without another call: of a night's
    exposures it is asked once.
    """
    gaps = [None in values for values in columns]
    if not any(gaps):
        return list(columns)
    filled = [list(values) if gap else values for values, gap in zip(columns, gaps, strict=True)]
    asked: list[int] = []
    answers: dict[tuple[Any, ...], dict[str, object]] = {}
    for n, row in enumerate(zip(*columns, strict=True)):
        if None not in row:
            continue
        # with its type: 1 is True and 1.0, but what follows from them need not be the same
        key = tuple((row[place], type(row[place])) for place in asked)
        more = answers.get(key)
        if more is None:
            noted = _Noted({name: value for name, value in zip(names, row, strict=True) if value is not None})
            more = derive(noted)
            if fresh := noted.asked - {names[place] for place in asked}:
                asked += [place for place, name in enumerate(names) if name in fresh]
                answers.clear()
            answers[tuple((row[place], type(row[place])) for place in asked)] = more
        for place, value in enumerate(row):
            if value is None and names[place] in more:
                filled[place][n] = more[names[place]]  # type: ignore[index]  # a list, where there is a gap
    return filled
