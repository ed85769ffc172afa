"""Archives behind a web server or on S3: inputs are copied with their checksums, all of them or none."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest
from demo_survey import CALIBS, Demo, Survey, make_demo, move_archive, raw_values, tree

from dbb import Registry
from dbb.butler import CalibSpec, FileSpec, InputSpec, RepoSpec, materialize_repo
from dbb.errors import IntegrityError
from dbb_cli.main import run as run_dbb

SPEC = RepoSpec(
    "hsc",
    (InputSpec("raw", where="visit = 903334"), InputSpec("deepCoadd_calexp")),
    calibs=CalibSpec(CALIBS),
    files=(FileSpec("skyMap-1.pickle", "deepCoadd/skyMap.pickle"),),
)
STAGED = 4 + 8 + 12 + 1


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return make_demo(tmp_path_factory)


class Handler(http.server.SimpleHTTPRequestHandler):
    asked: Counter[str]

    def do_GET(self) -> None:
        self.asked[self.path] += 1
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the library's
        """Say nothing."""


class Web:
    """A folder with a copy of the archive, its URL, and what was asked for."""

    def __init__(self, folder: Path, url: str, asked: Counter[str]) -> None:
        self.folder, self.url, self.asked = folder, url, asked


@pytest.fixture
def web(demo: Demo, tmp_path: Path) -> Iterator[Web]:
    folder = tmp_path / "served"
    shutil.copytree(demo.archive, folder)
    asked: Counter[str] = Counter()
    handler = partial(type("Counting", (Handler,), {"asked": asked}), directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Web(folder, f"http://127.0.0.1:{server.server_port}", asked)
        server.shutdown()
        thread.join()
    fsspec.filesystem("http").clear_instance_cache()


@pytest.fixture
def bucket(demo: Demo, s3_client: Any) -> str:
    """URL of a folder in a bucket with all that SPEC asks for."""
    s3_client.create_bucket(Bucket="survey")
    for path in demo.archive.rglob("*"):
        if path.is_file() and "corr" not in path.parts:
            s3_client.put_object(Bucket="survey", Key=f"data/{path.relative_to(demo.archive)}", Body=path.read_bytes())
    return "s3://survey/data"


def moved(demo: Demo, tmp_path: Path, root: str) -> Registry:
    """Return a registry whose archive ``home`` is at `root`."""
    registry = Registry(demo.copy(tmp_path / "db"))
    move_archive(registry, root)
    return registry


def bytes_below(folder: Path) -> dict[str, bytes]:
    assert not [path for path in folder.rglob("*") if path.is_symlink()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.[fp]i*")}


@pytest.fixture
def local(demo: Demo, tmp_path: Path) -> Path:
    """The same repository from local files, copied."""
    with Registry(demo.url) as registry:
        materialize_repo(registry, tmp_path / "local", replace(SPEC, stage="copy"))
    return tmp_path / "local"


def without_sources(job: Path) -> dict[str, str]:
    return {path: what for path, what in tree(job).items() if path != "manifest.json"}


@pytest.mark.parametrize("stage", ["auto", "copy"])
def test_inputs_come_from_a_web_server_as_they_are(
    demo: Demo, web: Web, local: Path, tmp_path: Path, stage: str
) -> None:
    with moved(demo, tmp_path, web.url) as registry:
        report = materialize_repo(registry, tmp_path / "JOB", replace(SPEC, stage=stage))
    assert report.staged == {"copy": STAGED}
    assert without_sources(tmp_path / "JOB") == without_sources(local)
    assert sum(web.asked.values()) == STAGED == len(web.asked)
    assert report.copied == sum(len(content) for content in bytes_below(tmp_path / "JOB/in").values())


def test_inputs_come_from_s3_as_they_are(demo: Demo, bucket: str, local: Path, tmp_path: Path) -> None:
    with moved(demo, tmp_path, bucket) as registry:
        report = materialize_repo(registry, tmp_path / "JOB", SPEC)
    assert report.staged == {"copy": STAGED}
    assert without_sources(tmp_path / "JOB") == without_sources(local)
    sources = [entry["source"] for entry in json.loads((tmp_path / "JOB/manifest.json").read_text("utf-8"))["inputs"]]
    assert all(source.startswith("s3://survey/data/") for source in sources)


def test_a_manifest_with_remote_files_builds_the_same(demo: Demo, web: Web, tmp_path: Path) -> None:
    with moved(demo, tmp_path, web.url) as registry:
        materialize_repo(registry, tmp_path / "JOB", SPEC)
    manifest = str(tmp_path / "JOB/manifest.json")
    assert run_dbb(["materialize-repo", str(tmp_path / "JOB2"), "--from", manifest]) == 0
    assert tree(tmp_path / "JOB2") == tree(tmp_path / "JOB")


def test_local_inputs_are_linked_beside_remote_ones(web: Web, tmp_path: Path) -> None:
    survey = Survey(tmp_path / "survey")
    here = survey.add_raw(1, 2)
    survey.registry.add_archive("cloud", web.url)
    row = raw_values(903334, 16) | {"relpath": "raw/HSCA90333430.fits"}
    survey.registry.ingest_table([row], filetype="hsc_raw", archive="cloud")
    report = materialize_repo(survey.registry, tmp_path / "JOB", RepoSpec("hsc", (InputSpec("raw"),)))
    assert report.staged == {"symlink": 1, "copy": 1}
    found = {path.name: path for path in (tmp_path / "JOB/in").rglob("HSC-*.fits")}
    assert found["HSC-0000001-002.fits"].readlink() == here
    assert found["HSC-0903334-016.fits"].read_bytes() == (web.folder / "raw/HSCA90333430.fits").read_bytes()


def test_the_local_copy_of_a_file_is_preferred_unless_told_otherwise(demo: Demo, web: Web, tmp_path: Path) -> None:
    with Registry(demo.copy(tmp_path / "db")) as registry:
        registry.add_archive("cloud", web.url)
        rows = [row for row in demo.rows("coadds") if row["filetype"] == "deepcoadd_calexp"]
        registry.ingest_table(rows, archive="cloud")
        spec = RepoSpec("hsc", (InputSpec("deepCoadd_calexp"),))
        assert materialize_repo(registry, tmp_path / "a", spec).staged == {"symlink": 8}
        assert materialize_repo(registry, tmp_path / "b", replace(spec, archives=("cloud",))).staged == {"copy": 8}


def refused(registry: Registry, job: Path) -> str:
    """Make sure that nothing is left, and return what was said."""
    with pytest.raises(IntegrityError) as caught:
        materialize_repo(registry, job, SPEC)
    assert not job.exists()
    assert not list(job.parent.glob(".JOB*"))
    return str(caught.value)


def test_other_bytes_than_registered_are_refused(demo: Demo, web: Web, tmp_path: Path) -> None:
    path = web.folder / "raw/HSCA90333430.fits"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with moved(demo, tmp_path, web.url) as registry:
        text = refused(registry, tmp_path / "JOB")
    assert f"{web.url}/raw/HSCA90333430.fits: " in text
    assert "md5sum is " in text
    assert "it is not the file that was registered" in text
    assert text.count(web.url) == text.count("HSCA90333430.fits")


def test_other_bytes_on_s3_are_refused(demo: Demo, bucket: str, s3_client: Any, tmp_path: Path) -> None:
    key = "data/skymap/skyMap-1.pickle"
    size = s3_client.head_object(Bucket="survey", Key=key)["ContentLength"]
    s3_client.put_object(Bucket="survey", Key=key, Body=b"x" * size)
    with moved(demo, tmp_path, bucket) as registry:
        text = refused(registry, tmp_path / "JOB")
    assert "s3://survey/data/skymap/skyMap-1.pickle: " in text
    assert "md5sum is " in text


def test_files_that_are_not_there_are_all_named_and_nothing_is_left(demo: Demo, web: Web, tmp_path: Path) -> None:
    gone = ["raw/HSCA90333427.fits", "skymap/skyMap-1.pickle"]
    for relpath in gone:
        (web.folder / relpath).unlink()
    with moved(demo, tmp_path, web.url) as registry:
        text = refused(registry, tmp_path / "JOB")
    for relpath in gone:
        assert f"{web.url}/{relpath}: it is not there" in text
    assert "Nothing was written" in text


def test_a_dry_run_asks_no_server(demo: Demo, web: Web, tmp_path: Path) -> None:
    with moved(demo, tmp_path, web.url) as registry:
        report = materialize_repo(registry, tmp_path / "JOB", SPEC, dry_run=True)
    assert (report.staged, report.copied, report.dry_run) == ({"copy": STAGED}, 0, True)
    assert not web.asked
    assert not (tmp_path / "JOB").exists()


def test_without_plugins_nobody_can_fetch_and_that_is_said(
    demo: Demo, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with moved(demo, tmp_path, web.url) as registry:
        materialize_repo(registry, tmp_path / "JOB", SPEC)
    from dbb.plugins import plugins

    monkeypatch.setenv("DBB_PLUGINS", "none")
    plugins.cache_clear()
    try:
        code = run_dbb(["materialize-repo", str(tmp_path / "JOB2"), "--from", str(tmp_path / "JOB/manifest.json")])
    finally:
        monkeypatch.delenv("DBB_PLUGINS")
        plugins.cache_clear()
    assert code == 1
    assert f"nobody can stage {web.url}/raw/" in capsys.readouterr().err
    assert not (tmp_path / "JOB2").exists()
