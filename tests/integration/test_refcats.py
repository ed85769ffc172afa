"""Reference catalogues: registered as tars, indexed once, and of them each job gets what its part of the sky needs."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits
from demo_survey import Survey, raw_values, tree
from registries import contents, small_registry, statements

from dbb import Registry
from dbb.butler import FileSpec, InputSpec, RefcatSpec, RepoReport, RepoSpec, materialize_manifest, materialize_repo
from dbb.errors import ConflictError, DbbError, IntegrityError, MissingError, NotFoundError, UnsafePathError, UsageError
from dbb.ingest import add_refcat, list_refcats
from dbb.refcats.pack import pack_folder
from dbb_cli.main import run as run_dbb

DBB = Path(sys.executable).parent / "dbb"
STRUCTURE = (
    "SIMPLE", "XTENSION", "BITPIX", "NAXIS", "EXTEND", "PCOUNT", "GCOUNT", "TFIELDS", "TTYPE", "TFORM", "Z", "BZERO",
    "BSCALE", "CHECKSUM", "DATASUM", "EXTNAME",
)  # fmt: skip
NEEDED = ["189584.fits", "189648.fits"]
GENERAL = ["README.md", "config.py", "master_schema.fits"]
SHARDS = [f"{trixel}.fits" for trixel in range(189570, 189660)]
FIELD = {
    "ra_cent": 320.8, "dec_cent": -0.3, "rac1": 320.7, "decc1": -0.4, "rac2": 320.9, "decc2": -0.4,
    "rac3": 320.9, "decc3": -0.2, "rac4": 320.7, "decc4": -0.2,
}  # fmt: skip


def make_catalogue(folder: Path, size: int = 3000) -> Path:
    folder.mkdir(parents=True)
    for name in [*GENERAL, *SHARDS]:
        (folder / name).write_bytes(random.Random(name).randbytes(size))
    return folder


class Field:
    """A registry with one exposure that has corners and one that has none, and a catalogue beside them."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.archive = folder / "archive"
        self.files = make_catalogue(folder / "ps1")
        self.tar = self.archive / "refcats/ps1.tar"
        self.tar.parent.mkdir(parents=True)
        pack_folder(self.files, self.tar)
        small_registry(url, "hsc_raw", "calexp", "deepcoadd_calexp").close()
        self.registry = Registry(url)
        self.registry.add_archive("home", str(self.archive))
        for ccd, corners in ((23, FIELD), (24, {})):
            path = self.archive / f"raw/{ccd}.fits"
            path.parent.mkdir(exist_ok=True)
            path.write_text("raw", encoding="utf-8")
            row = {"relpath": f"raw/{ccd}.fits", "filesize": 3, **raw_values(903334, ccd), **corners}
            self.registry.ingest_table([row], filetype="hsc_raw", archive="home")

    def job(self, name: str = "JOB", *refcats: RefcatSpec, where: str = "ccd = 23") -> RepoReport:
        chosen = refcats or (RefcatSpec("ps1"),)
        spec = RepoSpec("hsc", (InputSpec("raw", where=where),), refcats=chosen)
        return materialize_repo(self.registry, self.folder / name, spec)

    def shards(self, name: str = "JOB", catalogue: str = "ps1") -> list[str]:
        """Return the files of a catalogue in a job, having made sure that their bytes are right."""
        folder = self.folder / name / "in/ref_cats" / catalogue
        for path in folder.iterdir():
            assert path.read_bytes() == (self.files / path.name).read_bytes()
            assert not path.is_symlink()
        return sorted(path.name for path in folder.iterdir())

    def manifest(self, name: str = "JOB") -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.folder / name / "manifest.json").read_text(encoding="utf-8"))
        return loaded

    def compress(self) -> Path:
        packed = self.archive / "refcats/ps1.tar.gz"
        packed.write_bytes(gzip.compress(self.tar.read_bytes()))
        return packed


@pytest.fixture
def both(tmp_path: Path, registry_url: str) -> Iterator[Field]:
    """The field in each kind of database."""
    field = Field(tmp_path, registry_url)
    yield field
    field.registry.close()


@pytest.fixture
def field(tmp_path: Path, sqlite_url: str) -> Iterator[Field]:
    field = Field(tmp_path, sqlite_url)
    yield field
    field.registry.close()


def test_a_job_gets_the_shards_that_its_exposures_need_and_what_belongs_to_all(both: Field) -> None:
    added = add_refcat(both.registry, "ps1", "refcats/ps1.tar")
    assert (added.depth, added.shards, added.members, added.known) == (7, len(SHARDS), len(SHARDS) + 3, False)
    report = both.job()
    assert both.shards() == sorted([*NEEDED, *GENERAL])
    assert (report.refcats, report.copied) == (5, 5 * 3000)
    (entry,) = both.manifest()["refcats"]
    assert set(entry) == {"name", "members"}
    assert entry["name"] == "ps1"
    data = both.tar.read_bytes()
    for member in entry["members"]:
        assert set(member) == {"path", "source", "offset", "size"}
        assert member["source"] == f"file://{both.tar}"
        there = data[member["offset"] : member["offset"] + member["size"]]
        assert there == (both.folder / "JOB" / member["path"]).read_bytes()


def test_the_manifest_builds_the_same_without_a_registry(both: Field) -> None:
    add_refcat(both.registry, "ps1", "refcats/ps1.tar")
    both.job()
    materialize_manifest(both.folder / "AGAIN", both.folder / "JOB/manifest.json")
    assert tree(both.folder / "AGAIN") == tree(both.folder / "JOB")


def test_a_catalogue_may_be_taken_whole(both: Field) -> None:
    add_refcat(both.registry, "ps1", "refcats/ps1.tar")
    both.job("JOB", RefcatSpec("ps1", whole=True), where="ccd = 24")
    assert both.shards() == sorted([*SHARDS, *GENERAL])


def test_adding_is_registered_with_the_file_and_may_be_repeated(both: Field) -> None:
    first = add_refcat(both.registry, "ps1", str(both.tar))
    before = contents(both.registry)
    again = add_refcat(both.registry, "ps1", "ps1.tar", archive="home")
    assert again.known
    assert contents(both.registry) == before
    (listed,) = list_refcats(both.registry)
    assert listed == first
    (record,) = both.registry.query("refcat_tar")
    assert record.relpath == "refcats/ps1.tar"
    assert record.md5sum == hashlib.md5(both.tar.read_bytes(), usedforsecurity=False).hexdigest()


def test_a_tar_that_was_ingested_before_is_the_same_file(both: Field) -> None:
    from dbb.plugins import plugins

    both.registry.register_filetypes([plugins().filetypes()["refcat_tar"]])
    both.registry.ingest_files([str(both.tar)], filetype="refcat_tar", archive="home")
    add_refcat(both.registry, "ps1", "refcats/ps1.tar")
    assert len(both.registry.query("refcat_tar")) == 1


def test_two_catalogues_may_be_one_tar(both: Field) -> None:
    add_refcat(both.registry, "ps1", "refcats/ps1.tar")
    add_refcat(both.registry, "copy", "refcats/ps1.tar")
    both.job("JOB", RefcatSpec("ps1"), RefcatSpec("copy"))
    assert both.shards() == both.shards(catalogue="copy") == sorted([*NEEDED, *GENERAL])


@pytest.mark.parametrize("prefix", ["ps1/", "./", "./ps1/"])
def test_a_leading_folder_in_the_tar_is_left_away(both: Field, prefix: str) -> None:
    both.tar.unlink()
    with tarfile.open(both.tar, "w") as tar:
        tar.add(both.files, prefix.rstrip("/"))
    add_refcat(both.registry, "ps1", "refcats/ps1.tar")
    both.job()
    assert both.shards() == sorted([*NEEDED, *GENERAL])


def test_a_compressed_tar_is_read_through_a_seek_index_beside_it(both: Field) -> None:
    both.compress()
    add_refcat(both.registry, "ps1", "refcats/ps1.tar.gz")
    (index,) = both.registry.query("gzip_index")
    assert index.relpath == "refcats/ps1.tar.gz.gzidx"
    both.job()
    assert both.shards() == sorted([*NEEDED, *GENERAL])
    members = both.manifest()["refcats"][0]["members"]
    assert {member["index"] for member in members} == {f"file://{both.archive}/{index.relpath}"}
    materialize_manifest(both.folder / "AGAIN", both.folder / "JOB/manifest.json")
    assert tree(both.folder / "AGAIN") == tree(both.folder / "JOB")


def test_the_tar_is_opened_by_adding_and_a_job_reads_what_it_needs_only(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_refcat(field.registry, "ps1", "refcats/ps1.tar")
    read: list[int] = []

    def no_tarfile(*args: object, **kwargs: object) -> None:
        raise AssertionError("the tar is scanned")

    real = os.pread

    def counted(descriptor: int, count: int, offset: int) -> bytes:
        read.append(count)
        return real(descriptor, count, offset)

    monkeypatch.setattr(tarfile, "open", no_tarfile)
    monkeypatch.setattr(os, "pread", counted)
    field.job()
    field.job("SECOND")
    assert read == [512] * 10
    assert add_refcat(field.registry, "ps1", "refcats/ps1.tar").known  # nor is it scanned when it is added again
    assert add_refcat(field.registry, "more", "refcats/ps1.tar").known is False


def test_statements_do_not_grow_with_the_exposures(both: Field) -> None:
    add_refcat(both.registry, "ps1", "refcats/ps1.tar")
    sent: list[int] = []
    for count, name in ((1, "FEW"), (300, "MANY")):
        rows = []
        for visit in range(count):
            path = both.archive / f"more/{count}-{visit}.fits"
            path.parent.mkdir(exist_ok=True)
            path.touch()
            values = raw_values(visit + 1000 * count, 5)
            rows.append({"relpath": f"more/{path.name}", "filesize": 0, **values, **FIELD})
        both.registry.ingest_table(rows, filetype="hsc_raw", archive="home")
        with statements(both.registry) as seen:
            both.job(name, where=f"ccd = 5 AND visit >= {1000 * count} AND visit < {1000 * count + 1000}")
        sent.append(len([one for one in seen if one.lstrip().upper().startswith("SELECT")]))
        assert both.shards(name) == sorted([*NEEDED, *GENERAL])
    assert sent[0] == sent[1]


def test_margin_decides_how_far_shards_reach(both: Field) -> None:
    add_refcat(both.registry, "ps1", "refcats/ps1.tar")
    both.job("NARROW", RefcatSpec("ps1", margin=0.0))
    both.job("WIDE", RefcatSpec("ps1", margin=1.0))
    assert set(both.shards("NARROW")) < set(both.shards("WIDE"))


def test_exposures_without_corners_are_named_with_what_to_do(both: Field) -> None:
    add_refcat(both.registry, "ps1", "refcats/ps1.tar")
    with pytest.raises(MissingError, match=r"visit=903334 ccd=24 has no corners.*whole = true"):
        both.job(where="ccd IN (23, 24)")
    assert not (both.folder / "JOB").exists()


def test_the_corners_of_an_input_count_where_its_raw_has_none(both: Field) -> None:
    add_refcat(both.registry, "ps1", "refcats/ps1.tar")
    (both.archive / "c.fits").write_text("calexp", encoding="utf-8")
    row = {"relpath": "c.fits", "filesize": 6, "visit": 903334, "ccd": 24, **FIELD}
    both.registry.ingest_table([row], filetype="calexp", archive="home", run="Ht0_r11p95")
    materialize_repo(
        both.registry, both.folder / "JOB", RepoSpec("hsc", (InputSpec("calexp"),), refcats=(RefcatSpec("ps1"),))
    )
    assert both.shards() == sorted([*NEEDED, *GENERAL])


def test_a_region_that_the_catalogue_does_not_reach_is_said(both: Field) -> None:
    add_refcat(both.registry, "ps1", "refcats/ps1.tar")
    (both.archive / "far.fits").touch()
    south = {name: value - 60 if name.startswith("dec") else value for name, value in FIELD.items()}
    row = {"relpath": "far.fits", "filesize": 0, **raw_values(5, 5), **south}
    both.registry.ingest_table([row], filetype="hsc_raw", archive="home")
    with pytest.raises(MissingError, match="ps1 has no shard where the inputs are"):
        both.job(where="visit = 5")


SKYMAP = """
name = "one"
type = "explicit"
pixel_scale = 0.2
patch_inner = [4000, 4000]
patch_border = 100
[[tracts]]
id = 0
ra = 320.8
dec = -0.3
patches = [1, 1]
"""


def coadd(field: Field, patch: str = "0x0") -> RepoSpec:
    (field.archive / "coadd.fits").write_text("coadd", encoding="utf-8")
    row = {"relpath": "coadd.fits", "filesize": 5, "tract": 0, "patch": patch, "filter": "HSC-R"}
    field.registry.ingest_table([row], filetype="deepcoadd_calexp", archive="home", run="Ht0_r11p95")
    return RepoSpec("hsc", (InputSpec("deepCoadd_calexp"),), refcats=(RefcatSpec("ps1"),))


def test_a_patch_of_a_sky_map_needs_its_shards(both: Field) -> None:
    from dbb.ingest import register_live_overlaps

    add_refcat(both.registry, "ps1", "refcats/ps1.tar")
    (both.folder / "skymap.toml").write_text(SKYMAP, encoding="utf-8")
    register_live_overlaps(both.registry, both.folder / "skymap.toml", version="live")
    materialize_repo(both.registry, both.folder / "JOB", coadd(both))
    assert set(NEEDED) <= set(both.shards())


def test_a_patch_without_a_sky_map_needs_the_shards_of_its_exposures(both: Field) -> None:
    add_refcat(both.registry, "ps1", "refcats/ps1.tar")
    both.registry.load_overlaps([{"tract": 0, "patch": "0,0", "visit": 903334, "ccd": 23}], version="v")
    materialize_repo(both.registry, both.folder / "JOB", coadd(both))
    assert both.shards() == sorted([*NEEDED, *GENERAL])


@pytest.mark.parametrize("loaded", [False, True])
def test_a_patch_that_nothing_is_known_of_is_said(both: Field, loaded: bool) -> None:
    add_refcat(both.registry, "ps1", "refcats/ps1.tar")
    if loaded:
        both.registry.load_overlaps([{"tract": 9, "patch": "0,0", "visit": 903334, "ccd": 23}], version="v")
    with pytest.raises(MissingError, match="tract=0 patch=0x0 say nothing about the sky"):
        materialize_repo(both.registry, both.folder / "JOB", coadd(both))


def test_inputs_that_are_nowhere_need_a_whole_catalogue(field: Field) -> None:
    add_refcat(field.registry, "ps1", "refcats/ps1.tar")
    spec = RepoSpec("hsc", (), files=(FileSpec("ps1.tar", "x.tar"),), refcats=(RefcatSpec("ps1"),))
    with pytest.raises(MissingError, match="nothing among the inputs says"):
        materialize_repo(field.registry, field.folder / "JOB", spec)


def test_an_unknown_catalogue_is_said_with_the_known_ones(field: Field) -> None:
    add_refcat(field.registry, "ps1", "refcats/ps1.tar")
    with pytest.raises(NotFoundError, match="unknown reference catalogue 'ps2'; known: ps1"):
        field.job("JOB", RefcatSpec("ps2"))


def other_tar(field: Field, *, compressed: bool = False) -> None:
    """Put another catalogue of the same size in the place of the tar."""
    for name in SHARDS:
        (field.files / name).write_bytes(b"z" * 3000)
    (field.files / "189570.fits").unlink()
    (field.files / "189700.fits").write_bytes(b"z" * 3000)
    field.tar.unlink()
    pack_folder(field.files, field.tar)
    if compressed:
        field.compress()


def cut(field: Field) -> None:
    field.tar.write_bytes(field.tar.read_bytes()[:100_000])


def remove(field: Field) -> None:
    field.tar.unlink()


@pytest.mark.parametrize(
    ("change", "said"), [(other_tar, "--reindex"), (cut, "--reindex"), (remove, "registered but cannot be found")]
)
@pytest.mark.parametrize("way", ["registry", "manifest"])
def test_a_changed_or_truncated_tar_is_said_and_nothing_is_written(
    field: Field, change: Callable[[Field], None], said: str, way: str
) -> None:
    add_refcat(field.registry, "ps1", "refcats/ps1.tar")
    field.job("FIRST", RefcatSpec("ps1", whole=True))
    change(field)
    ways: dict[str, Callable[[], object]] = {
        "registry": lambda: field.job("JOB", RefcatSpec("ps1", whole=True)),
        "manifest": lambda: materialize_manifest(field.folder / "JOB", field.folder / "FIRST/manifest.json"),
    }
    with pytest.raises(IntegrityError) as caught:
        ways[way]()
    assert "ps1.tar" in str(caught.value)
    if way == "registry" or change is not remove:
        assert said in str(caught.value)
    assert ("--reindex" in str(caught.value)) == (change is not remove)
    assert not (field.folder / "JOB").exists()
    assert not list(field.folder.glob(".JOB*"))


@pytest.mark.parametrize("compressed", [False, True])
def test_a_changed_tar_is_not_added_again_unless_it_is_indexed_anew(both: Field, compressed: bool) -> None:
    name = "refcats/ps1.tar.gz" if compressed else "refcats/ps1.tar"
    if compressed:
        both.compress()
    add_refcat(both.registry, "ps1", name)
    other_tar(both, compressed=compressed)
    before = contents(both.registry)
    with pytest.raises(IntegrityError, match=r"is not the tar that was registered.*--reindex"):
        add_refcat(both.registry, "ps1", name)
    assert contents(both.registry) == before
    assert add_refcat(both.registry, "ps1", name, reindex=True, dry_run=True).shards == len(SHARDS)
    assert contents(both.registry) == before
    assert add_refcat(both.registry, "ps1", name, reindex=True).known is False
    both.job("JOB", RefcatSpec("ps1", whole=True))
    assert "189700.fits" in both.shards()


def test_a_catalogue_becomes_another_tar_only_when_told(both: Field) -> None:
    add_refcat(both.registry, "ps1", "refcats/ps1.tar")
    shutil.copy(both.tar, both.archive / "other.tar")
    with pytest.raises(ConflictError, match=r"'ps1' is refcats/ps1\.tar"):
        add_refcat(both.registry, "ps1", "other.tar", archive="home")
    add_refcat(both.registry, "ps1", "other.tar", archive="home", reindex=True)
    assert list_refcats(both.registry)[0].tarball == "other.tar"


def test_hostile_tars_are_refused_with_the_member_and_nothing_is_registered(both: Field) -> None:
    before = contents(both.registry)
    bad = both.archive / "bad.tar"
    for kind, name in ((tarfile.SYMTYPE, "189584.fits"), (tarfile.REGTYPE, "../189584.fits")):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        with tarfile.open(bad, "w") as tar:
            tar.addfile(tarfile.TarInfo("config.py"))
            tar.addfile(info)
        with pytest.raises(UnsafePathError, match=name):
            add_refcat(both.registry, "bad", "bad.tar", archive="home")
    assert contents(both.registry) == before


@pytest.mark.parametrize(
    ("tarball", "archive", "error"),
    [
        ("nowhere.tar", None, NotFoundError),
        ("nowhere.tar", "home", NotFoundError),
        ("ps1.tar", "away", NotFoundError),
        ("/etc/passwd", None, NotFoundError),
        ("../secret.tar", "home", NotFoundError),
    ],
)
def test_a_tar_that_lies_in_no_archive_is_not_added(
    field: Field, tarball: str, archive: str | None, error: type[DbbError]
) -> None:
    with pytest.raises(error):
        add_refcat(field.registry, "ps1", tarball, archive=archive)


def test_a_name_that_hides_the_compression_is_refused(field: Field) -> None:
    (field.archive / "a.tar").write_bytes(gzip.compress(field.tar.read_bytes()))
    shutil.copy(field.tar, field.archive / "b.tar.gz")
    for name, said in (("a.tar", "is gzip-compressed"), ("b.tar.gz", "is not gzip-compressed")):
        with pytest.raises(UsageError, match=said):
            add_refcat(field.registry, "ps1", name, archive="home")


MEMBER = {"path": "in/ref_cats/ps1/189584.fits", "source": "file:///x.tar", "offset": 512, "size": 1}
HOSTILE: list[tuple[Any, str]] = [
    ("text", "needs a name"),
    ({"name": "ps1"}, "needs a name"),
    ({"name": 5, "members": []}, "must be a text"),
    ({"name": "../x", "members": []}, "no name of a reference catalogue"),
    ({"name": "ps1", "members": [5]}, "must be an object"),
    ({"name": "ps1", "members": [MEMBER | {"path": "in/ref_cats/other/1.fits"}]}, "does not lie below"),
    ({"name": "ps1", "members": [MEMBER | {"path": "in/ref_cats/ps1/../../../x"}]}, "refused"),
    ({"name": "ps1", "members": [MEMBER | {"path": "in/ref_cats/ps1/a[b]"}]}, "refused"),
    ({"name": "ps1", "members": [MEMBER | {"path": "in/ref_cats/ps1/" + "a/" * 200 + "x"}]}, "folders deep"),
    ({"name": "ps1", "members": [MEMBER | {"source": "relative.tar"}]}, "absolute path"),
    ({"name": "ps1", "members": [MEMBER | {"source": 7}]}, "absolute path"),
    ({"name": "ps1", "members": [MEMBER | {"source": "/x\0y"}]}, "absolute path"),
    ({"name": "ps1", "members": [MEMBER | {"index": "relative"}]}, "absolute path"),
    ({"name": "ps1", "members": [MEMBER | {"offset": -1}]}, "whole number"),
    ({"name": "ps1", "members": [MEMBER | {"offset": 0}]}, "whole number"),
    ({"name": "ps1", "members": [MEMBER | {"offset": "512"}]}, "whole number"),
    ({"name": "ps1", "members": [MEMBER | {"offset": True}]}, "whole number"),
    ({"name": "ps1", "members": [MEMBER | {"size": -5}]}, "whole number"),
    ({"name": "ps1", "members": [MEMBER | {"size": 1 << 70}]}, "whole number"),
    ({"name": "ps1", "members": [MEMBER, MEMBER]}, "189584.fits"),
    ({"name": "ps1", "members": [MEMBER | {"source": "file:///dev/zero"}]}, "no tar header"),
    ({"name": "ps1", "members": [MEMBER | {"source": "/etc", "index": "/etc/passwd"}]}, "/etc"),
    ({"name": "ps1", "members": [MEMBER | {"member": 5}]}, "must be a text"),
]


@pytest.mark.parametrize(("entry", "said"), HOSTILE)
def test_hostile_values_in_a_manifest_are_refused(
    field: Field, capsys: pytest.CaptureFixture[str], entry: Any, said: str
) -> None:
    add_refcat(field.registry, "ps1", "refcats/ps1.tar")
    field.job()
    manifest = field.manifest() | {"refcats": [entry]}
    (field.folder / "bad.json").write_text(json.dumps(manifest), encoding="utf-8")
    before = tree(field.folder)
    assert run_dbb(["materialize-repo", str(field.folder / "BAD"), "--from", str(field.folder / "bad.json")]) != 0
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert "--debug" not in err
    assert tree(field.folder) == before


def test_the_command_line_does_all_of_it(field: Field, capsys: pytest.CaptureFixture[str]) -> None:
    def dbb(*arguments: str) -> tuple[int, str, str]:
        code = run_dbb([*arguments])
        return code, *capsys.readouterr()

    registry = ["--registry", field.url]
    tar = field.archive / "refcats/new.tar"
    assert dbb("refcat", "pack", str(field.files), str(tar), "--dry-run")[0] == 0
    assert not tar.exists()
    assert "93 files packed" in dbb("refcat", "pack", str(field.files), str(tar))[2]
    code, _, err = dbb("refcat", "add", "new", str(tar), "--dry-run", *registry)
    assert (code, "would be added" in err) == (0, True)
    assert json.loads(dbb("refcat", "list", "--format", "json", *registry)[1]) == []
    code, out, err = dbb("refcat", "add", "new", str(tar), *registry)
    assert (code, out) == (0, "")
    assert "90 shards of HTM depth 7 and 3 other files in refcats/new.tar (home)" in err
    assert "is known already" in dbb("refcat", "add", "new", "new.tar", *registry)[2]
    (row,) = json.loads(dbb("refcat", "list", "--format", "json", *registry)[1])
    assert list(row) == ["name", "tarball", "archive", "depth", "members", "shards", "filesize"]
    assert (row["name"], row["depth"], row["filesize"]) == ("new", 7, tar.stat().st_size)
    job = [str(field.folder / "JOB"), "--mapper", "hsc", "--dataset", "raw", "--id", "ccd=23", "--refcat", "new"]
    code, out, err = dbb("materialize-repo", *job, "--format", "json", *registry)
    assert (code, json.loads(out)["refcats"]) == (0, 5)
    assert "5 files of reference catalogues" in err
    assert dbb("refcat", "add", "bad/name", "new.tar", *registry)[0] == 2
    assert dbb("refcat", "add", "x", "nowhere.tar", *registry)[0] == 5


def test_a_job_file_names_catalogues(field: Field) -> None:
    from dbb.butler.spec import read_spec

    path = field.folder / "job.toml"
    path.write_text(
        'mapper = "hsc"\n[[refcats]]\nname = "a"\n[[refcats]]\nname = "b"\nwhole = true\n', encoding="utf-8"
    )
    assert read_spec(path).refcats == (RefcatSpec("a"), RefcatSpec("b", whole=True))
    for text, said in (
        ('name = "a"\nmargin = -1', "margin"),
        ('name = "a"\nmargin = "1"', "margin"),
        ('name = "a"\nwhole = 1', "whole"),
        ('name = "../a"', "no name"),
        ('name = "a"\nshards = 1', "shards"),
        ('name = "a"\n[[refcats]]\nname = "a"', "twice"),
    ):
        path.write_text(f'mapper = "hsc"\n[[refcats]]\n{text}\n', encoding="utf-8")
        with pytest.raises(DbbError, match=said):
            read_spec(path)


def test_a_killed_add_leaves_all_or_nothing(tmp_path: Path, sqlite_url: str) -> None:
    field = Field(tmp_path, sqlite_url)
    with tarfile.open(field.tar, "w") as tar:
        for trixel in range(131072, 131072 + 8_000):
            info = tarfile.TarInfo(f"{trixel}.fits")
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
    field.registry.close()
    command = [DBB, "refcat", "add", "ps1", "refcats/ps1.tar", "--archive", "home", "--registry", field.url]
    seen: set[int] = set()
    began = time.monotonic()
    subprocess.run([*command, "--dry-run"], check=True, capture_output=True)
    duration = time.monotonic() - began
    for number in range(5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(duration * (0.6 + number / 6))
        process.kill()
        process.wait()
        with Registry(field.url) as registry:
            found = list_refcats(registry)
            if not found:
                assert contents(registry)["tar_member"] == []
                assert contents(registry)["refcat"] == []
            seen |= {one.members for one in found}
    subprocess.run(command, check=True, capture_output=True)
    with Registry(field.url) as registry:
        assert seen | {one.members for one in list_refcats(registry)} == {8_000}


def test_the_shards_of_the_note_are_chosen_for_its_real_raw(shared: Path, both: Field) -> None:
    header = fits.Header.fromtextfile(shared / "data/ci_hsc/HSCA90333426.hdr")
    raw = both.archive / "raw/HSCA90333426.fits"
    write_image(header, raw)
    assert both.registry.ingest_files([str(raw)], filetype="hsc_raw", archive="home").refused == ()
    add_refcat(both.registry, "ps1", "refcats/ps1.tar")
    both.job(where="filename = 'HSCA90333426.fits'")
    assert both.shards() == sorted([*NEEDED, *GENERAL])


def write_image(real: fits.Header, path: Path) -> None:
    """Write an image of zeros, as large and with the cards that the header of a compressed one tells of."""
    header = fits.PrimaryHDU().header
    header["BITPIX"], header["NAXIS"] = 16, 2
    for axis in (1, 2):
        header.set(f"NAXIS{axis}", real[f"ZNAXIS{axis}"], after=f"NAXIS{axis - 1 or ''}")
    header.extend(card for card in real.cards if not card.keyword.startswith(STRUCTURE))
    text = header.tostring(padding=True).encode("ascii")
    with path.open("wb") as stream:
        stream.write(text)
        stream.truncate(len(text) + -(-header["NAXIS1"] * header["NAXIS2"] * 2 // 2880) * 2880)


@pytest.mark.parametrize("era", ["2017", "2021"])
def test_the_real_butler_finds_shards_configuration_and_schema(
    shared: Path, gen2_src: Path, field: Field, era: str
) -> None:
    add_refcat(field.registry, "ps1", "refcats/ps1.tar")
    field.job()
    found = {"config.py": ("ref_cat_config", {"name": "ps1"})}
    found |= {
        f"{pixel}.fits": ("ref_cat", {"name": "ps1", "pixel_id": pixel}) for pixel in (189584, 189648, "master_schema")
    }
    queries: list[dict[str, Any]] = [
        {
            "datasetType": dataset,
            "dataId": data_id,
            "expect": hashlib.sha256((field.files / name).read_bytes()).hexdigest(),
        }
        for name, (dataset, data_id) in found.items()
    ]
    queries.append({"datasetType": "ref_cat", "dataId": {"name": "ps1", "pixel_id": 189585}, "expect": "ABSENT"})
    path = field.folder / "queries.json"
    path.write_text(json.dumps(queries), encoding="utf-8")
    job = field.folder / "JOB"
    where = ["--src", str(gen2_src / era), "--repo", str(job / "in"), "--output", str(job / "out")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    client = shared / "gen2_client/client.py"
    done = subprocess.run(
        [sys.executable, "-B", client, *where, path], capture_output=True, text=True, check=False, env=environment
    )
    answer = json.loads(done.stdout)
    assert [result for result in answer["results"] if not result["ok"]] == []
    assert done.returncode == 0


def test_a_job_may_be_made_on_a_disk_of_its_own(field: Field) -> None:
    """Bytes cannot always go from file to file inside the kernel."""
    add_refcat(field.registry, "ps1", "refcats/ps1.tar")
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        pytest.skip("/dev/shm is not there: it is a second file system to write to")
    folder = memory / f"dbb-test-{os.getpid()}"
    try:
        spec = RepoSpec("hsc", (InputSpec("raw", where="ccd = 23"),), refcats=(RefcatSpec("ps1"),))
        materialize_repo(field.registry, folder / "JOB", spec)
        for name in NEEDED:
            made = folder / "JOB/in/ref_cats/ps1" / name
            assert made.read_bytes() == (field.files / name).read_bytes()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_survey_of_many_datasets_needs_no_catalogue(tmp_path: Path) -> None:
    survey = Survey(tmp_path)
    survey.add_raw(1, 2)
    report = materialize_repo(survey.registry, tmp_path / "JOB", RepoSpec("hsc", (InputSpec("raw"),)))
    assert report.refcats == 0
    assert json.loads((tmp_path / "JOB/manifest.json").read_text(encoding="utf-8"))["refcats"] == []
