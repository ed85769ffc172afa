"""The commands of overlaps say what they did and which way answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from registries import contents, small_registry

from dbb import Registry
from dbb_cli.main import run

SKYMAP = """name = "field"
type = "explicit"
pixel_scale = 0.2
patch_inner = 4000
patch_border = 100
[[tracts]]
id = 0
ra = 0.0
dec = 2.2
patches = [5, 5]
"""
CORNERS = {
    "ra_cent": 0.0,
    "dec_cent": 2.2,
    "rac1": 0.05,
    "decc1": 2.15,
    "rac2": 359.95,
    "decc2": 2.15,
    "rac3": 359.95,
    "decc3": 2.25,
    "rac4": 0.05,
    "decc4": 2.25,
}
WHERE = ("--where", "tract = 0 AND patch = '2,2'")


@pytest.fixture
def url(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A registry with one exposure, and a sky map beside."""
    archive = tmp_path / "archive"
    archive.mkdir()
    (archive / "1.fits").write_bytes(b"raw")
    (tmp_path / "field.toml").write_text(SKYMAP)
    with small_registry(sqlite_url, "hsc_raw") as registry:
        registry.add_archive("home", str(archive))
        known = {"relpath": "1.fits", "visit": 1, "ccd": 16, "filter": "HSC-R", "dateObs": "2014-03-28", "filesize": 3}
        more = {"pointing": 1, "field": "F", "taiObs": "2014-03-28", "expTime": 30.0}
        registry.ingest_table([{**known, **more, **CORNERS}], filetype="hsc_raw", archive="home")
    monkeypatch.setenv("DBB_REGISTRY", sqlite_url)
    monkeypatch.chdir(tmp_path)
    return sqlite_url


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert run(list(arguments)) == code
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_versions_are_computed_and_made_live(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    for way in ("compute", "live"):
        with Registry(url) as registry:
            before = contents(registry)
        rehearsed = said(capsys, "overlaps", way, "--skymap", "field.toml", "--version", way, "--dry-run")
        assert "would be" in rehearsed
        with Registry(url) as registry:
            assert contents(registry) == before
        assert said(capsys, "overlaps", way, "--skymap", "field.toml", "--version", way) in (
            "compute: 1 rows added\n",
            "live: made; it is asked from the corners\n",
        )
    assert said(capsys, "overlaps", "compute", "--skymap", "field.toml", "--version", "compute").startswith(
        "compute: 0 "
    )
    assert "live: is there already" in said(capsys, "overlaps", "live", "--skymap", "field.toml", "--version", "live")
    assert run(["overlaps", "list", "--format", "json"]) == 0
    source = {"source": "field.toml", "skymap": "field"}
    assert json.loads(capsys.readouterr().out) == [
        {"version": "compute", "way": "table", "rows": 1, **source},
        {"version": "live", "way": "corners", "rows": 0, **source},
    ]


def test_what_cannot_be_is_refused_by_code(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no-such.toml" in said(capsys, "overlaps", "live", "--skymap", "no-such.toml", "--version", "v", code=2)
    said(capsys, "overlaps", "live", "--skymap", "field.toml", "--version", "v")
    Path("other.toml").write_text(SKYMAP.replace("field", "other"))
    for way in ("live", "compute"):
        assert "choose another name" in said(
            capsys, "overlaps", way, "--skymap", "other.toml", "--version", "v", code=4
        )
    assert "unknown tract '7'" in said(capsys, "query-files", "raw", "--where", "tract = 7", code=5)
    assert "unknown patch '5x5'" in said(capsys, "query-files", "raw", "--where", "tract=0 AND patch='5,5'", code=5)


@pytest.mark.parametrize(("way", "shown"), [("compute", "v (table)"), ("live", "v (corners and sky map field)")])
def test_answers_say_which_way_was_used(url: str, capsys: pytest.CaptureFixture[str], way: str, shown: str) -> None:
    said(capsys, "overlaps", way, "--skymap", "field.toml", "--version", "v")
    assert run(["query-files", "raw", *WHERE, "--columns", "visit", "--format", "csv"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("visit\n1\n", f"tract and patch from overlap version {shown}\n1 files\n")
    assert run(["materialize-repo", "JOB", "--mapper", "hsc", "--dataset", "raw", *WHERE, "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["overlaps"] == shown
    assert f"tract and patch from overlap version {shown}\n" in err
    assert run(["query-files", "raw", "--where", "visit = 1"]) == 0
    assert "overlap" not in capsys.readouterr().err
