"""What is on the sky: the stars and galaxies of the field, and a reference catalogue of the stars around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from astropy.table import Table, vstack
from hsc_survey import FIELD_CENTRE, Geometry

from dbb.sky.htm import trixels, trixels_near
from dbb.sky.polygons import unit_vectors

if TYPE_CHECKING:
    from hsc_pixels import Camera

REFERENCE_LIMIT = 22.0  # magnitude in r of the faintest star in the reference catalogue
_HTM_DEPTH = 7
# More bright stars than faint ones, unlike the sky: each ccd of a small survey needs some for its PSF, and those just
# above 20 sigma, 0.05 magnitudes uncertain each, must not be most of those that an accuracy is told of.
_STAR_SLOPE = -0.06
_AROUND = 1.0  # degrees by which the reference catalogue goes beyond the field in each direction
_STARS_AROUND = 800


def truth(camera: Camera) -> Table:
    """Make the stars and galaxies of the field.

    Returns
    -------
    Table
        id; ra and dec in ICRS degrees; mag_r and mag_i, those of the whole flux; type, ``star`` or ``galaxy``; of a
        galaxy, which is an exponential disk, radius (half of the light, of the circle with the same area, arcseconds),
        ellipticity (1 - b/a) and position_angle (degrees from north through east), all 0 of a star; nearest, the
        distance to the next object in arcseconds.
    """
    part = (camera.geometry.size / 512) ** 2
    stars, galaxies = max(100, round(240 * part)), max(60, round(320 * part))
    number = stars + galaxies
    random = camera.random("truth")
    kind = np.array(["star"] * stars + ["galaxy"] * galaxies)
    position = _positions(camera.geometry, random, number)
    red = np.concatenate(
        [_magnitudes(random, stars, 17.0, 24.5, _STAR_SLOPE), _magnitudes(random, galaxies, 19.0, 25.5, 0.28)]
    )
    disk = kind == "galaxy"
    colour = np.where(disk, random.normal(0.5, 0.3, number), _star_colours(random, number))
    radius = np.clip(0.55 * 10 ** (-0.08 * (red - 22)) * random.lognormal(0, 0.3, number), 0.15, 1.5)
    table = Table(
        {
            "id": np.arange(1, number + 1),
            "ra": position[:, 0],
            "dec": position[:, 1],
            "mag_r": red,
            "mag_i": red - colour,
            "type": kind,
            "radius": np.where(disk, radius, 0.0),
            "ellipticity": np.where(disk, random.uniform(0, 0.65, number), 0.0),
            "position_angle": np.where(disk, random.uniform(0, 180, number), 0.0),
        }
    )
    table["nearest"] = _nearest(position)
    return table


def _positions(geometry: Geometry, random: np.random.Generator, number: int) -> npt.NDArray[np.float64]:
    left, right, bottom, top = geometry.footprint
    x, y = random.uniform(left - 20, right + 20, number), random.uniform(bottom - 20, top + 20, number)
    sky: npt.NDArray[np.float64] = geometry.tract.wcs_pix2world(np.stack([x, y], axis=-1), 0)
    return sky


def _magnitudes(
    random: np.random.Generator, number: int, bright: float, faint: float, slope: float
) -> npt.NDArray[np.float64]:
    """Draw magnitudes whose numbers grow as ``10 ** (slope * magnitude)``."""
    first, last = sorted((10 ** (slope * bright), 10 ** (slope * faint)))
    drawn: npt.NDArray[np.float64] = np.log10(random.uniform(first, last, number)) / slope
    return drawn


def _star_colours(random: np.random.Generator, number: int) -> npt.NDArray[np.float64]:
    """Draw r - i: most stars are white, some are red."""
    colours: npt.NDArray[np.float64] = np.minimum(0.05 + random.exponential(0.4, number), 1.6)
    return colours


def _nearest(position: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    flat = (position - FIELD_CENTRE) * (np.cos(np.radians(FIELD_CENTRE[1])), 1.0) * 3600
    distance = np.hypot(*(flat[:, None, axis] - flat[:, axis] for axis in (0, 1)))
    np.fill_diagonal(distance, np.inf)
    nearest: npt.NDArray[np.float64] = distance.min(axis=1)
    return nearest


def reference_shards(camera: Camera, field: Table) -> dict[int, Table]:
    """Make the reference catalogue: bright stars of the field as others measured them, and stars around it.

    Returns
    -------
    dict
        By HTM trixel of depth 7, tables of id, ra, dec (ICRS degrees), mag_r and mag_i. Errors are 0.02 arcseconds
        along each axis and 0.008 magnitudes.
    """
    random = camera.random("reference")
    known = field[(field["type"] == "star") & (field["mag_r"] < REFERENCE_LIMIT)]["id", "ra", "dec", "mag_r", "mag_i"]
    for name in ("ra", "dec"):
        known[name] += random.normal(0, 0.02 / 3600, len(known))
    for name in ("mag_r", "mag_i"):
        known[name] += random.normal(0, 0.008, len(known))
    stars = vstack([known, _stars_around(camera.geometry, random, len(field))])
    return _by_trixel(stars)


def _stars_around(geometry: Geometry, random: np.random.Generator, before: int) -> Table:
    """Make stars outside of what any exposure sees."""
    ra, dec = (middle + random.uniform(-_AROUND, _AROUND, _STARS_AROUND) for middle in FIELD_CENTRE)
    x, y = geometry.tract.wcs_world2pix(np.stack([ra, dec], axis=-1), 0).T
    left, right, bottom, top = geometry.footprint
    outside = (x < left - 100) | (x > right + 100) | (y < bottom - 100) | (y > top + 100)
    red = _magnitudes(random, _STARS_AROUND, 17.5, REFERENCE_LIMIT, _STAR_SLOPE)
    table = Table({"id": before + 1 + np.arange(_STARS_AROUND), "ra": ra, "dec": dec, "mag_r": red})
    table["mag_i"] = red - _star_colours(random, _STARS_AROUND)
    return table[outside]


def _by_trixel(stars: Table) -> dict[int, Table]:
    (ra, dec), reach = FIELD_CENTRE, _AROUND + 0.1
    signs = np.array([-1, 1, 1, -1])
    box = unit_vectors(ra + reach * signs, dec + reach * np.roll(signs, -1))
    ids = trixels_near([box], _HTM_DEPTH, 0.0)
    corners = trixels(ids)
    normals = np.cross(corners, np.roll(corners, -1, axis=1))  # of the planes of the sides, inwards
    places = unit_vectors(stars["ra"], stars["dec"])
    inside = (np.einsum("tsk,nk->nts", normals, places) >= 0).all(axis=2)
    home = np.asarray(ids)[inside.argmax(axis=1)]
    return {int(trixel): stars[home == trixel] for trixel in np.unique(home)}
