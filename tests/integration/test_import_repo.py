"""An existing Gen2 repository moves in: its files are registered in place, unopened, and serve a job as before."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from demo_survey import CALIBS, FULL, Demo, make_demo, select, sha256
from registries import contents, rows, statements
from written_job import shallow_stack

from dbb import Registry
from dbb.butler import CalibSpec, InputSpec, Repository, RepoSpec, import_repo, materialize_repo
from dbb.butler.config import format_config
from dbb.errors import DbbError, MissingError, NotFoundError, UsageError
from dbb.verify import Question, verify

RUN = "Ht0_r40p01"
RERUN = "Ht0_r40p02"
HSC = "lsst.obs.hsc.hscMapper.HscMapper"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An old repository with real files, and a rerun: what a job was given and what it wrote."""
    demo: Demo = make_demo(tmp_path_factory)
    folder = tmp_path_factory.mktemp("old")
    with Registry(demo.copy(folder)) as registry:
        materialize_repo(registry, folder / "JOB", FULL)
    old = folder / "disk" / "hsc"
    shutil.copytree(folder / "JOB" / "in", old)  # links become files
    rerun = old / "rerun" / "ana"
    rerun.mkdir(parents=True)
    (rerun / "repositoryCfg.yaml").write_text(format_config(HSC, ["../.."], {}))
    with Repository(rerun) as repo:
        for ccd in (16, 22):
            source = rerun / "new"
            source.write_text(f"SRC of {ccd}")
            repo.put("src", source, visit=903334, ccd=ccd)
        source.unlink(missing_ok=True)
    return folder / "disk"


@pytest.fixture
def disk(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "disk"))


@pytest.fixture
def registry(registry_url: str, disk: Path) -> Iterator[Registry]:
    with Registry.create(registry_url, mapper="hsc") as opened:
        opened.add_archive("disk", str(disk))
        yield opened


@pytest.fixture
def local(tmp_path: Path, disk: Path) -> Iterator[Registry]:
    """A registry in SQLite: enough for what the database has no part in."""
    with Registry.create(f"sqlite:///{tmp_path / 'local.db'}", mapper="hsc") as opened:
        opened.add_archive("disk", str(disk))
        yield opened


def files_below(folder: Path) -> set[str]:
    """Return what the old repository has besides its own files and its rerun."""
    own = {"repositoryCfg.yaml", "registry.sqlite3", "calibRegistry.sqlite3"}
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name not in own)
    return {str(path.relative_to(folder)) for path in paths if "rerun" not in path.parts}


def test_every_file_is_registered_where_it_lies(registry: Registry, disk: Path) -> None:
    done = import_repo(registry, disk / "hsc", archive="disk", run=RUN, calibs=CALIBS)
    paths = files_below(disk / "hsc")
    assert (done.files.added, done.files.refused, done.absent) == (len(paths), (), ())
    assert done.others == ("rerun/ana",)
    registered = rows(registry, "select path, filename from file_archive_info")
    assert {f"{path}/{name}" for path, name in registered} == {f"hsc/{path}" for path in paths}
    assert {name: one.added for name, one in done.certified.items()} == {
        name: select(disk / "hsc/CALIB/calibRegistry.sqlite3", f"select count(*) from {name}")[0][0]
        for name in ("bias", "dark", "flat")
    }
    found = verify(registry, Question())
    rerun = {str(path.relative_to(disk)) for path in (disk / "hsc/rerun").rglob("SRC*")}
    assert (found.checked, {one.relpath for one in found.problems}) == (len(paths), rerun)


def test_metadata_come_from_the_repositorys_registry_and_the_paths(registry: Registry, disk: Path) -> None:
    import_repo(registry, disk / "hsc", archive="disk", run=RUN)
    raw = registry.query("raw", where="visit = 903334 AND ccd = 16")[0]
    assert (raw["expTime"], raw["frameId"], raw["field"], raw.run) == (
        30.0,
        registry_row(disk, "frameId"),
        "STRIPE82L",
        None,
    )
    calexp = registry.query("calexp", where="visit = 903334 AND ccd = 16")[0]
    assert (calexp["pointing"], calexp["expTime"], calexp.run) == (raw["pointing"], 30.0, RUN)
    coadd = registry.query("deepCoadd_calexp", where="patch = '8,6'")[0]
    assert (coadd["patch"], coadd["tract"], coadd.run) == ("8x6", 0, RUN)
    flat = registry.query("flat", where="ccd = 16 AND filter = 'HSC-R'")[0]
    assert (flat["calibDate"][:4], flat.run) == ("2013", None)
    assert raw.filesize == (disk / str(raw.relpath)).stat().st_size
    assert raw.md5sum is None


def test_no_data_file_is_opened(disk: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    with Registry.create(url, mapper="hsc") as registry:
        registry.add_archive("disk", str(disk))
    code = (
        "import sys\nfrom dbb import Registry\nfrom dbb.butler import import_repo\nopened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)\n"
        "with Registry(sys.argv[1]) as registry:\n"
        f"    import_repo(registry, sys.argv[2], archive='disk', run='{RUN}', calibs='{CALIBS}')\n"
        "print([path for path in opened if path.endswith(('.fits', '.pickle', '.gz', '.fz'))], len(opened) > 10)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, url, str(disk / "hsc")], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[] True\n", done.stderr


def test_a_second_import_knows_everything(registry: Registry, disk: Path) -> None:
    first = import_repo(registry, disk / "hsc", archive="disk", run=RUN, calibs=CALIBS)
    before = contents(registry)
    again = import_repo(registry, disk / "hsc", archive="disk", run=RUN, calibs=CALIBS)
    assert (again.files.added, again.files.known) == (0, first.files.added)
    assert {one.added for one in again.certified.values()} == {0}
    assert contents(registry) == before
    other = import_repo(registry, disk / "hsc", archive="disk", run=RERUN)
    assert other.files.conflict
    assert contents(registry) == before


def test_a_dry_run_says_the_same_and_changes_nothing(registry: Registry, disk: Path) -> None:
    before = contents(registry)
    tried = import_repo(registry, disk / "hsc", archive="disk", run=RUN, calibs=CALIBS, dry_run=True)
    assert contents(registry) == before
    assert tried == import_repo(registry, disk / "hsc", archive="disk", run=RUN, calibs=CALIBS)


def test_a_rerun_is_imported_with_its_own_run_and_its_parents_registry(registry: Registry, disk: Path) -> None:
    done = import_repo(registry, disk / "hsc" / "rerun" / "ana", archive="disk", run=RERUN)
    assert (done.files.added, done.files.refused) == (2, ())
    assert done.parents == (str(disk / "hsc"),)
    found = registry.query("src")
    assert [(one.run, one["ccd"], one["expTime"]) for one in found] == [(RERUN, 16, 30.0), (RERUN, 22, 30.0)]


def test_what_cannot_be_understood_is_listed_and_the_rest_goes_in(registry: Registry, disk: Path) -> None:
    hsc = disk / "hsc"
    expected = len(files_below(hsc))
    (hsc / "notes.txt").touch()
    (hsc / "broken.fits").symlink_to("nowhere")
    raw = next(hsc.glob("STRIPE82L/*/*/HSC-R/HSC-0903334-016.fits"))
    shutil.copy(raw, raw.with_name("HSC-0999998-016.fits"))
    moved = hsc / raw.relative_to(hsc).as_posix().replace("HSC-R/", "HSC-Y/")
    moved.parent.mkdir(exist_ok=True)
    raw.rename(moved)
    (hsc / "linked").symlink_to(disk)
    done = import_repo(registry, hsc, archive="disk", run=RUN)
    assert done.files.added == expected - 1
    assert {one.relpath.rpartition("/")[2]: one.why for one in done.files.refused} == {
        "notes.txt": "it fits no template of the camera or of the repository",
        "broken.fits": "it is a link to nowhere, where nothing is",
        "HSC-0999998-016.fits": "the repository's registry has no row of it",
        "HSC-0903334-016.fits": "its path says filter=HSC-Y, the repository's registry HSC-R",
    }
    assert done.others == ("linked", "rerun/ana")


def test_what_contradicts_is_named_by_its_path_in_the_repository(registry: Registry, disk: Path) -> None:
    import_repo(registry, disk / "hsc", archive="disk", run=RUN)
    raw = next((disk / "hsc").glob("STRIPE82L/*/*/*/HSC-*.fits"))
    raw.write_bytes(b"other")
    done = import_repo(registry, disk / "hsc", archive="disk", run=RUN)
    assert done.files.conflict
    assert [one.relpath for one in done.files.refused] == [raw.relative_to(disk / "hsc").as_posix()]


def test_folders_deeper_than_the_stack_of_python_are_no_obstacle(registry: Registry, disk: Path) -> None:
    deep = disk / "hsc" / "/".join("d" * 400)
    deep.mkdir(parents=True)
    import_repo(registry, disk / "hsc", archive="disk", run=RUN)
    (deep / "x").touch()
    with shallow_stack(300):
        done = import_repo(registry, disk / "hsc", archive="disk", run=RUN)
    assert [one.relpath for one in done.files.refused] == [f"{'d/' * 400}x"]


def test_a_file_that_cannot_be_read_for_its_checksum_is_listed_and_the_rest_goes_in(
    registry: Registry, disk: Path
) -> None:
    raw = next((disk / "hsc").glob("STRIPE82L/*/*/*/HSC-*.fits"))
    raw.unlink()
    raw.symlink_to("/proc/self/mem")  # a plain file that nobody can read from its beginning
    done = import_repo(registry, disk / "hsc", archive="disk", run=RUN, checksums=True)
    assert done.files.added == len(files_below(disk / "hsc")) - 1
    ((relpath, why),) = [(one.relpath, one.why) for one in done.files.refused]
    assert relpath == raw.relative_to(disk / "hsc").as_posix()
    assert "it cannot be read: " in why


def test_linked_raws_are_registered_as_links_in_place(registry: Registry, disk: Path) -> None:
    raw = next((disk / "hsc").glob("STRIPE82L/*/*/HSC-R/HSC-0903334-016.fits"))
    size = raw.stat().st_size
    raw.rename(disk.parent / "elsewhere.fits")
    raw.symlink_to(disk.parent / "elsewhere.fits")
    done = import_repo(registry, disk / "hsc", archive="disk", run=RUN)
    assert (done.links, done.files.refused) == (1, ())
    record = registry.query("raw", where="visit = 903334 AND ccd = 16")[0]
    assert (record.relpath, record.filesize) == (str(raw.relative_to(disk)), size)


def test_templates_of_the_repositorys_own_policy_are_honoured(registry: Registry, disk: Path) -> None:
    other = disk / "own"
    template = "mine/%(visit)d/%(ccd)02d.fits"
    (other / "mine/903334").mkdir(parents=True)
    (other / "mine/903334/16.fits").write_text("calexp")
    policy = {"exposures": {"calexp": {"template": template}}}
    (other / "repositoryCfg.yaml").write_text(format_config(HSC, ["../hsc"], policy))
    done = import_repo(registry, other, archive="disk", run=RUN)
    assert (done.files.added, done.files.refused) == (1, ())
    assert registry.query("calexp")[0]["pointing"] == registry_row(disk, "pointing")


def registry_row(disk: Path, column: str) -> object:
    where = "visit = 903334 and ccd = 16"
    return select(disk / "hsc/registry.sqlite3", f"select {column} from raw where {where}")[0][0]


def test_an_old_style_repository_names_its_camera_in_short(registry: Registry, disk: Path) -> None:
    (disk / "hsc/repositoryCfg.yaml").unlink()
    (disk / "hsc/_mapper").write_text("lsst.obs.hsc.HscMapper\n")
    assert import_repo(registry, disk / "hsc", archive="disk", run=RUN, dry_run=True).files.refused == ()


def test_an_unknown_camera_can_be_named(registry: Registry, disk: Path) -> None:
    (disk / "hsc/repositoryCfg.yaml").unlink()
    (disk / "hsc/_mapper").write_text("lsst.obs.mine.MyMapper\n")
    with pytest.raises(NotFoundError, match=r"unknown mapper class 'lsst.obs.mine.MyMapper'"):
        import_repo(registry, disk / "hsc", archive="disk", run=RUN)
    assert import_repo(registry, disk / "hsc", archive="disk", run=RUN, mapper="hsc", dry_run=True).files.refused == ()


def test_checksums_are_read_when_asked_or_filled_later(registry: Registry, disk: Path) -> None:
    rerun = disk / "hsc" / "rerun" / "ana"
    import_repo(registry, rerun, archive="disk", run=RERUN, checksums=True)
    assert {len(one.md5sum or "") for one in registry.query("src")} == {32}
    done = import_repo(registry, disk / "hsc", archive="disk", run=RUN)
    assert verify(registry, Question(checksums=True, repair=True)).filled == done.files.added


@pytest.mark.parametrize("name", ["repositoryCfg.yaml", "registry.sqlite3", "CALIB/calibRegistry.sqlite3"])
def test_a_pipe_in_the_place_of_a_registry_or_configuration_is_an_error(local: Registry, disk: Path, name: str) -> None:
    (disk / "hsc" / name).unlink()
    os.mkfifo(disk / "hsc" / name)
    with pytest.raises(DbbError, match=f"{name}.* is no regular file"):
        import_repo(local, disk / "hsc", archive="disk", run=RUN, calibs=CALIBS)


@pytest.mark.parametrize("mode", ["wal", "persist"])
def test_what_is_in_the_log_of_the_repositorys_registry_counts(local: Registry, disk: Path, mode: str) -> None:
    with closing(sqlite3.connect(disk / "hsc/registry.sqlite3")) as conn:
        conn.execute(f"pragma journal_mode = {mode}")
        conn.execute("update raw set expTime = 77")
        conn.commit()
        before = {path: path.read_bytes() for path in (disk / "hsc").glob("registry*")}
        assert len(before) > 1
        import_repo(local, disk / "hsc", archive="disk", run=RUN)
        assert {path: path.read_bytes() for path in (disk / "hsc").glob("registry*")} == before
    assert {record["expTime"] for record in local.query("raw")} == {77.0}


def test_bad_requests_are_refused_with_what_to_do(registry: Registry, disk: Path, tmp_path: Path) -> None:
    before = contents(registry)
    with pytest.raises(UsageError, match="say by which, with --run"):
        import_repo(registry, disk / "hsc", archive="disk")
    with pytest.raises(MissingError, match="is no Gen2 repository"):
        import_repo(registry, disk, archive="disk", run=RUN)
    with pytest.raises(NotFoundError, match="unknown archive"):
        import_repo(registry, disk / "hsc", archive="dsk", run=RUN)
    registry.add_archive("other", str(tmp_path / "other"))
    with pytest.raises(UsageError, match="does not lie in archive other"):
        import_repo(registry, disk / "hsc", archive="other", run=RUN)
    registry.write(lambda conn: None)
    (disk / "hsc/registry.sqlite3").write_bytes(b"no database at all, but long enough to look at")
    with pytest.raises(Exception, match="cannot be read as the registry"):
        import_repo(registry, disk / "hsc", archive="disk", run=RUN)
    after = contents(registry)
    assert {**after, "ops_archive": before["ops_archive"]} == before


def test_statements_do_not_grow_with_files(registry: Registry, disk: Path) -> None:
    rerun = disk / "hsc" / "rerun" / "ana"
    registry.filetypes()  # read once
    sent_by_size = []
    for count in (1, 50):
        folder = rerun / "deepCoadd/HSC-R" / str(count)
        folder.mkdir(parents=True)
        for patch in range(count):
            (folder / f"{patch},1.fits").touch()
        with statements(registry) as sent:
            import_repo(registry, rerun, archive="disk", run=RERUN, dry_run=True)
        sent_by_size.append(len(sent))
    assert sent_by_size[0] == sent_by_size[1]


def test_the_published_calibrations_of_ci_hsc_move_in(registry: Registry, shared: Path, tmp_path: Path) -> None:
    real = shared / "data" / "ci_hsc"
    repo = tmp_path / "disk" / "ci"
    repo.mkdir()
    (repo / "_mapper").write_text("lsst.obs.hsc.HscMapper\n")
    with (real / "inventory.csv").open(newline="") as stream:
        calibs = [row["path"] for row in csv.DictReader(stream) if row["path"].startswith("CALIB/")]
    for path in calibs:
        (repo / path).parent.mkdir(parents=True, exist_ok=True)
        (repo / path).touch()
    shutil.copyfile(real / "calibRegistry.sqlite3", repo / "CALIB/calibRegistry.sqlite3")
    done = import_repo(registry, repo, archive="disk", calibs="2014A")
    asked = {
        name: select(repo / "CALIB/calibRegistry.sqlite3", f"select count(*) from {name}")[0][0]
        for name in ("bias", "dark", "flat", "fringe", "sky", "defects")
    }
    certified = sum(one.added for one in done.certified.values())
    assert certified + len(done.absent) == sum(asked.values())
    assert done.files.added + len(done.files.refused) == len([one for one in calibs if "Registry" not in one])
    assert (len(done.absent), [one for one in done.files.refused if "fits no template" not in one.why]) == (0, [])


@pytest.mark.parametrize("era", ["2017", "2021"])
def test_the_real_client_reads_a_job_made_from_what_was_imported(
    disk: Path, tmp_path: Path, shared: Path, gen2_src: Path, era: str
) -> None:
    with Registry.create(f"sqlite:///{tmp_path}/new.db", mapper="hsc") as registry:
        registry.add_archive("disk", str(disk))
        import_repo(registry, disk / "hsc", archive="disk", run=RUN, calibs=CALIBS)
        import_repo(registry, disk / "hsc/rerun/ana", archive="disk", run=RERUN)
        inputs = (InputSpec("raw"), InputSpec("calexp", runs=(RUN,)), InputSpec("src", runs=(RERUN,)))
        spec = RepoSpec("hsc", (*inputs, InputSpec("deepCoadd_calexp")), calibs=CalibSpec(CALIBS))
        materialize_repo(registry, tmp_path / "JOB", spec)
    manifest = json.loads((tmp_path / "JOB/manifest.json").read_text())
    assert {entry["dataset"] for entry in manifest["inputs"]} == {"raw", "calexp", "src", "deepCoadd_calexp"}
    wanted = [
        {
            "datasetType": one["dataset"],
            "dataId": one["data_id"],
            "expect": sha256(Path(one["source"].removeprefix("file://"))),
        }
        for one in manifest["inputs"]
    ]
    exposure = {"visit": 903334, "ccd": 16}
    for dataset in ("bias", "flat"):
        (source,) = (one["source"] for one in manifest["calibs"] if fits_exposure(one, dataset, exposure, manifest))
        digest = sha256(Path(source.removeprefix("file://")))
        wanted.append({"datasetType": dataset, "dataId": exposure, "expect": digest})
    (tmp_path / "asked.json").write_text(json.dumps(wanted))
    client = [sys.executable, "-B", shared / "gen2_client/client.py", "--src", gen2_src / era, "--repo"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [*client, tmp_path / "JOB/in", tmp_path / "asked.json"],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    results = json.loads(done.stdout)["results"]
    assert (len(results), [one for one in results if not one["ok"]]) == (len(wanted), [])


def fits_exposure(
    calib: dict[str, Any], dataset: str, exposure: dict[str, int], manifest: dict[str, list[dict[str, Any]]]
) -> bool:
    """Decide by the rows whether a calibration is that of an exposure."""
    (raw,) = (one for one in manifest["exposures"] if all(one[key] == exposure[key] for key in exposure))
    said = calib["data_id"]
    return (
        calib["dataset"] == dataset
        and said["ccd"] == raw["ccd"]
        and said.get("filter") in (None, "NONE", raw["filter"])
        and calib["valid_start"] <= raw["taiObs"] <= calib["valid_end"]
    )


def test_a_calibration_registry_row_without_a_file_is_named(registry: Registry, disk: Path) -> None:
    calib = disk / "hsc/CALIB/calibRegistry.sqlite3"
    with closing(sqlite3.connect(calib)) as conn:
        conn.execute(
            "insert into bias (filter, ccd, calibDate, validStart, validEnd) values ('NONE', 99, '2012-01-01',"
            " '2011-01-01', '2012-12-31')"
        )
        conn.commit()
    done = import_repo(registry, disk / "hsc", archive="disk", run=RUN, calibs=CALIBS)
    assert done.absent == ("no bias with calibDate=2012-01-01 ccd=99 is registered in archive disk",)
    assert done.files.refused == ()
