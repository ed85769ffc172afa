"""The second camera, DECam, against the real Gen2 stacks: its policy, and a job that the real Butler reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from demo_survey import select, sha256
from live_mapper import ask_mapper, run_client

from dbb import Registry
from dbb.butler import CalibSpec, InputSpec, OutputSpec, Repository, RepoSpec, materialize_repo
from dbb.errors import MissingError, UsageError
from dbb.ingest import certify_table
from dbb.mapper import ERAS, Dataset
from dbb.plugins import plugins

PACKAGE = "obs_decam"
DECAM = plugins().mapper("decam")
FIELDS = ("section", "template", "python", "persistable", "storage")
CLIENT = "import client; sys.exit(client.main(sys.argv[2:]))"


@pytest.fixture(scope="module", params=ERAS)
def era(request: pytest.FixtureRequest, gen2_src: Path) -> str:
    if not (gen2_src / request.param / f"lsst+{PACKAGE}").is_dir():
        pytest.skip(f"{gen2_src} has no lsst+{PACKAGE}: the sources of DECam's mapper")
    return str(request.param)


@pytest.fixture(scope="module")
def real(era: str, gen2_src: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("repository")
    return ask_mapper(PACKAGE, shared, gen2_src / era, root, DECAM.butler_class)


def ours(era: str) -> list[Dataset]:
    return [dataset for dataset in DECAM.datasets if dataset.era == era]


def test_the_real_mapper_has_our_dataset_types_exactly_so(real: dict[str, Any], era: str) -> None:
    said = {d.name: {f: getattr(d, f) for f in FIELDS} | {"tables": list(d.tables)} for d in ours(era)}
    assert len(said) > 70
    theirs = {name: {k: v for k, v in real[name].items() if k != "keys"} for name in said if name in real}
    assert said == theirs


def test_no_dataset_type_of_ours_is_left_out_of_an_era_that_has_it(real: dict[str, Any], era: str) -> None:
    outside = {"defects"} if era == "2017" else set()  # they lie in the package of that stack, not in a repository
    named = {dataset.name for dataset in DECAM.datasets}
    assert (named & real.keys()) - outside == {dataset.name for dataset in ours(era)}


def test_the_real_mapper_asks_for_no_key_that_we_lack(real: dict[str, Any], era: str) -> None:
    for dataset in ours(era):
        exposure = set(DECAM.raw_columns) if "raw" in dataset.tables else set()
        assert set(real[dataset.name]["keys"]) <= set(dataset.keys) | exposure, dataset.name


VISIT, CCDS = 229388, {1: 3, 5: 1, 62: 2}  # which HDU holds which CCD differs from file to file


def make_raw(path: Path) -> None:
    """Write a file as the camera does: a header for the whole, then the CCDs in no order, and one for guiding."""
    path.parent.mkdir(parents=True)
    primary = fits.Header([("EXPNUM", VISIT), ("DATE-OBS", "2013-09-01T06:05:10.753848"), ("EXPTIME", 200.0)])
    primary.extend([("FILTER", "z DECam SDSS c0004 9260.0 1520.0"), ("PROPID", "2013A-0351"), ("OBJECT", "DES ring")])
    ccds = [*sorted(CCDS, key=CCDS.__getitem__), 63]
    images = [fits.ImageHDU(np.full((2, 2), ccd, np.int16), fits.Header([("CCDNUM", ccd)])) for ccd in ccds]
    fits.HDUList([fits.PrimaryHDU(header=primary), *images]).writeto(path)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("survey")
    archive = folder / "archive"
    make_raw(archive / "raw/DECam_00229388.fits")
    rows: list[dict[str, object]] = []
    for ccd in CCDS:
        rows.append(
            {"filetype": "calexp", "relpath": f"c/{ccd}.fits", "run": "Y1_r2p01", "visit": VISIT, "ccdnum": ccd}
        )
        rows += [
            {"filetype": name, "relpath": f"{name}/{day}/{ccd}.fits", "calibDate": day, "ccdnum": ccd, "filter": band}
            for name, band in (("bias", "NONE"), ("flat", "z"))
            for day in ("2013-08-01", "2013-09-01")
        ]
    for row in rows:
        path = archive / str(row["relpath"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(row), encoding="utf-8")
        row["filesize"] = path.stat().st_size
    registry = Registry.create(f"sqlite:///{folder}/survey.db", mapper="decam")
    registry.add_archive("home", str(archive))
    done = registry.ingest_files(["raw/*.fits"], filetype="decam_raw", archive="home", transfer="direct")
    assert (done.added, done.refused) == (1, ())
    assert registry.ingest_table([r for r in rows if "run" in r], archive="home").added == len(CCDS)
    assert registry.ingest_table([r for r in rows if "run" not in r], archive="home").added == 4 * len(CCDS)
    days = {"2013-08-01": "2013-08-31", "2013-09-01": "2013-09-30"}
    for name in ("bias", "flat"):
        given = [
            {"relpath": f"{name}/{day}/{ccd}.fits", "validStart": day, "validEnd": end}
            for day, end in days.items()
            for ccd in CCDS
        ]
        certify_table(registry, given, version="Y1", filetype=name, archive="home")
    return registry


@pytest.fixture
def job(registry: Registry, tmp_path: Path) -> Path:
    inputs = (InputSpec("raw"), InputSpec("calexp", runs=("Y1_r2p01",)))
    spec = RepoSpec("decam", inputs, calibs=CalibSpec("Y1"), outputs=OutputSpec("Y1_r3p01", ("calexp", "src")))
    materialize_repo(registry, tmp_path / "JOB", spec)
    return tmp_path / "JOB"


@pytest.fixture
def ask(shared: Path, gen2_src: Path, era: str, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    def asked(job: Path, queries: list[dict[str, Any]], *more: str) -> list[dict[str, Any]]:
        """Put questions to the real Butler; return the answers that are not as expected."""
        path = tmp_path / "queries.json"
        path.write_text(json.dumps(queries), encoding="utf-8")
        client = shared / "gen2_client"
        answer = json.loads(
            run_client(PACKAGE, CLIENT, client, "--src", gen2_src / era, "--repo", job / "in", *more, path)
        )
        assert "error" not in answer, answer["error"]
        assert (answer["era"], len(answer["results"])) == (era, len(queries))
        return [one for one in answer["results"] if not one["ok"]]

    return asked


def expected(job: Path) -> list[dict[str, Any]]:
    archive = job.parent  # sources are absolute
    manifest = json.loads((job / "manifest.json").read_text(encoding="utf-8"))
    digests = {one["path"]: sha256(archive / one["source"].removeprefix("file://")) for one in manifest["inputs"]}
    (raw,) = (digest for path, digest in digests.items() if "/decam" in path)
    queries = [{"datasetType": "raw", "dataId": {"visit": VISIT, "ccdnum": ccd}, "expect": raw} for ccd in CCDS]
    for entry in [*manifest["inputs"], *manifest["calibs"]]:
        if entry["dataset"] != "raw":
            data_id = {"visit": VISIT, "ccdnum": entry["data_id"]["ccdnum"]}
            digest = sha256(Path(entry["source"].removeprefix("file://")))
            queries.append({"datasetType": entry["dataset"], "dataId": data_id, "expect": digest})
    return queries


def test_the_real_butler_reads_every_input_and_calibration(job: Path, ask: Callable[..., list[Any]]) -> None:
    queries = expected(job)
    assert [query["datasetType"] for query in queries] == [
        name for name in ("raw", "calexp", "bias", "flat") for _ in CCDS
    ]
    assert ask(job, queries) == []
    assert ask(job, queries, "--output", str(job / "out")) == []


def test_the_real_butler_opens_the_hdu_of_each_ccd(job: Path, ask: Callable[..., list[Any]]) -> None:
    place = f"2013-09-01/z/decam{VISIT:07d}.fits.fz"
    queries = [
        {"datasetType": "raw", "dataId": {"visit": VISIT, "ccdnum": ccd}, "write": True, "expect": f"{place}[{hdu}]"}
        for ccd, hdu in CCDS.items()
    ]
    assert ask(job, queries) == []


def test_the_real_butler_writes_the_names_of_the_run(job: Path, ask: Callable[..., list[Any]]) -> None:
    path = f"../out/r3/Y1/p01/output/SRC-{VISIT:07d}-05-r3p01.fits"
    query = {"datasetType": "src", "dataId": {"visit": VISIT, "ccdnum": 5}, "write": True, "expect": path}
    assert ask(job, [query], "--output", str(job / "out")) == []


def test_the_real_registry_lists_the_ccds_of_the_file(job: Path, ask: Callable[..., list[Any]]) -> None:
    rows = [[ccd, ccd, hdu, "2013-09-01", "z"] for ccd, hdu in CCDS.items()]
    wanted = ["ccdnum", "ccd", "hdu", "date", "filter"]
    assert ask(job, [{"queryMetadata": ["raw", wanted, {"visit": VISIT}], "expect": rows}]) == []


def test_a_job_of_calexps_alone_knows_the_hdus_of_the_raws(registry: Registry, tmp_path: Path) -> None:
    spec = RepoSpec("decam", (InputSpec("calexp", where="ccd = 5"),))
    materialize_repo(registry, tmp_path / "JOB", spec)
    assert select(tmp_path / "JOB/in/registry.sqlite3", "SELECT visit, ccdnum, ccd, hdu FROM raw") == [(VISIT, 5, 5, 1)]


@pytest.mark.parametrize(
    ("ccds", "error", "words"),
    [
        (None, MissingError, "does not say which detectors it has"),
        ("63:1", MissingError, "does not say which detectors it has"),
        ("1:1 2", UsageError, "does not say which HDU holds which detector"),
        ("N4:1", UsageError, "does not say which HDU holds which detector"),
    ],
)
def test_a_raw_that_does_not_say_its_ccds_is_named(
    ccds: str | None, error: type[Exception], words: str, tmp_path: Path
) -> None:
    (tmp_path / "a.fits").write_text("raw", encoding="utf-8")
    with Registry.create("sqlite://", mapper="decam") as registry:
        registry.add_archive("home", str(tmp_path))
        row = {"relpath": "a.fits", "filesize": 3, "visit": 7, "date": "2013-09-01", "filter": "z", "ccds": ccds}
        registry.ingest_table([row], filetype="decam_raw", archive="home")
        with pytest.raises(error, match=words):
            materialize_repo(registry, tmp_path / "JOB", RepoSpec("decam", (InputSpec("raw"),)))
    assert not (tmp_path / "JOB").exists()


def test_our_reader_finds_what_the_butler_finds(job: Path) -> None:
    with Repository(job / "out", DECAM) as repository:
        assert repository.get_uri("raw", visit=VISIT, ccd=62).endswith(f"2013-09-01/z/decam{VISIT:07d}.fits.fz")
        assert repository.get_uri("flat", visit=VISIT, ccdnum=1).endswith("FLAT/2013-09-01/z/FLAT-2013-09-01-01.fits")
        assert repository.query_metadata("raw", "hdu", visit=VISIT, ccdnum=5) == [(1,)]


def test_a_manifest_alone_gives_the_same_repository(job: Path, tmp_path: Path) -> None:
    from dbb.butler.rebuild import materialize_manifest

    materialize_manifest(tmp_path / "AGAIN", job / "manifest.json")
    for name in ("in/registry.sqlite3", "in/calibRegistry.sqlite3"):
        assert (tmp_path / "AGAIN" / name).read_bytes() == (job / name).read_bytes()


def test_raws_of_several_ccds_are_found_by_tract_and_patch(registry: Registry) -> None:
    registry.load_overlaps([{"tract": 0, "patch": "1,1", "visit": VISIT, "ccd": 5}], version="one")
    assert len(registry.query("raw", where="tract = 0 AND patch = '1,1'")) == 1
    assert [one["ccdnum"] for one in registry.query("calexp", where="tract = 0 AND patch = '1x1'")] == [5]
    assert registry.query("raw", where="tract = 1") == []
