"""Convex spherical polygons: which of them overlap, touch, or are near each other.

A polygon is an array of unit vectors, its vertices in order, either way round; consecutive ones are joined by the
shorter great circle. It is convex and fits in a hemisphere. Repeated vertices are harmless, so that polygons of
different lengths can stand in one array, and a single vertex is a point.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# Radians, 0.2 microarcseconds: far above the rounding of unit vectors, far below what anybody measures.
TOLERANCE = 1e-12


def unit_vectors(ra: npt.ArrayLike, dec: npt.ArrayLike) -> Floats:
    """Return the directions of points on the sky.

    Parameters
    ----------
    ra, dec
        Right ascension and declination in degrees, of one shape or such as broadcast together.

    Returns
    -------
    Floats
        Unit vectors along one more axis of length 3: x to (0, 0), y to (90, 0), z to the north pole.
    """
    longitude, latitude = np.broadcast_arrays(np.radians(ra), np.radians(dec))
    across = np.cos(latitude)
    return np.stack([across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude)], axis=-1)


def corner_polygons(corners: npt.ArrayLike) -> Floats:
    """Return the outlines of images.

    Parameters
    ----------
    corners
        Shape (N, 10): the fields of `dbb.sky.Corners` in their order, in degrees.

    Returns
    -------
    Floats
        Shape (N, 4, 3).
    """
    values = np.asarray(corners, dtype=np.float64).reshape(-1, 10)
    return unit_vectors(values[:, 2::2], values[:, 3::2])


def bounding_circles(polygons: Floats) -> tuple[Floats, Floats]:
    """Return a circle around each polygon; it is small, but not the smallest.

    Parameters
    ----------
    polygons
        Shape (N, M, 3).

    Returns
    -------
    tuple
        Centres as unit vectors, shape (N, 3), and radii in degrees, shape (N,).
    """
    vertices = _turned(polygons)
    centres = vertices.sum(axis=1)
    centres /= np.sqrt((centres * centres).sum(axis=0))
    apart = vertices - centres[:, None]
    chords = np.sqrt((apart * apart).sum(axis=0).max(axis=0))
    radii = np.degrees(2 * np.arcsin(np.minimum(chords / 2, 1)))
    # a cap holds the arcs between its points only if it is no more than a hemisphere
    return np.ascontiguousarray(centres.T), np.where(radii < 90, radii, 180.0)


def overlapping(region: Floats, polygons: Floats, margin: float = 0.0) -> Flags:
    """Tell which polygons overlap a region, or are no farther from it than a margin.

    Parameters
    ----------
    region
        Shape (K, 3).
    polygons
        Shape (N, M, 3).
    margin
        Distance in degrees up to which a polygon counts.

    Returns
    -------
    Flags
        Shape (N,). Polygons are closed: those that only touch count, within 1e-12 radians.

    Notes
    -----
    Polygons whose bounding circles are apart cost some 0.2 µs each; the others 1 to 2 µs.
    """
    alone = region[None]
    near = np.flatnonzero(circles_near(bounding_circles(alone), bounding_circles(polygons), margin))
    result = np.zeros(len(polygons), dtype=np.bool_)
    result[near] = pairs_overlapping(alone, polygons[near], margin)
    return result


def circles_near(one: tuple[Floats, Floats], other: tuple[Floats, Floats], margin: float) -> Flags:
    """Tell which circles, centres and radii in degrees, are no farther apart than a margin; shapes broadcast."""
    reach = np.minimum(np.radians(one[1] + other[1] + margin) + 2 * TOLERANCE, np.pi)
    # by chords, since the cosine of a small angle has lost half of its digits
    return _squared(one[0] - other[0]) <= (2 * np.sin(reach / 2)) ** 2 * (1 + 4 * np.finfo(float).eps)


def pairs_overlapping(one: Floats, other: Floats, margin: float = 0.0) -> Flags:
    """Tell which pairs of polygons overlap or are no farther apart than a margin.

    As `overlapping`, for shapes (N, K, 3) and (N, M, 3), where either N may be 1. The bounding circles of a pair must
    be near each other: pairs that `circles_near` does not pass may come out wrong.
    """
    # Three steps, of which each is left with fewer pairs. A great circle along an edge that has the two polygons on its
    # two sides keeps them apart, by at least the lesser of their distances from it. A vertex of one inside the other
    # makes them overlap. Of the rest it is exact that convex polygons neither of which holds the other meet where
    # their outlines do, and are else as far apart as their outlines. None of this needs a common hemisphere.
    a, b = _turned(one), _turned(other)
    result = np.zeros(len(other) if len(one) == 1 else len(one), dtype=np.bool_)
    gap = np.sin(np.radians(min(margin, 90.0))) + TOLERANCE
    edges = _edge_poles(a)
    own, heights = _products(edges, a), _products(edges, b)
    result[:] = _holding(edges, own, heights)
    rows = np.flatnonzero(~result & ~_separating(own, heights, gap))
    a, edges, b, heights = _pick(rows, a, edges, b, heights)
    others = _edge_poles(b)
    own, depths = _products(others, b), _products(others, a)
    result[rows] = _holding(others, own, depths)
    left = np.flatnonzero(~result[rows] & ~_separating(own, depths, gap))
    a, edges, b, others, heights, depths = _pick(left, a, edges, b, others, heights, depths)
    reach = min(np.radians(margin) + TOLERANCE, np.pi)
    result[rows[left]] = (
        _crossing(heights, depths) | _points_within(a, edges, b, reach) | _points_within(b, others, a, reach)
    )
    return result


# From here on arrays have the shapes (3, K, N) or (K, M, N): the long axis last, where numpy is several times faster.


def _turned(polygons: Floats) -> Floats:
    return np.ascontiguousarray(polygons.transpose(2, 1, 0))


def _edge_poles(polygons: Floats) -> Floats:
    """Return the pole of the great circle along each edge, from each vertex to the next; zero where they are one."""
    following = np.roll(polygons, -1, axis=1)
    # (p - q) x (p + q) is 2 p x q, but keeps its digits when p and q are close
    poles = _cross(polygons - following, polygons + following)
    lengths = np.sqrt((poles * poles).sum(axis=0))
    return poles / np.where(lengths > 0, lengths, 1)


def _separating(own: Floats, theirs: Floats, gap: float) -> Flags:
    """Tell for which pairs an edge has its own polygon on one side, the other one beyond a gap on the other."""
    above = (own.min(axis=1) >= -TOLERANCE) & (theirs.max(axis=1) < -gap)
    below = (own.max(axis=1) <= TOLERANCE) & (theirs.min(axis=1) > gap)
    found: Flags = (above | below).any(axis=0)
    return found


def _holding(poles: Floats, own: Floats, theirs: Floats) -> Flags:
    """Tell for which pairs a vertex of the other polygon lies inside this one."""
    blank = (poles == 0).all(axis=0)  # an edge between equal vertices bounds nothing
    left = (own.min(axis=(0, 1)) >= -TOLERANCE) & ((theirs > 0) | blank[:, None]).all(axis=0).any(axis=0)
    right = (own.max(axis=(0, 1)) <= TOLERANCE) & ((theirs < 0) | blank[:, None]).all(axis=0).any(axis=0)
    return np.asarray((left | right) & ~blank.all(axis=0))


def _crossing(heights: Floats, depths: Floats) -> Flags:
    """Tell in which pairs an edge crosses an edge; the signs also tell a crossing from one on the far side."""
    after, below = np.roll(heights, -1, axis=1), depths.swapaxes(0, 1)
    later = np.roll(below, -1, axis=0)
    down = (heights > 0) & (after < 0) & (below < 0) & (later > 0)
    up = (heights < 0) & (after > 0) & (below > 0) & (later < 0)
    return np.asarray((down | up).any(axis=(0, 1)))


def _points_within(polygons: Floats, poles: Floats, points: Floats, reach: float) -> Flags:
    """Tell in which pairs a vertex of one polygon is within `reach` radians of the other's outline.

    Two arcs that do not cross are nearest at an end of one of them: from the crossing of their great circles the
    distance grows up to a right angle away from it, so that it has no least value elsewhere.
    """
    apart = polygons[:, :, None] - points[:, None]
    near = (apart * apart).sum(axis=0) <= (2 * np.sin(reach / 2)) ** 2
    # or the foot of the perpendicular from the vertex lies between the ends of an edge
    ahead = _products(_cross(poles, polygons), points) >= 0
    behind = _products(_cross(np.roll(polygons, -1, axis=1), poles), points) >= 0
    beside = np.abs(_products(poles, points)) <= (np.sin(reach) if reach < np.pi / 2 else 1.0)
    real: Flags = (poles != 0).any(axis=0)
    found: Flags = (near | (ahead & behind & beside & real[:, None])).any(axis=(0, 1))
    return found


def _pick(rows: npt.NDArray[np.intp], *arrays: Floats) -> list[Floats]:
    return [array if array.shape[-1] == 1 else array[..., rows] for array in arrays]


def _products(one: Floats, other: Floats) -> Floats:
    """Return the scalar product of each of K vectors with each of M, pair by pair."""
    products: Floats = one[0][:, None] * other[0]
    for i in (1, 2):
        products += one[i][:, None] * other[i]
    return products


def _cross(one: Floats, other: Floats) -> Floats:
    """Return cross products along the first axis; `numpy.cross` takes three times as long."""
    (a, b, c), (x, y, z) = one, other
    return np.stack([b * z - c * y, c * x - a * z, a * y - b * x])


def _squared(vectors: Floats) -> Floats:
    squares: Floats = np.einsum("...i,...i", vectors, vectors)
    return squares
