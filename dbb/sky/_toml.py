"""Values of a TOML file, whose errors name the file and the key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dbb.errors import UsageError


class Table:
    """A table of a file; every method that returns a value raises `UsageError` if it is absent or not as asked for.

    Parameters
    ----------
    values
        What is in it.
    where
        What messages call it.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values, self._where = values, where

    def wrong(self, key: str, problem: str) -> UsageError:
        return UsageError(f"{self._where}: {key}: {problem}")

    def only(self, *known: str) -> None:
        for key in self._values:
            if key not in known:
                raise self.wrong(key, f"unknown key; known: {', '.join(known)}")

    def also(self, other: Table) -> Table:
        """Return this table with the values of another instead where there are any."""
        return Table({**self._values, **other._values}, other._where)

    def text(self, key: str, default: str | None = None) -> str:
        value = self._value(key, default)
        if not isinstance(value, str) or not value or not value.isprintable():
            raise self.wrong(key, f"expected a text of one line, found {value!r}")
        return value

    def integer(self, key: str, least: int, most: int | None = None, default: int | None = None) -> int:
        return self._integer(key, self._value(key, default), least, most)

    def number(self, key: str, least: float, most: float = math.inf, default: float | None = None) -> float:
        return self._number(key, self._value(key, default), least, most)

    def numbers(self, key: str, least: float, most: float) -> list[float]:
        values = self._value(key, None)
        if not isinstance(values, list) or not values:
            raise self.wrong(key, f"expected a list of numbers, found {values!r}")
        return [self._number(key, value, least, most) for value in values]

    def pair(self, key: str, most: int | None = None) -> tuple[int, int]:
        """Return two whole numbers, of which one may stand for both."""
        value = self._value(key, None)
        values = value if isinstance(value, list) else [value, value]
        if len(values) != 2:
            raise self.wrong(key, f"expected two whole numbers, found {value!r}")
        return self._integer(key, values[0], 1, most), self._integer(key, values[1], 1, most)

    def tables(self, key: str) -> list[Table]:
        values = self._value(key, None)
        if not isinstance(values, list) or not values or not all(isinstance(value, dict) for value in values):
            raise self.wrong(key, f"expected one or more [[{key}]], found {values!r}")
        return [Table(value, f"{self._where}: {key} {number}") for number, value in enumerate(values, 1)]

    def _value(self, key: str, default: object) -> Any:
        value = self._values.get(key, default)
        if value is None:
            raise self.wrong(key, "missing")
        return value

    def _integer(self, key: str, value: object, least: int, most: int | None = None) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(key, f"expected a whole number, found {value!r}")
        if value < least or (most is not None and value > most):
            raise self.wrong(key, f"{value} is not {_between(least, most)}")
        return value

    def _number(self, key: str, value: object, least: float, most: float) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise self.wrong(key, f"expected a number, found {value!r}")
        if not least <= value <= most:
            raise self.wrong(key, f"{value} is not {_between(least, most)}")
        return float(value)


def _between(least: float, most: float | None) -> str:
    return f"at least {least}" if most in {None, math.inf} else f"between {least} and {most}"
