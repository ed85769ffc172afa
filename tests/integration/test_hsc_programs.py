"""The programs of the HSC example find what is true, and meet their data only through the repository."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from matplotlib import image

from dbb import Registry, RepoSpec, materialize_repo
from dbb.butler import CalibSpec, FileSpec, InputSpec, OutputSpec, RefcatSpec, Repository

EXAMPLE = Path(__file__).parents[2] / "examples" / "hsc"
SIZE = 192
PATCH = "8x7"  # both ccds of all visits are on it
FILTERS = {"HSC-R": (903334, 903342, 903344, 903346), "HSC-I": (903986, 903988, 904010, 904014)}
CATALOGUES = ("src", "deepCoadd_det", "deepCoadd_mergeDet", "deepCoadd_meas", "deepCoadd_ref", "deepCoadd_forced_src")
IMAGES = ("calexp", "deepCoadd_tempExp", "deepCoadd", "deepCoadd_calexp")
ZERO_POINT = 27.0

pytestmark = pytest.mark.timeout(600)  # the first test waits for the whole chain


def run(program: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = EXAMPLE / ("" if program in {"make.py", "ingest.py"} else "bin") / program
    # one thread each: two run at a time, and sums in another order would be other bytes
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(path), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300)


def step(job: Path, program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return run(program, "out", "--output", "out", *arguments, "--doraise", cwd=job)


def steps(job: Path, program: str, several: Iterable[Sequence[object]]) -> None:
    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(lambda arguments: step(job, program, *arguments), several):
            assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def patch_id(name: str) -> list[str]:
    return ["--id", "tract=0", f"patch={PATCH}", f"filter={name}"]


def selected(visits: Iterable[int], ccds: dict[int, list[int]] | None = None) -> list[str]:
    chosen = [(visit, ccd) for visit in visits for ccd in (ccds or {}).get(visit, [None])]
    words = ([f"visit={visit}", *([] if ccd is None else [f"ccd={ccd}"])] for visit, ccd in chosen)
    return [word for one in words for word in ("--selectId", *one)]


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hsc")
    for program, *arguments in (("make.py", folder, "--size", SIZE), ("ingest.py", folder)):
        done = run(program, *arguments, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def fresh(survey: Path) -> Path:
    """A job's repository in which nothing has run yet."""
    job = survey / "job"
    spec = RepoSpec(
        "hsc",
        (InputSpec("raw", f"tract = 0 AND patch = '{PATCH}'"),),
        CalibSpec("2014A"),
        (FileSpec("skyMap-4patch.pickle", "deepCoadd/skyMap.pickle"),),
        OutputSpec("Ht0_r11p95", (*IMAGES, *CATALOGUES)),
        refcats=(RefcatSpec("simstars"),),
    )
    with Registry(f"sqlite:///{survey / 'survey.db'}") as registry:
        materialize_repo(registry, job, spec)
    for name in CATALOGUES:
        made = run("makeSchema.py", survey / f"schemas/{name}_Vv1.fits", cwd=survey)
        assert made.returncode == 0, made.stderr
        place = job / f"in/schema/{name}.fits"
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(survey / f"schemas/{name}_Vv1.fits")
    return job


@pytest.fixture(scope="module")
def ccds(fresh: Path) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    with Repository(fresh / "out") as repository:
        for visit, ccd in repository.query_metadata("raw", ["visit", "ccd"]):
            found.setdefault(int(str(visit)), []).append(int(str(ccd)))
    return found


@pytest.fixture(scope="module")
def job(fresh: Path, ccds: dict[int, list[int]]) -> Path:
    """A job's repository after all eight steps on one patch."""
    both = "^".join(FILTERS)
    steps(fresh, "processCcd.py", [["--id", f"visit={v}", f"ccd={c}"] for v in ccds for c in ccds[v]])
    warps = [(name, visit) for name, visits in FILTERS.items() for visit in visits]
    uber = ["-c", "doApplyUberCal=False"]
    steps(fresh, "makeCoaddTempExp.py", [patch_id(name) + uber + selected([v], ccds) for name, v in warps])
    steps(fresh, "assembleCoadd.py", [patch_id(name) + selected(visits) for name, visits in FILTERS.items()])
    steps(fresh, "detectCoaddSources.py", [patch_id(name) for name in FILTERS])
    steps(fresh, "mergeCoaddDetections.py", [patch_id(both)])
    steps(fresh, "measureCoaddSources.py", [patch_id(name) for name in FILTERS])
    steps(fresh, "mergeCoaddMeasurements.py", [patch_id(both)])
    steps(fresh, "forcedPhotCoadd.py", [patch_id(name) for name in FILTERS])
    return fresh


def table(path: str | Path) -> dict[str, np.ndarray]:
    rows = fits.getdata(path, 1)
    return {name: np.array(rows[name]) for name in rows.names}


def stars(job: Path, name: str) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return rows of forced photometry that are true stars, their true fluxes, and their distances from the truth."""
    with Repository(job / "out") as repository:
        rows = table(repository.get_uri("deepCoadd_forced_src", tract=0, patch=PATCH, filter=name))
    truth = table(job.parent / "truth.fits")
    ra, dec = np.degrees(rows["coord_ra"]), np.degrees(rows["coord_dec"])
    across = (ra[:, None] - truth["ra"]) * np.cos(np.radians(dec))[:, None]
    distance = 3600 * np.hypot(across, dec[:, None] - truth["dec"])
    nearest = distance.argmin(axis=1)
    # what is closer than the seeing to another cannot be told apart from it
    fit = (distance.min(axis=1) < 0.4) & (truth["type"][nearest] == "star") & (truth["nearest"][nearest] > 1.0)
    fit &= rows["is_primary"] & ~rows["flag_edge"]
    flux = 10 ** (0.4 * (ZERO_POINT - truth[f"mag_{name[-1].lower()}"][nearest]))
    return {key: values[fit] for key, values in rows.items()}, flux[fit], distance.min(axis=1)[fit]


@pytest.mark.parametrize("name", FILTERS)
def test_stars_above_20_sigma_have_their_true_magnitudes_within_0_02(job: Path, name: str) -> None:
    rows, flux, distance = stars(job, name)
    bright = rows["psf_flux"] > 20 * rows["psf_flux_sigma"]
    wrong = rows["psf_mag"][bright] - (ZERO_POINT - 2.5 * np.log10(flux[bright]))
    assert bright.sum() >= 12
    assert np.sqrt(np.mean(wrong**2)) < 0.02
    assert np.median(distance[bright]) < 0.03  # arcseconds


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("kind", ["psf", "model"])
def test_forced_fluxes_of_stars_are_unbiased_within_their_errors(job: Path, name: str, kind: str) -> None:
    rows, flux, _ = stars(job, name)
    seen = flux > 10 * rows["psf_flux_sigma"]
    pulls = ((rows[f"{kind}_flux"] - flux) / rows[f"{kind}_flux_sigma"])[seen]
    assert abs(np.mean(pulls)) < 3 * max(np.std(pulls), 1) / np.sqrt(len(pulls))
    assert 0.5 < np.std(pulls) < 2


def test_exposures_have_the_seeing_and_the_place_that_are_true(job: Path, ccds: dict[int, list[int]]) -> None:
    with (job.parent / "truth_visits.csv").open(encoding="utf-8") as stream:
        seeing = {int(row["visit"]): float(row["seeing"]) for row in csv.DictReader(stream)}
    with Repository(job / "out") as repository:
        for visit, numbers in ccds.items():
            for ccd in numbers:
                header = fits.getheader(repository.get_uri("calexp", visit=visit, ccd=ccd))
                # pixels widen stars a little
                assert seeing[visit] * 0.97 < header["SEEING"] * 0.168 < seeing[visit] * 1.07
                assert header["ASTSCAT"] < 0.08
                assert header["ZPERR"] < 0.01


def test_outputs_carry_the_run_in_their_names(job: Path) -> None:
    made = [path.name for path in (job / "out").rglob("*.fits")]
    assert len(made) == 16 + 16 + 8 + 2 + 4 + 1 + 2 + 1 + 2
    assert all("r11p95" in name for name in made)


def test_pictures_show_a_dark_sky_with_coloured_stars(job: Path) -> None:
    survey = job.parent
    for command in (
        [str(Path(sys.executable).with_name("dbb")), "harvest-repo", str(job), "--run", "Ht0_r11p95"],
        [sys.executable, str(EXAMPLE / "plots.py"), str(survey)],
    ):
        done = subprocess.run(command, cwd=survey, capture_output=True, text=True, check=False, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr
    picture = image.imread(survey / "coadd.png")[..., :3]
    assert np.median(picture) < 0.1
    assert np.quantile(picture.max(axis=2), 0.999) > 0.8
    assert np.ptp(picture, axis=2).max() > 0.3
    assert image.imread(survey / "magnitudes.png").std() > 0.05


@contextmanager
def unplugged(link: Path, *, dangling: bool = False) -> Iterator[None]:
    target = link.with_name(link.name + ".away")
    link.rename(target)
    if dangling:
        link.symlink_to("nowhere")
    try:
        yield
    finally:
        link.unlink(missing_ok=True)
        target.rename(link)


CCD = ("processCcd.py", ["--id", "visit=903334", "ccd=16"])
LINKS = {
    "raw": ("in/STRIPE82L/2013-06-17/*/HSC-R/HSC-0903334-016.fits", *CCD),
    "bias": ("in/CALIB/BIAS/*/NONE/BIAS-*-016.fits", *CCD),
    "dark": ("in/CALIB/DARK/*/NONE/DARK-*-016.fits", *CCD),
    "flat": ("in/CALIB/FLAT/*/HSC-R/FLAT-*-016.fits", *CCD),
    "calibrations": ("in/CALIB/calibRegistry.sqlite3", *CCD),
    "stars": ("in/ref_cats/simstars", *CCD),
    "schema": ("in/schema/src.fits", *CCD),
    "skymap": ("in/deepCoadd/skyMap.pickle", "assembleCoadd.py", patch_id("HSC-R") + selected(FILTERS["HSC-R"])),
    "calexp": (
        "out/r11/Ht0/p95/corr/CORR-0903334-016-*.fits",
        "makeCoaddTempExp.py",
        [*patch_id("HSC-R"), *selected([903334], {903334: [16]})],
    ),
    "warp": (
        "out/r11/Ht0/p95/coadd/warp-HSC-R-*-903342-*.fits",
        "assembleCoadd.py",
        patch_id("HSC-R") + selected(FILTERS["HSC-R"]),
    ),
    "coadd": ("out/r11/Ht0/p95/coadd/deepCoadd-HSC-R-*.fits", "detectCoaddSources.py", patch_id("HSC-R")),
    "detections": ("out/r11/Ht0/p95/*/det-HSC-I-*.fits", "mergeCoaddDetections.py", patch_id("HSC-R^HSC-I")),
    "merged": ("out/r11/Ht0/p95/*/mergeDet-*.fits", "measureCoaddSources.py", patch_id("HSC-R")),
    "measured": ("out/r11/Ht0/p95/*/meas-HSC-I-*.fits", "mergeCoaddMeasurements.py", patch_id("HSC-R^HSC-I")),
    "reference": ("out/r11/Ht0/p95/*/ref-*.fits", "forcedPhotCoadd.py", patch_id("HSC-I")),
}


@pytest.mark.parametrize("dangling", [False, True], ids=["absent", "dangling"])
@pytest.mark.parametrize("name", LINKS)
def test_a_step_fails_without_what_it_reads(job: Path, name: str, dangling: bool) -> None:
    pattern, program, arguments = LINKS[name]
    (link,) = job.glob(pattern)
    with unplugged(link, dangling=dangling):
        done = step(job, program, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("FATAL: failed on ")
    assert "Traceback" not in done.stderr


def test_a_file_that_is_cut_short_is_named(job: Path) -> None:
    (link,) = job.glob(LINKS["coadd"][0])
    whole = link.read_bytes()
    with unplugged(link):
        link.write_bytes(whole[: len(whole) // 3])
        done = step(job, "detectCoaddSources.py", *patch_id("HSC-R"))
    assert done.returncode == 1
    assert link.name in done.stderr
    assert "Traceback" not in done.stderr


def test_the_schema_of_another_catalogue_is_refused(job: Path) -> None:
    link = job / "in/schema/src.fits"
    with unplugged(link):
        link.symlink_to(job.parent / "schemas/deepCoadd_det_Vv1.fits")
        done = step(job, *CCD[:1], *CCD[1])
    assert done.returncode == 1
    assert "is not the schema of src" in done.stderr


def test_a_patch_may_be_spelled_with_a_comma(job: Path) -> None:
    with Repository(job / "out") as repository:
        path = Path(repository.get_uri("deepCoadd_forced_src", tract=0, patch=PATCH, filter="HSC-R"))
    before = path.read_bytes()
    done = step(job, "forcedPhotCoadd.py", "--id", "tract=0", "patch=8,7", "filter=HSC-R", "--clobber-config")
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("program", "arguments", "reason"),
    [
        ("processCcd.py", [], "give --id"),
        ("processCcd.py", ["--id", "visit"], "expected key=value"),
        ("processCcd.py", ["--id", "visit=1", "ccd=2"], "exactly one must"),
        ("processCcd.py", [*CCD[1], "-c", "isr.doFlats=False"], "there is no setting 'isr.doFlats'"),
        ("processCcd.py", [*CCD[1], "-c", "isr.doFlat=perhaps"], "must be a bool"),
        ("makeCoaddTempExp.py", patch_id("HSC-R"), "give --selectId"),
        ("makeCoaddTempExp.py", [*patch_id("HSC-R"), "-c", "doApplyUberCal=True"], "joint calibration"),
        ("assembleCoadd.py", ["--id", "tract=0", "patch=8x9", "filter=HSC-R", *selected([903334])], "unknown patch"),
        ("assembleCoadd.py", ["--id", "tract=5", "patch=8x7", "filter=HSC-R", *selected([903334])], "unknown tract"),
        ("detectCoaddSources.py", ["--id", "tract=0", "filter=HSC-R"], "patch"),
    ],
)
def test_what_cannot_be_done_is_said_without_a_traceback(
    job: Path, program: str, arguments: Sequence[str], reason: str
) -> None:
    done = step(job, program, *arguments)
    assert done.returncode == 1
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_a_schema_is_named_after_a_catalogue_and_a_version(tmp_path: Path) -> None:
    done = run("makeSchema.py", "sources.fits", cwd=tmp_path)
    assert done.returncode == 1
    assert "TYPE_VVERSION.fits" in done.stderr
    assert list(tmp_path.iterdir()) == []
