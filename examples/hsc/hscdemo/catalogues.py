"""Tables of sources as FITS files, with the columns that their schema says."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from hscdemo import VERSION
from hscdemo.taskline import Request, StepError

Columns = dict[str, npt.NDArray[np.generic]]

_PLACE = {"id": "K", "coord_ra": "D", "coord_dec": "D", "x": "D", "y": "D"}
_FLUXES = {"psf_flux": "D", "psf_flux_sigma": "D", "model_flux": "D", "model_flux_sigma": "D"}
_MAGNITUDES = {"psf_mag": "D", "psf_mag_sigma": "D", "model_mag": "D", "model_mag_sigma": "D"}
_SHAPE = {"shape_xx": "D", "shape_xy": "D", "shape_yy": "D", "extended": "L"}
_FLAGS = {"flag_saturated": "L", "flag_edge": "L", "inputs": "J"}

SCHEMAS: Mapping[str, Mapping[str, str]] = {
    "src": _PLACE | _FLUXES | _MAGNITUDES | _SHAPE | _FLAGS | {"used_for_psf": "L", "matched": "L"},
    "deepCoadd_det": _PLACE | {"signal_to_noise": "D", "peak": "D"} | _SHAPE,
    "deepCoadd_mergeDet": _PLACE | {"signal_to_noise": "D", "filter": "8A", "filters": "64A"},
    "deepCoadd_meas": _PLACE | _FLUXES | _MAGNITUDES | _SHAPE | _FLAGS,
    "deepCoadd_ref": _PLACE | _FLUXES | _MAGNITUDES | _SHAPE | _FLAGS | {"filter": "8A", "is_primary": "L"},
    "deepCoadd_forced_src": _PLACE | _FLUXES | _MAGNITUDES | _FLAGS | {"extended": "L", "is_primary": "L"},
}


def write(request: Request, dataset: str, columns: Mapping[str, npt.ArrayLike], cards: Mapping[str, object]) -> None:
    """Write a catalogue, its rows as they are given.

    Raises
    ------
    StepError
        If the repository has a schema of this type, and that is not this program's.
    """
    if request.butler.exists(f"{dataset}_schema"):
        check_schema(request, dataset)
    request.put(dataset, table_bytes(dataset, columns, cards))


def table_bytes(dataset: str, columns: Mapping[str, npt.ArrayLike], cards: Mapping[str, object]) -> bytes:
    """Return a catalogue as a FITS file."""
    formats = SCHEMAS[dataset]
    made = [fits.Column(name, code, array=np.asarray(columns[name])) for name, code in formats.items()]
    table = fits.BinTableHDU.from_columns(made, name=dataset.upper())
    primary = fits.PrimaryHDU(header=fits.Header([*cards.items(), ("STACK", VERSION)]))
    out = io.BytesIO()
    fits.HDUList([primary, table]).writeto(out)
    return out.getvalue()


def read(request: Request, dataset: str, data_id: Mapping[str, object] | None = None) -> Columns:
    """Read a catalogue that these programs wrote.

    Raises
    ------
    DbbError
        If it is not there, or has not the columns of the type.
    """
    path = request.get(dataset, data_id)
    try:
        rows = fits.getdata(path, 1)
        return {name: np.array(rows[name]) for name in SCHEMAS[dataset]}
    except (OSError, KeyError, TypeError, IndexError) as error:
        raise StepError(f"{path} is no {dataset} of these programs: {error}") from error


def check_schema(request: Request, dataset: str) -> None:
    """Compare the repository's schema of a catalogue with that of this program.

    Raises
    ------
    DbbError
        If there is none, or it differs.
    """
    path = request.get(f"{dataset}_schema", {})
    try:
        found = fits.getdata(path, 1).columns
        given = {column.name: column.format.removeprefix("1") for column in found}
    except (OSError, IndexError, AttributeError) as error:
        raise StepError(f"{path} is no schema: {error}") from error
    if given != dict(SCHEMAS[dataset]):
        odd = sorted(given.items() ^ SCHEMAS[dataset].items())
        raise StepError(f"{path} is not the schema of {dataset} in {VERSION}; columns that differ: {dict(odd)}")
