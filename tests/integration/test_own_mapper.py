"""A camera that is one TOML file of the user's: named by its path, found again, and refused clearly when broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import dbb_mappers.generic
from dbb import Registry
from dbb.butler import InputSpec, Repository, RepoSpec, materialize_repo
from dbb.errors import NotFoundError, UsageError
from dbb.ingest.overlaps import load_blacklist
from dbb.mapper import Mapper
from dbb.plugins import load_plugins, plugins

GENERIC = Path(dbb_mappers.generic.__file__).with_name("generic.toml")


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    """Give a copy of the generic camera that calls its detectors chips."""
    path = tmp_path / "camera.toml"
    path.write_text(GENERIC.read_text(encoding="utf-8").replace("ccd", "chip"), encoding="utf-8")
    return path


@pytest.fixture
def registry(camera: Path, tmp_path: Path) -> Registry:
    registry = Registry.create(f"sqlite:///{tmp_path}/survey.db", mapper=str(camera))
    registry.add_archive("home", str(tmp_path / "archive"))
    rows = []
    for chip in (1, 2):
        path = tmp_path / f"archive/c/{chip}.fits"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(chip), encoding="utf-8")
        row = {"relpath": f"c/{chip}.fits", "visit": 7, "chip": chip, "filter": "r", "dateObs": "2013-06-17"}
        rows.append(row | {"filesize": 1, "taiObs": "2013-06-17"})
    assert registry.ingest_table(rows, filetype="calexp", archive="home", run="A_r1p01").added == 2
    return registry


def test_a_registry_keeps_the_absolute_path(camera: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Registry.create("sqlite:///other.db", mapper="camera.toml") as registry:
        assert registry.mapper_name == str(camera)
    monkeypatch.chdir("/")
    with Registry(f"sqlite:///{tmp_path}/other.db") as registry:
        found = registry.mapper()
        assert found is not None
        assert found.keys.detector == "chip"


def test_a_job_uses_the_cameras_own_keys(registry: Registry, camera: Path, tmp_path: Path) -> None:
    spec = RepoSpec(str(camera), (InputSpec("calexp", where="detector = 2"),))
    materialize_repo(registry, tmp_path / "JOB", spec)
    manifest = json.loads((tmp_path / "JOB/manifest.json").read_text(encoding="utf-8"))
    assert manifest["butler"]["keys"]["detector"] == "chip"
    with Repository(tmp_path / "JOB/out", plugins().mapper(str(camera))) as repository:
        assert Path(repository.get_uri("calexp", visit=7, chip=2)).read_text(encoding="utf-8") == "2"
        assert repository.subset("calexp", visit=7)[0]["chip"] == 2


def test_overlaps_and_the_blacklist_mean_the_cameras_own_keys(registry: Registry) -> None:
    registry.load_overlaps([{"tract": 0, "patch": "1,1", "visit": 7, "ccd": 2}], version="one")
    load_blacklist(registry, [{"visit": 7, "ccd": 1}], reason="bad")
    chosen = {
        where: [record["chip"] for record in registry.query("calexp", where=where)]
        for where in ("patch = '1,1'", "patch = '1,1' AND chip = 1", "blacklist = 'bad'", "blacklist IS NULL")
    }
    assert chosen == {
        "patch = '1,1'": [2],
        "patch = '1,1' AND chip = 1": [],
        "blacklist = 'bad'": [1],
        "blacklist IS NULL": [2],
    }


def test_a_file_that_is_gone_is_named(registry: Registry, camera: Path) -> None:
    camera.unlink()
    fresh = load_plugins()
    with pytest.raises(NotFoundError, match=rf"unknown mapper '{camera}'.*There is no such file"):
        fresh.mapper(str(camera))


def test_a_command_takes_a_file_and_says_which_is_not_there(camera: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/survey.db"
    for command, code in (
        (["create", url, "--mapper", str(camera)], 0),
        (["create", f"{url}2", "--mapper", "no.toml"], 5),
    ):
        done = subprocess.run(
            [sys.executable, "-c", "from dbb_cli.main import main; main()", *command],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
    assert "no.toml" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('raw = "raw"\n', "", "needs raw, a TOML string"),
        ('exposure = ["visit", "ccd"]', 'exposure = ["visit"]', "registry.exposure must be two keys"),
        ("[registry.raw]", "[registry.rows]", "registry.rows is no entry of a camera; known here: exposure, date"),
        ('date = "taiObs"', "", "needs registry.date, a TOML string"),
        ('date = "taiObs"', "date = 5", "registry.date must be a text, not 5"),
        ("[datasets.", "[dataset.", "dataset is no entry of a camera; known here: base, butler_class"),
        (
            "[datasets.calexp]\n",
            '[datasets.calexp]\neras = ["2016"]\n',
            "datasets.calexp.eras must be a list out of 2017",
        ),
        ("[datasets.calexp]\n", "[datasets.calexp]\nera.2017.tmpl = 1\n", "datasets.calexp.era.2017.tmpl is no entry"),
        ("[datasets.calexp]\n", "[datasets]\nx = 1\n[datasets.calexp]\n", "datasets.x must be a table, not 1"),
        ('exposure = ["visit", "ccd"]', "exposure = [1, 2]", "registry.exposure must be a list of texts, not [1, 2]"),
        ("[synonyms]", "deep = " + "[" * 3000 + "]" * 3000 + "\n[synonyms]", "cannot be read"),
        ('raw = "raw"\n', 'raw = "raw"\nbase = "broken.toml"\n', "has a base itself"),
        ('section = "exposures"', 'section = "images"', "needs a section out of"),
        ("[filetypes.raw]\n", "[filetypes.raw]\nwidth = 3\n", "filetype raw: unknown entries"),
        ("[synonyms]", "[synonyms", "cannot be read"),
    ],
)
def test_what_is_wrong_in_the_file_is_said(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "broken.toml"
    text = GENERIC.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        use(Mapper("broken", path))
    assert words in str(caught.value)


def use(mapper: Mapper) -> None:
    _ = mapper.filetypes, mapper.datasets, mapper.keys, mapper.raw_columns, mapper.date_column, mapper.raw_filetype


def test_an_entry_of_ones_own_replaces_that_of_the_base(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "base.toml").write_text(GENERIC.read_text(encoding="utf-8"), encoding="utf-8")
    own = 'base = "../base.toml"\n[datasets.src]\nsection = "datasets"\ntemplate = "s-%(visit)d-%(ccd)d.fits"\n'
    (tmp_path / "own/camera.toml").write_text(own, encoding="utf-8")
    mapper = Mapper("own", tmp_path / "own/camera.toml")
    templates = {dataset.name: dataset.template for dataset in mapper.datasets}
    assert templates["src"] == "s-%(visit)d-%(ccd)d.fits"
    assert templates["raw"].startswith("raw/")
    assert mapper.filetypes["src"].keys == ("visit", "ccd")
    assert mapper.origin("datasets.src") == "own/camera.toml [datasets.src]"
    assert mapper.origin("datasets.raw").endswith("/base.toml [datasets.raw]")
