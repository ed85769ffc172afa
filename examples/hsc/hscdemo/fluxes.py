"""Fluxes of sources whose places and shapes are known: all of an image are fitted together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hscdemo.exposure import Exposure, Place
from hscdemo.psf import Floats


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a source of flux 1 looks like in a part of an image, and the weights of the pixels."""

    place: Place
    light: Floats
    weight: Floats


@dataclass(frozen=True, slots=True)
class Fluxes:
    """Fluxes of sources and their standard deviations, NaN where the image has no pixel of a source."""

    flux: Floats
    sigma: Floats
    stamps: Sequence[Stamp]

    def residual(self, exposure: Exposure) -> Floats:
        """Return the image without the light of the sources."""
        left = exposure.image.astype(float)
        for stamp, flux in zip(self.stamps, self.flux, strict=True):
            if np.isfinite(flux):
                left[stamp.place] -= flux * stamp.light
        return left


def fit_fluxes(exposure: Exposure, x: Floats, y: Floats, shapes: Floats, radius: int) -> Fluxes:
    """Fit the fluxes of all sources of an image at once, so that neighbours do not count as a source's own light.

    Parameters
    ----------
    exposure
        The image.
    x, y
        Where they are in pixels.
    shapes
        Covariances of their own light in square pixels, shape (N, 3); 0 for stars.
    radius
        Half the side of the stamps that are compared, for a star; extended sources get larger ones.

    Notes
    -----
    Weights are those between stars: weights that know the light of a star prefer its faint pixels, and give fluxes that
    are too small as soon as the point-spread function is not perfect. The errors do know it.
    """
    stamps = [make_stamp(exposure, *row, radius) for row in zip(x, y, shapes, strict=True)]
    normal, spread, right = _equations(exposure, stamps)
    flux, sigma = np.full(len(stamps), np.nan), np.full(len(stamps), np.nan)
    strength = np.diag(normal)
    seen = np.flatnonzero(strength > 0.01 * np.median(strength)) if len(stamps) else np.zeros(0, dtype=int)
    if len(seen):
        inner, scale = np.ix_(seen, seen), 1 / np.sqrt(strength[seen])
        # two sources at one place cannot be told apart: the smallest addition that keeps this solvable
        inverse = np.linalg.inv(normal[inner] * scale[:, None] * scale + 1e-6 * np.eye(len(seen)))
        inverse *= scale[:, None] * scale
        flux[seen] = inverse @ right[seen]
        sigma[seen] = np.sqrt(((inverse @ spread[inner]) * inverse).sum(axis=1))
    return Fluxes(flux, sigma, stamps)


def make_stamp(exposure: Exposure, x: float, y: float, shape: Floats, radius: int) -> Stamp:
    """Return what a source of flux 1 looks like in the part of an image that has nearly all of its light."""
    reach = min(radius + round(3 * float(np.sqrt(max(shape[0], shape[2], 0)))), 3 * radius)
    place = exposure.around(x, y, reach)
    return Stamp(place, *exposure.light(place, x, y, (shape[0], shape[1], shape[2])))


def _equations(exposure: Exposure, stamps: Sequence[Stamp]) -> tuple[Floats, Floats, Floats]:
    """Return the normal matrix, the covariance of the right side, and the right side."""
    many = len(stamps)
    normal, spread, right = np.zeros((many, many)), np.zeros((many, many)), np.zeros(many)
    edges = np.array([[part for one in stamp.place for part in (one.start, one.stop)] for stamp in stamps]).reshape(
        -1, 4
    )
    for i, one in enumerate(stamps):
        weighted = one.light * one.weight
        right[i] = (weighted * exposure.image[one.place]).sum()
        first, last = np.maximum(edges[i:, ::2], edges[i, ::2]), np.minimum(edges[i:, 1::2], edges[i, 1::2])
        for step in np.flatnonzero((first < last).all(axis=1)):
            j, (bottom, left), (top, right_end) = i + int(step), first[step], last[step]
            mine = (slice(bottom - edges[i, 0], top - edges[i, 0]), slice(left - edges[i, 2], right_end - edges[i, 2]))
            theirs = (
                slice(bottom - edges[j, 0], top - edges[j, 0]),
                slice(left - edges[j, 2], right_end - edges[j, 2]),
            )
            product = weighted[mine] * stamps[j].light[theirs]
            noise = stamps[j].weight[theirs] * exposure.variance[bottom:top, left:right_end]
            normal[i, j] = normal[j, i] = product.sum()
            spread[i, j] = spread[j, i] = (product * noise).sum()
    return normal, spread, right
