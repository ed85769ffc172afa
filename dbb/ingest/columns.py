"""Checking a whole column of values at once, at a fraction of what a look at each value costs.

The converters of `dbb.filetypes` say what a value may be. Here is decided for many values of one Python type that all
of them are as they should be; where that is not certain, the answer is None, and whoever asked looks at each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dbb.filetypes import CONVERTERS

Values = Sequence[Any]
_NOT_HEX = re.compile("[^0-9a-f]")
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


def convert_column(values: Values, kind: str) -> Values | None:
    """Return a column as the registry keeps it, or None if each of its values has to be looked at.

    Parameters
    ----------
    values
        Values, None where there is none.
    kind
        A column's type, or ``filesize``, ``md5sum`` or ``sha256``.
    """
    types = set(map(type, values))
    if types == {type(None)}:
        return values
    try:
        if type(None) not in types:
            return _WHOLE[kind](values, types)
        return _with_gaps(values, _WHOLE[kind]([value for value in values if value is not None], types - {type(None)}))
    except (ValueError, TypeError, OverflowError):
        return None  # which value it is, and what is wrong with it, is found out one by one


def _with_gaps(values: Values, found: Values | None) -> Values | None:
    if found is None:
        return None
    rest = iter(found)
    return [None if value is None else next(rest) for value in values]


def _texts(values: Values, types: set[type]) -> Values | None:
    if types != {str}:
        return None
    joined = "".join(values)
    if not joined.isascii():
        joined.encode()  # half of a surrogate pair is a ValueError here
    return None if "\x00" in joined else values


def _integers(values: Values, types: set[type]) -> Values | None:
    if types == {str} and "".join(values).replace("-", "").isdigit() and "".join(values).isascii():
        values = list(map(int, values))
    elif types != {int}:
        return None
    return values if min(values) >= _SMALLEST and max(values) <= _LARGEST else None


def _sizes(values: Values, types: set[type]) -> Values | None:
    found = _integers(values, types)
    return None if found is None or min(found) < 0 else found


def _floats(values: Values, types: set[type]) -> Values | None:
    if types == {str}:
        if "_" in "".join(values):
            return None
    elif not types <= {float, int}:
        return None
    found = values if types == {float} else list(map(float, values))
    return found if math.isfinite(sum(found)) else None


def _few(convert: Callable[[object], object]) -> Callable[[Values, set[type]], Values | None]:
    """Convert what repeats once."""

    def whole(values: Values, types: set[type]) -> Values | None:
        if len(types) > 1 or types & {float}:  # 1 is True and 1.0, and 0.0 is -0.0, but not when they are converted
            return None
        known = {value: convert(value) for value in set(values)}
        return [known[value] for value in values]

    return whole


def _checksums(digits: int) -> Callable[[Values, set[type]], Values | None]:
    def whole(values: Values, types: set[type]) -> Values | None:
        fine = types == {str} and set(map(len, values)) == {digits} and not _NOT_HEX.search("".join(values))
        return values if fine else None

    return whole


_WHOLE: Mapping[str, Callable[[Values, set[type]], Values | None]] = {
    "int": _integers,
    "float": _floats,
    "str": _texts,
    "date": _few(CONVERTERS["date"]),
    "patch": _few(CONVERTERS["patch"]),
    "bool": _few(CONVERTERS["bool"]),
    "filesize": _sizes,
    "md5sum": _checksums(32),
    "sha256": _checksums(64),
}
