"""From a raw to electrons of equally sensitive pixels, with the calibrations that the repository gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from hscdemo.psf import Floats
from hscdemo.taskline import Request, StepError

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Detrended:
    """An image about in electrons, its noise squared, and pixels that are of no use."""

    image: Floats
    variance: Floats
    bad: Flags
    saturated: Flags
    header: fits.Header


def detrend(request: Request) -> Detrended:
    """Read the raw of a visit and CCD and take away what the instrument added.

    Raises
    ------
    DbbError
        If the raw or a calibration is not in the repository or not usable.
    """
    raw, header = _image(request.get("raw"))
    gain, seconds = _gains(header, raw.shape[1]), float(header["EXPTIME"])
    counts, unlit = raw.astype(float), np.zeros(raw.shape)
    if request.config["isr.doBias"]:
        counts -= _like(raw, request.get("bias"))
    if request.config["isr.doDark"]:
        unlit = seconds * _like(raw, request.get("dark"))
    flat = _like(raw, request.get("flat")) if request.config["isr.doFlat"] else np.ones(raw.shape)
    bad = _dead(flat) | _hot(unlit)
    scale = np.median(gain) / np.where(bad, 1.0, flat)
    noise = float(str(request.config["isr.readNoise"]))
    variance = np.maximum(counts, 0) * gain + noise**2
    saturated = raw >= int(str(request.config["isr.saturation"]))
    return Detrended((counts - unlit) * scale, variance * (scale / gain) ** 2, bad, saturated, header)


def _gains(header: fits.Header, width: int) -> Floats:
    """Return electrons per ADU of each column: amplifiers lie side by side."""
    try:
        return np.repeat([float(header[f"T_GAIN{number}"]) for number in range(1, 5)], width // 4)
    except (KeyError, ValueError) as error:
        raise StepError(f"the raw does not tell the gains of four amplifiers: {error}") from error


def _dead(flat: Floats) -> Flags:
    """Find pixels, and whole columns, that see far less or more than others."""
    usual = np.median(flat)
    bad = ~((flat > 0.5 * usual) & (flat < 2 * usual))
    bad[:, bad.mean(axis=0) > 0.3] = True
    return np.asarray(bad)


def _hot(unlit: Floats) -> Flags:
    """Find pixels whose dark current stands out."""
    usual = np.median(unlit)
    spread = 1.4826 * np.median(np.abs(unlit - usual))
    return np.asarray(unlit > usual + max(20 * spread, 50.0))


def _like(image: npt.NDArray[np.uint16], path: str) -> Floats:
    pixels = _image(path)[0]
    if pixels.shape != image.shape:
        raise StepError(
            f"{path} has {pixels.shape[1]} x {pixels.shape[0]} pixels, the raw {image.shape[1]} x {image.shape[0]}"
        )
    return pixels.astype(float)


def _image(path: str) -> tuple[npt.NDArray[np.float64], fits.Header]:
    """Read the first image of a file, compressed or not."""
    try:
        with fits.open(path, memmap=False) as hdus:
            for hdu in hdus:
                if hdu.data is not None and hdu.is_image:
                    return np.asarray(hdu.data), hdus[0].header + hdu.header if hdu is not hdus[0] else hdu.header
    except (OSError, ValueError, TypeError) as error:
        raise StepError(f"{path} cannot be read as an image: {error}") from error
    raise StepError(f"{path} has no image")
