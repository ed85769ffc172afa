"""From coadds to catalogues: detection, merging across filters, measurement, and forced photometry."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hscdemo import catalogues
from hscdemo.catalogues import Columns
from hscdemo.exposure import read_exposure
from hscdemo.matching import pairs
from hscdemo.photometry import flux_columns, magnitude_columns, measure, place_columns
from hscdemo.psf import Floats
from hscdemo.sources import detect, mark, subtract_background, unusable
from hscdemo.taskline import DataId, Request, StepError
from hscdemo.warps import coadd_cards, read_patch

DETECT_CONFIG: dict[str, object] = {"detection.thresholdValue": 5.0, "background.binSize": 256}
MERGE_CONFIG: dict[str, object] = {"matchRadius": 2.5, "priorityList": "HSC-I,HSC-R"}  # pixels; filters
REF_CONFIG: dict[str, object] = {"priorityList": "HSC-I,HSC-R", "minSigma": 10.0}
_SHAPE = ("shape_xx", "shape_xy", "shape_yy")


def detect_coadd(request: Request) -> None:
    """Find the sources of a coadd; write them, and the coadd without what background is left."""
    coadd = read_exposure(request.get("deepCoadd"))
    bad, weights = unusable(coadd), coadd.weights()
    if not (weights > 0).any():
        raise StepError("the coadd has no pixel with an exposure")
    sigma = np.where(weights > 0, 1 / np.sqrt(np.where(weights > 0, weights, 1)), 0)
    sigma[weights == 0] = sigma.max()
    psf = coadd.psf_at(coadd.image.shape[1] / 2, coadd.image.shape[0] / 2)
    threshold = float(str(request.config["detection.thresholdValue"]))
    image = coadd.image.astype(float)
    for _ in range(2):
        found = detect(image, sigma, bad, psf, threshold)
        image = subtract_background(image, bad, found.footprint, int(str(request.config["background.binSize"])))[0]
    found = detect(image, sigma, bad, psf, threshold)
    coadd.image = np.where(bad, 0, image).astype(np.float32)
    mark(coadd, found)
    request.put("deepCoadd_calexp", coadd.to_bytes())
    columns = place_columns(coadd, found.x, found.y) | {
        "id": np.arange(len(found)) + 1, "signal_to_noise": found.signal, "peak": found.peak,
        "extended": np.zeros(len(found), dtype=bool),
    } | {name: found.shape[:, i] for i, name in enumerate(_SHAPE)}  # fmt: skip
    catalogues.write(request, "deepCoadd_det", columns, coadd_cards(request))
    print(f"{len(found)} sources")


def merge_detections(request: Request) -> None:
    """Make one list of the sources of all filters, each where the first filter by priority has it."""
    by_filter = {one["filter"]: catalogues.read(request, "deepCoadd_det", one) for one in request.ids}
    merged: dict[str, list[npt.NDArray[np.generic]]] = {}
    places, filters = np.zeros((0, 2)), np.zeros(0, dtype="U64")
    for name in _by_priority(request, list(by_filter)):
        rows = by_filter[name]
        here = np.stack([rows["x"], rows["y"]], axis=1)
        own, known = pairs(here, places, float(str(request.config["matchRadius"])))
        filters[known] = np.char.add(filters[known], f",{name}")
        new = np.setdiff1d(np.arange(len(here)), own)
        places, filters = np.concatenate([places, here[new]]), np.concatenate([filters, np.full(len(new), name, "U64")])
        for key in ("coord_ra", "coord_dec", "x", "y", "signal_to_noise"):
            merged.setdefault(key, []).append(rows[key][new])
        merged.setdefault("filter", []).append(np.full(len(new), name))
    columns = {key: np.concatenate(parts) for key, parts in merged.items()}
    columns |= {"id": np.arange(len(places)) + 1, "filters": filters}
    catalogues.write(request, "deepCoadd_mergeDet", columns, coadd_cards(request, FILTER="^".join(by_filter)))
    print(f"{len(places)} sources; " + ", ".join(f"{len(rows['x'])} in {name}" for name, rows in by_filter.items()))


def measure_coadd(request: Request) -> None:
    """Measure places, shapes and fluxes of the merged sources in one filter."""
    coadd = read_exposure(request.get("deepCoadd_calexp"))
    merged = catalogues.read(request, "deepCoadd_mergeDet", _without_filter(request.id))
    x, y = _floats(merged, "x"), _floats(merged, "y")
    found = measure(coadd, x, y)
    fluxes = flux_columns(coadd, found.x, found.y, found.shape)
    columns = place_columns(coadd, found.x, found.y) | fluxes | magnitude_columns(fluxes, coadd.zero_point)
    columns |= {"id": merged["id"], "extended": found.extended}
    columns |= {name: found.shape[:, i] for i, name in enumerate(_SHAPE)}
    catalogues.write(request, "deepCoadd_meas", columns, coadd_cards(request))
    print(f"{len(x)} sources, {int(found.extended.sum())} extended")


def merge_measurements(request: Request) -> None:
    """Choose for each source the filter whose place and shape all filters shall use: the first that sees it well."""
    tables = {one["filter"]: catalogues.read(request, "deepCoadd_meas", one) for one in request.ids}
    order = _by_priority(request, list(tables))
    ids = tables[order[0]]["id"]
    if any(not np.array_equal(ids, table["id"]) for table in tables.values()):
        raise StepError("the measurements of the filters are not of the same sources")
    signal = np.stack([_signal(tables[name]) for name in order])
    enough = signal >= float(str(request.config["minSigma"]))
    best = np.where(enough.any(axis=0), enough.argmax(axis=0), signal.argmax(axis=0)) if len(ids) else np.zeros(0, int)
    columns: Columns = {
        key: np.stack([tables[name][key] for name in order])[best, np.arange(len(ids))]
        for key in catalogues.SCHEMAS["deepCoadd_meas"]
    }
    left, right, bottom, top = (edge - 0.5 for edge in read_patch(request).inner)
    x, y = _floats(columns, "x"), _floats(columns, "y")
    columns["is_primary"] = (x >= left) & (x < right) & (y >= bottom) & (y < top)
    columns["filter"] = np.array(order)[best]
    catalogues.write(request, "deepCoadd_ref", columns, coadd_cards(request, FILTER="^".join(tables)))
    print(f"{len(ids)} sources, {int(columns['is_primary'].sum())} of them in the patch's inner region")


def forced_photometry(request: Request) -> None:
    """Measure fluxes at the places and with the shapes of the reference sources."""
    coadd = read_exposure(request.get("deepCoadd_calexp"))
    reference = catalogues.read(request, "deepCoadd_ref", _without_filter(request.id))
    x, y = _floats(reference, "x"), _floats(reference, "y")
    shape = np.stack([_floats(reference, name) for name in _SHAPE], axis=1)
    fluxes = flux_columns(coadd, x, y, shape)
    columns = place_columns(coadd, x, y) | fluxes | magnitude_columns(fluxes, coadd.zero_point)
    columns |= {key: reference[key] for key in ("id", "extended", "is_primary")}
    catalogues.write(request, "deepCoadd_forced_src", columns, coadd_cards(request))
    print(f"{len(x)} sources")


def _by_priority(request: Request, names: list[str]) -> list[str]:
    order = str(request.config["priorityList"]).split(",")
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def _without_filter(data_id: DataId) -> DataId:
    return {key: value for key, value in data_id.items() if key != "filter"}


def _floats(columns: Columns, name: str) -> Floats:
    return np.asarray(columns[name], dtype=float)


def _signal(table: Columns) -> Floats:
    flux, sigma = _floats(table, "model_flux"), _floats(table, "model_flux_sigma")
    return np.where(np.isfinite(flux), np.divide(flux, sigma, out=np.zeros_like(flux), where=sigma > 0), 0.0)
