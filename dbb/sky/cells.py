"""The coarse index of images: the column ``htm`` of ``image_corners``.

An image's cell is the HTM trixel, of a depth that its size chooses, in which the centre of its bounding circle lies.
The images near a region are then, for each depth in use, those whose cell is in some ranges of ids; the exact test
comes after. One column with an ordinary index serves images of all sizes, since ids of different depths never coincide.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dbb.sky.htm import Ids, htm_ids, merged_ranges, near_circles
from dbb.sky.polygons import Floats, bounding_circles, corner_polygons, pairs_overlapping

DEPTHS = range(13)  # the last is for images up to 80 arcseconds; smaller ones gain nothing from smaller cells

_MOST_RANGES = 64
_ENOUGH = 400  # trixels looked at; more make the ranges tighter than they can be when there are 64 of them


def image_cells(corners: npt.ArrayLike) -> Ids:
    """Return the cells of images.

    Parameters
    ----------
    corners
        Shape (N, 10): the fields of `dbb.sky.Corners` in their order, in degrees.

    Returns
    -------
    Ids
        Shape (N,), each at the greatest of `DEPTHS` whose `largest_radius` is not less than the image's.
    """
    centres, radii = bounding_circles(corner_polygons(corners))
    depths = np.zeros(len(radii), dtype=np.int64)
    for depth in DEPTHS[1:]:
        depths += radii <= largest_radius(depth)
    cells = np.zeros(len(radii), dtype=np.int64)
    for depth in np.unique(depths):
        rows = depths == depth
        cells[rows] = htm_ids(centres[rows], int(depth))
    return cells


def largest_radius(depth: int) -> float:
    """Return the bounding radius, in degrees, of the largest images at a depth; about the side of a trixel."""
    return 90 / 2**depth if depth else 180.0


def depth_ids(depth: int) -> tuple[int, int]:
    """Return the first and last id of a depth.

    Examples
    --------
    >>> depth_ids(0), depth_ids(1)
    ((8, 15), (32, 63))
    """
    return 8 * 4**depth, 16 * 4**depth - 1


def cell_ranges(region: Floats, depth: int, margin: float = 0.0) -> list[tuple[int, int]]:
    """Return where the images near a region are in the index.

    Parameters
    ----------
    region
        Convex polygon, shape (K, 3).
    depth
        One of `DEPTHS`.
    margin
        Degrees.

    Returns
    -------
    list
        At most 64 ranges, first and last id, in order. Every image of this depth that is within the margin of the
        region has its cell in one of them; that of an image farther away may be, too.
    """
    # An image near the region has a point within the margin of it, and that point is within the image's radius of
    # the centre that its cell holds.
    reach = min(margin + largest_radius(depth), 180.0)
    alone = region[None]
    _, ids, triangles = near_circles(bounding_circles(alone), depth, reach, enough=_ENOUGH)
    ids = ids[pairs_overlapping(alone, triangles, reach)]
    below = 4 ** (depth - (int(ids[0]).bit_length() - 4) // 2) if len(ids) else 1
    ranges = merged_ranges((int(one) * below, int(one) * below + below - 1) for one in ids)
    if len(ranges) <= _MOST_RANGES:
        return ranges
    gaps = np.array([after[0] - before[1] for before, after in pairwise(ranges)])
    kept = np.sort(np.argsort(-gaps, kind="stable")[: _MOST_RANGES - 1])
    firsts = [ranges[0][0], *(ranges[i + 1][0] for i in kept)]
    lasts = [*(ranges[i][1] for i in kept), ranges[-1][1]]
    return list(zip(firsts, lasts, strict=True))
