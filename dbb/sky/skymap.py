"""A sky map as data: a TOML file that says where tracts are and how they are divided into patches.

Every file has a name, a type, and the geometry that its tracts share::

    name = "survey"
    type = "discrete"
    pixel_scale = 0.168             # arcseconds
    patch_inner = [4000, 4000]      # pixels; one number for a square
    patch_border = 100              # pixels
    projection = "TAN"              # the default, and the only one
    rotation = 0.0                  # degrees, the default
    tract_overlap = 0.0             # degrees; of the types "discrete" and "rings"

and what belongs to its type: of ``discrete``, ``ra_list``, ``dec_list`` and ``radius_list`` in degrees; of ``rings``,
``num_rings``, ``ra_start`` (default 0) and ``version`` (default 1; 0 has the numbers of sky maps made before 2018); of
``explicit``, ``[[tracts]]`` with ``id``, ``ra``, ``dec`` and ``patches = [9, 9]``, and any of the shared keys but
``projection`` again if they differ in that tract.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dbb.errors import NotFoundError, UsageError
from dbb.sky._toml import Table
from dbb.sky.pairs import circle_pairs
from dbb.sky.polygons import Floats, bounding_circles, overlapping
from dbb.sky.tracts import Grid, Rows, Tract

Names = npt.NDArray[np.object_]
_GRID = ("pixel_scale", "patch_inner", "patch_border", "rotation")
_TYPES: dict[str, tuple[str, ...]] = {  # the keys of each type
    "explicit": ("tracts",),
    "discrete": ("tract_overlap", "ra_list", "dec_list", "radius_list"),
    "rings": ("tract_overlap", "num_rings", "ra_start", "version"),
}
_MOST_PATCHES = 1_000_000  # of a tract
_MOST_PIXELS = 1_000_000_000  # along an axis of a patch
_LEAST_SCALE = 1e-6  # arcseconds per pixel: below that the arithmetic of pixels overflows
_LARGEST_ID = 2**63 - 1
_MOST_RINGS = 2000  # five million tracts


@dataclass(frozen=True, eq=False)
class SkyMap:
    """A sky map.

    Parameters
    ----------
    name
        What it is called.
    text
        The TOML that it was read from.
    ids
        Numbers of the tracts.
    ra, dec
        Their centres in ICRS degrees, each of shape (T,).
    grids
        How each is divided.
    """

    name: str
    text: str = field(repr=False)
    ids: Sequence[int] = field(repr=False)
    ra: Floats = field(repr=False)
    dec: Floats = field(repr=False)
    grids: Sequence[Grid] = field(repr=False)

    def tract_ids(self) -> Sequence[int]:
        """Return the numbers of all tracts."""
        return self.ids

    def tract(self, number: int) -> Tract:
        """Return a tract.

        Raises
        ------
        NotFoundError
            If the sky map has none of this number.
        """
        try:
            return self._at(self.ids.index(number))
        except ValueError:
            some = ", ".join(map(str, self.ids[:12])) + (", …" if len(self.ids) > 12 else "")
            shown = f"{self.ids[0]} to {self.ids[-1]}" if isinstance(self.ids, range) else some
            raise NotFoundError("tract", str(number), hint=f"sky map {self.name!r} has {shown}") from None

    def tracts_near(self, region: Floats, margin: float = 0.0) -> list[int]:
        """Return the numbers of the tracts that are within a margin, in degrees, of a region of shape (K, 3)."""
        near = np.flatnonzero(overlapping(region, self._outlines, margin))
        return [self.ids[int(i)] for i in near]

    def overlaps(self, polygons: Floats) -> tuple[Rows, Rows, Names]:
        """Return which images overlap which patches with their outer regions.

        Parameters
        ----------
        polygons
            Outlines of images, shape (N, 4, 3).

        Returns
        -------
        tuple
            Index of the image, number of the tract, and patch as registries spell it, of each overlap: in order of
            tracts, patches and images.

        Notes
        -----
        Some 10 µs for each image. Memory grows with the number of images: give millions in parts of about 100 000.
        """
        found: list[tuple[Rows, Rows, Rows, Rows, Names]] = []
        for images, tracts in circle_pairs(bounding_circles(polygons), self._circles):
            for grid, members in self._alike.items():
                here = slice(None) if len(self._alike) == 1 else np.flatnonzero(np.isin(tracts, members))
                own, used = images[here], tracts[here]
                rows, x, y = grid.overlaps(self._planes[used], polygons[own])
                found.append((own[rows], x, y, used[rows], _names(grid.numbers)[y * grid.numbers[0] + x]))
        if not found:
            return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.object_)
        images, x, y, tracts, names = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.lexsort((images, x, y, tracts))
        return images[order], np.asarray(self.ids)[tracts[order]], names[order]

    def _at(self, index: int) -> Tract:
        return Tract(self.ids[index], float(self.ra[index]), float(self.dec[index]), self.grids[index])

    @cached_property
    def _alike(self) -> dict[Grid, Rows]:
        """The indices of the tracts that are divided in one way."""
        alike: dict[Grid, list[int]] = {}
        for i, grid in enumerate(self.grids):
            alike.setdefault(grid, []).append(i)
        return {grid: np.array(members) for grid, members in alike.items()}

    @cached_property
    def _planes(self) -> Floats:
        planes = np.empty((len(self.ids), 3, 3))
        for grid, members in self._alike.items():
            planes[members] = grid.planes(self.ra[members], self.dec[members])
        return planes

    @cached_property
    def _outlines(self) -> Floats:
        polygons = np.empty((len(self.ids), 4, 3))
        for grid, members in self._alike.items():
            polygons[members] = grid.outlines(self._planes[members])
        return polygons

    @cached_property
    def _circles(self) -> tuple[Floats, Floats]:
        return bounding_circles(self._outlines)


@cache
def _names(numbers: tuple[int, int]) -> Names:
    """Return the names of a tract's patches, the first axis fastest."""
    names: Names = np.array([f"{x}x{y}" for y in range(numbers[1]) for x in range(numbers[0])], dtype=np.object_)
    return names


def read_skymap(path: str | Path) -> SkyMap:
    """Read a sky map from a TOML file.

    Raises
    ------
    UsageError
        If it cannot be read; names the file and the key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    return parse_skymap(text, str(path))


def parse_skymap(text: str, where: str) -> SkyMap:
    """Read a sky map from TOML.

    Parameters
    ----------
    text
        The TOML.
    where
        What messages call it.

    Raises
    ------
    UsageError
        If it cannot be understood; names the key.
    """
    try:
        table = Table(tomllib.loads(text), where)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{where} is no TOML: {error}") from error
    name, kind = table.text("name"), table.text("type")
    if kind not in _TYPES:
        raise table.wrong("type", f"expected one of {', '.join(_TYPES)}")
    table.only("name", "type", "projection", *_GRID, *_TYPES[kind])
    if table.text("projection", "TAN") != "TAN":
        raise table.wrong("projection", "only TAN is known")
    makers = {"explicit": _explicit, "discrete": _discrete, "rings": _rings}
    return SkyMap(name, text, *makers[kind](table))


_Parts = tuple[Sequence[int], Floats, Floats, Sequence[Grid]]


def _explicit(table: Table) -> _Parts:
    tracts = table.tables("tracts")
    for one in tracts:
        one.only("id", "ra", "dec", "patches", *_GRID)
    ids = [one.integer("id", least=0, most=_LARGEST_ID) for one in tracts]
    for i, one in enumerate(tracts):
        if ids[i] in ids[:i]:
            raise one.wrong("id", f"tract {ids[i]} is there twice")
    grids = []
    for one in tracts:
        numbers, inner = one.pair("patches"), table.also(one).pair("patch_inner", _MOST_PIXELS)
        if numbers[0] * numbers[1] > _MOST_PATCHES:
            raise one.wrong("patches", f"more than {_MOST_PATCHES} patches")
        centre = numbers[0] * inner[0] / 2, numbers[1] * inner[1] / 2
        grids.append(_grid(table.also(one), numbers, centre))
    return (
        ids,
        np.array([one.number("ra", -360, 360) for one in tracts]),
        np.array([one.number("dec", -90, 90) for one in tracts]),
        grids,
    )


def _discrete(table: Table) -> _Parts:
    ra, dec = table.numbers("ra_list", -360, 360), table.numbers("dec_list", -90, 90)
    radii = table.numbers("radius_list", 0, 80)
    for key, values in (("dec_list", dec), ("radius_list", radii)):
        if len(values) != len(ra):
            raise table.wrong(key, f"{len(values)} values for the {len(ra)} of ra_list")
    return range(len(ra)), np.array(ra), np.array(dec), [_square(table, radius) for radius in radii]


def _rings(table: Table) -> _Parts:
    rings = table.integer("num_rings", least=1, most=_MOST_RINGS)
    start, version = table.number("ra_start", -360, 360, default=0.0), table.integer("version", 0, 1, default=1)
    # The two caps together are as high as a ring; tracts of that size go round the longer edge of their ring.
    height = math.pi / (rings + 1)
    ra, dec = [0.0], [-90.0]
    firsts = []
    for ring in range(rings):
        bottom = height * (ring + 0.5) - math.pi / 2
        count = int(2 * math.pi * math.cos(min(abs(bottom), abs(bottom + height))) / height) + 1
        firsts.append(len(ra))
        ra += [(start + 360.0 * i / count) % 360.0 for i in range(count)]
        dec += [math.degrees(height * (ring + 1) - math.pi / 2)] * count
    ra.append(0.0)
    dec.append(90.0)
    right, declination = np.array(ra), np.array(dec)
    if version == 0:
        _number_as_before(right, declination, firsts)
    return range(len(ra)), right, declination, [_square(table, math.degrees(height / 2))] * len(ra)


def _number_as_before(ra: Floats, dec: Floats, firsts: Sequence[int]) -> None:
    """Put tracts in the order of version 0, that of sky maps made before LSST's DM-14809.

    There the first tract of a ring comes after the ring's last one, under the number that is now that of the next
    ring's first. The first ring's has its right number besides; the last ring's is left out.
    """
    starts = ra[firsts], dec[firsts]
    ra[firsts[1:]], dec[firsts[1:]] = starts[0][:-1], starts[1][:-1]


def _square(table: Table, radius: float) -> Grid:
    """Return how LSST divides a square tract: with a whole number of patches, which makes it a little larger."""
    half = radius + table.number("tract_overlap", 0, 80)
    if not 0 < half < 80:
        raise table.wrong(
            "tract_overlap", f"a tract would reach {half} degrees from its centre, not more than 0 and less than 80"
        )
    scale, turn = (
        math.radians(table.number("pixel_scale", least=_LEAST_SCALE) / 3600),
        math.radians(table.number("rotation", -360, 360, default=0.0)),
    )
    # the points at this distance to the north, east, south and west of the centre lie in the tract
    reach = math.tan(math.radians(half)) / scale * max(abs(math.cos(turn)), abs(math.sin(turn)))
    first, last = math.floor(0.5 - reach), math.ceil(reach - 0.5)  # pixels, of which 0 has the centre in its middle
    size = last - first + 1
    inner = table.pair("patch_inner", _MOST_PIXELS)
    numbers = (-(-size // inner[0]), -(-size // inner[1]))
    if numbers[0] * numbers[1] > _MOST_PATCHES:
        raise table.wrong("patch_inner", f"more than {_MOST_PATCHES} patches in a tract")
    lowest = [first - (step * number - size) // 2 for step, number in zip(inner, numbers, strict=True)]
    return _grid(table, numbers, (0.5 - lowest[0], 0.5 - lowest[1]))


def _grid(table: Table, numbers: tuple[int, int], centre: tuple[float, float]) -> Grid:
    grid = Grid(
        table.number("pixel_scale", least=_LEAST_SCALE),
        table.number("rotation", -360, 360, default=0.0),
        table.pair("patch_inner", _MOST_PIXELS),
        table.integer("patch_border", least=0, most=_MOST_PIXELS),
        numbers,
        centre,
    )
    half = max(inner * number for inner, number in zip(grid.inner, numbers, strict=True)) * grid.pixel_scale / 7200
    if half > 400:  # degrees along the plane: at 82 degrees from the centre
        raise table.wrong("pixel_scale", "a tract would be larger than a hemisphere can show")
    return grid
