"""Cosmic rays and other bad pixels: found by how sharp they are, filled from their neighbours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hscdemo.psf import Floats

Flags = npt.NDArray[np.bool_]


def find_cosmic_rays(
    image: Floats, sigma: Floats, bad: Flags, threshold: float = 6.0, contrast: float = 3.0, rounds: int = 3
) -> Flags:
    """Find pixels that are brighter than their neighbours by more than a star's could be.

    Parameters
    ----------
    image
        Without background.
    sigma
        Noise of each pixel.
    bad
        Pixels that are not looked at.
    threshold
        Least height over the neighbours in units of the noise.
    contrast
        Least ratio of this height and that of structure as wide as stars.
    rounds
        How often the pixels beside those found are looked at again, each time with half the threshold.

    Returns
    -------
    Flags
        Pixels that a particle hit.

    Notes
    -----
    The Laplacian edge detection of van Dokkum (2001).
    """
    found = np.zeros(image.shape, dtype=bool)
    for _ in range(rounds):
        clean = filled(image, found | bad)
        height = _edges(np.where(found, image, clean)) / (2 * sigma)
        near = _grown(found)
        candidates = ((height > threshold) | (near & (height > threshold / 2))) & ~bad & ~found
        rows, columns = np.nonzero(candidates)
        fine = _fine_structure(clean, rows, columns)
        sharp = height[rows, columns] > contrast * np.maximum(fine / sigma[rows, columns], 0.01)
        if not sharp.any():
            break
        found[rows[sharp], columns[sharp]] = True
    return found


def filled(image: Floats, bad: Flags, reach: int = 4) -> Floats:
    """Return the image with bad pixels replaced by a weighted mean of the good ones within `reach` pixels."""
    result = image.copy()
    rows, columns = np.nonzero(bad)
    offsets = np.arange(-reach, reach + 1)
    total, weight = np.zeros(len(rows)), np.zeros(len(rows))
    for dy in offsets:
        for dx in offsets:
            y, x = rows + dy, columns + dx
            inside = (y >= 0) & (y < image.shape[0]) & (x >= 0) & (x < image.shape[1])
            y, x = np.where(inside, y, 0), np.where(inside, x, 0)
            one = np.exp(-0.5 * (dx * dx + dy * dy) / 1.3**2) * (inside & ~bad[y, x])
            total += one * image[y, x]
            weight += one
    result[rows, columns] = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    return result


def _edges(image: Floats) -> Floats:
    """Return the positive part of the Laplacian at half the pixel size, summed over each pixel."""
    padded = np.pad(image, 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    left, right, below, above = padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1]
    total = np.zeros_like(image)
    for side in (left, right):
        for end in (below, above):
            total += np.maximum(2 * centre - side - end, 0)
    return total / 4


def _fine_structure(image: Floats, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]) -> Floats:
    """Return, at some pixels, the median of 3 x 3 pixels less that of 7 x 7 such medians."""
    padded = np.pad(image, 4, mode="reflect")
    wide = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))  # has pixel (y, x) of the image at (y+3, x+3)
    around = np.arange(7)
    y, x = rows[:, None, None] + around[:, None], columns[:, None, None] + around
    medians = np.median(wide[y, x].reshape(len(rows), 49, 9), axis=2)
    return np.asarray(medians[:, 24] - np.median(medians, axis=1))


def _grown(flags: Flags) -> Flags:
    padded = np.pad(flags, 1)
    grown = np.zeros_like(flags)
    for dy in range(3):
        for dx in range(3):
            grown |= padded[dy : dy + flags.shape[0], dx : dx + flags.shape[1]]
    return grown
