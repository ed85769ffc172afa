"""Files that no run made, beside files of one run, of two, or of thousands; sorting, and what a reader is shown."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from registries import execute, small_registry, statements

from dbb import Registry
from dbb.butler import CalibSpec, InputSpec, RepoSpec, materialize_repo
from dbb.errors import ConflictError, DbbError, NotFoundError
from dbb.registry import open_engine
from dbb.registry.create import create_registry


@pytest.fixture
def registry(registry_url: str) -> Iterator[Registry]:
    """One calexp that no run made, one of a run, and one data id that both have."""
    with small_registry(registry_url, "calexp", "hsc_raw", "bias", "fringe") as opened:
        opened.add_archive("home", "/data/home")
        opened.add_archive("away", "https://example.org/data")
        for name, run, visit in (
            ("none-1", None, 1),
            ("none-2", None, 2),
            ("run-2", "Ht0_r11p95", 2),
            ("run-3", "Ht0_r11p95", 3),
        ):
            rows = [{"relpath": f"{name}.fits", "visit": visit, "ccd": 16, "filesize": 10 - visit}]
            opened.ingest_table(rows, filetype="calexp", archive="home", run=run)
        opened.tag("PROTO-0.1", "Ht0_r11p95")
        yield opened


def names(registry: Registry, **question: object) -> list[str]:
    return [str(record.relpath).removesuffix(".fits") for record in registry.query("calexp", **question)]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("run IS NULL", ["none-1", "none-2"]),
        ("reqnum IS NULL", ["none-1", "none-2"]),
        ("tag IS NULL", ["none-1", "none-2"]),
        ("tag != 'PROTO-0.1'", ["none-1", "none-2"]),
        ("run != 'Ht0_r11p95'", ["none-1", "none-2"]),
        ("NOT run = 'r11p95'", ["none-1", "none-2"]),
        ("run IS NOT NULL", ["run-2", "run-3"]),
        ("NOT visit_tag = 'deep'", ["none-1", "none-2", "run-2", "run-3"]),
        ("archive = 'home' AND visit = 3", ["run-3"]),
        ("archive = 'away'", []),
        ("NOT archive = 'away' AND visit = 1", ["none-1"]),
    ],
)
def test_a_file_without_a_run_is_no_unknown(registry: Registry, where: str, found: list[str]) -> None:
    assert names(registry, where=where) == found


@pytest.mark.parametrize("runs", [["Ht0_r11p95"], ["Ht0_r11p95", "tag:PROTO-0.1"]])
def test_the_file_of_a_named_run_comes_before_one_without(registry: Registry, runs: list[str]) -> None:
    assert names(registry, runs=runs) == ["none-1", "run-2", "run-3"]


def test_a_tag_may_have_more_than_a_thousand_runs(registry: Registry) -> None:
    runs = [f"U{number}_r7p01" for number in range(1200)]
    rows = [{"relpath": f"u/{n}.fits", "visit": 1000 + n // 2, "ccd": n % 2, "run": run} for n, run in enumerate(runs)]
    registry.ingest_table(rows, filetype="calexp", archive="home")
    registry.tag("MANY", *runs)
    with statements(registry) as sent:
        found = registry.query("calexp", where="visit = 1500", runs=["tag:MANY"])
    assert [(record.run, record["ccd"]) for record in found] == [("U1000_r7p01", 0), ("U1001_r7p01", 1)]
    assert len([statement for statement in sent if "SELECT" in statement]) <= 6
    assert len(registry.query("calexp", runs=["tag:MANY"])) == 1200 + 2


def test_sorting_is_done_before_the_limit(registry: Registry) -> None:
    assert names(registry, order_by=["-visit"], limit=1) == ["run-3"]
    assert names(registry, order_by=["filesize", "relpath"]) == ["run-3", "none-2", "run-2", "none-1"]
    assert names(registry, order_by=["-run", "-visit"])[:2] == ["run-3", "run-2"]
    assert names(registry, order_by=["run", "visit"])[:2] == ["none-1", "none-2"]
    assert names(registry, order_by=["-visit"], runs=["r11p95"], limit=2) == ["run-3", "run-2"]


def test_a_column_to_sort_by_must_exist_even_where_nothing_fits(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match="unknown column 'nope'"):
        registry.query("calexp", where="visit = 99", order_by=["nope"])


def test_a_reader_sees_one_state_of_the_registry(registry: Registry) -> None:
    count = sa.text("select count(*) from desfile")
    with registry.read() as conn:
        before = conn.scalar(count)
        registry.ingest_table([{"relpath": "new.fits", "visit": 9, "ccd": 9}], filetype="calexp", archive="home")
        assert conn.scalar(count) == before
    with registry.read() as conn:
        assert conn.scalar(count) == before + 1


def test_types_that_do_not_apply_cost_one_statement_and_not_one_for_each_exposure(
    registry: Registry, tmp_path: Path
) -> None:
    for kind, filter_ in (("bias", "NONE"), ("fringe", "HSC-Y")):
        made = [
            {"relpath": f"{kind}-{n}.fits", "ccd": n, "filter": filter_, "calibDate": "2013-01-01"} for n in range(30)
        ]
        registry.ingest_table(made, filetype=kind, archive="home")
        valid = [{"relpath": row["relpath"], "validStart": "2013-01-01", "validEnd": "2014-01-01"} for row in made]
        registry.certify_calibrations(valid, version="2014A", filetype=kind)
    facts = {"filter": "HSC-R", "dateObs": "2013-06-17", "field": "F", "pointing": 533}
    raws = [{"relpath": f"raw-{n}.fits", "visit": 50, "ccd": n, **facts} for n in range(30)]
    registry.ingest_table(raws, filetype="raw", archive="home")
    execute(registry, "update ops_archive set root = 'https://example.org/home' where name = 'home'")
    sent_by_size = []
    for ccds in ("0..4", "0..29"):
        spec = RepoSpec("hsc", (InputSpec("raw", id=(f"visit=50 ccd={ccds}",)),), CalibSpec("2014A"))
        with statements(registry) as sent:
            done = materialize_repo(registry, tmp_path / "job", spec, dry_run=True)
        sent_by_size.append(len(sent))
        assert done.calibs == done.inputs
    assert sent_by_size[0] == sent_by_size[1]


def test_a_dry_run_of_create_leaves_a_file_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("create table desfile (x)")
    other.close()
    before = path.read_bytes()
    engine = open_engine(f"sqlite:///{path}", create=True)
    with pytest.raises(ConflictError, match=r"holds other tables \(desfile\)"):
        create_registry(engine, None, dry_run=True)
    engine.dispose()
    assert path.read_bytes() == before


def test_a_registry_that_cannot_be_reached_is_not_called_unknown() -> None:
    with pytest.raises(DbbError, match="cannot be opened") as caught:
        Registry("postgresql+psycopg://postgres@127.0.0.1:1/nothing")
    assert not isinstance(caught.value, NotFoundError)


@pytest.mark.skipif(os.getuid() == 0 and not Path("/usr/bin/unshare").exists(), reason="root may write everything")
def test_a_registry_that_may_not_be_written_can_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "shelf"
    folder.mkdir()
    with small_registry(f"sqlite:///{folder / 'survey.db'}", "calexp") as made:
        made.add_archive("home", "/data/home")
        made.ingest_table([{"relpath": "a.fits", "visit": 1, "ccd": 2}], filetype="calexp", archive="home")
    (folder / "survey.db").chmod(0o444)
    folder.chmod(0o555)
    code = "import sys, dbb; print(len(dbb.Registry(sys.argv[1]).query('calexp')))"
    plain = ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--"] if os.getuid() == 0 else []
    command = [*plain, sys.executable, "-c", code, f"sqlite:///{folder / 'survey.db'}"]
    # a file system where even a mapped root may write would not test anything, yet must work the same
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    folder.chmod(0o755)
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr
