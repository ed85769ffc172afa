"""Where the boxes of a layered graph lie: an order in each row with few crossings, and places near their neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Layout:
    """Where all lies across the page, in pixels from the left.

    Parameters
    ----------
    middles
        The middle of each box.
    bends
        For each edge the places where it passes the rows between its ends.
    width
        Of the whole.
    """

    middles: Sequence[float]
    bends: Sequence[Sequence[float]]
    width: float


def lay_out(rows: Sequence[int], widths: Sequence[float], edges: Sequence[tuple[int, int]], gap: float) -> Layout:
    """Return where boxes lie.

    Parameters
    ----------
    rows
        The row of each box.
    widths
        The width of each box, in pixels.
    edges
        Pairs of boxes, the upper one first.
    gap
        Between neighbours in a row, in pixels.

    Notes
    -----
    An edge that passes rows gets a place of no width in each of them. The order in a row is that of the mean of the
    neighbours above, and in turn below; places then minimise the distance to that mean. Equal input gives equal output.
    """
    places, above, below, passed = _with_bends(rows, edges)
    wide = [*widths, *[0.0] * (len(places) - len(widths))]
    lines = _rows(places)
    _order(lines, above, below)
    middles = _middles(lines, above, below, wide, gap)
    left = min((middle - width / 2 for middle, width in zip(middles, wide, strict=True)), default=0.0)
    middles = [middle - left for middle in middles]
    right = max((middle + width / 2 for middle, width in zip(middles, wide, strict=True)), default=0.0)
    return Layout(middles[: len(rows)], [[middles[at] for at in one] for one in passed], right)


Neighbours = Mapping[int, Sequence[int]]


def _with_bends(
    rows: Sequence[int], edges: Sequence[tuple[int, int]]
) -> tuple[list[int], Neighbours, Neighbours, list[list[int]]]:
    """Return the rows of boxes and bends, the neighbours above and below each, and the bends of each edge."""
    places, passed = list(rows), []
    above: dict[int, list[int]] = {}
    below: dict[int, list[int]] = {}
    for upper, lower in edges:
        bends = list(range(len(places), len(places) + rows[lower] - rows[upper] - 1))
        places += range(rows[upper] + 1, rows[lower])
        passed.append(bends)
        for one, next_ in pairwise([upper, *bends, lower]):
            below.setdefault(one, []).append(next_)
            above.setdefault(next_, []).append(one)
    return places, above, below, passed


def _rows(places: Sequence[int]) -> list[list[int]]:
    lines: list[list[int]] = [[] for _ in range(max(places, default=-1) + 1)]
    for number, row in enumerate(places):
        lines[row].append(number)
    return lines


def _order(lines: list[list[int]], above: Neighbours, below: Neighbours) -> None:
    """Sort each row by where its neighbours stand."""
    at = {number: float(place) for line in lines for place, number in enumerate(line)}
    for round_ in range(_ROUNDS):
        neighbours, sweep = (below, lines[::-1]) if round_ % 2 else (above, lines)
        for line in sweep:
            line.sort(key=lambda number: _mean(at, neighbours.get(number, ()), at[number]))
            at.update((number, float(place)) for place, number in enumerate(line))


def _mean(at: Mapping[int, float], numbers: Sequence[int], default: float) -> float:
    return sum(at[number] for number in numbers) / len(numbers) if numbers else default


def _middles(
    lines: Sequence[Sequence[int]], above: Neighbours, below: Neighbours, wide: Sequence[float], gap: float
) -> list[float]:
    at = dict.fromkeys(range(len(wide)), 0.0)
    for line in lines:
        at.update(_spread(line, [0.0] * len(line), wide, gap))
    for round_ in range(_ROUNDS):
        neighbours, sweep = (below, lines[::-1]) if round_ % 2 else (above, lines)
        for line in sweep:
            wanted = [_mean(at, neighbours.get(number, ()), at[number]) for number in line]
            at.update(_spread(line, wanted, wide, gap))
    return [at[number] for number in range(len(wide))]


def _spread(line: Sequence[int], wanted: Sequence[float], wide: Sequence[float], gap: float) -> dict[int, float]:
    """Return the places nearest to the wanted ones, by least squares, that keep order and distance.

    Distances are taken off first; then neighbours in wrong order share the mean of what they want.
    """
    offsets, offset = [], 0.0
    for number, before in zip(line, [None, *line], strict=False):
        offset += 0.0 if before is None else (wide[before] + wide[number]) / 2 + gap
        offsets.append(offset)
    groups: list[tuple[float, int]] = []
    for want, off in zip(wanted, offsets, strict=True):
        total, count = want - off, 1
        while groups and groups[-1][0] / groups[-1][1] >= total / count:
            more, members = groups.pop()
            total, count = total + more, count + members
        groups.append((total, count))
    shared = [total / count for total, count in groups for _ in range(count)]
    return {number: place + off for number, place, off in zip(line, shared, offsets, strict=True)}
