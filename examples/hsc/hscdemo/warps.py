"""makeCoaddTempExp and assembleCoadd: exposures on the pixels of a patch, and their mean."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from astropy.wcs import WCS

from dbb.patch import stored_patch
from dbb.sky.skymap import parse_skymap
from hscdemo.exposure import CLIPPED, COADD_ZERO_POINT, NO_DATA, UNUSABLE, Exposure, jacobian, read_exposure
from hscdemo.psf import Floats
from hscdemo.taskline import Request, StepError

WARP_CONFIG: dict[str, object] = {"doApplyUberCal": False}
COADD_CONFIG: dict[str, object] = {"sigmaClip": 5.0, "doClip": True}
WARP = "deepCoadd_tempExp"  # as 2017 calls it; the repository knows that 2021 says deepCoadd_directWarp
_LANCZOS = 3
_BITS = 31  # of a pixel of CONTRIB


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch: its plane, and its inner region in its own pixels as left, right, bottom, top."""

    wcs: WCS
    size: tuple[int, int]
    inner: tuple[float, float, float, float]


def read_patch(request: Request) -> Patch:
    """Look up the patch of a data id in the repository's sky map.

    Raises
    ------
    DbbError
        If there is no sky map, or no such patch in it.
    """
    path = request.get("deepCoadd_skyMap", {})
    try:
        with open(path, encoding="utf-8") as stream:  # noqa: PTH123  # a path as the repository gives it
            skymap = parse_skymap(stream.read(), path)
    except UnicodeDecodeError as error:
        raise StepError(f"{path} is no sky map in TOML: {error}") from error
    tract = skymap.tract(int(request.id["tract"]))
    x, y = tract.place(stored_patch(request.id["patch"]))
    grid = tract.grid
    (left, right), (bottom, top) = (tuple(map(float, grid.outer(axis, at))) for axis, at in enumerate((x, y)))
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [tract.ra, tract.dec]
    wcs.wcs.crpix = [grid.centre[0] - left + 0.5, grid.centre[1] - bottom + 0.5]
    turn = np.radians(grid.rotation)
    wcs.wcs.cd = grid.pixel_scale / 3600 * np.array([[-np.cos(turn), np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    wcs.wcs.set()
    start = (x * grid.inner[0] - left, y * grid.inner[1] - bottom)
    inner = (start[0], start[0] + grid.inner[0], start[1], start[1] + grid.inner[1])
    return Patch(wcs, (round(top - bottom), round(right - left)), inner)


def make_temp_exposures(request: Request) -> None:
    """Bring the selected exposures of each visit on the pixels of a patch, and write a warp of each visit."""
    if request.config["doApplyUberCal"]:
        raise StepError("doApplyUberCal needs results of a joint calibration, which no program here makes")
    visits = dict.fromkeys(one.get("visit", "") for one in request.selected)
    if "" in visits or not visits:
        raise StepError("no exposures are selected: give --selectId visit=V ccd=C for each")
    patch = read_patch(request)
    for visit in visits:
        chosen = [one for one in request.selected if one["visit"] == visit]
        warp = _warp_visit(patch, [read_exposure(request.get("calexp", one)) for one in chosen])
        covered = float((warp.contribution > 0).mean())
        if not covered:
            raise StepError(f"visit {visit} has no pixel in the patch")
        warp.header.update(coadd_cards(request, VISIT=int(visit)))
        request.put(WARP, warp.to_bytes(), request.id | {"visit": visit})
        print(f"visit {visit}: {len(chosen)} exposures cover {covered:.0%} of the patch")


def coadd_cards(request: Request, **more: object) -> dict[str, object]:
    """Return the cards that tell the patch."""
    cards = {"TRACT": int(request.id["tract"]), "PATCH": stored_patch(request.id["patch"])}
    return cards | ({"FILTER": request.id["filter"]} if "filter" in request.id else {}) | more


def _blank(patch: Patch) -> Exposure:
    image = np.zeros(patch.size, dtype=np.float32)
    mask, contrib = np.zeros(patch.size, dtype=np.int32), np.zeros(patch.size, dtype=np.int32)
    return Exposure(image, mask, image.copy(), patch.wcs.to_header(), COADD_ZERO_POINT, [], contrib)


def _warp_visit(patch: Patch, exposures: list[Exposure]) -> Exposure:
    """Return exposures of one visit, which have no pixel in common, on the pixels of a patch."""
    warp = _blank(patch)
    for bit, one in enumerate(exposures):
        scale = 10 ** (0.4 * (COADD_ZERO_POINT - one.zero_point))
        image, variance, good = _resampled(one, patch)
        new = good & (warp.contribution == 0)
        y, x = np.nonzero(new)
        middle = (float(x.mean()), float(y.mean())) if len(x) else (0.0, 0.0)
        turn = jacobian(patch.wcs, one.wcs, *middle)
        area = abs(float(np.linalg.det(turn)))
        warp.image[new] = image[new] * scale * area
        warp.variance[new] = variance[new] * scale**2 * area
        warp.contribution[new] |= 1 << bit
        own = one.inputs[0]
        weight = own.weight / (scale**2 * area)
        warp.inputs.append(replace(own, weight=weight, psf=own.psf.sheared(np.linalg.inv(turn))))
    warp.mask[warp.contribution == 0] |= NO_DATA
    return warp


def _resampled(one: Exposure, patch: Patch) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """Return image and variance at the places of the patch's pixels, and where these are good.

    The image is interpolated by Lanczos's kernel. Of the variance the nearest pixel's is taken: it is that of sums over
    many pixels, to which interpolation does nothing.
    """
    rows, columns = patch.size
    there = _positions(patch, one.wcs)
    x, y = there[..., 0], there[..., 1]
    ix, iy = np.floor(x).astype(int), np.floor(y).astype(int)
    reach = _LANCZOS
    inside = (
        (ix >= reach - 1) & (iy >= reach - 1) & (ix < one.image.shape[1] - reach) & (iy < one.image.shape[0] - reach)
    )
    ix, iy = np.where(inside, ix, reach), np.where(inside, iy, reach)
    across, up = _kernel(x - ix), _kernel(y - iy)
    flat, width = one.image.ravel().astype(float), one.image.shape[1]
    image = np.zeros((rows, columns))
    for j in range(2 * reach):
        line = np.zeros((rows, columns))
        start = (iy + j - reach + 1) * width + ix - reach + 1
        for i in range(2 * reach):
            line += across[i] * flat[start + i]
        image += up[j] * line
    bad = (one.mask & UNUSABLE) != 0
    good = inside.copy()
    for j in (0, 1):
        for i in (0, 1):
            good &= ~bad[iy + j, ix + i]
    return (
        image,
        one.variance[np.rint(np.where(inside, y, 0)).astype(int), np.rint(np.where(inside, x, 0)).astype(int)],
        good,
    )


def _positions(patch: Patch, wcs: WCS, step: int = 32) -> Floats:
    """Return the pixel positions of a patch's pixels in another image: exact on a grid, between it interpolated."""
    rows, columns = patch.size
    y, x = np.arange(0, rows + step, step), np.arange(0, columns + step, step)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(float)
    exact = wcs.wcs_world2pix(patch.wcs.wcs_pix2world(grid, 0), 0).reshape(len(y), len(x), 2)
    row, column = np.arange(rows), np.arange(columns)
    j, i, v, u = row // step, column // step, (row % step / step)[:, None, None], (column % step / step)[:, None]
    along = exact[:, i] * (1 - u) + exact[:, i + 1] * u
    return np.asarray(along[j] * (1 - v) + along[j + 1] * v)


def _kernel(fraction: Floats) -> list[Floats]:
    """Return the weights of the pixels around positions that are `fraction` beyond one."""
    weights = []
    for i in range(2 * _LANCZOS):
        distance = fraction - (i - _LANCZOS + 1)
        weights.append(np.sinc(distance) * np.sinc(distance / _LANCZOS))
    total = sum(weights)
    return [one / total for one in weights]


def assemble(request: Request) -> None:
    """Write the mean of the warps of the selected visits, without pixels that are far from the others."""
    visits = list(dict.fromkeys(one.get("visit", "") for one in request.selected))
    if not visits or "" in visits:
        raise StepError("no visits are selected: give --selectId visit=V for each")
    patch = read_patch(request)
    warps = [read_exposure(request.get(WARP, request.id | {"visit": visit})) for visit in visits]
    if sum(len(one.inputs) for one in warps) > _BITS:
        raise StepError(f"a coadd can have no more than {_BITS} exposures")
    coadd = _mean(patch, warps, float(str(request.config["sigmaClip"])) if request.config["doClip"] else np.inf)
    coadd.header.update(coadd_cards(request, NVISIT=len(visits)))
    request.put("deepCoadd", coadd.to_bytes())
    clipped = int(((coadd.mask & CLIPPED) != 0).sum())
    print(f"{len(warps)} warps of {len(coadd.inputs)} exposures; {clipped} pixels clipped")


def _mean(patch: Patch, warps: list[Exposure], sigmas: float) -> Exposure:
    images, variances = (
        np.stack([getattr(one, name) for one in warps]).astype(float) for name in ("image", "variance")
    )
    weights = np.stack([one.weights() for one in warps])
    out = _outliers(images, variances, weights, sigmas)
    weights[out] = 0
    total = weights.sum(axis=0)
    covered = total > 0
    share = np.divide(weights, total, out=np.zeros_like(weights), where=covered)
    coadd = _blank(patch)
    coadd.image[:] = (share * images).sum(axis=0)
    coadd.variance[:] = (share**2 * variances).sum(axis=0)
    for one, clipped in zip(warps, out, strict=True):
        kept = np.where(clipped, 0, one.contribution)
        coadd.contribution[:] |= (kept << len(coadd.inputs)).astype(np.int32)
        coadd.inputs += one.inputs
    coadd.mask[out.any(axis=0)] |= CLIPPED
    coadd.mask[~covered] |= NO_DATA
    return coadd


def _outliers(images: Floats, variances: Floats, weights: Floats, sigmas: float) -> npt.NDArray[np.bool_]:
    """Return the pixels that are far above or below the median of at least three warps.

    Half of the median's own light is allowed for: stars are sharper in one exposure than in another.
    """
    seen = weights > 0
    level = np.where(seen, images, np.nan)
    enough = seen.sum(axis=0) >= 3
    middle = np.zeros(images.shape[1:])
    middle[enough] = np.nanmedian(level[:, enough], axis=0)
    allowed = sigmas * np.sqrt(np.where(seen, variances, 0)) + 0.5 * np.abs(middle)
    return np.asarray(seen & enough & (np.abs(images - middle) > allowed))
