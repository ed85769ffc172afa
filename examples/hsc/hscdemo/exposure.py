"""Calibrated images: pixels, mask, variance, place on the sky, and what light of which exposure is in which pixel."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from hscdemo.psf import PARTS, Floats, Psf
from hscdemo.taskline import StepError

# Bits of a mask; their numbers are in the headers as MP_... as LSST's are.
PLANES = {"BAD": 0, "SAT": 1, "INTRP": 2, "CR": 3, "EDGE": 4, "DETECTED": 5, "NO_DATA": 8, "CLIPPED": 9}
BAD, SAT, INTRP, CR, EDGE, DETECTED, NO_DATA, CLIPPED = (1 << bit for bit in PLANES.values())
UNUSABLE = BAD | SAT | CR | NO_DATA

COADD_ZERO_POINT = 27.0

Place = tuple[slice, ...]
Shape = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Input:
    """One exposure of one CCD in an image.

    Parameters
    ----------
    visit, ccd
        Which.
    weight
        Its inverse variance between stars, in units of the image.
    psf
        Its point-spread function in pixels of the image.
    """

    visit: int
    ccd: int
    weight: float
    psf: Psf


@dataclass
class Exposure:
    """An image without background.

    Parameters
    ----------
    image, variance
        Pixels. The variance of a coadd is right for sums over many pixels, as neighbours are correlated.
    mask
        Bits as of `PLANES`.
    header
        Cards, among them those of the place on the sky.
    zero_point
        Magnitude of a flux of 1.
    inputs
        Exposures whose light is in it.
    contrib
        Which of the inputs are in which pixel: bit i stands for inputs[i].
    """

    image: npt.NDArray[np.float32]
    mask: npt.NDArray[np.int32]
    variance: npt.NDArray[np.float32]
    header: fits.Header
    zero_point: float
    inputs: list[Input] = field(default_factory=list)
    contrib: npt.NDArray[np.int32] | None = None

    @cached_property
    def wcs(self) -> WCS:
        """The place on the sky; pixel positions count from 0 here."""
        return wcs_of(self.header)

    def weights(self) -> Floats:
        """Return the inverse variance between stars of each pixel, 0 where there is nothing."""
        total = np.zeros(self.image.shape)
        for bit, one in enumerate(self.inputs):
            total += one.weight * (self.contribution >> bit & 1)
        return total

    @property
    def contribution(self) -> npt.NDArray[np.int32]:
        """Which inputs are in which pixel; an exposure of one CCD has all its usable ones."""
        return self._bits((slice(None), slice(None)))

    def _bits(self, place: Place) -> npt.NDArray[np.int32]:
        if self.contrib is not None:
            return self.contrib[place]
        return np.asarray((self.mask[place] & UNUSABLE) == 0, dtype=np.int32)

    def around(self, x: float, y: float, radius: int) -> Place:
        """Return the rows and columns within `radius` of a pixel position, as far as the image goes."""
        return tuple(
            slice(min(max(round(at) - radius, 0), size), min(max(round(at) + radius + 1, 0), size))
            for at, size in zip((y, x), self.image.shape, strict=True)
        )

    def light(self, place: Place, x: float, y: float, shape: Shape = (0, 0, 0)) -> tuple[Floats, Floats]:
        """Return what a source of flux 1 looks like in a part of this image, and the weights of its pixels.

        Parameters
        ----------
        place
            Rows and columns.
        x, y
            Where the source is.
        shape
            Covariance of its own light in square pixels, xx, xy, yy, taken as that of an exponential disk.
        """
        bits = self._bits(place).ravel()
        dx, dy = (np.arange(part.start, part.stop) - at for part, at in zip(place[::-1], (x, y), strict=True))
        across, up = np.tile(dx, len(dy)), np.repeat(dy, len(dx))
        basis = np.stack([across * across, across * up, up * up])
        light, weight = np.zeros(len(bits)), np.zeros(len(bits))
        for bit, one in enumerate(self.inputs):
            there = one.weight * (bits >> bit & 1)
            if there.any():
                seen = one.psf.disk(shape)
                light += there * (seen.peaks @ np.exp(seen.exponents @ basis))
                weight += there
        size = (len(dy), len(dx))
        return np.divide(light, weight, out=light, where=weight > 0).reshape(size), weight.reshape(size)

    def psf_at(self, x: float, y: float) -> Psf:
        """Return the point-spread function of the inputs of one pixel, or of all if it has none."""
        seen = np.bitwise_or.reduce(self._bits(self.around(x, y, 0)), axis=None)
        here = [one for bit, one in enumerate(self.inputs) if seen >> bit & 1] or self.inputs
        weights = np.array([one.weight for one in here]) / sum(one.weight for one in here)
        fractions = np.concatenate([weight * one.psf.fractions for weight, one in zip(weights, here, strict=True)])
        return Psf(fractions, np.concatenate([one.psf.covariances for one in here]))

    def to_bytes(self) -> bytes:
        """Return it as a FITS file: the cards, IMAGE, MASK, VARIANCE, INPUTS, and CONTRIB if there is one."""
        header = self.header.copy()
        header["FLUXMAG0"] = (10 ** (0.4 * self.zero_point), "flux of magnitude 0")
        header["ZEROPNT"] = (self.zero_point, "magnitude of flux 1")
        where = self.wcs.to_header()
        planes = fits.Header([(f"HIERARCH MP_{name}", bit) for name, bit in PLANES.items()])
        hdus = [
            fits.PrimaryHDU(header=header),
            fits.ImageHDU(self.image, where, name="IMAGE"),
            fits.ImageHDU(self.mask, planes, name="MASK"),
            fits.ImageHDU(self.variance, name="VARIANCE"),
            _inputs_table(self.inputs),
        ]
        if self.contrib is not None:
            hdus.append(fits.ImageHDU(self.contrib, name="CONTRIB"))
        out = io.BytesIO()
        fits.HDUList(hdus).writeto(out)
        return out.getvalue()


def read_exposure(path: str) -> Exposure:
    """Read what `Exposure.to_bytes` wrote.

    Raises
    ------
    StepError
        If the file is no such file.
    """
    try:
        with fits.open(path, memmap=False) as hdus:
            image, mask, variance = (np.asarray(hdus[name].data) for name in ("IMAGE", "MASK", "VARIANCE"))
            contrib = np.asarray(hdus["CONTRIB"].data, dtype=np.int32) if "CONTRIB" in hdus else None
            header = hdus[0].header.copy()
            inputs = [_input(row) for row in hdus["INPUTS"].data]
            return Exposure(
                image.astype(np.float32),
                mask.astype(np.int32),
                variance.astype(np.float32),
                header,
                header["ZEROPNT"],
                inputs,
                contrib,
            )
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise StepError(f"{path} is no exposure of these programs: {error}") from error


def wcs_of(header: fits.Header) -> WCS:
    """Read where an image is on the sky, without complaints about old spellings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(header)


def jacobian(wcs: WCS, other: WCS, x: float, y: float) -> Floats:
    """Return the derivative of pixel positions in `other` by those in `wcs`, at one of these; shape (2, 2)."""
    step = 8.0
    here = np.array([[x + step, y], [x - step, y], [x, y + step], [x, y - step]])
    there = other.wcs_world2pix(wcs.wcs_pix2world(here, 0), 0)
    return np.stack([there[0] - there[1], there[2] - there[3]], axis=1) / (2 * step)


def _inputs_table(inputs: list[Input]) -> fits.BinTableHDU:
    fractions, covariances = np.zeros((len(inputs), PARTS)), np.zeros((len(inputs), PARTS, 3))
    covariances[:] = (1.0, 0.0, 1.0)
    for row, one in enumerate(inputs):
        fractions[row, : len(one.psf.fractions)] = one.psf.fractions
        covariances[row, : len(one.psf.fractions)] = one.psf.covariances
    columns = [
        fits.Column("visit", "J", array=[one.visit for one in inputs]),
        fits.Column("ccd", "J", array=[one.ccd for one in inputs]),
        fits.Column("weight", "D", array=[one.weight for one in inputs]),
        fits.Column("psf_fractions", f"{PARTS}D", array=fractions),
        fits.Column("psf_covariances", f"{3 * PARTS}D", array=covariances.reshape(len(inputs), -1)),
    ]
    return fits.BinTableHDU.from_columns(columns, name="INPUTS")


def _input(row: fits.FITS_record) -> Input:
    fractions = np.array(row["psf_fractions"], dtype=float)
    covariances = np.array(row["psf_covariances"], dtype=float).reshape(-1, 3)
    psf = Psf(fractions[fractions > 0], covariances[fractions > 0])
    return Input(int(row["visit"]), int(row["ccd"]), float(row["weight"]), psf)
