"""What a search for a regular expression may cost: Python's has no limit of time, and holds up all of a process."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from re import _parser  # type: ignore[attr-defined]  # Python tells the structure of a pattern nowhere else
from typing import Any, Protocol

from dbb.errors import UsageError

_OPEN = 20
"""Repeats of which there may be more than so many count as endless."""
_ALL = frozenset(range(128))
_CATEGORIES = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}
LONGEST = 4000
"""Characters of a text that patterns see."""
_ROOM = (LONGEST, LONGEST, LONGEST, 500, 200)
"""Characters that a pattern sees by the power of them that its search takes, so that no line holds up a job."""
_LEAST_ROOM = 60
_Node = tuple[Any, Any]


class Search(Protocol):
    """Looks for a pattern in as much of a text as it may."""

    def __call__(self, text: str, /) -> re.Match[str] | None:
        """Return the first place that fits."""


def compile_search(pattern: str, what: str, flags: int = 0) -> Search:
    """Return what looks for a pattern, in no more of a text than it can in a short time; `what` says whose it is.

    Raises
    ------
    UsageError
        If it is no regular expression, or its search may never end.
    """
    try:
        search = re.compile(pattern, flags).search
        cost = cost_of(pattern)
    except UsageError as error:
        raise UsageError(f"{what}: {error}") from None
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"{what}: {pattern!r} is no regular expression: {error}") from error
    room = _ROOM[cost] if cost < len(_ROOM) else _LEAST_ROOM
    return lambda text: search(text, 0, room)


def cost_of(pattern: str) -> int:
    """Return the power of a line's length that a search for `pattern` takes at worst.

    Raises
    ------
    UsageError
        If the time doubles with every character, as of ``(a+)+b``.
    re.error, OverflowError, RecursionError
        If it is no regular expression.
    """
    nodes = list(_parser.parse(pattern))
    repeats = [node for node in _below(nodes) if _is_open(node)]
    for _, (_, _, body) in repeats:
        if _is_ambiguous(body):
            raise UsageError(
                f"{pattern!r} repeats what can be parted in many ways, and a search for it may never end: let something"
                r" else end each round, as in (\w+\.)*"
            )
    anchored = bool(nodes) and str(nodes[0][0]) == "AT"
    ends_open = bool(nodes) and _is_open(nodes[-1])  # the last one takes what there is and never tries again
    return len(repeats) - ends_open + (not anchored)


def _below(nodes: Iterable[_Node]) -> Iterator[_Node]:
    for node in nodes:
        yield node
        for part in _parts(node[1]):
            yield from _below(part)


def _parts(value: Any) -> Iterator[Any]:
    """Give the patterns that are inside of a node."""
    if isinstance(value, _parser.SubPattern):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _parts(one)


def _is_open(node: _Node) -> bool:
    return str(node[0]) in {"MAX_REPEAT", "MIN_REPEAT"} and node[1][1] > _OPEN


def _is_ambiguous(body: Any) -> bool:
    """Whether rounds of a repeat may have several lengths, and nothing tells where one ends."""
    if any(_arms_overlap(value[1]) for kind, value in _below(body) if str(kind) == "BRANCH"):
        return True
    least, most = body.getwidth()
    if least == most:
        return False
    fixed: list[_Node] = []
    loose: list[_Node] = []
    _sort(body, fixed, loose)
    taken = frozenset[int]().union(*(_characters(node) for node in loose))
    return not any((found := _characters(node)) and not found & taken for node in fixed)


def _arms_overlap(arms: Iterable[Any]) -> bool:
    seen: frozenset[int] = frozenset()
    for arm in arms:
        first = _characters(arm[0]) if len(arm) else frozenset()
        if not first or first & seen:
            return True
        seen |= first
    return False


def _sort(nodes: Iterable[_Node], fixed: list[_Node], loose: list[_Node]) -> None:
    """Part characters that every round has once from those that it may have, or have more of."""
    for node in nodes:
        kind = str(node[0])
        if kind in {"SUBPATTERN", "ATOMIC_GROUP"}:
            for part in _parts(node[1]):
                _sort(part, fixed, loose)
        elif kind in {"LITERAL", "IN"}:
            fixed.append(node)
        else:
            loose += [node, *_below([node])]


def _characters(node: _Node) -> frozenset[int]:
    """Return the ASCII characters that a node of one character fits; none for others."""
    kind, value = str(node[0]), node[1]
    if kind == "LITERAL":
        return _either_case({value})
    if kind == "RANGE":
        return _either_case(range(value[0], min(value[1], 127) + 1))
    if kind == "NOT_LITERAL":
        return _ALL - {value}
    if kind == "ANY":
        return _ALL
    if kind == "CATEGORY":
        name = str(value).removeprefix("CATEGORY_")
        fitting = re.compile(_CATEGORIES.get(name.removeprefix("NOT_"), "."))
        found = frozenset(one for one in _ALL if fitting.match(chr(one)))
        return _ALL - found if name.startswith("NOT_") else found
    if kind == "IN":
        found = frozenset[int]().union(*(_characters(one) for one in value))
        return _ALL - found if str(value[0][0]) == "NEGATE" else found
    return frozenset()


def _either_case(numbers: Iterable[int]) -> frozenset[int]:
    return (
        frozenset(ord(one) for number in numbers for one in {chr(number).lower(), chr(number).upper()} if len(one) == 1)
        & _ALL
    )
