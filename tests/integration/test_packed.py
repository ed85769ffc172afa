"""Members of a tar registered one by one: files like any other, which jobs copy out of the tar."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from demo_survey import tree
from registries import contents, rows, small_registry, statements

from dbb import Registry
from dbb.butler import FileSpec, InputSpec, RepoSpec, materialize_manifest, materialize_repo
from dbb.errors import ConflictError, IntegrityError, NotFoundError, UnsafePathError, UsageError
from dbb.ingest import ingest_packed
from dbb_cli.main import run as run_dbb

RUN = "Ht0_r11p95"
GIVEN = {"filter": "HSC-R", "pointing": "533"}
TAR = "packed/corr.tar"


def image(ccd: int) -> bytes:
    stream = io.BytesIO()
    fits.PrimaryHDU(np.full((3, 4), ccd, dtype="i2")).writeto(stream)
    return stream.getvalue()


def member(ccd: int) -> str:
    return f"corr/CORR-0903334-{ccd:03d}-r11p95.fits"


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    write_tar(folder / TAR, {member(ccd): image(ccd) for ccd in range(5)} | {"README": b"read me"})
    return folder


@pytest.fixture
def registry(archive: Path, registry_url: str) -> Iterator[Registry]:
    small_registry(registry_url, "calexp", "hsc_raw").close()
    with Registry(registry_url) as opened:
        opened.add_archive("home", str(archive))
        yield opened


def ingest(registry: Registry) -> tuple[int, int, int]:
    done = ingest_packed(registry, TAR, filetype="calexp", archive="home", run=RUN, given=GIVEN)
    return done.added, done.known, len(done.refused)


def calexps(*, where: str | None = None) -> RepoSpec:
    return RepoSpec("hsc", (InputSpec("calexp", where=where),))


def test_members_that_are_called_like_the_filetype_become_files(registry: Registry) -> None:
    assert ingest(registry) == (5, 0, 0)
    assert ingest(registry) == (0, 5, 0)
    found = registry.query("calexp", where="ccd IN (1, 3)")
    assert [record.relpath for record in found] == [f"{TAR}/{member(ccd)}" for ccd in (1, 3)]
    assert [record.filesize for record in found] == [len(image(1))] * 2
    assert {record["filter"] for record in found} == {"HSC-R"}
    places = rows(registry, "select distinct path from file_archive_info order by path")
    assert places == [("packed",), (f"{TAR}/corr",)]
    assert rows(registry, "select count(*) from tar_member where desfile_id is not null") == [(5,)]


def test_a_job_copies_them_out_of_the_tar(registry: Registry, archive: Path, tmp_path: Path) -> None:
    ingest(registry)
    report = materialize_repo(registry, tmp_path / "JOB", calexps(where="ccd IN (1, 3)"))
    assert report.staged == {"copy": 2}
    found = {path.name: path.read_bytes() for path in (tmp_path / "JOB/in").rglob("CORR*")}
    assert found == {f"CORR-0903334-{ccd:03d}.fits": image(ccd) for ccd in (1, 3)}
    entry = json.loads((tmp_path / "JOB/manifest.json").read_text(encoding="utf-8"))["inputs"][0]
    assert (entry["source"], entry["member"], entry["size"]) == (f"file://{archive}/{TAR}", member(1), len(image(1)))
    data = (archive / TAR).read_bytes()
    assert data[entry["offset"] : entry["offset"] + entry["size"]] == image(1)
    materialize_manifest(tmp_path / "AGAIN", tmp_path / "JOB/manifest.json")
    assert tree(tmp_path / "AGAIN") == tree(tmp_path / "JOB")


def test_packed_files_stand_beside_others_and_as_fixed_names(registry: Registry, archive: Path, tmp_path: Path) -> None:
    ingest(registry)
    (archive / "loose.fits").write_bytes(image(9))
    row = {"relpath": "loose.fits", "filesize": len(image(9)), "visit": 903334, "ccd": 9, **GIVEN}
    registry.ingest_table([row], filetype="calexp", archive="home", run=RUN)
    spec = RepoSpec("hsc", (InputSpec("calexp"),), files=(FileSpec(f"{TAR}/{member(2)}", "fixed/two.fits"),))
    assert materialize_repo(registry, tmp_path / "JOB", spec).staged == {"copy": 6, "symlink": 1}
    assert (tmp_path / "JOB/in/fixed/two.fits").read_bytes() == image(2)


def test_without_packed_files_a_job_asks_one_thing_more(registry: Registry, archive: Path, tmp_path: Path) -> None:
    inputs = []
    for ccd in range(30):
        (archive / f"{ccd}.fits").touch()
        inputs.append({"relpath": f"{ccd}.fits", "filesize": 0, "visit": 1, "ccd": ccd, **GIVEN})
    registry.ingest_table(inputs, filetype="calexp", archive="home", run=RUN)
    with statements(registry) as sent:
        materialize_repo(registry, tmp_path / "JOB", calexps())
    assert len([one for one in sent if "tar_member" in one]) == 1


def test_a_tar_that_changed_since_is_said(registry: Registry, archive: Path, tmp_path: Path) -> None:
    ingest(registry)
    write_tar(archive / TAR, {member(ccd): image(ccd + 1) for ccd in range(5)} | {"README": b"read me"})
    with pytest.raises(IntegrityError, match="md5sum is"):
        materialize_repo(registry, tmp_path / "JOB", calexps())
    before = contents(registry)
    with pytest.raises(IntegrityError, match="is not the tar that was registered"):
        ingest(registry)
    assert contents(registry) == before
    assert not (tmp_path / "JOB").exists()


def test_what_cannot_be_is_refused_and_nothing_changes(registry: Registry, archive: Path) -> None:
    before = contents(registry)
    write_tar(archive / "bad.tar", {member(1): image(1), "../x": b"x"})
    write_tar(archive / "other.tar", {"README": b"x"})
    write_tar(archive / "a.tar.gz", {member(1): image(1)})
    for tar, filetype, error in (
        ("bad.tar", "calexp", UnsafePathError),
        ("other.tar", "calexp", NotFoundError),
        ("nowhere.tar", "calexp", NotFoundError),
        (TAR, "unheard_of", NotFoundError),
        ("a.tar.gz", "calexp", UsageError),
    ):
        with pytest.raises(error):
            ingest_packed(registry, tar, filetype=filetype, archive="home", run=RUN, given=GIVEN)
    ingest_packed(registry, TAR, filetype="calexp", archive="home", run=RUN, given=GIVEN, dry_run=True)
    assert contents(registry) == before


def test_a_broken_member_is_reported_and_the_rest_goes_in(
    registry: Registry, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tar(archive / TAR, {member(1): image(1), member(2): b"no image"})
    command = ["ingest-packed", TAR, "--filetype", "calexp", "--archive", "home", "--run", RUN, "--set", "filter=HSC-R"]
    url = registry.engine.url.render_as_string(hide_password=False)
    assert run_dbb([*command, "--registry", url]) == 3
    err = capsys.readouterr().err
    assert "1 added, 0 known, 1 refused" in err
    assert f"refused: {TAR}/{member(2)}" in err


def test_a_reindexed_catalogue_must_keep_what_is_registered_of_it(registry: Registry, archive: Path) -> None:
    from dbb.ingest import add_refcat

    files = {"189584.fits": b"shard", member(1): image(1)}
    write_tar(archive / TAR, files)
    add_refcat(registry, "ps1", TAR)
    assert ingest(registry) == (1, 0, 0)
    write_tar(archive / TAR, {"189584.fits": b"other"})
    with pytest.raises(ConflictError, match="no longer holds"):
        add_refcat(registry, "ps1", TAR, reindex=True)
    write_tar(archive / TAR, {"more": b"x", **files})
    add_refcat(registry, "ps1", TAR, reindex=True)
    assert rows(registry, "select count(*) from tar_member where desfile_id is not null") == [(1,)]
