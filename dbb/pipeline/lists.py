"""Lists and ranges as an operator writes them: ``g, r``, ``(1:3),10``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dbb.errors import VariableError

MOST_VALUES = 100_000
"""How many values a list may have: more is a slip, and would fill the memory."""
_DEEPEST = 100
_RANGE = re.compile(r"\s*([0-9]{1,18}):([0-9]{1,18})\s*")


def list_items(text: str) -> list[str]:
    """Return the values of a list that the operator wrote, ranges spelled out.

    Raises
    ------
    VariableError
        If there are more than 100 000.

    Examples
    --------
    >>> list_items("(1:3),10"), list_items("g, r"), list_items("i")
    (['1', '2', '3', '10'], ['g', 'r'], ['i'])
    """
    values: list[str] = []
    for item in split_list(text):
        values += ranged(item)
        if len(values) > MOST_VALUES:
            raise VariableError(f"the list {text[:40]!r} has more than {MOST_VALUES} values")
    return values


def is_list(text: str) -> bool:
    """Tell whether the operator's text means several values."""
    return text.startswith("(") or _RANGE.fullmatch(text) is not None or len(_cut(text)) > 1


def ranged(item: str) -> Iterator[str]:
    """Give the numbers of a range ``N:M``, both ends included, or what is none as it is.

    Raises
    ------
    VariableError
        If there are more than 100 000.
    """
    match = _RANGE.fullmatch(item)
    if match is None:
        yield item
        return
    first, last = int(match[1]), int(match[2])
    if last - first >= MOST_VALUES:
        raise VariableError(f"the range {item!r} has more than {MOST_VALUES} values")
    yield from (str(number) for number in range(first, last + 1))


def split_list(text: str) -> list[str]:
    """Cut a list at its commas; parentheses around the whole of it, or around an item, are dropped.

    Raises
    ------
    VariableError
        If parentheses are nested deeper than anyone means.
    """
    items: list[str] = []
    waiting = [(text, 0)]
    while waiting:
        part, depth = waiting.pop()
        part = part.strip()
        inner = part[1:-1]
        if part.startswith("(") and part.endswith(")") and _balanced(inner):
            if depth > _DEEPEST:
                raise VariableError(f"the list {text[:40]!r} has parentheses nested more than {_DEEPEST} deep")
            waiting.append((inner, depth + 1))
            continue
        pieces = _cut(part)
        if len(pieces) == 1:
            items += pieces
        else:
            waiting += [(piece, depth) for piece in reversed(pieces)]
    return items


def _balanced(text: str) -> bool:
    depth = 0
    for char in text:
        depth += (char == "(") - (char == ")")
        if depth < 0:
            return False
    return depth == 0


def _cut(text: str) -> list[str]:
    """Cut at commas outside of parentheses and braces; items come without the blanks around them."""
    if "," not in text:
        return [text.strip()]
    items, depth, start = [], 0, 0
    for at, char in enumerate(text):
        if char in "({":
            depth += 1
        elif char in ")}":
            depth = max(0, depth - 1)
        elif char == "," and depth == 0:
            items.append(text[start:at].strip())
            start = at + 1
    return [*items, text[start:].strip()]
