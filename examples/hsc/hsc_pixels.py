"""What the pixels hold: stars and galaxies of the truth, the sky, and all that a camera adds to them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy.table import Table
from hsc_survey import EXPOSURE_TIME, GAINS, PIXEL_SCALE, Exposure, Geometry

Pixels = npt.NDArray[np.float64]

READ_NOISE = 4.5  # electrons
ZERO_POINTS = {"HSC-R": 31.2, "HSC-I": 30.9}  # magnitude of one electron in an exposure through a clear sky
_BETA = 3.5  # of the Moffat profile
_REACH = 30  # pixels from the middle of a star to the edge of its stamp
_FINER = 3  # samples of a profile along each side of a pixel


@dataclass(frozen=True, slots=True)
class Camera:
    """What every exposure of a survey suffers from.

    Parameters
    ----------
    geometry
        Sizes of the ccds.
    seed
        Of all that is random.
    """

    geometry: Geometry
    seed: int

    def random(self, *names: object) -> np.random.Generator:
        """Return numbers of their own for what `names` says, whatever else is drawn."""
        return np.random.default_rng([self.seed, zlib.crc32(repr(names).encode())])

    def bias(self, ccd: int) -> Pixels:
        """Return the level of an unexposed ccd in ADU: a step at each amplifier, a slope, and columns of their own."""
        rows, columns = self.geometry.shape
        random = self.random("bias", ccd)
        level = 1000 + np.repeat(random.normal(0, 12, 4), columns // 4) + random.normal(0, 1.5, columns)
        return level + 8 * np.linspace(-1, 1, rows)[:, None] ** 2

    def dark(self, ccd: int) -> Pixels:
        """Return ADU per second: a glow in one corner, hot pixels, and a hot column that begins somewhere."""
        rows, columns = self.geometry.shape
        random = self.random("dark", ccd)
        y, x = np.mgrid[:rows, :columns]
        current = 0.03 + 0.6 * np.exp(-np.hypot(x, y) / (0.2 * columns))
        hot = random.random((rows, columns)) < 3e-4
        current[hot] += random.uniform(2, 40, int(hot.sum()))
        current[random.integers(rows // 4, rows // 2) :, self._bad_columns(ccd)[0]] += 25
        return current

    def sensitivity(self, ccd: int, band: str, epoch: str) -> Pixels:
        """Return which part of the light is counted: vignetting, pixels, shadows of dust, and a column that is dead.

        Dust has moved from one `epoch` to the next.
        """
        rows, columns = self.geometry.shape
        y, x = np.mgrid[:rows, :columns]
        across, up = self.geometry.offset(ccd)
        distance = np.hypot(x - columns / 2 + across, y - rows / 2 + up)
        response = 1 - 0.25 * (distance / np.hypot(6.5 * columns, 6.5 * columns)) ** 2
        response *= 1 + self.random("pixels", ccd, band).normal(0, 0.008, (rows, columns))
        dust = self.random("dust", ccd, epoch)
        for _ in range(4):
            ring = np.hypot(x - dust.uniform(0, columns), y - dust.uniform(0, rows)) / (columns / 16)
            response *= 1 - dust.uniform(0.03, 0.08) * np.exp(-(((ring - 1) / 0.35) ** 2))
        response[:, self._bad_columns(ccd)[1]] *= 0.02
        return response

    def flat(self, ccd: int, band: str, epoch: str) -> Pixels:
        """Return the same as a lamp shows it, in ADU and about 1: the gains of the amplifiers are in it."""
        response = self.sensitivity(ccd, band, epoch) / self.gain()
        return response / np.median(response)

    def gain(self) -> Pixels:
        """Return electrons per ADU of each column."""
        return np.repeat(np.array(GAINS), self.geometry.shape[1] // 4)

    def _bad_columns(self, ccd: int) -> tuple[int, int]:
        hot, dead = self.random("columns", ccd).choice(np.arange(4, self.geometry.size - 4), 2, replace=False)
        return int(hot), int(dead)

    def raw(self, exposure: Exposure, truth: Table) -> npt.NDArray[np.uint16]:
        """Expose a ccd and read it out."""
        visit, random = exposure.visit, self.random("raw", exposure.name)
        light = self._sky(exposure) + objects(self.geometry, exposure, truth)
        light *= self.sensitivity(exposure.ccd, visit.filter, visit.date)
        light += self.dark(exposure.ccd) * EXPOSURE_TIME * self.gain()
        electrons = random.poisson(light) + random.normal(0, READ_NOISE, light.shape)
        self._hit(electrons, random)
        counts = self.bias(exposure.ccd) + electrons / self.gain()
        return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)

    def _sky(self, exposure: Exposure) -> Pixels:
        """Return a sky that is a little brighter towards one side."""
        rows, columns = self.geometry.shape
        up, across = self.random("sky", exposure.visit.number).uniform(-0.015, 0.015, 2)
        slope = 1 + up * np.linspace(-1, 1, rows)[:, None] + across * np.linspace(-1, 1, columns)
        return exposure.visit.sky * slope

    def _hit(self, electrons: Pixels, random: np.random.Generator) -> None:
        """Let cosmic rays leave their tracks."""
        rows, columns = electrons.shape
        for _ in range(random.poisson(rows * columns / 35000)):
            start, angle, length = random.random(2) * (columns, rows), random.uniform(0, math.pi), random.exponential(9)
            along = np.arange(0, 1 + length, 0.5)
            x, y = (start[0] + along * math.cos(angle)).astype(int), (start[1] + along * math.sin(angle)).astype(int)
            inside = (x >= 0) & (x < columns) & (y < rows)
            track = np.unique(np.stack([y[inside], x[inside]]), axis=1)
            electrons[track[0], track[1]] += random.uniform(800, 6000) * random.uniform(0.7, 1.3, track.shape[1])


def objects(geometry: Geometry, exposure: Exposure, truth: Table) -> Pixels:
    """Return the electrons of all stars and galaxies in an exposure, without noise.

    Parameters
    ----------
    geometry
        Sizes of the ccds.
    exposure
        Which one.
    truth
        Stars and galaxies, as `hsc_truth.truth` makes them.
    """
    wcs = geometry.true_wcs(exposure)
    x, y = wcs.wcs_world2pix(np.stack([truth["ra"], truth["dec"]], axis=-1), 0).T
    visit = exposure.visit
    zero_point = ZERO_POINTS[visit.filter] - visit.extinction
    flux = 10 ** (0.4 * (zero_point - truth[f"mag_{visit.filter[-1].lower()}"]))
    rows, columns = geometry.shape
    seen = (x > -60) & (x < columns + 60) & (y > -60) & (y < rows + 60)
    stars = np.zeros((rows + 2 * _REACH, columns + 2 * _REACH))  # with room for what is spread over the edges
    galaxies = stars.copy()
    psf = _Psf.of(exposure)
    for n in np.flatnonzero(seen):
        place = float(x[n]) + _REACH, float(y[n]) + _REACH
        if truth["type"][n] == "star":
            _add(stars, place, flux[n] * _stamp(place, _REACH, psf.profile))
        else:
            disk = _Disk.of(truth[n], wcs.wcs.cd)
            stamp = _stamp(place, disk.reach, disk.profile)
            _add(galaxies, place, flux[n] / stamp.sum() * stamp)
    light = stars + _spread(galaxies, psf)
    return light[_REACH:-_REACH, _REACH:-_REACH]


@dataclass(frozen=True, slots=True)
class _Psf:
    """An elliptical Moffat profile of unit flux; lengths in pixels."""

    alpha: float
    stretch: tuple[float, float]

    @classmethod
    def of(cls, exposure: Exposure) -> _Psf:
        width = exposure.visit.seeing / PIXEL_SCALE
        return cls(width / (2 * math.sqrt(2 ** (1 / _BETA) - 1)), exposure.visit.ellipticity)

    def profile(self, dx: Pixels, dy: Pixels) -> Pixels:
        first, second = self.stretch
        area = 1 - first**2 - second**2
        u, v = ((1 - first) * dx - second * dy) / area, ((1 + first) * dy - second * dx) / area
        peak = (_BETA - 1) / (math.pi * self.alpha**2 * area)
        return peak * (1 + (u**2 + v**2) / self.alpha**2) ** -_BETA


@dataclass(frozen=True, slots=True)
class _Disk:
    """An exponential disk, not normalised; lengths in arcseconds."""

    scale: float
    axis_ratio: float
    angle: float
    cd: Pixels

    @classmethod
    def of(cls, row: Table.Row, cd: Pixels) -> _Disk:
        angle = math.radians(row["position_angle"])
        return cls(row["radius"] / 1.678, 1 - row["ellipticity"], angle, cd * 3600)

    @property
    def reach(self) -> int:
        return min(math.ceil(8 * self.scale / PIXEL_SCALE) + 2, 2 * _REACH)

    def profile(self, dx: Pixels, dy: Pixels) -> Pixels:
        east, north = self.cd[0, 0] * dx + self.cd[0, 1] * dy, self.cd[1, 0] * dx + self.cd[1, 1] * dy
        along = east * math.sin(self.angle) + north * math.cos(self.angle)
        across = east * math.cos(self.angle) - north * math.sin(self.angle)
        # `radius` is that of the circle with the same area, so that it does not depend on the axis ratio
        radius = np.sqrt(along**2 * self.axis_ratio + across**2 / self.axis_ratio)
        return np.exp(-radius / self.scale)


def _stamp(place: tuple[float, float], reach: int, profile: Callable[[Pixels, Pixels], Pixels]) -> Pixels:
    """Return a profile around the pixel nearest to a place, averaged over each pixel."""
    side = 2 * reach + 1
    fine = (np.arange(side * _FINER) + 0.5) / _FINER - reach - 0.5
    dx, dy = (fine + round(part) - part for part in place)
    return profile(dx, dy[:, None]).reshape(side, _FINER, side, _FINER).mean(axis=(1, 3))


def _add(image: Pixels, place: tuple[float, float], stamp: Pixels) -> None:
    """Add that part of a stamp that is on the image."""
    reach = stamp.shape[0] // 2
    first = [round(place[1]) - reach, round(place[0]) - reach]
    there, here = [], []
    for start, length in zip(first, image.shape, strict=True):
        begin, end = max(start, 0), max(min(start + stamp.shape[0], length), 0)
        there.append(slice(begin, end))
        here.append(slice(begin - start, max(end - start, 0)))
    image[tuple(there)] += stamp[tuple(here)]


def _spread(image: Pixels, psf: _Psf) -> Pixels:
    """Convolve with the PSF, which is sampled at the middle of pixels: their area is in the image already."""
    offsets = np.arange(-_REACH, _REACH + 1, dtype=np.float64)
    kernel = np.zeros((image.shape[0] + 2 * _REACH, image.shape[1] + 2 * _REACH))
    kernel[: 2 * _REACH + 1, : 2 * _REACH + 1] = psf.profile(offsets, offsets[:, None])
    kernel = np.roll(kernel, (-_REACH, -_REACH), axis=(0, 1))
    spread = np.fft.irfft2(np.fft.rfft2(image, kernel.shape) * np.fft.rfft2(kernel), kernel.shape)
    return np.maximum(spread[: image.shape[0], : image.shape[1]], 0.0)
