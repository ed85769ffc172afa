"""Measurements of the sources of one exposure or coadd: places, shapes, fluxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hscdemo.exposure import EDGE, NO_DATA, SAT, Exposure
from hscdemo.fluxes import Stamp, fit_fluxes
from hscdemo.psf import Floats

_LEAST_FOR_SHAPE = 8.0  # signal to noise
_FARTHEST = 2.0  # pixels that a source may be from where it was found
_START = 1.3  # width in pixels of a disk before anything is known of it


@dataclass(slots=True)
class Measured:
    """Places of sources, the covariances of their own light, and whether they are extended."""

    x: Floats
    y: Floats
    shape: Floats
    extended: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Fit:
    """Parameters of one source, their covariance, and how far the pixels are from it in units of their noise."""

    values: Floats
    covariance: Floats
    chi2: float


def radius_of(exposure: Exposure) -> int:
    """Return half the side of the stamps that sources are fitted in."""
    return max(8, round(2.8 * max(one.psf.fwhm for one in exposure.inputs)))


def measure(exposure: Exposure, x: Floats, y: Floats, rounds: int = 2) -> Measured:
    """Improve places and find the own shapes of sources, each with its neighbours taken away.

    Parameters
    ----------
    exposure
        The image.
    x, y
        Where sources are, to a pixel or so.
    rounds
        How often.
    """
    found = Measured(x.copy(), y.copy(), np.zeros((len(x), 3)), np.zeros(len(x), dtype=bool))
    radius = radius_of(exposure)
    for _ in range(rounds):
        fluxes = fit_fluxes(exposure, found.x, found.y, found.shape, radius)
        left = fluxes.residual(exposure)
        for i, stamp in enumerate(fluxes.stamps):
            if fluxes.flux[i] > 5 * fluxes.sigma[i]:
                alone = left[stamp.place] + fluxes.flux[i] * stamp.light
                signal = fluxes.flux[i] / fluxes.sigma[i]
                _improve(exposure, found, i, alone, stamp, signal > _LEAST_FOR_SHAPE, (x[i], y[i]))
    return found


def _improve(
    exposure: Exposure, found: Measured, i: int, alone: Floats, stamp: Stamp, shaped: bool, start: tuple[float, float]
) -> None:
    """Fit a source as a star and, if it is bright enough, as a disk; keep what is better."""
    place, noise = stamp.place, np.sqrt(exposure.variance[stamp.place])
    used = (stamp.weight > 0) & (noise > 0)
    data, sigma = alone[used], noise[used]

    def as_star(values: Floats) -> Floats:
        return exposure.light(place, values[0], values[1])[0][used]

    best = _fit(as_star, np.array([found.x[i], found.y[i]]), data, sigma)
    own = np.zeros(3)
    if shaped:
        disk = _fit_disk(exposure, best.values, found.shape[i], place, used, data, sigma)
        shape, size, error = disk
        if size is not None and best.chi2 - size.chi2 > 16 and error < 0.4 and shape[0] + shape[2] > 0.15:
            best, own = size, shape
    if np.hypot(best.values[0] - start[0], best.values[1] - start[1]) < _FARTHEST:
        found.x[i], found.y[i] = best.values[:2]
        found.shape[i], found.extended[i] = own, own.any()


def _fit_disk(
    exposure: Exposure, xy: Floats, shape: Floats, place: tuple[slice, ...], used: npt.NDArray[np.bool_],
    data: Floats, sigma: Floats,
) -> tuple[Floats, _Fit | None, float]:  # fmt: skip
    """Return the covariance of the disk that fits best, the fit, and the relative error of the disk's size."""
    psf = exposure.psf_at(*xy)
    rows, columns = (np.arange(part.start, part.stop, dtype=float) for part in place)

    def as_disk(values: Floats) -> Floats:
        return psf.disk(_covariance(values[2:])).at(columns - values[0], (rows - values[1])[:, None])[used]

    if shape.any():
        a = np.sqrt(max(shape[0], 1e-3))
        start = np.array([a, shape[1] / a, np.sqrt(max(shape[2] - (shape[1] / a) ** 2, 1e-3))])
    else:
        start = np.array([_START, 0.0, _START])
    found = _fit(as_disk, np.concatenate([xy, start]), data, sigma)
    own = _covariance(found.values[2:])
    size = own[0] + own[2]
    slope = 2 * found.values[2:]  # of the size by the parameters
    error = float(np.sqrt(slope @ found.covariance[2:, 2:] @ slope)) / max(size, 1e-9)
    return own, found if np.isfinite(found.chi2) and size < 400 else None, error


def _covariance(root: Floats) -> Floats:
    """Return xx, xy, yy of the matrix whose triangular root has the elements a; b, c."""
    a, b, c = root
    return np.array([a * a, a * b, b * b + c * c])


def _fit(model: Callable[[Floats], Floats], start: Floats, data: Floats, sigma: Floats, steps: int = 12) -> _Fit:
    """Fit a model, which is multiplied with a flux, by the method of Levenberg and Marquardt."""
    values, damping = start.astype(float), 1e-3

    def compare(at: Floats) -> tuple[Floats, float, float, Floats]:
        light = model(at) / sigma
        flux = float(light @ (data / sigma)) / max(float(light @ light), 1e-300)
        left = data / sigma - flux * light
        return light, flux, float(left @ left), left

    light, flux, chi2, left = compare(values)
    covariance = np.full((len(values),) * 2, np.inf)
    for _ in range(steps):
        slopes = [(model(values + row) / sigma - light) / 0.02 * flux for row in 0.02 * np.eye(len(values))]
        columns = np.stack([*slopes, light], axis=1)
        normal, right = columns.T @ columns, columns.T @ left
        try:
            covariance = np.linalg.inv(normal + 1e-12 * np.diag(np.diag(normal)))[:-1, :-1]
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), right)[:-1]
        except np.linalg.LinAlgError:
            break
        tried = compare(values + np.clip(step, -1, 1))
        if tried[2] < chi2:
            gained, values, damping = chi2 - tried[2], values + np.clip(step, -1, 1), damping / 5
            light, flux, chi2, left = tried
            if gained < 0.05:
                break
        else:
            damping *= 8
            if damping > 1e4 or np.abs(step).max() < 1e-3:
                break
    return _Fit(values, covariance, chi2 if flux > 0 else np.inf)


def flux_columns(exposure: Exposure, x: Floats, y: Floats, shape: Floats) -> dict[str, Floats]:
    """Return fluxes as of point sources and with the sources' shapes, and their errors."""
    columns: dict[str, Floats] = {}
    for name, used in (("psf", np.zeros_like(shape)), ("model", shape)):
        found = fit_fluxes(exposure, x, y, used, radius_of(exposure))
        columns |= {f"{name}_flux": found.flux, f"{name}_flux_sigma": found.sigma}
    return columns


def magnitude_columns(fluxes: Mapping[str, Floats], zero_point: float) -> dict[str, Floats]:
    """Return the magnitudes of such fluxes, NaN of those that are not positive."""
    columns: dict[str, Floats] = {}
    for name in ("psf", "model"):
        flux = np.where(fluxes[f"{name}_flux"] > 0, fluxes[f"{name}_flux"], np.nan)
        columns[f"{name}_mag"] = zero_point - 2.5 * np.log10(flux)
        columns[f"{name}_mag_sigma"] = 2.5 / np.log(10) * fluxes[f"{name}_flux_sigma"] / flux
    return columns


def place_columns(exposure: Exposure, x: Floats, y: Floats) -> dict[str, npt.NDArray[np.generic]]:
    """Return places in radians, flags, and how many exposures have a source."""
    sky = exposure.wcs.wcs_pix2world(np.stack([x, y], axis=1), 0).reshape(-1, 2)
    rows = np.clip(np.rint(y).astype(int), 0, len(exposure.image) - 1)
    columns = np.clip(np.rint(x).astype(int), 0, exposure.image.shape[1] - 1)
    bits, there = exposure.mask[rows, columns], exposure.contribution[rows, columns]
    many = sum(((there >> bit & 1) for bit in range(len(exposure.inputs))), np.zeros(len(x), dtype=np.int32))
    return {
        "coord_ra": np.radians(sky[:, 0]), "coord_dec": np.radians(sky[:, 1]), "x": x, "y": y,
        "flag_saturated": (bits & SAT) != 0, "flag_edge": (bits & (EDGE | NO_DATA)) != 0, "inputs": many,
    }  # fmt: skip
