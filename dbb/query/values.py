"""Values: numbers and times from text, literals made to fit a column's type, shell patterns as regular expressions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime

from dbb.errors import ParseError
from dbb.patch import stored_patch
from dbb.query.nodes import Literal

_INT = re.compile(r"[+-]?[0-9]{1,20}")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?))?")
_BOOLS = {"true": True, "1": True, "false": False, "0": False}


def in_64_bits(number: int) -> bool:
    """Say whether both databases can hold the integer."""
    return -(2**63) <= number < 2**63


def read_int(text: str, at: int, digits: str) -> int:
    """Return the integer written as `digits`, which stand at `at` in `text`.

    Raises
    ------
    ParseError
        If it does not fit into 64 bits.
    """
    if len(digits) > 20 or not in_64_bits(int(digits)):
        raise ParseError(text, at, f"{digits[:24]} does not fit into 64 bits")
    return int(digits)


def iso_time(text: str) -> str | None:
    """Return a day or a time without zone in ISO form, or None if `text` is neither.

    Examples
    --------
    >>> iso_time("2014-03-28 12:20:33"), iso_time("2014-03-28"), iso_time("2014-02-30")
    ('2014-03-28T12:20:33', '2014-03-28', None)
    """
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    form = match[1] if match[2] is None else f"{match[1]}T{match[2]}"
    try:
        datetime.fromisoformat(form)
    except ValueError:
        return None
    return form


def _int(literal: Literal) -> int | float | None:
    value = literal.value
    if isinstance(value, str):
        fits = literal.raw and _INT.fullmatch(value) and in_64_bits(int(value))
        return int(value) if fits else None
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer() and in_64_bits(int(value)):
        return int(value)
    return value


def _float(literal: Literal) -> float | None:
    value = literal.value
    if isinstance(value, bool) or (isinstance(value, str) and not (literal.raw and _FLOAT.fullmatch(value))):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _str(literal: Literal) -> str | None:
    value = literal.value
    if not isinstance(value, str) or "\0" in value:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair, as undecodable bytes of a command line give
        return None
    return value


def _time(literal: Literal) -> str | None:
    return iso_time(literal.value) if isinstance(literal.value, str) else None


def _patch(literal: Literal) -> str | None:
    try:
        return stored_patch(literal.value) if isinstance(literal.value, str) else None
    except ValueError:
        return None


def _bool(literal: Literal) -> bool | None:
    if isinstance(literal.value, bool):
        return literal.value
    return _BOOLS.get(literal.value.lower()) if literal.raw and isinstance(literal.value, str) else None


_READERS: dict[str, tuple[Callable[[Literal], int | float | str | bool | None], str]] = {
    "int": (_int, "an integer of at most 64 bits"),
    "float": (_float, "a number"),
    "str": (_str, "text in single quotes"),
    "date": (_time, "a day such as '2014-03-28'"),
    "datetime": (_time, "a time such as '2014-03-28T12:20:33'"),
    "patch": (_patch, "a patch such as '8,6' or '8x6'"),
    "bool": (_bool, "TRUE or FALSE"),
}


def fit(literal: Literal, type_: str, name: str, text: str) -> int | float | str | bool:
    """Return the value of a literal as a column of type `type_` holds it.

    Parameters
    ----------
    literal
        What was written.
    type_
        ``int``, ``float``, ``str``, ``date``, ``datetime``, ``patch`` or ``bool``.
    name
        The column, for the error.
    text
        What the literal was parsed from.

    Raises
    ------
    ParseError
        If the value is none of that type. A number that is not whole fits an int column: it compares, but equals none.
    """
    reader, wanted = _READERS[type_]
    value = reader(literal)
    if value is None:
        raise ParseError(text, literal.at, f"column {name!r} is of type {type_}: expected {wanted}, found {literal}")
    return value


def glob_regex(pattern: str) -> str:
    r"""Return the PostgreSQL regular expression that matches what SQLite's GLOB does.

    Examples
    --------
    >>> glob_regex("CAM-[RI]*.fits")
    '^CAM\\-[RI].*\\.fits$'
    """
    parts, at = ["^"], 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "[":
            members, at = _bracket(pattern, at)
            if at == 0:
                return "(?!)"  # a set that is not closed matches nothing
            parts.append(members)
        else:
            parts.append({"*": ".*", "?": "."}.get(char) or _escaped(char))
    return "".join(parts) + "$"


def _bracket(pattern: str, at: int) -> tuple[str, int]:
    """Translate the set whose ``[`` stands before `at`; return it and the place behind it, 0 if it is not closed."""
    invert = pattern.startswith("^", at)
    at += invert
    members = []
    if pattern.startswith("]", at):
        members.append(_escaped("]"))
        at += 1
    before = ""
    while at < len(pattern) and pattern[at] != "]":
        char = pattern[at]
        if char == "-" and before and at + 1 < len(pattern) and pattern[at + 1] != "]":
            at += 1
            if before < pattern[at]:  # PostgreSQL refuses a range that runs backwards, SQLite finds nothing in it
                members.append(f"{_escaped(before)}-{_escaped(pattern[at])}")
            before = ""
        else:
            members.append(_escaped(char))
            before = char
        at += 1
    return f"[{'^' if invert else ''}{''.join(members)}]", at + 1 if at < len(pattern) else 0


def _escaped(char: str) -> str:
    return char if char.isalnum() or ord(char) > 127 else "\\" + char
