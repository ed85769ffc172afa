"""Stars with known places and magnitudes, from the reference catalogue of the repository."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.io import fits

from dbb.errors import MissingError
from dbb.sky.htm import trixels_near
from dbb.sky.polygons import unit_vectors
from hscdemo.psf import Floats
from hscdemo.taskline import Request, StepError


@dataclass(frozen=True, slots=True)
class RefStars:
    """Reference stars: places in ICRS degrees and magnitudes in one filter."""

    ra: Floats
    dec: Floats
    magnitude: Floats


def load_stars(request: Request, corners: Floats, filter_name: str) -> RefStars:
    """Read the stars in and around an image.

    Parameters
    ----------
    request
        Its settings ``refObjLoader.name``, ``.depth`` and ``.margin`` tell the catalogue, the depth of its shards and
        how many degrees around the image are wanted.
    corners
        Right ascension and declination of the corners, shape (4, 2).
    filter_name
        Such as ``HSC-R``.

    Raises
    ------
    StepError
        If the catalogue has no star there, or not this filter.
    """
    name, margin = str(request.config["refObjLoader.name"]), float(str(request.config["refObjLoader.margin"]))
    wanted = trixels_near([unit_vectors(*corners.T)], int(str(request.config["refObjLoader.depth"])), margin)
    column = f"mag_{filter_name.rpartition('-')[2].lower()}"
    parts = [part for trixel in wanted if (part := _shard(request, name, trixel, column)) is not None]
    if not parts:
        raise StepError(f"reference catalogue {name} has none of the shards {', '.join(map(str, wanted))}")
    ra, dec, magnitude = np.concatenate(parts, axis=1)
    known = np.isfinite(magnitude)
    return RefStars(ra[known], dec[known], magnitude[known])


def _shard(request: Request, name: str, trixel: int, column: str) -> Floats | None:
    """Return places and magnitudes, or None if there is no such shard."""
    try:
        path = request.get("ref_cat", {"name": name, "pixel_id": str(trixel)})
    except MissingError:
        return None  # no star is there
    try:
        rows = fits.getdata(path, 1)
        return np.stack([np.asarray(rows[key], dtype=float) for key in ("ra", "dec", column)])
    except (KeyError, OSError, IndexError, TypeError) as error:
        raise StepError(f"{path} is no shard of a reference catalogue with {column}: {error}") from error
