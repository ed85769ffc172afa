"""The commands do together what an operator needs, from an empty folder to a job's repository."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from demo_survey import CALIBS, OVERLAPS, RUN_A, Demo, links, make_demo, tree

from dbb_cli.main import run

DBB = Path(sys.executable).parent / "dbb"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return make_demo(tmp_path_factory)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DBB_REGISTRY", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def url(demo: Demo, tmp_path: Path) -> str:
    return demo.copy(tmp_path / "db")


def content(url: str) -> list[str]:
    """Return everything that a registry holds."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        return list(connection.iterdump())


def write_table(path: Path, rows: list[dict[str, object]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """Run a writing command: stdout stays empty; return what it says."""
    assert run(list(arguments)) == code
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_from_nothing_to_a_repository_with_commands_alone(
    demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url, tables = f"sqlite:///{tmp_path}/new/survey.db", demo.folder
    assert said(capsys, "create", url, "--mapper", "hsc") == f"{url}: created\n"
    monkeypatch.setenv("DBB_REGISTRY", url)
    assert said(capsys, "archive", "add", "home", f"file://{demo.archive}") == "archive home added\n"
    assert said(capsys, "archive", "add", "home", str(demo.archive)) == "archive home is known already\n"
    raws = said(capsys, "ingest-files", "--filetype", "raw", "--archive", "home", f"{demo.archive}/raw/*.fits")
    assert raws.splitlines()[-1] == "33 added, 0 known, 0 refused"
    for name, count in (("calexps", 38), ("coadds", 42), ("files", 1)):
        err = said(capsys, "ingest-table", f"{tables}/{name}.csv", "--archive", "home")
        assert err == f"{count} added, 0 known, 0 refused\n"
    calibs = demo.rows("calibs")
    plain = [{key: value for key, value in row.items() if not key.startswith("valid")} for row in calibs]
    said(capsys, "ingest-table", write_table(tmp_path / "calibs.csv", plain), "--archive", "home")
    for name in ("bias", "dark", "flat"):
        dated = write_table(tmp_path / f"{name}.csv", [row for row in calibs if row["filetype"] == name])
        err = said(capsys, "certify-calibrations", dated, "--version", CALIBS, "--filetype", name)
        assert err == f"{name}: {32 if name == 'flat' else 16} certified, 0 known\n"
    err = said(capsys, "overlaps", "load", "--version", OVERLAPS, f"{tables}/overlaps.csv")
    assert err == f"{OVERLAPS}: {len(demo.rows('overlaps'))} rows added\n"
    assert "2 of 2 runs are newly tagged PROTO-0.1" in said(capsys, "tag", "PROTO-0.1", RUN_A, "Ht0_r11p95")
    err = said(
        capsys, "materialize-repo", "JOB", "--mapper", "hsc", "--dataset", "raw", "--dataset", "calexp",
        "--where", "tract = 0 AND patch = '8,6'", "--runs", "tag:PROTO-0.1", "--calibs", CALIBS,
        "--skymap", "skyMap-1.pickle", "--output-run", "Ht0_r20p01", "--outputs", "src,deepCoadd_tempExp",
    )  # fmt: skip
    assert err.startswith(f"tract and patch from overlap version ci_hsc (table)\n{tmp_path}/JOB holds 32 inputs, ")
    assert "1 fixed files and 16 exposures" in err
    assert "in/deepCoadd/skyMap.pickle" in tree(Path("JOB"))


def test_lists_may_be_given_at_once_or_one_by_one(
    demo: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--mapper", "hsc", "--registry", demo.url, "--id", "visit=903334"]
    said(capsys, "materialize-repo", "A", *common, "--dataset", "raw,calexp", "--runs", "r12p01,r11p95")
    said(
        capsys,
        "materialize-repo",
        "B",
        *common,
        "--dataset",
        "raw",
        "--dataset",
        "calexp",
        "--runs",
        "r12p01",
        "--runs",
        "r11p95",
    )
    assert links(tmp_path / "A/in") == links(tmp_path / "B/in")
    assert len(links(tmp_path / "A/in")) == 8


def test_a_job_file_does_what_the_options_do(demo: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "job.toml").write_text(
        'mapper = "hsc"\nera = "2017"\nstage = "relsymlink"\n[[inputs]]\ndataset = "raw"\nid = "visit=903334"\n'
        f'[calibs]\nversion = "{CALIBS}"\n[outputs]\nrun = "Ht0_r20p01"\ndatasets = "src"\n',
        encoding="utf-8",
    )
    said(capsys, "materialize-repo", "A", "--spec", "job.toml", "--registry", demo.url)
    said(
        capsys, "materialize-repo", "B", "--registry", demo.url, "--mapper", "hsc", "--era", "2017",
        "--stage", "relsymlink", "--dataset", "raw", "--id", "visit=903334", "--calibs", CALIBS,
        "--output-run", "Ht0_r20p01", "--outputs", "src",
    )  # fmt: skip
    found = [{path: what for path, what in tree(tmp_path / job).items() if path != "manifest.json"} for job in "AB"]
    assert found[0] == found[1]


# Which registry


def archives_of(capsys: pytest.CaptureFixture[str], *before: str, after: tuple[str, ...] = ()) -> list[str]:
    assert run([*before, "archive", "list", "--format", "json", *after]) == 0
    return [row["name"] for row in json.loads(capsys.readouterr().out)]


@pytest.fixture
def four(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Registries that can be told apart by the archive that each has."""
    made = {}
    for name in ("command", "group", "variable", "file"):
        made[name] = f"sqlite:///{tmp_path}/{name}.db"
        said(capsys, "create", made[name])
        said(capsys, "archive", "add", name, f"/data/{name}", "--registry", made[name])
    return made


def test_the_nearest_name_of_a_registry_counts(
    four: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dbb.toml").write_text('registry = "sqlite:///file.db"\n', encoding="utf-8")
    (tmp_path / "deep/er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep/er")
    assert archives_of(capsys) == ["file"]
    monkeypatch.setenv("DBB_REGISTRY", four["variable"])
    assert archives_of(capsys) == ["variable"]
    assert archives_of(capsys, "--registry", four["group"]) == ["group"]
    after = ("--registry", four["command"])
    assert archives_of(capsys, "--registry", four["group"], after=after) == ["command"]


def test_a_registry_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/r.db"
    said(capsys, "create", url, "--mapper", "hsc")
    before = content(url)
    assert "holds a registry already" in said(capsys, "create", url, code=4)
    assert content(url) == before


# Dry runs


def dry_runs(demo: Demo, tmp_path: Path) -> dict[str, tuple[list[str], str]]:
    """Return by name a command that would change something, and what its dry run says."""
    new = {"relpath": "x/new.fits", "filesize": 1, "visit": 1, "ccd": 2, "filter": "HSC-R"}
    table = write_table(tmp_path / "new.csv", [new])
    bias = next(row["relpath"] for row in demo.rows("calibs") if row["filetype"] == "bias")
    dates = write_table(tmp_path / "d.csv", [{"relpath": bias, "validStart": "2010-01-01", "validEnd": "2010-01-02"}])
    pairs = write_table(tmp_path / "o.csv", [{"tract": 5, "patch": "1,1", "visit": 1, "ccd": 1}])
    visits = write_table(tmp_path / "v.csv", [{"visit": 903334}])
    extra = demo.archive / "skymap/skyMap-1.pickle"
    types = tmp_path / "t.toml"
    types.write_text('[filetypes.my_catalog]\nkeys = ["visit"]\ncolumns = { visit = "int" }\n', encoding="utf-8")
    calexp = ["--filetype", "calexp", "--archive", "home", "--run", "Ht0_r77p01"]
    mask = [f"--set={value}" for value in ("tract=0", "patch=1,1", "filter=HSC-R")]
    job = ["JOB", "--mapper", "hsc", "--dataset", "raw"]
    return {
        "archive add": (["archive", "add", "more", "/data/more"], "archive more would be added"),
        "ingest-table": (["ingest-table", table, *calexp], "1 would be added"),
        "ingest-files": (
            ["ingest-files", str(extra), "--filetype", "brightobjectmask", "--archive", "home", *mask],
            "registered as filetype deepcoadd_skymap",
        ),
        "certify-calibrations": (
            ["certify-calibrations", dates, "--version", "new", "--filetype", "bias"],
            "1 would be certified",
        ),
        "overlaps load": (["overlaps", "load", pairs, "--version", "new"], "1 rows would be added"),
        "tag": (["tag", "new", RUN_A], "1 of 1 runs would be newly tagged new"),
        "visits tag": (["visits", "tag", "deep", visits], "1 visits would be tagged deep"),
        "visits blacklist": (
            ["visits", "blacklist", "--reason", "SEEING", visits],
            "1 exposures would be put on the blacklist",
        ),
        "register-filetypes": (["register-filetypes", str(types)], "would be registered: my_catalog"),
        "migrate": (["migrate"], "the schema is"),
        "materialize-repo": (["materialize-repo", *job], "would hold 33 inputs"),
    }


WRITING = [
    "archive add", "ingest-table", "ingest-files", "certify-calibrations", "overlaps load", "tag", "visits tag",
    "visits blacklist", "register-filetypes", "migrate", "materialize-repo",
]  # fmt: skip


@pytest.mark.parametrize("name", WRITING)
def test_a_dry_run_changes_nothing(
    demo: Demo, url: str, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, words = dry_runs(demo, tmp_path)[name]
    before = content(url)
    code = 4 if name == "ingest-files" else 0  # the file is known as something else, which a dry run tells
    assert words in said(capsys, *arguments, "--registry", url, "--dry-run", code=code)
    assert content(url) == before
    assert not Path("JOB").exists()


@pytest.mark.parametrize(
    "name", [name for name in WRITING if name not in {"migrate", "ingest-files", "materialize-repo"}]
)
def test_without_dry_run_the_same_command_changes_something(
    demo: Demo, url: str, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, _ = dry_runs(demo, tmp_path)[name]
    before = content(url)
    assert "would" not in said(capsys, *arguments, "--registry", url)
    assert content(url) != before


def test_a_dry_run_of_create_makes_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/a/r.db"
    assert said(capsys, "create", url, "--mapper", "hsc", "--dry-run") == f"{url}: would be created\n"
    assert list(tmp_path.iterdir()) == []
    assert "unknown mapper 'hcs'; known: hsc" in said(capsys, "create", url, "--mapper", "hcs", "--dry-run", code=5)


def test_the_validity_of_a_gen2_registry_can_be_taken_over(
    demo: Demo, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gen2 = tmp_path / "calibRegistry.sqlite3"
    with closing(sqlite3.connect(gen2)) as registry, registry:
        registry.execute("CREATE TABLE flat (id integer primary key, filter, ccd int, calibDate, validStart, validEnd)")
        registry.execute("INSERT INTO flat VALUES (1, 'HSC-R', 16, '2013-06-17', '2012-12-19', '2013-12-14')")
    arguments = ["certify-calibrations", "--from-registry", str(gen2), "--version", "gen2", "--archive", "home"]
    assert "flat: 1 would be certified, 0 known" in said(capsys, *arguments, "--registry", url, "--dry-run")
    assert "flat: 1 certified, 0 known" in said(capsys, *arguments, "--registry", url)
    assert "flat: 0 certified, 1 known" in said(capsys, *arguments, "--registry", url)


def test_the_blacklist_and_visit_tags_can_be_used_in_conditions(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_table(tmp_path / "good.csv", [{"visit": 903334}, {"visit": 903336}])
    bad = write_table(tmp_path / "bad.csv", [{"visit": 903336}])
    said(capsys, "visits", "tag", "deep", good, "--registry", url)
    said(capsys, "visits", "blacklist", "--reason", "SEEING", bad, "--registry", url)
    where = "visit_tag = 'deep' AND blacklist IS NULL"
    assert (
        run(["query-files", "raw", "--where", where, "--columns", "visit", "--format", "csv", "--registry", url]) == 0
    )
    assert set(capsys.readouterr().out.split()) == {"visit", "903334"}


def test_real_processes_do_it_too(demo: Demo, tmp_path: Path) -> None:
    environment = os.environ | {"DBB_REGISTRY": f"sqlite:///{tmp_path}/r.db"}

    def dbb(*arguments: str) -> str:
        done = subprocess.run([DBB, *arguments], capture_output=True, text=True, check=True, env=environment)
        assert done.stdout == ""
        return done.stderr

    dbb("create", environment["DBB_REGISTRY"], "--mapper", "hsc")
    dbb("archive", "add", "home", str(demo.archive))
    dbb("ingest-table", str(demo.folder / "coadds.csv"), "--archive", "home")
    assert "holds 8 inputs" in dbb("materialize-repo", "JOB", "--mapper", "hsc", "--dataset", "deepCoadd_calexp")
    assert "holds 8 inputs" in dbb("materialize-repo", "JOB2", "--from", "JOB/manifest.json")
    assert tree(tmp_path / "JOB") == tree(tmp_path / "JOB2")
