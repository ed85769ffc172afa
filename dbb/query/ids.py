"""Gen2 data ids, the short form of queries: ``visit=903334^903336 ccd=0..8:2 patch=8,6``."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence

from dbb.errors import ParseError
from dbb.query.nodes import And, Comparison, In, Literal, Name, Node, Or, Range
from dbb.query.values import read_int

_MAX_EXPANDED = 1_000_000
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_RANGE = re.compile(r"(-?[0-9]+)\.\.(-?[0-9]+)(?::(.*))?", re.DOTALL)


def parse_ids(texts: Sequence[str]) -> Node:
    r"""Read data ids as a condition.

    Parameters
    ----------
    texts
        Each ``key=value`` pairs parted by blanks. ``^`` parts alternatives; ``a..b`` and ``a..b:step`` are integer
        ranges that include ``b``. A dataset fits if it fits any of the texts.

    Returns
    -------
    Node
        Values are raw literals. Offsets, also those of errors, are in ``"\n".join(texts)``, which is what
        `dbb.query.sql.to_sql` takes as its text.

    Raises
    ------
    ParseError
        If there is no pair, a pair has no ``=``, a key comes twice, a value or a range is empty.

    Examples
    --------
    >>> print(parse_ids(["visit=903334^903336 ccd=0..8:2"]))
    visit IN ('903334', '903336') AND ccd IN (0..8:2)
    """
    whole, start, found = "\n".join(texts), 0, []
    for text in texts:
        found.append(_condition(_pairs(whole, start, start + len(text))))
        start += len(text) + 1
    if not found:
        raise ParseError("", 0, "no data id: expected key=value")
    return found[0] if len(found) == 1 else Or(tuple(found))


def expand_id(text: str) -> list[dict[str, str]]:
    """Expand one data id with alternatives into single ones.

    Parameters
    ----------
    text
        As for `parse_ids`.

    Returns
    -------
    list of dict
        The cross product, the last key varying fastest. Values stay text: only a mapper knows which keys are numbers.

    Raises
    ------
    ParseError
        As `parse_ids`, and if more than a million data ids would come of it.

    Examples
    --------
    >>> expand_id("visit=903334^903336 ccd=0..4:2")[:2]
    [{'visit': '903334', 'ccd': '0'}, {'visit': '903334', 'ccd': '2'}]
    """
    pairs = _pairs(text, 0, len(text))
    many = math.prod(sum(_count(item) for item in items) for _, items in pairs)
    if many > _MAX_EXPANDED:
        raise ParseError(text, pairs[0][0].at, f"{many} data ids are more than the {_MAX_EXPANDED} that can be listed")
    choices = [[value for item in items for value in _texts(item)] for _, items in pairs]
    keys = [key.name for key, _ in pairs]
    return [dict(zip(keys, picked, strict=True)) for picked in itertools.product(*choices)]


def _condition(pairs: list[tuple[Name, list[Literal | Range]]]) -> Node:
    conditions: list[Node] = []
    for key, items in pairs:
        if len(items) == 1 and isinstance(items[0], Literal):
            conditions.append(Comparison("=", key, items[0], at=key.at))
        else:
            conditions.append(In(key, tuple(items), at=key.at))
    return conditions[0] if len(conditions) == 1 else And(tuple(conditions), at=pairs[0][0].at)


def _pairs(text: str, start: int, end: int) -> list[tuple[Name, list[Literal | Range]]]:
    """Cut one data id, the part of `text` from `start` to `end`, into keys and their values."""
    pairs: list[tuple[Name, list[Literal | Range]]] = []
    seen: set[str] = set()
    for pair in re.compile(r"\S+").finditer(text, start, end):
        key, equals, value = pair[0].partition("=")
        if not equals or not _KEY.fullmatch(key):
            raise ParseError(text, pair.start(), f"expected key=value, found {pair[0]!r}")
        if key.lower() in seen:
            raise ParseError(text, pair.start(), f"the key {key!r} is given twice: write {key}=a^b for alternatives")
        seen.add(key.lower())
        pairs.append((Name(key, at=pair.start()), _items(text, pair.end() - len(value), key, value)))
    if not pairs:
        raise ParseError(text, start, "the data id is empty: expected key=value")
    return pairs


def _items(text: str, at: int, key: str, value: str) -> list[Literal | Range]:
    items: list[Literal | Range] = []
    for piece in value.split("^"):
        if not piece:
            raise ParseError(text, at, f"a value of {key!r} is empty")
        items.append(_range(text, at, piece) or Literal(piece, raw=True, at=at))
        at += len(piece) + 1
    return items


def _range(text: str, at: int, piece: str) -> Range | None:
    match = _RANGE.fullmatch(piece)
    if match is None:
        return None
    if match[3] is not None and not re.fullmatch(r"0*[1-9][0-9]*", match[3]):
        raise ParseError(text, at + match.start(3), f"the step of a range must be a positive integer, not {match[3]!r}")
    first = read_int(text, at, match[1])
    last = read_int(text, at + match.start(2), match[2])
    if last < first:
        raise ParseError(text, at, f"the range {piece!r} is empty")
    return Range(first, last, read_int(text, at + match.start(3), match[3]) if match[3] else 1, at=at)


def _count(item: Literal | Range) -> int:
    return 1 if isinstance(item, Literal) else (item.last - item.first) // item.step + 1


def _texts(item: Literal | Range) -> list[str]:
    if isinstance(item, Literal):
        return [str(item.value)]
    return [str(number) for number in range(item.first, item.last + 1, item.step)]
