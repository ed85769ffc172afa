"""Make a small HSC survey of real FITS files: raws, calibrations, a reference catalogue, a sky map, and the truth.

``python make.py FOLDER`` writes what `README.md` beside it lists. The same arguments give the same bytes, with the same
versions of numpy and astropy.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.table import Table
from hsc_pixels import READ_NOISE, ZERO_POINTS, Camera
from hsc_survey import EXPOSURES, FILTERS, VISITS, Geometry, Visit, raw_header
from hsc_truth import reference_shards, truth

SIZE = 512
SEED = 11
REFCAT = "simstars"
SKYMAP = "skyMap-4patch.pickle"

_REFCAT_CONFIG = f"""\
# How the shards of this catalogue are cut; nothing runs this file.
config.ref_dataset_name = '{REFCAT}'
config.indexer.name = 'HTM'
config.indexer['HTM'].depth = 7
"""
_REFCAT_README = """\
Simulated stars. Each shard is a FITS table named after an HTM trixel of depth 7, with the columns id, ra, dec (ICRS
degrees), mag_r and mag_i. Errors are 0.02 arcseconds along each axis and 0.008 magnitudes.
"""


@dataclass(frozen=True, slots=True)
class Calibration:
    """One set of master calibrations, and the days of which it is valid."""

    filetype: str
    filter: str
    calib_date: str
    valid_start: str
    valid_end: str
    ccds: frozenset[int]

    def relpath(self, ccd: int) -> str:
        """Name the file of one ccd as the Butler and the archive do."""
        kind = self.filetype.upper()
        band = "" if self.filter == "NONE" else f"-{self.filter}"
        return f"CALIB/{kind}/{self.calib_date}/{self.filter}/{kind}-{self.calib_date}{band}-{ccd:03d}.fits"


_CCDS = {band: frozenset(one.ccd for one in EXPOSURES if one.visit.filter == band) for band in FILTERS}
_ALL_CCDS = _CCDS["HSC-R"] | _CCDS["HSC-I"]
_STALE = "2012-09-20"  # of flats that were taken before the dust moved: no visit may get one

CALIBRATIONS = (
    Calibration("bias", "NONE", "2013-11-03", "2013-05-07", "2014-05-02", _ALL_CCDS),
    Calibration("dark", "NONE", "2013-11-03", "2013-05-07", "2014-05-02", _ALL_CCDS),
    Calibration("flat", "HSC-R", _STALE, "2012-03-24", "2012-12-18", frozenset({16, 23})),
    Calibration("flat", "HSC-R", "2013-06-17", "2012-12-19", "2013-12-14", _CCDS["HSC-R"]),
    Calibration("flat", "HSC-I", "2013-11-03", "2013-05-07", "2014-05-02", _CCDS["HSC-I"]),
)


def make(folder: Path, size: int = SIZE, seed: int = SEED) -> None:
    """Write the survey.

    Parameters
    ----------
    folder
        Made if missing; files of the same names are overwritten.
    size
        Width of a ccd in pixels, a multiple of 64; ccds are twice as high.
    seed
        Of all that is random.

    Raises
    ------
    ValueError
        If `size` is no multiple of 64, or less.
    """
    if size < 64 or size % 64:
        raise ValueError(f"the width of a ccd must be a multiple of 64, not {size}")
    camera = Camera(Geometry(size), seed)
    archive = folder / "archive"
    field = truth(camera)
    for exposure in EXPOSURES:
        image = fits.PrimaryHDU(camera.raw(exposure, field), raw_header(camera.geometry, exposure))
        _write(archive / f"raw/{exposure.visit.date}/{exposure.name}.fits", _fits_bytes(image))
    _write_calibrations(folder, camera)
    _write_skymap(folder, camera.geometry.skymap())
    _write_reference(folder / "refcat" / REFCAT, reference_shards(camera, field))
    _write(folder / "truth.fits", _fits_bytes(fits.PrimaryHDU(), fits.BinTableHDU(field)))
    _write_table(folder / "truth_visits.csv", [_conditions(visit) for visit in VISITS])


def _conditions(visit: Visit) -> dict[str, object]:
    """Return what the pipeline is to find out about a visit."""
    return {
        "visit": visit.number,
        "filter": visit.filter,
        "zero_point": round(ZERO_POINTS[visit.filter] - visit.extinction, 3),
        "seeing": visit.seeing,
        "sky": visit.sky,
        "read_noise": READ_NOISE,
        "wcs_error_east": visit.wcs_error[0],
        "wcs_error_north": visit.wcs_error[1],
    }


def _write_calibrations(folder: Path, camera: Camera) -> None:
    rows = list(_calibration_rows(folder / "archive", camera))
    validity = ("validStart", "validEnd")
    files = [{name: value for name, value in row.items() if name not in validity} for row in rows]
    _write_table(folder / "calib_files.csv", files)
    for filetype in dict.fromkeys(calibration.filetype for calibration in CALIBRATIONS):
        days = [{name: row[name] for name in ("relpath", *validity)} for row in rows if row["filetype"] == filetype]
        _write_table(folder / f"{filetype}_valid.csv", days)


def _calibration_rows(archive: Path, camera: Camera) -> Iterator[dict[str, object]]:
    for calibration in CALIBRATIONS:
        for ccd in sorted(calibration.ccds):
            cards = [
                ("OBSTYPE", calibration.filetype),
                ("CALIB_ID", f"calibDate={calibration.calib_date} filter={calibration.filter} ccd={ccd}"),
                ("FILTER", calibration.filter),
                ("DET-ID", ccd),
                ("BUNIT", {"bias": "ADU", "dark": "ADU/s", "flat": ""}[calibration.filetype]),
            ]
            pixels = _master(camera, calibration, ccd)
            relpath = calibration.relpath(ccd)
            content = _fits_bytes(fits.PrimaryHDU(pixels.astype(np.float32), fits.Header(cards)))
            yield _write(archive / relpath, content) | {
                "relpath": relpath,
                "filetype": calibration.filetype,
                "ccd": ccd,
                "filter": calibration.filter,
                "calibDate": calibration.calib_date,
                "validStart": calibration.valid_start,
                "validEnd": calibration.valid_end,
            }


def _master(camera: Camera, calibration: Calibration, ccd: int) -> npt.NDArray[np.float64]:
    """Return a calibration with the little noise that is left of many frames."""
    random = camera.random("master", calibration.relpath(ccd))
    if calibration.filetype == "bias":
        pixels, noise = camera.bias(ccd), 0.3
    elif calibration.filetype == "dark":
        pixels, noise = camera.dark(ccd), 0.003
    else:
        pixels, noise = camera.flat(ccd, calibration.filter, _dust(calibration)), 0.001
    return pixels + random.normal(0, noise, pixels.shape)


def _dust(calibration: Calibration) -> str:
    """Return the day whose dust is in a flat: that of the visits it is for, if there are any."""
    days = {visit.date for visit in VISITS if visit.filter == calibration.filter}
    fitting = [day for day in days if calibration.valid_start <= day <= calibration.valid_end]
    return fitting[0] if fitting else calibration.calib_date


def _write_skymap(folder: Path, text: str) -> None:
    """Write the sky map for ``dbb`` and, the same bytes, under the name that science code demands: it is no pickle."""
    content = text.encode()
    _write(folder / "skyMap-4patch.toml", content)
    row = _write(folder / "archive/skymap" / SKYMAP, content)
    _write_table(folder / "files.csv", [row | {"relpath": f"skymap/{SKYMAP}", "filetype": "deepcoadd_skymap"}])


def _write_reference(folder: Path, shards: Mapping[int, Table]) -> None:
    for trixel, stars in shards.items():
        _write(folder / f"{trixel}.fits", _fits_bytes(fits.PrimaryHDU(), fits.BinTableHDU(stars)))
    none = next(iter(shards.values()))[:0]
    _write(folder / "master_schema.fits", _fits_bytes(fits.PrimaryHDU(), fits.BinTableHDU(none)))
    _write(folder / "config.py", _REFCAT_CONFIG.encode())
    _write(folder / "README.txt", _REFCAT_README.encode())


def _write(path: Path, content: bytes) -> dict[str, object]:
    """Write a file and return what a registry asks about its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {"filesize": len(content), "md5sum": hashlib.md5(content, usedforsecurity=False).hexdigest()}


def _fits_bytes(*hdus: fits.PrimaryHDU | fits.BinTableHDU) -> bytes:
    buffer = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(buffer)
    return buffer.getvalue()


def _write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Make the survey in the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where to write; made if missing")
    parser.add_argument("--size", type=int, default=SIZE, metavar="N", help="width of a ccd, a multiple of 64 pixels")
    parser.add_argument("--seed", type=int, default=SEED, metavar="S", help="of all that is random")
    given = parser.parse_args()
    try:
        make(given.folder, given.size, given.seed)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
