"""The miniature of ci_hsc has the real names and data ids, and its tables tell the truth about its files."""

from __future__ import annotations

import csv
import hashlib
import importlib
import sqlite3
import subprocess
import sys
import warnings
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / "examples" / "ci_hsc_mini"
REAL = PROJECT.parent / "shared" / "data" / "ci_hsc"

needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason=f"facts about the real data set are not at {REAL}")

DATA_IDS = {
    903334: {16, 22, 23, 100},
    903336: {17, 24},
    903338: {18, 25},
    903342: {4, 10, 100},
    903344: {0, 5, 11},
    903346: {1, 6, 12},
    903986: {16, 22, 23, 100},
    903988: {16, 17, 23, 24},
    903990: {18, 25},
    904010: {4, 10, 100},
    904014: {1, 6, 12},
}


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ci_hsc_mini")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        importlib.import_module("make").make(folder)
    return folder


@pytest.fixture(scope="module")
def headers(mini: Path) -> dict[str, fits.Header]:
    """Headers of the raws by file name, from whichever HDU has the pixels."""
    found = {}
    for path in sorted((mini / "archive/raw").iterdir()):
        with fits.open(path) as hdus:
            found[path.stem] = hdus[-1].header.copy()
    return found


def rows(mini: Path, table: str) -> list[dict[str, str]]:
    with (mini / table).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def visit_of(header: fits.Header) -> int:
    return int(header["EXP-ID"][4:10])


def test_the_script_makes_the_same_bytes_as_the_function(mini: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, EXAMPLE / "make.py", tmp_path], check=True)
    assert tree(tmp_path) == tree(mini)


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--help"], 0), (["--no-such-option"], 2)])
def test_the_script_without_a_folder_tells_its_usage_and_writes_nothing(
    arguments: list[str], code: int, tmp_path: Path
) -> None:
    command = [sys.executable, EXAMPLE / "make.py", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, list(tmp_path.iterdir())) == (code, [])
    assert "usage: make.py [-h] FOLDER" in done.stdout + done.stderr


def test_the_raws_have_the_data_ids_of_the_real_ones(headers: dict[str, fits.Header]) -> None:
    found: dict[int, set[int]] = {}
    for header in headers.values():
        found.setdefault(visit_of(header), set()).add(header["DET-ID"])
    assert len(headers) == 33
    assert found == DATA_IDS


def test_a_raw_names_itself_in_its_header(headers: dict[str, fits.Header]) -> None:
    assert {name: header["FRAMEID"] for name, header in headers.items()} == {name: name for name in headers}


def test_one_suffix_means_one_ccd_in_every_visit(headers: dict[str, fits.Header]) -> None:
    pairs = {(name[-2:], header["DET-ID"]) for name, header in headers.items()}
    assert len(pairs) == len({suffix for suffix, _ in pairs}) == len({ccd for _, ccd in pairs}) == 16


def test_the_mjd_of_a_raw_agrees_with_its_date(headers: dict[str, fits.Header]) -> None:
    days = {
        (h["FILTER01"], h["DATE-OBS"], *(int(h[key]) for key in ("MJD-STR", "MJD", "MJD-END")))
        for h in headers.values()
    }
    assert days == {
        ("HSC-r", "2013-06-17", 56460, 56460, 56460),
        ("HSC-i", "2013-11-02", 56598, 56598, 56598),
    }


def test_red_raws_are_compressed_and_the_others_are_plain(mini: Path) -> None:
    for path in (mini / "archive/raw").iterdir():
        with fits.open(path) as hdus:
            kinds = [type(hdu) for hdu in hdus]
            band = hdus[-1].header["FILTER01"]
            assert (hdus[-1].data.shape, hdus[-1].data.dtype) == ((128, 64), "uint16")
        assert kinds == ([fits.PrimaryHDU, fits.CompImageHDU] if band == "HSC-r" else [fits.PrimaryHDU]), path.name


@needs_real_data
def test_raws_and_calibrations_have_names_of_the_real_inventory(mini: Path) -> None:
    with (REAL / "inventory.csv").open(newline="", encoding="utf-8") as stream:
        real = {row["path"] for row in csv.DictReader(stream)}
    raws = {f"raw/{path.name}" for path in (mini / "archive/raw").iterdir()}
    assert raws == {path for path in real if path.startswith("raw/")}
    calibs = {row["relpath"] for row in rows(mini, "calibs.csv")}
    assert calibs == {path for path in real if path.startswith(("CALIB/BIAS/", "CALIB/DARK/", "CALIB/FLAT/"))}


@needs_real_data
@pytest.mark.parametrize("filetype", ["bias", "dark", "flat"])
def test_calibrations_are_valid_when_the_real_registry_says_so(mini: Path, filetype: str) -> None:
    columns = ("ccd", "filter", "calibDate", "validStart", "validEnd")
    uri = f"{(REAL / 'calibRegistry.sqlite3').as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as registry:
        real = registry.execute(f"SELECT {', '.join(columns)} FROM {filetype}").fetchall()
    made = [[row[name] for name in columns] for row in rows(mini, "calibs.csv") if row["filetype"] == filetype]
    assert sorted((int(ccd), *others) for ccd, *others in made) == sorted(real)


@needs_real_data
def test_the_known_raw_agrees_with_the_real_header(headers: dict[str, fits.Header]) -> None:
    real = fits.Header.fromtextfile(REAL / "HSCA90333426.hdr")
    made = headers["HSCA90333426"]
    # The array is another and its pixels are larger; BLANK has no place in an image of unsigned pixels without blanks.
    array = {"SIMPLE", "BITPIX", "NAXIS", "EXTEND", "XTENSION", "BLANK", "BZERO"}
    scaled = {"CRPIX1", "CRPIX2", "CD1_2", "CD2_1"}
    rounded = {"MJD-STR", "MJD", "MJD-END", "AIRMASS"}
    same = {key for key in real if not key.startswith("Z")} - array - scaled - rounded
    assert {key: made[key] for key in same} == {key: real[key] for key in same}
    assert {key: made[key] for key in rounded} == pytest.approx({key: real[key] for key in rounded}, rel=2e-4)
    assert made["MJD"] == pytest.approx(real["MJD"], abs=1e-7)
    assert (visit_of(made), made["DET-ID"], int(made["MJD"]) - 55927) == (903334, 23, 533)


@needs_real_data
def test_the_known_raw_lies_where_the_real_one_does(headers: dict[str, fits.Header]) -> None:
    real = fits.Header.fromtextfile(REAL / "HSCA90333426.hdr")
    made = headers["HSCA90333426"]
    bin_size = made["CD2_1"] / real["CD2_1"]
    assert made["CD1_2"] / real["CD1_2"] == pytest.approx(bin_size)
    for key in ("CRPIX1", "CRPIX2"):
        assert (made[key] - 0.5) * bin_size + 0.5 == pytest.approx(real[key], abs=0.001)


def test_every_raw_has_exactly_one_calibration_of_each_type(mini: Path, headers: dict[str, fits.Header]) -> None:
    calibs = rows(mini, "calibs.csv")
    for name, header in headers.items():
        fitting = Counter(
            calib["filetype"]
            for calib in calibs
            if int(calib["ccd"]) == header["DET-ID"]
            and calib["filter"] in {"NONE", header["FILTER01"].upper()}
            and calib["validStart"] <= header["DATE-OBS"] <= calib["validEnd"]
        )
        assert fitting == {"bias": 1, "dark": 1, "flat": 1}, name


@pytest.mark.parametrize("table", ["calibs.csv", "calexps.csv", "coadds.csv", "files.csv"])
def test_every_row_has_its_file_with_that_size_and_checksum(mini: Path, table: str) -> None:
    listed = rows(mini, table)
    assert len({row["relpath"] for row in listed}) == len(listed)
    for row in listed:
        content = (mini / "archive" / row["relpath"]).read_bytes()
        md5sum = hashlib.md5(content, usedforsecurity=False).hexdigest()
        assert (int(row["filesize"]), row["md5sum"]) == (len(content), md5sum), row["relpath"]


def test_every_file_but_the_raws_is_in_one_table(mini: Path) -> None:
    listed = [
        row["relpath"] for table in ("calibs", "calexps", "coadds", "files") for row in rows(mini, f"{table}.csv")
    ]
    archived = [path for path in tree(mini / "archive") if not path.startswith("raw/")]
    assert sorted(listed) == sorted(archived)


def test_every_raw_has_a_calexp_and_some_have_one_in_both_runs(mini: Path, headers: dict[str, fits.Header]) -> None:
    runs: dict[tuple[int, int], dict[str, str]] = {}
    for row in rows(mini, "calexps.csv"):
        runs.setdefault((int(row["visit"]), int(row["ccd"])), {})[row["run"]] = row["md5sum"]
        assert row["relpath"].endswith(f"{row['visit']:0>7}-{row['ccd']:0>3}-{row['run'][4:]}.fits")
    assert set(runs) == {(visit_of(header), header["DET-ID"]) for header in headers.values()}
    both = {key: found for key, found in runs.items() if len(found) == 2}
    assert len(both) == 5
    assert all(visit < 903986 and len(set(found.values())) == 2 for (visit, _), found in both.items())


def test_a_coadd_exists_for_every_patch_and_a_warp_for_every_visit_that_reaches_it(mini: Path) -> None:
    coadds = rows(mini, "coadds.csv")
    deep = {(row["filter"], row["patch"]) for row in coadds if row["filetype"] == "deepcoadd_calexp"}
    assert deep == {(band, patch) for band in ("HSC-R", "HSC-I") for patch in ("8x6", "8x7", "9x6", "9x7")}
    warps = {(row["patch"].replace("x", ","), row["visit"]) for row in coadds if row["filetype"] == "deepcoadd_tempexp"}
    assert warps == {(row["patch"], row["visit"]) for row in rows(mini, "overlaps.csv")}


def test_patch_8_6_has_about_half_of_the_exposures_of_each_filter(mini: Path) -> None:
    bands = Counter(int(row["visit"]) < 903986 for row in rows(mini, "overlaps.csv") if row["patch"] == "8,6")
    assert bands == {True: 9, False: 7}


def test_patch_8_7_gets_two_of_the_three_ccds_of_visit_904010(mini: Path) -> None:
    found = [row["ccd"] for row in rows(mini, "overlaps.csv") if (row["patch"], row["visit"]) == ("8,7", "904010")]
    assert found == ["10", "4"]


def test_overlaps_agree_with_the_world_coordinates_in_the_files(mini: Path, headers: dict[str, fits.Header]) -> None:
    found = set()
    for patch in ("8x6", "8x7", "9x6", "9x7"):
        coadd = fits.getheader(mini / f"archive/MMG/hsctest/r11/Ht0/p95/coadd/calexp-HSC-R-0-{patch}-r11p95.fits")
        west, east, south, north = limits(coadd)
        for header in headers.values():
            ra_min, ra_max, dec_min, dec_max = limits(header)
            if ra_min < east and west < ra_max and dec_min < north and south < dec_max:
                found.add((patch.replace("x", ","), visit_of(header), header["DET-ID"]))
    assert found == {(row["patch"], int(row["visit"]), int(row["ccd"])) for row in rows(mini, "overlaps.csv")}


def limits(header: fits.Header) -> tuple[float, float, float, float]:
    """Right ascension and declination limits of an image by its own header, read with an independent code."""
    with warnings.catch_warnings():
        # Real HSC headers say RADECSYS, spell degrees out and give MJD beside DATE-OBS; so do these.
        warnings.simplefilter("ignore", FITSFixedWarning)
        corners = WCS(header).calc_footprint(center=False)
    return corners[:, 0].min(), corners[:, 0].max(), corners[:, 1].min(), corners[:, 1].max()
