"""What an expression says of tract and patch: outside of which overlaps it cannot matter whether there are any."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

from dbb.query.nodes import And, Comparison, In, Literal, Name, Node, Or, Range, names_in
from dbb.query.values import fit

_MOST = 2_000  # boxes; more are merged into one
Span: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """Some tracts times some patches.

    Parameters
    ----------
    tracts
        Ranges of tract numbers, ends included; None for all.
    patches
        Patches in their stored spelling, ``8x6``; None for all.
    """

    tracts: frozenset[Span] | None = None
    patches: frozenset[str] | None = None

    @property
    def tract(self) -> int | None:
        """The only tract, if there is but one."""
        if self.tracts is None or len(self.tracts) != 1:
            return None
        [(first, last)] = self.tracts
        return int(first) if first == last and float(first).is_integer() else None

    def has_tract(self, number: int) -> bool:
        """Whether a tract is among these."""
        return self.tracts is None or any(first <= number <= last for first, last in self.tracts)

    def __and__(self, other: Box) -> Box:
        patches = self.patches if other.patches is None else other.patches
        if self.patches is not None and other.patches is not None:
            patches = self.patches & other.patches
        return Box(_common(self.tracts, other.tracts), patches)

    def __bool__(self) -> bool:
        return (self.tracts is None or bool(self.tracts)) and (self.patches is None or bool(self.patches))


Boxes: TypeAlias = tuple[Box, ...]
_ALL: Boxes = (Box(),)


def overlap_bounds(conditions: Iterable[tuple[Node, str]], names: frozenset[str], *, holding: bool = False) -> Boxes:
    """Return which overlaps must be known to tell which exposures fit all conditions on one overlap of theirs.

    Parameters
    ----------
    conditions
        Trees, and the texts they were parsed from.
    names
        Which of ``tract`` and ``patch`` are the overlaps': a filetype may have a column of its own.
    holding
        Return instead which overlaps can fit the conditions at all, for those that are asked for themselves.

    Returns
    -------
    tuple of Box
        An overlap in none of them may be left out: exposures fit without it exactly if they fit with it.

    Raises
    ------
    ParseError
        If a value is no tract or no patch.
    """
    # Of every condition two sets are known: where it can hold at all, and where its answer may differ from the one that
    # it gives without an overlap. The second is what is wanted; the first makes it small where conditions are joined.
    fitting, differing = _joined_by_and([_sets(node, text, names) for node, text in conditions])
    return fitting if holding else differing


def _sets(node: Node, text: str, names: frozenset[str]) -> tuple[Boxes, Boxes]:
    if not names_in(node) & names:
        return _ALL, ()
    match node:
        case And(items):
            return _joined_by_and([_sets(item, text, names) for item in items])
        case Or(items):
            holding, differing = zip(*(_sets(item, text, names) for item in items), strict=True)
            return _union(holding), _union(differing)
        case Comparison(op, left, Literal() as right) if op != "!=":
            boxes: Boxes = (_compared(op, left, right, text),)
        case In(name, items, negated=False):
            boxes = (_listed(name, items, text),)
        case _:
            boxes = _ALL
    return boxes, boxes


def _joined_by_and(sets: Sequence[tuple[Boxes, Boxes]]) -> tuple[Boxes, Boxes]:
    holding = _ALL
    for one, _ in sets:
        holding = _intersection(holding, one)
    return holding, _intersection(_union([differing for _, differing in sets]), holding)


def _compared(op: str, name: Name, literal: Literal, text: str) -> Box:
    if name.name.lower() == "patch":
        value = str(fit(literal, "patch", name.name, text))
        return Box(patches=frozenset({value})) if op == "=" else Box()
    number = fit(literal, "int", name.name, text)
    assert isinstance(number, int | float)
    first = -math.inf if op in ("<", "<=") else number
    last = math.inf if op in (">", ">=") else number
    return Box(tracts=frozenset({(first, last)}))


def _listed(name: Name, items: Sequence[object], text: str) -> Box:
    kind = "patch" if name.name.lower() == "patch" else "int"
    values = [fit(item, kind, name.name, text) for item in items if isinstance(item, Literal)]
    if kind == "patch":
        # a range of patches is an error, which SQL's translator explains
        return Box(patches=frozenset(map(str, values))) if len(values) == len(items) else Box()
    spans = {(value, value) for value in values if isinstance(value, int | float)}
    spans |= {(item.first, item.last) for item in items if isinstance(item, Range)}
    return Box(tracts=frozenset(spans))


def _common(one: frozenset[Span] | None, other: frozenset[Span] | None) -> frozenset[Span] | None:
    if one is None or other is None:
        return other if one is None else one
    pairs = ((max(a[0], b[0]), min(a[1], b[1])) for a, b in product(one, other))
    return frozenset(span for span in pairs if span[0] <= span[1])


def _union(many: Iterable[Boxes]) -> Boxes:
    boxes = tuple(dict.fromkeys(box for some in many for box in some))
    return _ALL if Box() in boxes else boxes


def _intersection(one: Boxes, other: Boxes) -> Boxes:
    if len(one) * len(other) > _MOST * 10:
        one, other = _merged(one), _merged(other)
    if one == _ALL or other == _ALL:
        return other if one == _ALL else one
    boxes = tuple(dict.fromkeys(box for a, b in product(one, other) if (box := a & b)))
    return _merged(boxes) if len(boxes) > _MOST else boxes


def _merged(boxes: Boxes) -> Boxes:
    """Return one box around all."""
    tracts, patches = [box.tracts for box in boxes], [box.patches for box in boxes]
    return (
        Box(
            None if None in tracts else frozenset().union(*(one for one in tracts if one is not None)),
            None if None in patches else frozenset().union(*(one for one in patches if one is not None)),
        ),
    )
