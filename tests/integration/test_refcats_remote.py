"""Tars behind a web server or on S3: members come by range reads, and the rest of the tar is never asked for."""

from __future__ import annotations

import gzip
import http.server
import json
import os
import re
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest
from demo_survey import move_archive, raw_values, tree
from registries import small_registry

from dbb import Registry
from dbb.butler import InputSpec, RefcatSpec, RepoSpec, materialize_manifest, materialize_repo, plan_repo
from dbb.errors import IntegrityError
from dbb.ingest import add_refcat
from dbb.pipeline.levels import ArchiveLevels
from dbb.refcats.pack import pack_folder
from dbb.refcats.tars import SIDECAR
from dbb.registry.archives import archives
from dbb.runs.prestage import Prestage
from dbb.runs.transfers import Transfers

NEEDED = ["189584.fits", "189648.fits"]
SIZE = 20_000
FIELD = {
    "ra_cent": 320.8, "dec_cent": -0.3, "rac1": 320.7, "decc1": -0.4, "rac2": 320.9, "decc2": -0.4,
    "rac3": 320.9, "decc3": -0.2, "rac4": 320.7, "decc4": -0.2,
}  # fmt: skip


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Gives parts of files, unless told not to, and notes what it sent of each."""

    sent: dict[str, int]
    parts = True

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data, status = path.read_bytes(), 200
        given = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        total = len(data)
        if given and self.parts:
            first, last = int(given[1]), min(int(given[2]), total - 1)
            if first >= total:
                self.send_error(416)
                return
            data, status = data[first : last + 1], 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{total}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.sent[self.path] = self.sent.get(self.path, 0) + len(data)
        try:
            self.wfile.write(data)
        except OSError:
            return

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the library's
        """Say nothing."""


class Web:
    def __init__(self, url: str, handler: Any) -> None:
        self.url, self.handler = url, handler
        self.sent: dict[str, int] = handler.sent


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder with a catalogue, packed as it is and compressed, and a raw."""
    files = tmp_path / "ps1"
    files.mkdir()
    for name in ["config.py", "master_schema.fits", *(f"{trixel}.fits" for trixel in range(189560, 189660))]:
        (files / name).write_bytes(os.urandom(SIZE))
    folder = tmp_path / "archive"
    folder.mkdir()
    pack_folder(files, folder / "ps1.tar")
    (folder / "ps1.tar.gz").write_bytes(gzip.compress((folder / "ps1.tar").read_bytes(), 1))
    (folder / "raw.fits").write_bytes(b"raw")
    return folder


@pytest.fixture
def registry(archive: Path, sqlite_url: str) -> Iterator[Registry]:
    with small_registry(sqlite_url, "hsc_raw") as made:
        made.add_archive("home", str(archive))
        row = {"relpath": "raw.fits", "filesize": 3, **raw_values(903334, 23), **FIELD}
        made.ingest_table([row], filetype="hsc_raw", archive="home")
        for name, tar in (("ps1", "ps1.tar"), ("gz", "ps1.tar.gz")):
            add_refcat(made, name, tar)
        yield made


@pytest.fixture
def web(archive: Path) -> Iterator[Web]:
    handler = type("Counting", (Ranges,), {"sent": {}})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(archive))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Web(f"http://127.0.0.1:{server.server_port}", handler)
        server.shutdown()
        thread.join()
    fsspec.filesystem("http").clear_instance_cache()


@pytest.fixture
def bucket(archive: Path, registry: Registry, s3_client: Any) -> str:
    s3_client.create_bucket(Bucket="refcats")
    for path in archive.iterdir():
        s3_client.put_object(Bucket="refcats", Key=f"data/{path.name}", Body=path.read_bytes())
    return "s3://refcats/data"


def job(registry: Registry, folder: Path, *names: str) -> Path:
    spec = RepoSpec("hsc", (InputSpec("raw"),), refcats=tuple(RefcatSpec(name) for name in names))
    materialize_repo(registry, folder, spec)
    return folder


def check(folder: Path, files: Path, *names: str) -> None:
    for name in names:
        found = {path.name: path.read_bytes() for path in (folder / "in/ref_cats" / name).iterdir()}
        assert sorted(found) == sorted([*NEEDED, "config.py", "master_schema.fits"])
        assert all(data == (files / path).read_bytes() for path, data in found.items())
    assert sorted(path.name for path in folder.iterdir()) == ["in", "manifest.json", "out"]


def test_a_web_server_is_asked_for_the_members_only(registry: Registry, web: Web, tmp_path: Path) -> None:
    move_archive(registry, web.url)
    folder = job(registry, tmp_path / "JOB", "ps1")
    check(folder, tmp_path / "ps1", "ps1")
    assert web.sent["/ps1.tar"] == 4 * (SIZE + 512)
    materialize_manifest(tmp_path / "AGAIN", folder / "manifest.json")
    assert tree(tmp_path / "AGAIN") == tree(folder)


def test_compressed_tars_are_read_in_parts_from_a_web_server(registry: Registry, web: Web, tmp_path: Path) -> None:
    move_archive(registry, web.url)
    check(job(registry, tmp_path / "JOB", "ps1", "gz"), tmp_path / "ps1", "ps1", "gz")


def test_a_store_is_asked_for_the_members(registry: Registry, bucket: str, tmp_path: Path) -> None:
    move_archive(registry, bucket)
    folder = job(registry, tmp_path / "JOB", "ps1", "gz")
    check(folder, tmp_path / "ps1", "ps1", "gz")
    materialize_manifest(tmp_path / "AGAIN", folder / "manifest.json")
    assert tree(tmp_path / "AGAIN") == tree(folder)


def test_a_catalogue_in_a_store_is_registered_where_it_is(registry: Registry, bucket: str, tmp_path: Path) -> None:
    registry.add_archive("cloud", bucket)
    added = add_refcat(registry, "far", "s3://refcats/data/ps1.tar")
    assert (added.archive, added.tarball, added.shards) == ("cloud", "ps1.tar", 100)
    added = add_refcat(registry, "fargz", "ps1.tar.gz", archive="cloud")
    check(job(registry, tmp_path / "JOB", "far", "fargz"), tmp_path / "ps1", "far", "fargz")


def refused(registry: Registry, folder: Path) -> str:
    with pytest.raises(IntegrityError) as caught:
        job(registry, folder, "ps1")
    assert not folder.exists()
    assert not list(folder.parent.glob(".JOB*"))
    return str(caught.value)


def test_a_server_that_gives_no_parts_is_said(registry: Registry, web: Web, tmp_path: Path) -> None:
    web.handler.parts = False
    move_archive(registry, web.url)
    assert "the server does not give parts of files" in refused(registry, tmp_path / "JOB")


def test_a_remote_tar_that_changed_is_said_by_its_name(
    registry: Registry, archive: Path, web: Web, tmp_path: Path
) -> None:
    move_archive(registry, web.url)
    data = (archive / "ps1.tar").read_bytes()
    (archive / "ps1.tar").write_bytes(data[10240:] + data[:10240])
    text = refused(registry, tmp_path / "JOB")
    assert f"{web.url}/ps1.tar: " in text
    assert "--reindex" in text
    assert "/parts/" not in text


def test_a_remote_tar_that_is_cut_off_or_gone_is_said(
    registry: Registry, archive: Path, web: Web, tmp_path: Path
) -> None:
    move_archive(registry, web.url)
    (archive / "ps1.tar").write_bytes((archive / "ps1.tar").read_bytes()[: 5 * SIZE])
    assert f"{web.url}/ps1.tar" in refused(registry, tmp_path / "JOB")
    (archive / "ps1.tar").unlink()
    assert "it is not there" in refused(registry, tmp_path / "JOB")


def test_tars_of_catalogues_are_staged_with_their_indexes(registry: Registry, archive: Path, tmp_path: Path) -> None:
    near, order = tmp_path / "near", ("home", "near")
    registry.add_archive("near", str(near))
    levels = ArchiveLevels("home", "near", "target_archive", order, "near")
    catalogues = RefcatSpec("gz"), RefcatSpec("ps1")
    manifest = plan_repo(registry, RepoSpec("hsc", (InputSpec("raw"),), refcats=catalogues, archives=order))
    with registry.read() as conn:
        roots = archives(conn)
    transfers = Transfers(roots, 2)
    Prestage(registry, levels, roots, transfers, lambda: False).localize(
        {"steps": [], "repository": {"manifest": manifest}}
    )
    transfers.stop()
    assert tree(near).keys() == {"raw.fits", "ps1.tar", "ps1.tar.gz", f"ps1.tar.gz{SIDECAR}"}
    archive.rename(tmp_path / "away")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    materialize_manifest(tmp_path / "job", tmp_path / "manifest.json")
    shards = [sorted(path.name for path in (tmp_path / "job/in/ref_cats" / name).iterdir()) for name in ("gz", "ps1")]
    assert shards[0] == shards[1] != []
    again = plan_repo(registry, RepoSpec("hsc", (InputSpec("raw"),), refcats=catalogues, archives=("near",)))
    assert {one["source"] for catalogue in again["refcats"] for one in catalogue["members"]} == {
        f"file://{near}/ps1.tar.gz",
        f"file://{near}/ps1.tar",
    }
