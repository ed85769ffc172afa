"""The place of an image on the sky and its zero point, from reference stars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy.wcs import WCS

from hscdemo.psf import Floats
from hscdemo.taskline import StepError

Rows = npt.NDArray[np.intp]
_LEAST_MATCHES = 6
_REFERENCE_ERROR = 0.01  # magnitudes, by which catalogues are wrong however bright the star


@dataclass(frozen=True, slots=True)
class Astrometry:
    """The fitted place of an image, and which source is which star."""

    wcs: WCS
    sources: Rows
    stars: Rows
    scatter: float


@dataclass(frozen=True, slots=True)
class ZeroPoint:
    """The magnitude of flux 1, its error, and how many stars told it."""

    magnitude: float
    error: float
    stars: int


def fit_wcs(
    rough: WCS, x: Floats, y: Floats, ra: Floats, dec: Floats, size: tuple[int, int], reach: float
) -> Astrometry:
    """Shift, turn and stretch a rough WCS so that sources are where reference stars are.

    Parameters
    ----------
    rough
        Wrong by no more than `reach`.
    x, y
        Sources in pixels, brightest first.
    ra, dec
        Stars in degrees.
    size
        Rows and columns of the image.
    reach
        Pixels.

    Returns
    -------
    Astrometry
        Its scatter is the median distance of source and star in arcseconds.

    Raises
    ------
    StepError
        If too few stars are found.
    """
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    tangent = _tangent_wcs(rough, middle)
    stars = tangent.wcs_world2pix(np.stack([ra, dec], axis=1), 0) - middle
    places = np.stack([x, y], axis=1) - middle
    offset = _common_offset(stars[:, None] - places[None, :150], reach)
    linear, own, theirs = _matched(places, stars, offset)
    left = places[own] @ linear[:2] + linear[2] - stars[theirs]
    scale = 3600 * float(np.sqrt(np.abs(np.linalg.det(tangent.wcs.cd))))
    tangent.wcs.crpix = middle + 1 - np.linalg.solve(linear[:2].T, linear[2])
    tangent.wcs.cd = tangent.wcs.cd @ linear[:2].T
    tangent.wcs.set()
    return Astrometry(tangent, own, theirs, scale * float(np.median((left**2).sum(axis=1)) ** 0.5))


def pairs(found: Floats, stars: Floats, near: float) -> tuple[Rows, Rows]:
    """Return which places, shape (N, 2), and stars, (M, 2), are each other's nearest and not farther than `near`."""
    if not len(found) or not len(stars):
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
    squared = (found[:, None, 0] - stars[None, :, 0]) ** 2 + (found[:, None, 1] - stars[None, :, 1]) ** 2
    nearest, back = squared.argmin(axis=1), squared.argmin(axis=0)
    own = np.arange(len(found))
    mutual = (back[nearest] == own) & (squared[own, nearest] <= near**2)
    return own[mutual], nearest[mutual]


def zero_point(magnitudes: Floats, fluxes: Floats, sigmas: Floats) -> ZeroPoint:
    """Return the zero point of an image from the fluxes and errors of stars and their magnitudes.

    Raises
    ------
    StepError
        If too few are bright enough.
    """
    bright = np.isfinite(fluxes) & (fluxes > 20 * sigmas)
    each = magnitudes[bright] + 2.5 * np.log10(fluxes[bright])
    error = np.hypot(1.0857 * sigmas[bright] / fluxes[bright], _REFERENCE_ERROR)
    kept = np.ones(len(each), dtype=bool)
    for _ in range(6):
        if kept.sum() < _LEAST_MATCHES:
            raise StepError(f"only {kept.sum()} stars tell the zero point")
        mean = np.average(each[kept], weights=error[kept] ** -2)
        spread = 1.4826 * np.median(np.abs(each[kept] - np.median(each[kept])))
        kept = np.abs(each - mean) < 3 * np.hypot(error, spread)
    return ZeroPoint(float(mean), float((error[kept] ** -2).sum() ** -0.5), int(kept.sum()))


def _tangent_wcs(rough: WCS, middle: Floats) -> WCS:
    """Return a plain tangent plane that agrees with `rough` in the middle of the image."""
    plain = WCS(naxis=2)
    plain.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    plain.wcs.crpix, plain.wcs.crval = middle + 1, rough.all_pix2world(middle[None], 0)[0]
    plain.wcs.cd = np.eye(2) * np.sqrt(np.abs(np.linalg.det(rough.pixel_scale_matrix)))
    step = 50.0
    steps = plain.wcs_world2pix(rough.all_pix2world(middle + step * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]), 0), 0)
    turn = np.stack([steps[0] - steps[1], steps[2] - steps[3]], axis=1) / (2 * step)
    plain.wcs.cd = plain.wcs.cd @ turn
    plain.wcs.set()
    return plain


def _common_offset(differences: Floats, reach: float, bin_size: float = 2.0) -> Floats:
    """Return the shift that most pairs of star and source have in common."""
    flat = differences.reshape(-1, 2)
    flat = flat[(np.abs(flat) < reach).all(axis=1)]
    if not len(flat):
        raise StepError("no reference star is near any source")
    edges = np.arange(-reach - bin_size, reach + 2 * bin_size, bin_size)
    counts = np.histogram2d(flat[:, 0], flat[:, 1], bins=[edges, edges])[0]
    sums = sum(counts[i : len(counts) - 1 + i, j : len(counts) - 1 + j] for i in (0, 1) for j in (0, 1))
    i, j = np.unravel_index(int(np.argmax(sums)), counts[1:, 1:].shape)
    peak = np.array([edges[i + 1], edges[j + 1]])
    return np.asarray(np.median(flat[np.abs(flat - peak).max(axis=1) <= bin_size], axis=0))


def _matched(places: Floats, stars: Floats, offset: Floats) -> tuple[Floats, Rows, Rows]:
    """Return the matrix that takes (x, y, 1) of a source to where its star is, and which source is which star."""
    linear = np.concatenate([np.eye(2), offset[None]])
    for near in (4.0, 2.0, 1.5, 1.5):
        own, theirs = pairs(places @ linear[:2] + linear[2], stars, near)
        if len(own) < _LEAST_MATCHES:
            raise StepError(
                f"only {len(own)} of {len(places)} sources are where one of {len(stars)} reference stars is"
            )
        linear = _affine(places[own], stars[theirs])
    return linear, own, theirs


def _affine(places: Floats, stars: Floats) -> Floats:
    """Return the matrix, shape (3, 2), that takes (x, y, 1) to stars, without those that are far off."""
    columns = np.concatenate([places, np.ones((len(places), 1))], axis=1)
    kept = np.ones(len(places), dtype=bool)
    for _ in range(5):
        found = np.linalg.lstsq(columns[kept], stars[kept], rcond=None)[0]
        off = np.sqrt(((columns @ found - stars) ** 2).sum(axis=1))
        new = off <= max(3 * 1.2 * np.median(off[kept]), 0.02)
        if new.sum() < _LEAST_MATCHES:
            break
        kept = new
    return np.asarray(found)
