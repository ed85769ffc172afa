"""Tracts and patches: a plane that touches the sky at the tract's centre, divided into equal rectangles of pixels.

This is how LSST's sky maps are made. Pixel positions are counted from the edge of the first pixel here, half a pixel
less than LSST does, so that a tract goes from 0 to the number of its pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dbb.errors import NotFoundError, UsageError
from dbb.patch import stored_patch
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

    def sky(self, ra: npt.ArrayLike, dec: npt.ArrayLike, x: npt.ArrayLike, y: npt.ArrayLike) -> Floats:
        """Return unit vectors to pixel positions, shape (T, M, 3), of tracts at `ra`, `dec`, shape (T,).

        `x` and `y` have the shape (M,).
        """
        x, y = np.asarray(x) - self.centre[0], np.asarray(y) - self.centre[1]
        turn, scale = np.radians(self.rotation), np.radians(self.pixel_scale / 3600)
        east = scale * (np.sin(turn) * y - np.cos(turn) * x)
        north = scale * (np.sin(turn) * x + np.cos(turn) * y)
        centre, eastward, northward = (one[:, None] for one in _tangent_frames(ra, dec))
        vectors = centre + east[:, None] * eastward + north[:, None] * northward
        unit: Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
        return unit

    def pixels(self, ra: float, dec: float, vectors: Floats) -> tuple[Floats, Floats]:
        """Return the positions, from the edge of the first pixel, of directions (..., 3) on the side of the tract."""
        centre, eastward, northward = (one[0] for one in _tangent_frames([ra], [dec]))
        turn, scale = np.radians(self.rotation), np.radians(self.pixel_scale / 3600)
        towards = vectors @ centre * scale
        east, north = vectors @ eastward / towards, vectors @ northward / towards
        return (
            np.sin(turn) * north - np.cos(turn) * east + self.centre[0],
            np.sin(turn) * east + np.cos(turn) * north + self.centre[1],
        )

    def outer(self, axis: int, index: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Return where the outer regions of patches begin and end along an axis, in pixels."""
        first = np.asarray(index) * self.inner[axis]
        size = self.numbers[axis] * self.inner[axis]
        return np.maximum(first - self.border, 0.0), np.minimum(first + self.inner[axis] + self.border, float(size))


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
        polygon: Floats = outlines([self.ra], [self.dec], self.grid)[0]
        return polygon

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
        polygon: Floats = self._patch_polygons(np.array([x]), np.array([y]))[0]
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
        (left, right), (bottom, top) = self.grid.outer(0, x), self.grid.outer(1, y)
        middle = [(left + right) / 2], [(bottom + top) / 2]
        across = np.array([*middle[0], left, right, right, left])
        up = np.array([*middle[1], bottom, bottom, top, top])
        centre, *corners = self.grid.sky([self.ra], [self.dec], across, up)[0]
        chord = float(np.sqrt(((np.array(corners) - centre) ** 2).sum(axis=1).max()))
        (east, north, pole) = centre.tolist()
        ra, dec = math.degrees(math.atan2(north, east)), math.degrees(math.atan2(pole, math.hypot(east, north)))
        return ra, dec, math.degrees(2 * math.asin(min(chord / 2, 1.0)))

    def overlapping(self, x: npt.ArrayLike, y: npt.ArrayLike, polygons: Floats) -> Flags:
        """Tell which images overlap a patch, or each its own one.

        Parameters
        ----------
        x, y
            Columns and rows of patches: numbers, or of shape (N,).
        polygons
            Outlines of images, shape (N, M, 3).

        Returns
        -------
        Flags
            Shape (N,). Both are closed: those that only touch count, within 1e-12 radians.
        """
        # Great circles are straight lines in the tangent plane, where a patch is an upright rectangle: two convex
        # polygons on the near side are apart exactly if a side of one of them has the other one beyond it.
        x, y = np.broadcast_to(x, len(polygons)), np.broadcast_to(y, len(polygons))
        seen = self._seen(polygons)
        if seen.all():
            return self._meeting(x, y, polygons)
        result, away = seen.copy(), ~seen
        result[seen] = self._meeting(x[seen], y[seen], polygons[seen])
        patches = self._patch_polygons(x[away], y[away])
        near = circles_near(bounding_circles(polygons[away]), bounding_circles(patches), 0.0)
        result[away] = near & pairs_overlapping(polygons[away], patches)
        return result

    def _seen(self, polygons: Floats) -> Flags:
        """Tell which polygons have a place in the plane of the tract: all of them is on its side of the sky."""
        seen: Flags = (polygons @ unit_vectors(self.ra, self.dec)).min(axis=1) > 0.01
        return seen

    def _meeting(self, x: Rows, y: Rows, polygons: Floats) -> Flags:
        tolerance = TOLERANCE / np.radians(self.grid.pixel_scale / 3600)
        across, up = self.grid.pixels(self.ra, self.dec, polygons)
        (left, right), (bottom, top) = self.grid.outer(0, x), self.grid.outer(1, y)
        met: Flags = (across.max(axis=1) >= left - tolerance) & (across.min(axis=1) <= right + tolerance)
        met &= (up.max(axis=1) >= bottom - tolerance) & (up.min(axis=1) <= top + tolerance)
        # along the normal of each side of the image: where the patch's middle is, and how far the patch reaches from it
        dx, dy = np.roll(across, -1, axis=1) - across, np.roll(up, -1, axis=1) - up
        middle_x, middle_y = (left + right)[:, None] / 2, (bottom + top)[:, None] / 2
        beyond = dx * (middle_y - up) - dy * (middle_x - across)
        reach = (np.abs(dy) * (right - left)[:, None] + np.abs(dx) * (top - bottom)[:, None]) / 2
        turn = np.sign((across * np.roll(up, -1, axis=1) - np.roll(across, -1, axis=1) * up).sum(axis=1))[:, None]
        met &= (turn * beyond >= -(reach + tolerance * np.hypot(dx, dy))).all(axis=1)
        return met

    def overlaps(self, polygons: Floats) -> Iterator[tuple[Rows, str]]:
        """Give each patch that overlaps any of some polygons, in order, with the indices of these.

        Parameters
        ----------
        polygons
            Shape (N, M, 3).
        """
        rows, x, y = self._candidates(polygons)
        hit = self.overlapping(x, y, polygons[rows])
        rows, x, y = rows[hit], x[hit], y[hit]
        order = np.lexsort((rows, x, y))
        rows, x, y = rows[order], x[order], y[order]
        numbers, which = np.unique(y * self.grid.numbers[0] + x, return_inverse=True)
        starts = np.flatnonzero(np.diff(which, prepend=-1))
        for part, number in zip(np.split(rows, starts[1:]), numbers[which[starts]], strict=False):
            yield part, "{1}x{0}".format(*divmod(int(number), self.grid.numbers[0]))

    def _candidates(self, polygons: Floats) -> tuple[Rows, Rows, Rows]:
        """Return pairs of polygon and patch whose boxes meet in the plane of the tract, a little generously."""
        # A polygon that reaches away from the plane has no box there: it may overlap every patch.
        seen = self._seen(polygons)
        ranges = []
        for axis, position in enumerate(self.grid.pixels(self.ra, self.dec, polygons[seen])):
            inner, number = self.grid.inner[axis], self.grid.numbers[axis]
            low, high = np.zeros(len(polygons), dtype=np.intp), np.full(len(polygons), number - 1)
            slack = self.grid.border + 1e-3
            before, after = position.min(axis=1), position.max(axis=1)
            low[seen] = np.clip(np.ceil((before - slack) / inner) - 1, 0, number)
            high[seen] = np.clip(np.floor((after + slack) / inner), -1, number - 1)
            outside = np.flatnonzero(seen)[(after < -1e-3) | (before > number * inner + 1e-3)]
            high[outside] = low[outside] - 1
            ranges.append((low, np.maximum(high - low + 1, 0)))
        (left, wide), (bottom, tall) = ranges
        rows = np.repeat(np.arange(len(polygons)), wide * tall)
        place = np.arange(len(rows)) - np.repeat(np.cumsum(wide * tall) - wide * tall, wide * tall)
        return rows, left[rows] + place % wide[rows], bottom[rows] + place // wide[rows]

    def _patch_polygons(self, x: Rows, y: Rows) -> Floats:
        (left, right), (bottom, top) = self.grid.outer(0, x), self.grid.outer(1, y)
        across = np.stack([left, right, right, left], axis=1).ravel()
        up = np.stack([bottom, bottom, top, top], axis=1).ravel()
        corners: Floats = self.grid.sky([self.ra], [self.dec], across, up)[0]
        return corners.reshape(-1, 4, 3)


def _numbers(name: str) -> tuple[int, int]:
    try:
        x, y = (int(part) for part in stored_patch(name).split("x"))
    except ValueError as error:
        raise UsageError(str(error)) from error
    return x, y


def outlines(ra: npt.ArrayLike, dec: npt.ArrayLike, grid: Grid) -> Floats:
    """Return the outlines, shape (T, 4, 3), of tracts with centres `ra`, `dec` in degrees, shape (T,)."""
    width, height = (inner * number for inner, number in zip(grid.inner, grid.numbers, strict=True))
    return grid.sky(ra, dec, [0, width, width, 0], [0, 0, height, height])


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
