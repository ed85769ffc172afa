"""The Hierarchical Triangular Mesh: triangles on the sky, numbered as in LSST's sphgeom and Gen2 reference catalogues.

The octants of the sphere are the trixels 8 to 15, of depth 0. Each trixel T is divided into four, 4 T to 4 T + 3, by
the middles of its sides; those of depth d are 8 * 4**d to 16 * 4**d - 1, so that an id tells its depth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from dbb.sky.polygons import Flags, Floats, bounding_circles, circles_near, pairs_overlapping

Ids = npt.NDArray[np.int64]

_X, _Y, _Z = np.eye(3)
_ROOTS = np.array(
    [
        [_X, -_Z, _Y],
        [_Y, -_Z, -_X],
        [-_X, -_Z, -_Y],
        [-_Y, -_Z, _X],
        [_X, _Z, -_Y],
        [-_Y, _Z, -_X],
        [-_X, _Z, _Y],
        [_Y, _Z, _X],
    ]
)
# the vertices of each child: 0 to 2 are the parent's, 3 to 5 the middles of the sides opposite to them
_CHILDREN = np.array([[0, 5, 4], [1, 3, 5], [2, 4, 3], [3, 4, 5]])


def trixels(ids: npt.ArrayLike) -> Floats:
    """Return the triangles of trixels, of any depths.

    Parameters
    ----------
    ids
        Shape (N,).

    Returns
    -------
    Floats
        Shape (N, 3, 3): vertices, counterclockwise seen from outside.
    """
    wanted = np.asarray(ids, dtype=np.int64)
    depths = np.array([depth_of(int(one)) for one in wanted], dtype=np.int64)
    triangles: Floats = _ROOTS[(wanted >> 2 * depths) - 8]
    for level in range(1, int(depths.max(initial=0)) + 1):
        rows = np.flatnonzero(depths >= level)
        child = (wanted[rows] >> 2 * (depths[rows] - level)) & 3
        triangles[rows] = _divided(triangles[rows])[np.arange(len(rows)), child]
    return triangles


def depth_of(trixel: int) -> int:
    """Return the depth of a trixel.

    Raises
    ------
    ValueError
        If no trixel has this number.

    Examples
    --------
    >>> depth_of(8), depth_of(189584)
    (0, 7)
    """
    depth, odd = divmod(int(trixel).bit_length() - 4, 2)
    if trixel < 8 or odd:
        raise ValueError(f"{trixel} is no HTM trixel")
    return depth


def trixels_near(polygons: Sequence[Floats], depth: int, margin: float) -> list[int]:
    """Return the trixels that are within a margin of any polygon.

    Parameters
    ----------
    polygons
        Each of shape (K, 3), where K may differ.
    depth
        Depth of the trixels.
    margin
        Degrees.

    Returns
    -------
    list
        Ids in order: all that are no farther than the margin from some polygon, and no other.

    Raises
    ------
    ValueError
        If `margin` is negative.
    """
    if margin < 0:
        raise ValueError(f"a margin cannot be negative: {margin}")
    if not polygons:
        return []
    most = max(len(one) for one in polygons)
    padded = np.stack([one[np.minimum(np.arange(most), len(one) - 1)] for one in polygons])
    rows, ids, triangles = near_circles(bounding_circles(padded), depth, margin)
    return [int(one) for one in np.unique(ids[pairs_overlapping(padded[rows], triangles, margin)])]


def near_circles(circles: tuple[Floats, Floats], depth: int, margin: float) -> tuple[npt.NDArray[np.intp], Ids, Floats]:
    """Return pairs of circle and trixel whose bounding circle is within a margin of it.

    Parameters
    ----------
    circles
        Centres (N, 3) and radii (N,) in degrees.
    depth
        Depth of the trixels.
    margin
        Degrees.

    Returns
    -------
    tuple
        Index of the circle, id, and triangle of each pair.
    """
    rows = np.repeat(np.arange(len(circles[0])), 8)
    ids, triangles = np.tile(np.arange(8, 16), len(circles[0])), np.tile(_ROOTS, (len(circles[0]), 1, 1))
    for level in range(depth + 1):
        if level:
            rows, ids = np.repeat(rows, 4), _children(ids)
            triangles = _divided(triangles).reshape(-1, 3, 3)
        near: Flags = circles_near((circles[0][rows], circles[1][rows]), bounding_circles(triangles), margin)
        rows, ids, triangles = rows[near], ids[near], triangles[near]
    return rows, ids, triangles


def merged_ranges(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges in order, those that adjoin or overlap as one.

    Examples
    --------
    >>> merged_ranges([(5, 6), (1, 2), (3, 3)])
    [(1, 3), (5, 6)]
    """
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _middles(triangles: Floats) -> Floats:
    """Return the middle of the side opposite to each vertex."""
    sums = triangles[:, [1, 2, 0]] + triangles[:, [2, 0, 1]]
    middles: Floats = sums / np.sqrt(np.einsum("nij,nij->ni", sums, sums))[:, :, None]
    return middles


def _divided(triangles: Floats) -> Floats:
    """Return the four children of each triangle, shape (N, 4, 3, 3)."""
    points = np.concatenate([triangles, _middles(triangles)], axis=1)
    return points[:, _CHILDREN]


def _children(ids: Ids) -> Ids:
    children: Ids = (ids[:, None] * 4 + np.arange(4)).ravel()
    return children
