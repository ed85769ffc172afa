"""Point-spread functions as sums of elliptical Gaussians, which can be moved, sheared and broadened exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PARTS = 7
_LADDER = np.array([0.6, 0.8, 1.0, 1.3, 1.8, 2.6, 4.0])  # widths of the parts, of that of the core
# The light of an exponential disk as Gaussians: fractions, and variances in units of its own; fitted to 1 % of exp(-r).
_DISK = np.array([(0.029, 0.041), (0.159, 0.178), (0.456, 0.610), (0.356, 1.835)])
_TO_FWHM = 2 * math.sqrt(2 * math.log(2))


@dataclass(frozen=True, slots=True)
class Psf:
    """A sum of Gaussians around one point.

    Parameters
    ----------
    fractions
        Of the light in each part, shape (K,); their sum is 1.
    covariances
        xx, xy and yy of each part in square pixels, shape (K, 3).
    """

    fractions: Floats
    covariances: Floats

    def at(self, dx: npt.ArrayLike, dy: npt.ArrayLike) -> Floats:
        """Return the light per pixel at offsets, in pixels, from the centre."""
        dx, dy = np.broadcast_arrays(np.asarray(dx, dtype=float), np.asarray(dy, dtype=float))
        basis = np.stack([dx.ravel() ** 2, dx.ravel() * dy.ravel(), dy.ravel() ** 2])
        return np.asarray((self.peaks @ np.exp(self.exponents @ basis)).reshape(dx.shape))

    @property
    def exponents(self) -> Floats:
        """Factors of dx dx, dx dy and dy dy in the exponent of each part, shape (K, 3)."""
        xx, xy, yy = self.covariances.T
        return np.stack([-0.5 * yy, xy, -0.5 * xx], axis=1) / (xx * yy - xy * xy)[:, None]

    @property
    def peaks(self) -> Floats:
        """Light per pixel of each part in the middle."""
        xx, xy, yy = self.covariances.T
        return np.asarray(self.fractions / (2 * math.pi * np.sqrt(xx * yy - xy * xy)))

    def sheared(self, jacobian: Floats) -> Psf:
        """Return it in other pixels, of which `jacobian`, shape (2, 2), tells the derivative by these."""
        (a, b), (c, d) = jacobian
        xx, xy, yy = self.covariances.T
        moved = (
            a * a * xx + 2 * a * b * xy + b * b * yy,
            a * c * xx + (a * d + b * c) * xy + b * d * yy,
            c * c * xx + 2 * c * d * xy + d * d * yy,
        )
        return Psf(self.fractions, np.stack(moved, axis=1))

    def disk(self, shape: npt.ArrayLike) -> Psf:
        """Return it folded with an exponential disk of covariance `shape`: xx, xy, yy in square pixels."""
        own = np.asarray(shape, dtype=float)
        if not own.any():
            return self
        covariances = self.covariances[:, None] + _DISK[:, 1, None] * own
        return Psf(np.outer(self.fractions, _DISK[:, 0]).ravel(), covariances.reshape(-1, 3))

    @property
    def fwhm(self) -> float:
        """Full width at half maximum in pixels, the geometric mean of those of two axes."""
        steps = np.linspace(0, 8 * math.sqrt(self.covariances[:, 0].max()), 4000)
        widths = []
        for dx, dy in ((steps, 0 * steps), (0 * steps, steps)):
            light = self.at(dx, dy)
            widths.append(2 * float(np.interp(-0.5 * light[0], -light, steps)))
        return math.sqrt(widths[0] * widths[1])


def gaussian(fwhm: float) -> Psf:
    """Return a round Gaussian."""
    variance = (fwhm / _TO_FWHM) ** 2
    return Psf(np.array([1.0]), np.array([[variance, 0.0, variance]]))


def fit_psf(
    stamps: Floats, good: npt.NDArray[np.bool_], dx: Floats, dy: Floats, start: Psf
) -> tuple[Psf, npt.NDArray[np.bool_]]:
    """Fit one PSF to images of several stars.

    Parameters
    ----------
    stamps
        Images without background, shape (N, S, S), S odd, the star near the middle.
    good
        Pixels to be used.
    dx, dy
        Where stars are from the middle, in pixels, shape (N,).
    start
        A guess.

    Returns
    -------
    tuple
        The PSF, and which stars it was fitted to: not those that look different from most.
    """
    half = stamps.shape[1] // 2
    grid = np.arange(-half, half + 1.0)
    x, y = np.meshgrid(grid, grid)
    dx, dy, psf = dx.copy(), dy.copy(), start
    used = np.ones(len(stamps), dtype=bool)
    for _ in range(6):
        fluxes, steps, deviation = _fit_stars(stamps, good, x, y, dx, dy, psf)
        dx += np.clip(steps[:, 0], -0.3, 0.3)
        dy += np.clip(steps[:, 1], -0.3, 0.3)
        used = (deviation < 2.5 * np.median(deviation)) & (fluxes > 0)
        ox, oy = x - dx[used, None, None], y - dy[used, None, None]
        light = stamps[used] / fluxes[used, None, None]
        psf = _refit(light, good[used], ox, oy, psf, np.sqrt(fluxes[used] / fluxes[used].max()))
    return psf, used


def _fit_stars(
    stamps: Floats, good: npt.NDArray[np.bool_], x: Floats, y: Floats, dx: Floats, dy: Floats, psf: Psf
) -> tuple[Floats, Floats, Floats]:
    """Return flux, displacement and relative residual of each star."""
    fluxes, steps, deviation = np.zeros(len(stamps)), np.zeros((len(stamps), 2)), np.full(len(stamps), np.inf)
    for i, (stamp, use) in enumerate(zip(stamps, good, strict=True)):
        light, by_x, by_y = gradients(psf, x[use] - dx[i], y[use] - dy[i])
        columns = np.stack([light, by_x, by_y], axis=1)
        found = np.linalg.lstsq(columns, stamp[use], rcond=None)[0]
        if found[0] > 0:
            fluxes[i], steps[i] = found[0], found[1:] / found[0]
            residual = stamp[use] - columns @ found
            deviation[i] = float(np.sqrt((residual**2).sum() / (light**2).sum()) / found[0])
    return fluxes, steps, deviation


def gradients(psf: Psf, dx: Floats, dy: Floats, step: float = 0.05) -> tuple[Floats, Floats, Floats]:
    """Return the light at offsets, and its derivatives by the position of the star along x and y."""
    by_x = (psf.at(dx - step, dy) - psf.at(dx + step, dy)) / (2 * step)
    by_y = (psf.at(dx, dy - step) - psf.at(dx, dy + step)) / (2 * step)
    return psf.at(dx, dy), by_x, by_y


def _refit(light: Floats, good: npt.NDArray[np.bool_], ox: Floats, oy: Floats, psf: Psf, weights: Floats) -> Psf:
    """Fit shape and fractions of the parts to normalized stars."""
    core = _core(light, good, ox, oy, psf, weights)
    covariances = _LADDER[:, None] ** 2 * core
    weight = np.broadcast_to(weights[:, None, None], light.shape)[good]
    one = [Psf(np.array([1.0]), row[None]).at(ox[good], oy[good]) * weight for row in covariances]
    found = _non_negative(np.stack(one, axis=1), light[good] * weight)
    return Psf(found / found.sum(), covariances)


def _core(light: Floats, good: npt.NDArray[np.bool_], ox: Floats, oy: Floats, psf: Psf, weights: Floats) -> Floats:
    """Return the covariance of the Gaussian that fits best, by moments weighted with itself."""
    filled = np.where(good, light, psf.at(ox, oy)) * weights[:, None, None]
    cov = np.average(psf.covariances, axis=0, weights=psf.fractions)
    for _ in range(40):
        aperture = Psf(np.array([1.0]), cov[None]).at(ox, oy) * filled
        total = aperture.sum()
        moments = np.array([(aperture * ox * ox).sum(), (aperture * ox * oy).sum(), (aperture * oy * oy).sum()]) / total
        new = 2 * moments
        if not new[0] * new[2] > new[1] ** 2:
            break
        cov = 0.5 * cov + 0.5 * new
    return cov


def _non_negative(columns: Floats, values: Floats) -> Floats:
    """Solve least squares, leaving out one by one the columns that come out negative."""
    normal, right = columns.T @ columns, columns.T @ values
    found, kept = np.zeros(len(right)), list(range(len(right)))
    while kept:
        part = np.linalg.lstsq(normal[np.ix_(kept, kept)], right[kept], rcond=1e-10)[0]
        worst = int(np.argmin(part))
        if part[worst] >= 0:
            found[kept] = part
            break
        del kept[worst]
    return found
