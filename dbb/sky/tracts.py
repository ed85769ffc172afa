"""Tracts and patches: a plane that touches the sky at the tract's centre, divided into equal rectangles of pixels.

This is how LSST's sky maps are made. Pixel positions are counted from the edge of the first pixel here, half a pixel
less than LSST does, so that a tract goes from 0 to the number of its pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dbb.errors import NotFoundError, UsageError
from dbb.patch import stored_patch
from dbb.sky.pairs import expanded
from dbb.sky.polygons import (
    TOLERANCE,
    Flags,
    Floats,
    bounding_circles,
    circles_near,
    pairs_overlapping,
    unit_vectors,
)

Rows = npt.NDArray[np.intp]
_NEAR_SIDE = 0.01  # cosine of the distance from a tract's centre up to which its plane is used


@dataclass(frozen=True, slots=True)
class Grid:
    """How a tract is divided, wherever it lies.

    Parameters
    ----------
    pixel_scale
        Arcseconds per pixel at the tract's centre.
    rotation
        Position angle of the second axis at the centre, from north through east, in degrees.
    inner
        Pixels of a patch's inner region along each axis.
    border
        Pixels by which the outer region goes beyond the inner one, except at the edge of the tract.
    numbers
        Patches along each axis.
    centre
        Pixel position of the tract's centre, from the edge of the first pixel.
    """

    pixel_scale: float
    rotation: float
    inner: tuple[int, int]
    border: int
    numbers: tuple[int, int]
    centre: tuple[float, float]

    def planes(self, ra: npt.ArrayLike, dec: npt.ArrayLike) -> Floats:
        """Return the tangent planes of tracts at `ra`, `dec`, shape (T,), as matrices, shape (T, 3, 3).

        Their rows are the directions of the two axes at the tract's centre, and that to it.
        """
        centre, eastward, northward = _tangent_frames(ra, dec)
        sine, cosine = math.sin(math.radians(self.rotation)), math.cos(math.radians(self.rotation))
        return np.stack([sine * northward - cosine * eastward, sine * eastward + cosine * northward, centre], axis=-2)

    def sky(self, planes: Floats, x: npt.ArrayLike, y: npt.ArrayLike) -> Floats:
        """Return unit vectors to pixel positions, shape (T, M, 3), in planes of shape (T, 3, 3).

        `x` and `y` have the shape (M,), or (T, M) for positions of each tract's own.
        """
        x, y = self._scale * (np.asarray(x) - self.centre[0]), self._scale * (np.asarray(y) - self.centre[1])
        across, up, centres = (planes[:, row, None] for row in range(3))
        vectors = centres + x[..., None] * across + y[..., None] * up
        unit: Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
        return unit

    def pixels(self, planes: Floats, vectors: Floats) -> Floats:
        """Return where directions, shape (N, M, 3), are in a plane of shape (3, 3), or each in its own, (N, 3, 3).

        Returns
        -------
        Floats
            Shape (3, M, N): positions along both axes from the edge of the first pixel, and the cosine of the distance
            from the tract's centre. Positions mean something only where this is more than 0.01.
        """
        places: Floats = np.ascontiguousarray((vectors @ planes.swapaxes(-1, -2)).transpose(2, 1, 0))
        places[:2] /= self._scale * np.maximum(places[2], _NEAR_SIDE)
        places[0] += self.centre[0]
        places[1] += self.centre[1]
        return places

    @property
    def _scale(self) -> float:
        """Radians per pixel."""
        return math.radians(self.pixel_scale / 3600)

    def outer(self, axis: int, index: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return where the outer regions of patches begin and end along an axis, in pixels."""
        first = np.asarray(index) * self.inner[axis]
        size = self.numbers[axis] * self.inner[axis]
        return np.maximum(first - self.border, 0.0), np.minimum(first + self.inner[axis] + self.border, float(size))

    def outlines(self, planes: Floats) -> Floats:
        """Return the outlines of tracts, shape (T, 4, 3)."""
        width, height = (inner * number for inner, number in zip(self.inner, self.numbers, strict=True))
        return self.sky(planes, [0, width, width, 0], [0, 0, height, height])

    def patches(self, planes: Floats, x: Rows, y: Rows) -> Floats:
        """Return the outer regions of patches, each in its own plane, as polygons of shape (N, 4, 3)."""
        (left, right), (bottom, top) = self.outer(0, x), self.outer(1, y)
        across, up = np.stack([left, right, right, left], axis=1), np.stack([bottom, bottom, top, top], axis=1)
        return self.sky(planes, across, up)

    def overlaps(self, planes: Floats, polygons: Floats) -> tuple[Rows, Rows, Rows]:
        """Return which images overlap which patches of their tracts.

        Parameters
        ----------
        planes
            Shape (N, 3, 3).
        polygons
            Outlines of images, shape (N, M, 3).

        Returns
        -------
        tuple
            Index of the image, column and row of the patch of each overlap, in no order.
        """
        places = self.pixels(planes, polygons)
        rows, x, y = self._boxes(places)
        hit = self._meeting(x, y, places[:, :, rows])
        away = np.flatnonzero((places[2].min(axis=0) <= _NEAR_SIDE)[rows])
        hit[away] = self._meeting_far(planes[rows[away]], x[away], y[away], polygons[rows[away]])
        return rows[hit], x[hit], y[hit]

    def overlapping(self, plane: Floats, x: int, y: int, polygons: Floats) -> Flags:
        """Tell which images, shape (N, M, 3), overlap a patch of the tract in `plane`, shape (3, 3)."""
        places = self.pixels(plane, polygons)
        hit = self._meeting(x, y, places)
        if places[2].min(initial=1.0) <= _NEAR_SIDE:
            away = np.flatnonzero(places[2].min(axis=0) <= _NEAR_SIDE)
            planes = np.broadcast_to(plane, (len(away), 3, 3))
            hit[away] = self._meeting_far(planes, np.full(len(away), x), np.full(len(away), y), polygons[away])
        return hit

    def _meeting(self, x: npt.ArrayLike, y: npt.ArrayLike, places: Floats) -> Flags:
        """Tell which images, given as `pixels` does, meet a patch, or each its own one, in the plane."""
        # Great circles are straight there, and a patch is an upright rectangle. Two convex polygons are apart exactly
        # if a side of one of them has the other one beyond it.
        tolerance = TOLERANCE / self._scale
        (left, right), (bottom, top) = self.outer(0, x), self.outer(1, y)
        wide, tall = (right - left) / 2 + tolerance, (top - bottom) / 2 + tolerance
        across, up = places[0] - (left + right) / 2, places[1] - (bottom + top) / 2
        met: Flags = (across.max(axis=0) >= -wide) & (across.min(axis=0) <= wide)
        met &= (up.max(axis=0) >= -tall) & (up.min(axis=0) <= tall)
        # along the normal of each side of the image: where the patch's middle is, and how far the patch reaches from it
        dx, dy = np.concatenate([across[1:], across[:1]]) - across, np.concatenate([up[1:], up[:1]]) - up
        beyond = across * dy - up * dx
        reach = np.abs(dy) * wide + np.abs(dx) * tall
        met &= (np.sign(beyond.sum(axis=0)) * beyond >= -reach).all(axis=0)
        return met

    def _meeting_far(self, planes: Floats, x: Rows, y: Rows, polygons: Floats) -> Flags:
        """Tell which images overlap each its patch, wherever they reach on the sky."""
        patches = self.patches(planes, x, y)
        near = circles_near(bounding_circles(polygons), bounding_circles(patches), 0.0)
        return near & pairs_overlapping(polygons, patches)

    def _boxes(self, places: Floats) -> tuple[Rows, Rows, Rows]:
        """Return pairs of image and patch whose boxes meet in the plane, a little generously."""
        # An image that reaches away from the plane has no box there: it may overlap every patch.
        seen = places[2].min(axis=0) > _NEAR_SIDE
        ranges = []
        for axis, position in enumerate(places[:2]):
            inner, number = self.inner[axis], self.numbers[axis]
            slack = self.border + 1e-3
            before, after = position.min(axis=0), position.max(axis=0)
            low = np.clip(np.ceil((before - slack) / inner) - 1, 0, number)
            high = np.clip(np.floor((after + slack) / inner), -1, number - 1)
            outside = (after < -1e-3) | (before > number * inner + 1e-3)
            count = np.where(outside, 0, np.maximum(high - low + 1, 0))
            ranges.append([np.where(seen, *pair).astype(np.intp) for pair in ((low, 0), (count, number))])
        (left, wide), (bottom, tall) = ranges
        rows, place = expanded(wide * tall)
        return rows, left[rows] + place % wide[rows], bottom[rows] + place // wide[rows]


@dataclass(frozen=True, slots=True)
class Tract:
    """A part of a sky map.

    Parameters
    ----------
    id
        Its number.
    ra, dec
        Its centre in ICRS degrees, where the plane touches the sky.
    grid
        How it is divided.
    """

    id: int
    ra: float
    dec: float
    grid: Grid

    @property
    def outer(self) -> Floats:
        """The outline of the tract as a polygon, shape (4, 3)."""
        polygon: Floats = self.grid.outlines(self._plane[None])[0]
        return polygon

    @property
    def _plane(self) -> Floats:
        return _plane(self.grid, self.ra, self.dec)

    def patches(self) -> list[str]:
        """Return the names of all patches as registries spell them, the first axis fastest."""
        across, up = self.grid.numbers
        return [f"{x}x{y}" for y in range(up) for x in range(across)]

    def patch(self, name: str) -> Floats:
        """Return the outer region of a patch as a polygon, shape (4, 3).

        Parameters
        ----------
        name
            ``"8x6"`` or ``"8,6"``.

        Raises
        ------
        NotFoundError
            If the tract has no such patch.
        UsageError
            If `name` is no patch name.
        """
        x, y = self.place(name)
        polygon: Floats = self.grid.patches(self._plane[None], np.array([x]), np.array([y]))[0]
        return polygon

    def place(self, name: str) -> tuple[int, int]:
        """Return the column and row of a patch, from 0; errors as of `patch`."""
        x, y = _numbers(name)
        across, up = self.grid.numbers
        if x >= across or y >= up:
            hint = f"tract {self.id} is {across} x {up} patches, 0x0 to {across - 1}x{up - 1}"
            raise NotFoundError("patch", name, hint=hint)
        return x, y

    def has(self, name: str) -> bool:
        """Whether the tract has a patch of this name."""
        return all(part < number for part, number in zip(_numbers(name), self.grid.numbers, strict=True))

    def circle(self, x: int, y: int) -> tuple[float, float, float]:
        """Return right ascension, declination and radius in degrees of a circle around a patch's outer region."""
        (left, right), (bottom, top) = (map(float, self.grid.outer(axis, at)) for axis, at in enumerate((x, y)))
        middle = self._direction((left + right) / 2, (bottom + top) / 2)
        corners = [self._direction(across, up) for across in (left, right) for up in (bottom, top)]
        chord = max(math.dist(middle, corner) for corner in corners)
        ra = math.degrees(math.atan2(middle[1], middle[0]))
        dec = math.degrees(math.atan2(middle[2], math.hypot(middle[0], middle[1])))
        return ra, dec, math.degrees(2 * math.asin(min(chord / 2, 1.0)))

    def _direction(self, x: float, y: float) -> list[float]:
        """Return the unit vector to a pixel position; for so few, plain numbers are faster than arrays."""
        scale = math.radians(self.grid.pixel_scale / 3600)
        right, up = scale * (x - self.grid.centre[0]), scale * (y - self.grid.centre[1])
        vector = [c + right * a + up * b for a, b, c in zip(*self._plane.tolist(), strict=True)]
        length = math.hypot(*vector)
        return [part / length for part in vector]

    def overlapping(self, x: int, y: int, polygons: Floats) -> Flags:
        """Tell which images, shape (N, M, 3), overlap the patch in a column and row, see `Grid.overlapping`."""
        return self.grid.overlapping(self._plane, x, y, polygons)


@lru_cache(maxsize=256)
def _plane(grid: Grid, ra: float, dec: float) -> Floats:
    plane: Floats = grid.planes([ra], [dec])[0]
    plane.flags.writeable = False
    return plane


def _numbers(name: str) -> tuple[int, int]:
    try:
        x, y = (int(part) for part in stored_patch(name).split("x"))
    except ValueError as error:
        raise UsageError(str(error)) from error
    return x, y


def _tangent_frames(ra: npt.ArrayLike, dec: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return the directions to points, and those to the east and north of them, each of shape (T, 3)."""
    longitude, latitude = np.radians(ra), np.radians(dec)
    zero = np.zeros_like(longitude)
    # FITS's default for LONPOLE turns the map at the north pole half round (Calabretta and Greisen 2002, section 2.2)
    sign = np.where(np.asarray(dec) >= 90, -1.0, 1.0)
    east = sign * np.stack([-np.sin(longitude), np.cos(longitude), zero])
    down = np.sin(latitude)
    north = sign * np.stack([-down * np.cos(longitude), -down * np.sin(longitude), np.cos(latitude)])
    return unit_vectors(ra, dec), east.T, north.T
