"""The survey of the HSC example has the counts that the note's run needs, and its files say what is true."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS, FITSFixedWarning

from dbb import Registry, RepoSpec, materialize_repo
from dbb.butler import CalibSpec, InputSpec, RefcatSpec

EXAMPLE = Path(__file__).parents[2] / "examples" / "hsc"
SIZE = 64
PATCHES = ("8x6", "9x6", "8x7", "9x7")
CCDS = {
    903334: [16, 23],
    903342: [4, 10],
    903344: [5, 11],
    903346: [6, 12],
    903986: [16, 23],
    903988: [17, 24],
    904010: [4, 10],
    904014: [6, 12],
}


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hsc")
    assert run("make.py", folder, "--size", SIZE).stderr == ""
    done = run("ingest.py", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def registry(survey: Path) -> Iterator[Registry]:
    with Registry(f"sqlite:///{survey / 'survey.db'}") as opened:
        yield opened


def overlaps(survey: Path) -> list[tuple[str, int, int]]:
    with closing(sqlite3.connect(survey / "survey.db")) as database:
        return database.execute("SELECT patch, visit, ccd FROM overlap ORDER BY visit, ccd, patch").fetchall()


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        run("make.py", tmp_path / name, "--size", 64, "--seed", 3)
    assert digests(tmp_path / "first") == digests(tmp_path / "second")


def test_another_seed_gives_other_pixels_and_the_same_files(survey: Path, tmp_path: Path) -> None:
    run("make.py", tmp_path, "--size", SIZE, "--seed", 3)
    made, other = digests(tmp_path / "archive/raw"), digests(survey / "archive/raw")
    assert made.keys() == other.keys()
    assert not set(made.values()) & set(other.values())


@pytest.mark.parametrize("size", ["0", "100", "-64", "many"])
def test_a_size_that_does_not_fit_is_refused_and_nothing_is_written(size: str, tmp_path: Path) -> None:
    done = run("make.py", tmp_path / "survey", f"--size={size}")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_survey_is_not_ingested(tmp_path: Path) -> None:
    done = run("ingest.py", tmp_path)
    assert done.returncode == 2
    assert "run make.py" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_there_are_sixteen_raws_of_eight_visits(registry: Registry) -> None:
    found: dict[int, list[int]] = {}
    for row in sorted(registry.query("raw"), key=lambda row: (row["visit"], row["ccd"])):
        found.setdefault(row["visit"], []).append(row["ccd"])
    assert found == CCDS


def test_every_visit_is_on_each_of_the_four_patches_and_on_no_other(survey: Path) -> None:
    assert {(patch, visit) for patch, visit, _ in overlaps(survey)} == {(p, v) for p in PATCHES for v in CCDS}


def test_both_ccds_of_a_visit_are_on_the_upper_patches_and_one_on_the_lower(survey: Path) -> None:
    north = {(patch, visit, ccds[1]) for patch in ("8x7", "9x7") for visit, ccds in CCDS.items()}
    south = {(patch, visit, ccds[0]) for patch in PATCHES for visit, ccds in CCDS.items()}
    assert set(overlaps(survey)) == north | south


def test_the_flat_of_another_year_is_chosen_for_no_visit(registry: Registry, tmp_path: Path) -> None:
    spec = RepoSpec("hsc", (InputSpec("raw", "tract = 0"),), CalibSpec("2014A"))
    materialize_repo(registry, tmp_path / "job", spec)
    flats = {path.name[:23] for path in (tmp_path / "job/in/CALIB/FLAT").rglob("*.fits")}
    assert flats == {"FLAT-2013-06-17-HSC-R-0", "FLAT-2013-11-03-HSC-I-0"}


@pytest.mark.parametrize("visit", [903342, 904014])
def test_a_job_needs_the_two_shards_that_meet_in_the_field(visit: int, registry: Registry, tmp_path: Path) -> None:
    spec = RepoSpec("hsc", (InputSpec("raw", f"visit = {visit}"),), refcats=(RefcatSpec("simstars"),))
    materialize_repo(registry, tmp_path / "job", spec)
    members = sorted(path.name for path in (tmp_path / "job/in/ref_cats/simstars").iterdir())
    assert members == ["189584.fits", "189648.fits", "README.txt", "config.py", "master_schema.fits"]


def test_the_staged_sky_map_is_the_text_that_overlaps_were_computed_from(survey: Path) -> None:
    staged, given = (survey / name for name in ("archive/skymap/skyMap-4patch.pickle", "skyMap-4patch.toml"))
    assert staged.read_bytes() == given.read_bytes()


@pytest.fixture(scope="module")
def stars(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Lone bright stars in one calibrated raw of a survey with more room: true and header's coordinates, magnitudes."""
    folder = tmp_path_factory.mktemp("wide")
    assert run("make.py", folder, "--size", 384).stderr == ""
    masters = folder / "archive/CALIB"
    bias = fits.getdata(masters / "BIAS/2013-11-03/NONE/BIAS-2013-11-03-017.fits")
    dark = fits.getdata(masters / "DARK/2013-11-03/NONE/DARK-2013-11-03-017.fits")
    flat = fits.getdata(masters / "FLAT/2013-11-03/HSC-I/FLAT-2013-11-03-HSC-I-017.fits")
    with fits.open(folder / "archive/raw/2013-11-02/HSCA90398829.fits") as hdus:
        image, header = (hdus[0].data - bias - 30 * dark) / np.maximum(flat, 0.5), hdus[0].header.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        wcs = WCS(header)
    truth = Table.read(folder / "truth.fits")
    truth = truth[(truth["type"] == "star") & (truth["nearest"] > 3) & (truth["mag_i"] < 20.5)]
    x, y = wcs.wcs_world2pix(np.stack([truth["ra"], truth["dec"]], axis=-1), 0).T
    truth["x"], truth["y"] = x, y
    rows, columns = image.shape
    found = truth[(x > 25) & (x < columns - 25) & (y > 25) & (y < rows - 25)]
    measured = [_measured(image, row["x"], row["y"]) for row in found]
    found["instrumental"] = [one[2] for one in measured]
    sky = wcs.wcs_pix2world([one[:2] for one in measured], 0)
    found["header_ra"], found["header_dec"] = sky.T
    return found


def _measured(image: np.ndarray, x: float, y: float) -> tuple[float, float, float]:
    """Return the centre of the light near a place, and its magnitude."""
    rows, columns = np.indices(image.shape)
    for reach in (9, 7, 5, 5, 6):  # the last one is too small for all light, but as much of it for every star
        distance = np.hypot(columns - x, rows - y)
        light = np.where(distance < reach, image - np.median(image[(distance > 13) & (distance < 20)]), 0.0)
        x, y = (columns * light).sum() / light.sum(), (rows * light).sum() / light.sum()
    return x, y, -2.5 * np.log10(light.sum())


def test_stars_of_a_calibrated_raw_have_their_true_brightness(stars: Table) -> None:
    zero_points = stars["mag_i"] - stars["instrumental"]
    assert len(stars) >= 4
    assert np.median(np.abs(zero_points - np.median(zero_points))) < 0.015


def test_the_header_is_as_far_off_as_the_truth_says(stars: Table) -> None:
    east = np.median(stars["header_ra"] - stars["ra"]) * 3600
    north = np.median(stars["header_dec"] - stars["dec"]) * 3600
    assert (east, north) == pytest.approx((-0.29, -0.22), abs=0.05)
