"""The real Gen2 Butler of 2017 and of 2021 reads what dbb made, and finds the right bytes."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from demo_survey import CALIBS, FULL, OVERLAPS, RUN_A, RUN_B, Demo, Survey, make_demo, raw_values, select, sha256

from dbb import Registry
from dbb.butler import CalibSpec, InputSpec, OutputSpec, RepoSpec, materialize_repo

ERAS = ("2017", "2021")
Query = dict[str, Any]
Manifest = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return make_demo(tmp_path_factory)


@pytest.fixture(scope="module")
def client(shared: Path) -> Path:
    return shared / "gen2_client" / "client.py"


def ask(
    client: Path, gen2_src: Path, era: str, job: Path, queries: list[Query], *, output: bool = False
) -> list[Query]:
    """Put questions to the Butler of an era; return the answers that are not as expected."""
    path = job.parent / f"queries-{era}-{output}.json"
    path.write_text(json.dumps(queries), encoding="utf-8")
    where = ["--src", str(gen2_src / era), "--repo", str(job / "in")]
    where += ["--output", str(job / "out")] if output else []
    done = subprocess.run(
        [sys.executable, "-B", client, *where, path], capture_output=True, text=True, check=False, env=environment()
    )
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)
    assert "error" not in answer, answer["error"]
    assert answer["era"] == era
    assert answer["repo"]["commandLine"] is True
    assert len(answer["results"]) == len(queries)
    wrong: list[Query] = [result for result in answer["results"] if not result.get("ok", True)]
    assert (done.returncode == 0) == (not wrong)
    return wrong if any("expect" in query for query in queries) else answer["results"]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def manifest_of(job: Path) -> Manifest:
    loaded: Manifest = json.loads((job / "manifest.json").read_text(encoding="utf-8"))
    return loaded


def bytes_of(entry: dict[str, Any]) -> str:
    return sha256(Path(entry["source"].removeprefix("file://")))


def reads(manifest: Manifest) -> list[Query]:
    """Ask for every input by its data id, as rows of the archive have it."""
    return [
        {"datasetType": entry["dataset"], "dataId": entry["data_id"], "expect": bytes_of(entry)}
        for entry in manifest["inputs"]
    ]


def calib_reads(manifest: Manifest, types: tuple[str, ...] = ("bias", "dark", "flat")) -> list[Query]:
    """Ask for the calibrations of every exposure; which must come is decided here by the rows."""
    queries = []
    for exposure in manifest["exposures"]:
        for name in types:
            (entry,) = (
                entry
                for entry in manifest["calibs"]
                if entry["dataset"] == name
                and entry["data_id"]["ccd"] == exposure["ccd"]
                and entry["data_id"].get("filter", exposure["filter"]) == exposure["filter"]
                and entry["valid_start"] <= exposure["taiObs"] <= entry["valid_end"]
            )
            data_id = {"visit": exposure["visit"], "ccd": exposure["ccd"]}
            queries.append({"datasetType": name, "dataId": data_id, "expect": bytes_of(entry)})
    return queries


def job_of(demo: Demo, folder: Path, spec: RepoSpec) -> Path:
    with Registry(demo.url) as registry:
        materialize_repo(registry, folder / "JOB", spec)
    return folder / "JOB"


@pytest.fixture(scope="module", params=["both", "own era"])
def full(request: pytest.FixtureRequest, demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By era the repository of everything, once made for both and once for each."""
    from dataclasses import replace

    folder = tmp_path_factory.mktemp("full")
    if request.param == "both":
        return dict.fromkeys(ERAS, job_of(demo, folder, FULL))
    return {era: job_of(demo, folder / era, replace(FULL, era=era)) for era in ERAS}


@pytest.mark.parametrize("era", ERAS)
def test_every_dataset_gives_the_bytes_of_its_file(
    client: Path, gen2_src: Path, full: dict[str, Path], era: str
) -> None:
    job = full[era]
    manifest = manifest_of(job)
    known = {"deepCoadd_tempExp"} if era == "2021" else {"deepCoadd_directWarp"}
    queries = [query for query in reads(manifest) if query["datasetType"] not in known]
    queries += calib_reads(manifest)
    queries.append({"datasetType": "deepCoadd_skyMap", "dataId": {}, "expect": bytes_of(manifest["files"][0])})
    assert {query["datasetType"] for query in queries} >= {"raw", "calexp", "deepCoadd_calexp", "bias", "dark", "flat"}
    assert ask(client, gen2_src, era, job, queries) == []
    assert ask(client, gen2_src, era, job, queries, output=True) == []


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("runs", [(RUN_A, RUN_B), (RUN_B, RUN_A)])
def test_of_two_runs_the_first_one_arrives(
    client: Path, gen2_src: Path, demo: Demo, tmp_path: Path, era: str, runs: tuple[str, str]
) -> None:
    job = job_of(demo, tmp_path, RepoSpec("hsc", (InputSpec("calexp", runs=runs),)))
    table = demo.rows("calexps")
    there = {(row["run"], int(row["visit"]), int(row["ccd"])): row["relpath"] for row in table}
    queries = []
    for visit, ccd in sorted({(visit, ccd) for _, visit, ccd in there}):
        relpath = next(there[run, visit, ccd] for run in runs if (run, visit, ccd) in there)
        digest = sha256(demo.archive / relpath)
        queries.append({"datasetType": "calexp", "dataId": {"visit": visit, "ccd": ccd}, "expect": digest})
    assert len(queries) == 33
    assert ask(client, gen2_src, era, job, queries) == []


@pytest.mark.parametrize("era", ERAS)
def test_coadds_with_file_safe_patches_are_found_with_the_butlers_ones(
    client: Path, gen2_src: Path, demo: Demo, tmp_path: Path, era: str
) -> None:
    job = job_of(demo, tmp_path, RepoSpec("hsc", (InputSpec("deepCoadd_calexp"), InputSpec("deepCoadd_tempExp"))))
    warp = "deepCoadd_tempExp" if era == "2017" else "deepCoadd_directWarp"
    queries = []
    for row in demo.rows("coadds"):
        data_id = {"tract": 0, "patch": row["patch"].replace("x", ","), "filter": row["filter"]}
        data_id |= {"visit": int(row["visit"])} if row["visit"] else {}
        name = warp if row["visit"] else "deepCoadd_calexp"
        queries.append({"datasetType": name, "dataId": data_id, "expect": sha256(demo.archive / row["relpath"])})
    assert ask(client, gen2_src, era, job, queries) == []


@pytest.mark.parametrize("era", ERAS)
def test_outputs_get_the_names_of_the_run(client: Path, gen2_src: Path, demo: Demo, tmp_path: Path, era: str) -> None:
    outputs = ("calexp", "src", "deepCoadd_calexp", "deepCoadd_tempExp")
    job = job_of(demo, tmp_path, RepoSpec("hsc", (InputSpec("raw"),), outputs=OutputSpec("Ht0_r20p01", outputs)))
    exposure, patch = {"visit": 903334, "ccd": 16}, {"tract": 0, "patch": "8,6", "filter": "HSC-R"}
    warp = "deepCoadd_tempExp" if era == "2017" else "deepCoadd_directWarp"
    top = "../out/r20/Ht0/p01"
    expected = [
        ("calexp", exposure, f"{top}/corr/CORR-0903334-016-r20p01.fits"),
        ("src", exposure, f"{top}/output/SRC-0903334-016-r20p01.fits"),
        ("deepCoadd_calexp", patch, f"{top}/coadd/calexp-HSC-R-0-8,6-r20p01.fits"),
        (warp, patch | {"visit": 903334}, f"{top}/coadd/warp-HSC-R-0-8,6-903334-r20p01.fits"),
        ("icSrc", exposure, "../out/00533/HSC-R/output/ICSRC-0903334-016.fits"),
    ]
    queries = [{"datasetType": n, "dataId": d, "write": True, "expect": path} for n, d, path in expected]
    assert ask(client, gen2_src, era, job, queries, output=True) == []


@pytest.mark.parametrize("era", ERAS)
def test_what_the_job_wrote_is_read_before_the_input_of_that_type(
    client: Path, gen2_src: Path, demo: Demo, tmp_path: Path, era: str
) -> None:
    inputs = (InputSpec("raw"), InputSpec("calexp", runs=(RUN_A, RUN_B)))
    job = job_of(demo, tmp_path, RepoSpec("hsc", inputs, outputs=OutputSpec("Ht0_r20p01", ("calexp",))))
    written = job / "out/r20/Ht0/p01/corr/CORR-0903334-016-r20p01.fits"
    written.parent.mkdir(parents=True)
    written.write_text("new", encoding="utf-8")
    other = next(e for e in manifest_of(job)["inputs"] if e["dataset"] == "calexp" and e["data_id"]["ccd"] == 22)
    queries = [
        {"datasetType": "calexp", "dataId": {"visit": 903334, "ccd": 16}, "expect": sha256(written)},
        {"datasetType": "calexp", "dataId": other["data_id"], "expect": bytes_of(other)},
    ]
    assert ask(client, gen2_src, era, job, queries, output=True) == []


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("output", [False, True])
def test_the_registry_answers_for_metadata_and_subsets(
    client: Path, gen2_src: Path, demo: Demo, tmp_path: Path, era: str, output: bool
) -> None:
    where = "tract = 0 AND patch = '8,6' AND filter = 'HSC-R'"
    spec = RepoSpec("hsc", (InputSpec("raw", where=where), InputSpec("calexp", runs=(RUN_A,))), overlaps=OVERLAPS)
    job = job_of(demo, tmp_path, spec)
    ccds = [ccd for visit, ccd in select(job / "in/registry.sqlite3", "SELECT visit, ccd FROM raw") if visit == 903334]
    assert sorted(ccds) == [16, 22, 23, 100]
    base = {"field": "STRIPE82L", "visit": 903334, "filter": "HSC-R", "pointing": 533, "dateObs": "2013-06-17"}
    rows = ask(client, gen2_src, era, job, [{"subset": ["calexp", "", {"visit": 903334}]}], output=output)[0]["rows"]
    assert sorted(row["ccd"] for row in rows) == sorted(ccds)
    assert all({key: value for key, value in base.items() if key in row} == without_ccd(row, base) for row in rows)
    queries = [
        {
            "queryMetadata": ["raw", ["field", "filter", "pointing", "dateObs"], {"visit": 903334, "ccd": 16}],
            "expect": [["STRIPE82L", "HSC-R", 533, "2013-06-17"]],
        },
        {"queryMetadata": ["raw", ["ccd"], {"visit": 903334}], "expect": ccds},
        {
            "queryMetadata": ["raw", ["expTime", "expId"], {"visit": 903334, "ccd": 16}],
            "expect": [[30.0, "HSCA90333400"]],
        },
        {"datasetType": "calexp", "dataId": {"visit": 904010, "ccd": 4}, "expect": {"error": "NoResults"}},
    ]
    wrong = ask(client, gen2_src, era, job, queries, output=output)
    assert wrong == []


def without_ccd(row: Query, like: Query) -> Query:
    return {key: value for key, value in row.items() if key in like}


@pytest.mark.parametrize("era", ERAS)
def test_compressed_inputs_are_found(client: Path, gen2_src: Path, tmp_path: Path, era: str) -> None:
    survey = Survey(tmp_path / "survey")
    for ccd, suffix in ((1, ".gz"), (2, ".fz"), (3, "")):
        survey.add_raw(903334, ccd, relpath=f"raw/{ccd}.fits{suffix}")
    materialize_repo(survey.registry, tmp_path / "JOB", RepoSpec("hsc", (InputSpec("raw"),)))
    assert ask(client, gen2_src, era, tmp_path / "JOB", reads(manifest_of(tmp_path / "JOB"))) == []


@pytest.mark.parametrize("era", ERAS)
def test_task_metadata_is_found_under_the_name_of_the_era(
    client: Path, gen2_src: Path, tmp_path: Path, era: str
) -> None:
    survey = Survey(tmp_path / "survey")
    survey.add_raw(903334, 16)
    survey.add("processccd_metadata", "md.txt", run=RUN_A, visit=903334, ccd=16)
    materialize_repo(survey.registry, tmp_path / "JOB", RepoSpec("hsc", (InputSpec("processCcd_metadata"),)))
    suffix = "boost" if era == "2017" else "yaml"
    path = f"../out/00533/HSC-R/processCcd_metadata/0903334-016.{suffix}"
    query = {
        "datasetType": "processCcd_metadata",
        "dataId": {"visit": 903334, "ccd": 16},
        "write": True,
        "expect": path,
    }
    assert ask(client, gen2_src, era, tmp_path / "JOB", [query], output=True) == []
    assert (tmp_path / "JOB/in" / path.removeprefix("../out/")).is_file()


# The real registry of calibrations


@pytest.fixture(scope="module")
def real(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One job whose calibRegistry dbb wrote from the rows of a real one, and a twin that has the real one itself."""
    registry = shared / "data/ci_hsc/calibRegistry.sqlite3"
    folder = tmp_path_factory.mktemp("real")
    survey = Survey(folder / "survey")
    types = {"bias": "NONE", "dark": "NONE", "flat": "", "sky": "", "defects": "None"}
    ccds = {row[0] for row in rows_of(registry, "SELECT DISTINCT ccd FROM bias")}
    rows = []
    for name in types:
        for band, ccd, date in rows_of(registry, f"SELECT filter, ccd, calibDate FROM {name}"):
            relpath = f"{name}/{band}/{ccd}/{date.replace(':', '')}.fits"
            rows.append((relpath, {"filetype": name, "filter": band, "ccd": ccd, "calibDate": date}))
            path = survey.roots["home"] / relpath
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(relpath, encoding="utf-8")
    listed = [{"relpath": relpath, "filesize": len(relpath)} | row for relpath, row in rows]
    assert survey.registry.ingest_table(listed, archive="home").added == len(rows) == 936
    from dbb.ingest import certify_registry

    done = certify_registry(survey.registry, registry, version=CALIBS, archive="home")
    assert sum(one.added for one in done.values()) == 936
    dates = {"HSC-R": ("2013-06-17", "2013-11-30", "2013-12-01"), "HSC-I": ("2013-06-01", "2013-11-02", "2013-07-01")}
    for number, (band, date) in enumerate((band, date) for band, dates in dates.items() for date in dates):
        for ccd in sorted(ccds):
            visit = 903334 + 2 * number
            survey.add_raw(visit, ccd, filter=band, dateObs=date, taiObs=date, pointing=500 + number)
    spec = RepoSpec("hsc", (InputSpec("raw"),), calibs=CalibSpec(CALIBS, tuple(types)))
    materialize_repo(survey.registry, folder / "ours/JOB", spec)
    shutil.copytree(folder / "ours/JOB", folder / "theirs/JOB", symlinks=True)
    target = folder / "theirs/JOB/in/CALIB/calibRegistry.sqlite3"
    target.unlink()
    shutil.copyfile(registry, target)
    return folder / "ours/JOB", folder / "theirs/JOB"


def rows_of(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        return connection.execute(statement).fetchall()


@pytest.mark.parametrize("era", ERAS)
def test_our_calibration_registry_answers_as_the_real_one(
    client: Path, gen2_src: Path, real: tuple[Path, Path], era: str
) -> None:
    types = ("bias", "dark", "flat") if era == "2017" else ("bias", "dark", "flat", "sky", "defects")
    exposures = manifest_of(real[0])["exposures"]
    assert len(exposures) == 96
    queries = [
        {"datasetType": name, "dataId": {"visit": row["visit"], "ccd": row["ccd"]}}
        for row in exposures
        for name in types
    ]
    ours, theirs = (
        [(one["path"], one["exists"], one.get("sha256")) for one in ask(client, gen2_src, era, job, queries)]
        for job in real
    )
    assert ours == theirs
    assert all(exists and digest for _, exists, digest in ours)


def test_our_rows_are_rows_of_the_real_registry(real: tuple[Path, Path]) -> None:
    columns = "ccd, calibDate, validStart, validEnd"
    for name in ("bias", "dark", "flat", "sky", "defects"):
        band = "filter, " if name in {"flat", "sky"} else ""
        ours, theirs = (
            set(select(job / "in/CALIB/calibRegistry.sqlite3", f"SELECT {band}{columns} FROM {name}")) for job in real
        )
        assert ours
        assert ours <= theirs


def test_raws_of_the_real_names_have_a_row_each(real: tuple[Path, Path]) -> None:
    row = manifest_of(real[0])["exposures"][0]
    assert set(row) == set(raw_values(1, 2))
