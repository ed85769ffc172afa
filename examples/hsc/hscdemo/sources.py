"""Background, detection and shapes, by the algorithms of SExtractor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import sep

from hscdemo.exposure import DETECTED, UNUSABLE, Exposure
from hscdemo.psf import Floats, Psf
from hscdemo.taskline import StepError

_FARTHEST = 2.0  # pixels from the peak of the smoothed image to the centre

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Detections:
    """Sources of an image.

    Parameters
    ----------
    x, y
        Centres in pixels, from 0.
    peak
        Brightest pixel.
    shape
        Second moments xx, xy, yy in square pixels, shape (N, 3).
    signal
        Peak of the smoothed image in units of its noise.
    blended
        Whether it was cut out of a larger one, or touches the edge.
    footprint
        Which pixels belong to any source.
    """

    x: Floats
    y: Floats
    peak: Floats
    shape: Floats
    signal: Floats
    blended: Flags
    footprint: Flags

    def __len__(self) -> int:
        return len(self.x)


def subtract_background(image: Floats, unusable: Flags, sources: Flags, box: int) -> tuple[Floats, Floats]:
    """Return the image without its background, and the background.

    Parameters
    ----------
    image
        Pixels.
    unusable, sources
        Pixels that do not tell the background.
    box
        Size in pixels of the boxes in which it is taken as constant, before splines smooth it.
    """
    masked = unusable | sources
    if masked.all():
        raise StepError("no pixel is left to tell the background")
    rows, columns = (min(box, size) for size in image.shape)
    found = sep.Background(np.ascontiguousarray(image), mask=masked, bw=columns, bh=rows, fw=3, fh=3).back()
    return image - found, found


def detect(image: Floats, sigma: Floats, unusable: Flags, psf: Psf, threshold: float) -> Detections:
    """Find sources in an image without background.

    Parameters
    ----------
    image, sigma
        Pixels and their noise between stars.
    unusable
        Pixels that are not looked at.
    psf
        What the image is smoothed with.
    threshold
        In units of the noise of the smoothed image.
    """
    half = max(2, min(round(psf.fwhm), 7))
    dy, dx = np.mgrid[-half : half + 1, -half : half + 1]
    kernel = psf.at(dx, dy)
    sep.set_extract_pixstack(image.size)
    try:
        found, segments = sep.extract(
            np.ascontiguousarray(image, dtype=np.float32), threshold, err=np.ascontiguousarray(sigma, dtype=np.float32),
            mask=unusable, filter_kernel=kernel, filter_type="matched", minarea=3, deblend_nthresh=32,
            deblend_cont=0.001, clean=False, segmentation_map=True,
        )  # fmt: skip
    except Exception as error:
        raise StepError(f"sources cannot be detected: {error}") from error
    # not the centroid of all its pixels: a faint neighbour that is not separate would draw it away
    peak = found["xcpeak"].astype(float), found["ycpeak"].astype(float)
    x, y, _ = sep.winpos(np.ascontiguousarray(image), *peak, psf.fwhm / 2.35, mask=unusable)
    strayed = ~(np.hypot(x - peak[0], y - peak[1]) < _FARTHEST)
    x, y = np.where(strayed, peak, (x, y))
    shape = np.stack([found["x2"], found["xy"], found["y2"]], axis=1)
    at = sigma[
        np.clip(np.rint(y).astype(int), 0, len(image) - 1), np.clip(np.rint(x).astype(int), 0, image.shape[1] - 1)
    ]
    signal = found["cpeak"] / at
    return Detections(x, y, found["peak"].astype(float), shape, signal, found["flag"] > 0, segments > 0)


def mark(exposure: Exposure, detections: Detections) -> None:
    """Set the plane DETECTED of the mask to the pixels of the sources."""
    exposure.mask &= ~DETECTED
    exposure.mask |= np.where(detections.footprint, DETECTED, 0).astype(np.int32)


def unusable(exposure: Exposure) -> Flags:
    """Return which pixels carry no information."""
    return np.asarray((exposure.mask & UNUSABLE) != 0)


def stamps(image: Floats, x: Floats, y: Floats, half: int) -> tuple[Floats, npt.NDArray[np.intp], Floats, Floats]:
    """Cut out squares around positions; those that would leave the image are left out.

    Returns
    -------
    tuple
        Squares, the rows of the positions they belong to, and the positions along x and y from the squares' middles.
    """
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    inside = (column >= half) & (row >= half) & (column < image.shape[1] - half) & (row < image.shape[0] - half)
    kept = np.flatnonzero(inside)
    offsets = np.arange(-half, half + 1)
    cut = image[row[kept, None, None] + offsets[:, None], column[kept, None, None] + offsets]
    return cut, kept, x[kept] - column[kept], y[kept] - row[kept]
