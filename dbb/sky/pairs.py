"""Which circles of two sets on the sky are near each other, without comparing each with each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dbb.sky.polygons import Floats, circles_near

Rows = npt.NDArray[np.intp]
Circles = tuple[Floats, Floats]  # unit vectors (N, 3), and radii (N,) in degrees

_MOST = 2_000_000  # pairs at a time
_SLACK = 1e-6  # degrees
_ZONE = 1000.0  # from one zone's right ascensions to the next zone's


def circle_pairs(one: Circles, other: Circles) -> Iterator[tuple[Rows, Rows]]:
    """Give the pairs of a circle of one set and one of the other that overlap or touch.

    Parameters
    ----------
    one, other
        Centres as unit vectors, shapes (N, 3) and (M, 3), and radii in degrees, shapes (N,) and (M,).

    Yields
    ------
    tuple
        Indices into `one` and `other` of some pairs. Each pair comes once; they are in no order.

    Notes
    -----
    The zones algorithm: `one` is sorted by zones of declination, and within each by right ascension. Each circle of
    `other` then finds those near it by bisection in the zones that it reaches.
    """
    if not len(other[1]):
        return
    # the largest circle sets how far is looked for the others, so that these are taken with their like
    sizes = np.ceil(np.log2(np.maximum(one[1], 1.0)))
    for size in np.unique(sizes).tolist():
        rows = np.flatnonzero(sizes == size)
        most = len(rows) if size <= 3 else max(_MOST // len(other[1]), 1)
        for at in range(0, len(rows), most):
            part = rows[at : at + most]
            here, there = _near_by_zones((one[0][part], one[1][part]), other)
            yield part[here], there


def expanded(counts: Rows) -> tuple[Rows, Rows]:
    """Return each index as often as it counts, and which of these times it is.

    Examples
    --------
    >>> [part.tolist() for part in expanded(np.array([2, 0, 3]))]
    [[0, 0, 2, 2, 2], [0, 1, 0, 1, 2]]
    """
    rows = np.repeat(np.arange(len(counts)), counts)
    return rows, np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)


def _near_by_zones(one: Circles, other: Circles) -> tuple[Rows, Rows]:
    ra, dec = _angles(one[0])
    centre_ra, centre_dec = _angles(other[0])
    reach = other[1] + one[1].max() + _SLACK
    height = float(reach.max())
    keys = np.floor((dec + 90) / height) * _ZONE + ra
    order = np.argsort(keys)
    keys = keys[order]
    first, last = (
        np.floor((np.clip(centre_dec + side * reach, -90, 90) + 90) / height).astype(np.intp) for side in (-1, 1)
    )
    there, step = expanded(last - first + 1)
    zone, half = (first[there] + step) * _ZONE, _half_widths(centre_dec, reach)
    found = []
    for turn in (-360.0, 0.0, 360.0):  # a range across right ascension 0 has a second part on its other side
        begin, end = (np.clip(centre_ra + side * half + turn, 0.0, 360.0)[there] for side in (-1, 1))
        starts = np.searchsorted(keys, zone + begin)
        which, place = expanded(np.searchsorted(keys, zone + end) - starts)
        found.append((order[starts[which] + place], there[which]))
    here, there = (np.concatenate(parts) for parts in zip(*found, strict=True))
    near = circles_near((one[0][here], one[1][here]), (other[0][there], other[1][there]), 0.0)
    return here[near], there[near]


def _angles(vectors: Floats) -> tuple[Floats, Floats]:
    x, y, z = vectors.T
    ra = np.degrees(np.arctan2(y, x)) % 360.0
    return np.where(ra < 360.0, ra, 0.0), np.degrees(np.arctan2(z, np.hypot(x, y)))


def _half_widths(dec: Floats, reach: Floats) -> Floats:
    """Return by how many degrees of right ascension circles reach from their centres."""
    polar = np.abs(dec) + reach >= 90 - _SLACK
    sine = np.sin(np.radians(np.minimum(reach, 90.0))) / np.maximum(np.cos(np.radians(dec)), 1e-12)
    widths: Floats = np.where(polar, 180.0, np.degrees(np.arcsin(np.minimum(sine, 1.0))) + _SLACK)
    return np.minimum(widths, 180.0)
