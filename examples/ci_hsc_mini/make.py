"""Make a miniature of LSST's ci_hsc test data: the real names and data ids, tiny images, tables to ingest.

``python make.py FOLDER`` writes ``FOLDER/archive/`` with FITS files named as in the real data set and as DESDM's
archive would name its products, and ``FOLDER/*.csv`` with their sizes, checksums and metadata. Every run writes the
same bytes.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits
from ci_hsc_exposures import EXPOSURES, RAW_BIN, RAW_SIZE, VISITS, Exposure, footprint, raw_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

TRACT = 0
PATCHES = ((8, 6), (8, 7), (9, 6), (9, 7))
FILTERS = ("HSC-R", "HSC-I")
COADD_RUN = "Ht0_r11p95"
CALEXP_RUN = "Ht0_r12p01"

# Processed again in the coadds' run: the same data ids as in CALEXP_RUN, other bytes.
CALEXPS_IN_BOTH_RUNS = ((903334, 16), (903334, 22), (903334, 23), (903336, 17), (903342, 100))

# The sky map is ours: the corner of patch 8,6 with the greatest right ascension and least declination, the side of a
# patch, in degrees. About half of the exposures of each filter touch patch 8,6.
_SKY_CORNER = (320.925, -0.585)
_PATCH_SIDE = 0.19
_COADD_PIXELS = 32


@dataclass(frozen=True, slots=True)
class Calibration:
    """One set of master calibrations and the days for which the real registry holds it valid."""

    filetype: str
    filter: str
    calib_date: str
    valid_start: str
    valid_end: str
    level: float

    def relpath(self, ccd: int) -> str:
        """Name the file of one ccd as the real data set does."""
        kind = self.filetype.upper()
        band = "" if self.filter == "NONE" else f"-{self.filter}"
        return f"CALIB/{kind}/{self.calib_date}/{self.filter}/{kind}-{self.calib_date}{band}-{ccd:03d}.fits"


CALIBRATIONS = (
    Calibration("bias", "NONE", "2013-11-03", "2013-05-07", "2014-05-02", 0.0),
    Calibration("dark", "NONE", "2013-11-03", "2013-05-07", "2014-05-02", 0.1),
    Calibration("flat", "HSC-R", "2013-06-17", "2012-12-19", "2013-12-14", 1.0),
    Calibration("flat", "HSC-I", "2013-11-03", "2013-05-07", "2014-05-02", 1.0),
)


class _Archive:
    """The folder that the files go to."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, relpath: str, content: bytes) -> dict[str, object]:
        """Write one file and return the columns that every table has."""
        path = self.root / relpath
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        md5sum = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return {"relpath": relpath, "filesize": len(content), "md5sum": md5sum}

    def write_image(self, relpath: str, header: fits.Header, size: tuple[int, int], level: float) -> dict[str, object]:
        """Write an image of float32 pixels as the primary one."""
        pixels = level + 0.01 * _noise(relpath, size)
        return self.write(relpath, _fits_bytes(fits.PrimaryHDU(pixels.astype(np.float32), header)))


def make(folder: Path) -> None:
    """Write the miniature data set.

    Parameters
    ----------
    folder
        Gets ``archive/`` and the tables ``calibs.csv``, ``calexps.csv``, ``coadds.csv``, ``files.csv`` and
        ``overlaps.csv``; of ``calibs.csv`` also the parts that commands take: ``calib_files.csv`` without validity,
        and ``bias_valid.csv`` and its like with nothing else. Made if missing; files of the same names are overwritten.

    Notes
    -----
    Some 200 small files, about a second. The same bytes every time, given the same versions of numpy and astropy.
    """
    archive = _Archive(folder / "archive")
    overlaps = list(_overlap_rows())
    for exposure in EXPOSURES:
        archive.write(f"raw/{exposure.name}.fits", _raw_bytes(exposure))
    _write_calib_tables(folder, list(_calib_rows(archive)))
    _write_table(folder / "calexps.csv", list(_calexp_rows(archive)))
    _write_table(folder / "coadds.csv", [*_coadd_rows(archive), *_warp_rows(archive, overlaps)])
    # Nobody opens the sky map on the way to a job, so that any bytes serve; these are no pickle.
    sky_map = archive.write("skymap/skyMap-1.pickle", b"ci_hsc miniature: stands for a sky map, cannot be loaded\n")
    _write_table(folder / "files.csv", [sky_map | {"filetype": "deepcoadd_skymap"}])
    _write_table(folder / "overlaps.csv", overlaps)


def _raw_bytes(exposure: Exposure) -> bytes:
    """Compress the HSC-R raws and leave the HSC-I ones plain, as the sizes of the real files tell."""
    pixels = (1000 + 20 * _noise(exposure.name, RAW_SIZE)).astype(np.uint16)
    header = raw_header(exposure, RAW_BIN)
    if exposure.visit.filter == "HSC-R":
        compressed = fits.CompImageHDU(pixels, header, compression_type="RICE_1", tile_shape=(1, RAW_SIZE[0]))
        return _fits_bytes(fits.PrimaryHDU(), compressed)
    return _fits_bytes(fits.PrimaryHDU(pixels, header))


def _calib_rows(archive: _Archive) -> Iterator[dict[str, object]]:
    ccds = sorted({exposure.ccd for exposure in EXPOSURES})
    for calib in CALIBRATIONS:
        for ccd in ccds:
            cards = [
                ("OBSTYPE", calib.filetype),
                ("CALIB_ID", f"calibDate={calib.calib_date} filter={calib.filter} ccd={ccd}"),
                ("FILTER", calib.filter),
                ("DET-ID", ccd),
            ]
            # Plain and small: a quarter of a raw along each axis.
            size = (RAW_SIZE[0] // 4, RAW_SIZE[1] // 4)
            yield archive.write_image(calib.relpath(ccd), fits.Header(cards), size, calib.level) | {
                "filetype": calib.filetype,
                "ccd": ccd,
                "filter": calib.filter,
                "calibDate": calib.calib_date,
                "validStart": calib.valid_start,
                "validEnd": calib.valid_end,
            }


def _write_calib_tables(folder: Path, rows: Sequence[Mapping[str, object]]) -> None:
    validity = ("validStart", "validEnd")
    _write_table(folder / "calibs.csv", rows)
    files = [{name: value for name, value in row.items() if name not in validity} for row in rows]
    _write_table(folder / "calib_files.csv", files)
    for filetype in dict.fromkeys(calib.filetype for calib in CALIBRATIONS):
        dates = [{name: row[name] for name in ("relpath", *validity)} for row in rows if row["filetype"] == filetype]
        _write_table(folder / f"{filetype}_valid.csv", dates)


def _calexp_rows(archive: _Archive) -> Iterator[dict[str, object]]:
    for exposure in EXPOSURES:
        visit = exposure.visit
        runs = [CALEXP_RUN if visit.filter == "HSC-R" else COADD_RUN]
        if (visit.number, exposure.ccd) in CALEXPS_IN_BOTH_RUNS:
            runs.append(COADD_RUN)
        for run in runs:
            relpath = _product_path(run, "corr", f"CORR-{visit.number:07d}-{exposure.ccd:03d}")
            header = raw_header(exposure, 2 * RAW_BIN)
            header["RUN"] = run
            yield archive.write_image(relpath, header, (RAW_SIZE[0] // 2, RAW_SIZE[1] // 2), 10.0) | {
                "run": run,
                "filetype": "calexp",
                "visit": visit.number,
                "ccd": exposure.ccd,
                "filter": visit.filter,
                "pointing": visit.pointing,
                "field": "STRIPE82L",
                "dateObs": visit.date,
                "taiObs": visit.date,
                "expTime": 30.0,
            }


def _coadd_rows(archive: _Archive) -> Iterator[dict[str, object]]:
    for band in FILTERS:
        for patch in PATCHES:
            stem = f"calexp-{band}-{TRACT}-{_file_safe(patch)}"
            yield _coadd_row(archive, "deepcoadd_calexp", stem, band, patch)


def _warp_rows(archive: _Archive, overlaps: Sequence[Mapping[str, object]]) -> Iterator[dict[str, object]]:
    """Write a warp for every patch and visit of which some ccd reaches the patch."""
    covered = {(row["visit"], row["patch"]) for row in overlaps}
    for visit in VISITS.values():
        for patch in PATCHES:
            if (visit.number, _butler_patch(patch)) in covered:
                stem = f"warp-{visit.filter}-{TRACT}-{_file_safe(patch)}-{visit.number}"
                yield _coadd_row(archive, "deepcoadd_tempexp", stem, visit.filter, patch, visit.number)


def _coadd_row(
    archive: _Archive, filetype: str, stem: str, band: str, patch: tuple[int, int], visit: int | None = None
) -> dict[str, object]:
    header = _patch_header(patch)
    header["FILTER"] = band
    header["RUN"] = COADD_RUN
    relpath = _product_path(COADD_RUN, "coadd", stem)
    return archive.write_image(relpath, header, (_COADD_PIXELS, _COADD_PIXELS), 1.0) | {
        "run": COADD_RUN,
        "filetype": filetype,
        "tract": TRACT,
        "patch": _file_safe(patch),
        "filter": band,
        "visit": visit,
    }


def _overlap_rows() -> Iterator[dict[str, object]]:
    for patch in PATCHES:
        box = _patch_box(patch)
        for exposure in EXPOSURES:
            ra_min, ra_max, dec_min, dec_max = footprint(exposure)
            if ra_min < box[1] and box[0] < ra_max and dec_min < box[3] and box[2] < dec_max:
                yield {
                    "tract": TRACT,
                    "patch": _butler_patch(patch),
                    "visit": exposure.visit.number,
                    "ccd": exposure.ccd,
                }


def _patch_box(patch: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return a patch's right ascension and declination limits; right ascension falls as the first index grows."""
    east = _SKY_CORNER[0] - _PATCH_SIDE * (patch[0] - 8)
    south = _SKY_CORNER[1] + _PATCH_SIDE * (patch[1] - 6)
    return east - _PATCH_SIDE, east, south, south + _PATCH_SIDE


def _patch_header(patch: tuple[int, int]) -> fits.Header:
    ra_min, ra_max, dec_min, dec_max = _patch_box(patch)
    scale = _PATCH_SIDE / _COADD_PIXELS
    cards: list[tuple[str, object]] = [
        ("TRACT", TRACT),
        ("PATCH", _file_safe(patch)),
        ("RADESYS", "ICRS"),
        ("EQUINOX", 2000.0),
        ("CTYPE1", "RA---TAN"),
        ("CTYPE2", "DEC--TAN"),
        ("CUNIT1", "deg"),
        ("CUNIT2", "deg"),
        ("CRVAL1", round((ra_min + ra_max) / 2, 6)),
        ("CRVAL2", round((dec_min + dec_max) / 2, 6)),
        ("CRPIX1", (_COADD_PIXELS + 1) / 2),
        ("CRPIX2", (_COADD_PIXELS + 1) / 2),
        ("CD1_1", -scale),
        ("CD1_2", 0.0),
        ("CD2_1", 0.0),
        ("CD2_2", scale),
    ]
    return fits.Header(cards)


def _product_path(run: str, kind: str, stem: str) -> str:
    """Name a product of a run such as ``Ht0_r12p01`` in the way of DESDM's archive."""
    unit, attempt = run.split("_")
    request, number = attempt.split("p")
    return f"MMG/hsctest/{request}/{unit}/p{number}/{kind}/{stem}-{attempt}.fits"


def _file_safe(patch: tuple[int, int]) -> str:
    return f"{patch[0]}x{patch[1]}"


def _butler_patch(patch: tuple[int, int]) -> str:
    return f"{patch[0]},{patch[1]}"


def _noise(name: str, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return pixels between 0 and 1, shape (rows, columns), that depend on the name alone."""
    return np.random.default_rng(zlib.crc32(name.encode())).random((size[1], size[0]))


def _fits_bytes(*hdus: fits.PrimaryHDU | fits.CompImageHDU) -> bytes:
    buffer = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(buffer)
    return buffer.getvalue()


def _write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Make the data set in the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where to write; made if missing")
    make(parser.parse_args().folder)


if __name__ == "__main__":
    main()
