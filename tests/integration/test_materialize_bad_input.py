"""Whatever is wrong, `dbb materialize-repo` says what, which and what to do, and leaves nothing behind."""

from __future__ import annotations

import copy
import json
import os
import random
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from demo_survey import CALIBS, RUN_A, Demo, Survey, make_demo, tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbb import Registry
from dbb.butler import CalibSpec, FileSpec, InputSpec, OutputSpec, RepoSpec, materialize_repo
from dbb.butler.linker import LinkMaker
from dbb.butler.linkprocess import LinkProcess
from dbb_cli.main import run as run_dbb

RAW = '[[inputs]]\ndataset = "raw"\n'
MAP = '[[files]]\nfilename = "skyMap-1.pickle"\nas = '
UNEXPECTED = "(dbb --debug"  # what stands behind errors that nobody foresaw


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return make_demo(tmp_path_factory)


@pytest.fixture
def survey(tmp_path: Path) -> Survey:
    return Survey(tmp_path / "survey")


class Refusal:
    """Runs the command in a folder of its own and makes sure that the folder stays as it was."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.job, self._capsys = folder, folder / "JOB", capsys
        folder.mkdir()

    def __call__(self, code: int, *arguments: str, job: Path | None = None) -> str:
        before = tree(self.folder)
        found = run_dbb(["materialize-repo", str(job or self.job), *arguments])
        out, err = self._capsys.readouterr()
        assert (found, out) == (code, ""), err
        assert tree(self.folder) == before
        assert "Traceback" not in err
        assert UNEXPECTED not in err
        return err

    def spec(self, code: int, text: str, url: str) -> str:
        path = self.folder / "job.toml"
        path.write_text('mapper = "hsc"\n' * ("mapper = " not in text) + text, encoding="utf-8")
        return self(code, "--spec", str(path), "--registry", url)

    def manifest(self, code: int, content: object) -> str:
        path = self.folder / "manifest.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return self(code, "--from", str(path))


@pytest.fixture
def refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refusal:
    return Refusal(tmp_path / "jobs", capsys)


# What nobody knows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[inputs]]\ndataset = "calex"\n', "unknown dataset type 'calex'; known: calexp, "),
        (
            '[[inputs]]\ndataset = "deepcoad_calexp"\n',
            "unknown dataset type 'deepcoad_calexp'; known: deepcoadd_calexp",
        ),
        (f'{RAW}where = "vist = 1"\n', "'vist'; known: visit, "),
        (f'{RAW}id = "visit=1 ccdd=3"\n', "'ccdd'; known: ccd, "),
        ('[[inputs]]\ndataset = "calexp"\nruns = ["Ht0_r12p02"]\n', f"unknown run 'Ht0_r12p02'; known: {RUN_A}, "),
        ('[[inputs]]\ndataset = "calexp"\nruns = "r12p02"\n', "unknown run 'r12p02'; known: "),
        ('[[inputs]]\ndataset = "calexp"\nruns = ["tag:PROTO"]\n', "unknown tag 'PROTO'; known: PROTO-0.1"),
        ('mapper = "hcs"\n' + RAW, "unknown mapper 'hcs'; known: hsc"),
        (f'{RAW}[calibs]\nversion = "2014B"\n', "unknown calibration version '2014B'; known: 2014A"),
        (f'{RAW}[calibs]\nversion = "2014A"\ntypes = ["flatt"]\n', "unknown "),
        (f'{RAW}[calibs]\nversion = "2014A"\ntypes = ["fringe"]\n', "unknown calibration type 'fringe'; known: "),
        (f'{RAW}[calibs]\nversion = "2014A"\ntypes = ["calexp"]\n', "unknown calibration type 'calexp'; known: bias"),
        ('archives = ["hom"]\n' + RAW, "unknown archive 'hom'; known: home"),
        ('overlaps = "ci"\n' + RAW + "where = \"patch = '8,6'\"\n", "unknown overlap version 'ci'; known: ci_hsc"),
        (RAW + '[outputs]\nrun = "Ht0_r20p01"\ndatasets = ["sources"]\n', "unknown dataset type 'sources'; known: "),
        (
            '[[files]]\nfilename = "map.pickle"\nas = "a"\n',
            "unknown file 'map.pickle'. No registered file has this name",
        ),
        ('[[files]]\nfilename = "x/skyMap-1.pickle"\nas = "a"\n', "unknown file 'x/skyMap-1.pickle'"),
    ],
)
def test_an_unknown_name_is_reported_with_the_known_ones_nearest_first(
    demo: Demo, refusal: Refusal, text: str, words: str
) -> None:
    assert words.lower() in refusal.spec(5, text, demo.url).lower()


def test_a_dataset_type_is_looked_for_without_regard_to_case(demo: Demo, tmp_path: Path) -> None:
    where = ["--mapper", "hsc", "--dataset", "DEEPCOADD_CALEXP", "--registry", demo.url]
    assert run_dbb(["materialize-repo", str(tmp_path / "JOB"), *where]) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[inputs]]\ndataset = "calexp"\nruns = ["r12"]\n', "'r12' is no run: write UNIT_rREQUESTpATTEMPT"),
        (f'{RAW}where = "visit = = 1"\n', "visit = = 1\n"),
        (f'{RAW}id = "visit"\n', "visit\n"),
        (f'{RAW}[outputs]\nrun = "r20p01"\n', "run 'r20p01' names no unit: write e.g. Ht0_r20p01"),
        ('stage = "link"\n' + RAW, "stage 'link' is none of auto, symlink, relsymlink, hardlink, copy"),
        ('era = "2019"\n' + RAW, "era '2019' is none of 2017, 2021, both"),
        ('[[inputs]]\ndataset = "flat"\n', "flat is a calibration: it is chosen by date, so give its version"),
        ("stagee = 1\n" + RAW, "unknown key 'stagee'; known: stage, "),
        ("[[inputs]\n", "cannot be read: "),
        (RAW + "[calibs]\n", "[calibs] needs a text for 'version'"),
        (RAW + "[outputs]\n", "[outputs] needs a text for 'run'"),
        ("overlaps = 5\n" + RAW, "the job file needs a text for 'overlaps'"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_shown(demo: Demo, refusal: Refusal, text: str, words: str) -> None:
    assert words in refusal.spec(2, text, demo.url)


def test_a_wrong_expression_is_shown_with_a_caret_below_the_place(demo: Demo, refusal: Refusal) -> None:
    lines = refusal.spec(2, f'{RAW}where = "visit = 903334 AND ccd !! 3"\n', demo.url).splitlines()
    assert lines[-2].strip() == "visit = 903334 AND ccd !! 3"
    assert lines[-1].strip() == "^"
    assert lines[-2][lines[-1].index("^")] == "!"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f'{RAW}where = "visit = 1"\n', "no hsc_raw fits where 'visit = 1': nothing to stage"),
        (f'{RAW}id = "visit=1 ccd=2"\n', "no hsc_raw fits id 'visit=1 ccd=2': nothing to stage"),
        ('[[inputs]]\ndataset = "src"\n', "no src fits without any condition"),
        (
            '[[inputs]]\ndataset = "calexp"\nwhere = "visit = 904010"\nruns = ["Ht0_r12p01"]\n',
            "no calexp fits where 'visit = 904010' and in runs Ht0_r12p01",
        ),
    ],
)
def test_a_condition_that_nothing_fits_is_repeated(demo: Demo, refusal: Refusal, text: str, words: str) -> None:
    assert words in refusal.spec(5, text, demo.url)


def test_two_files_for_one_data_id_are_both_named(demo: Demo, refusal: Refusal) -> None:
    err = refusal.spec(4, '[[inputs]]\ndataset = "calexp"\nid = "visit=903334 ccd=16"\n', demo.url)
    for words in ("visit=903334 ccd=16", "CORR-0903334-016-r12p01.fits (home)", "CORR-0903334-016-r11p95.fits (home)"):
        assert words in err
    assert "Say with --runs which run comes first" in err


def test_a_missing_calibration_names_type_and_exposure(survey: Survey, refusal: Refusal) -> None:
    survey.add_raw(1, 2)
    survey.add_calib("bias", 2, "2013-08-01", "2013-07-01", "2014-01-01")
    err = refusal.spec(5, f'{RAW}[calibs]\nversion = "{CALIBS}"\n', survey.url)
    assert "no bias of version 2014A fits exposure visit=1 ccd=2 (HSC-R, 2013-06-17)" in err
    assert "2013-07-01..2014-01-01" in err


def test_calibrations_that_overlap_after_all_are_both_named(survey: Survey, refusal: Refusal) -> None:
    survey.add_raw(1, 2)
    survey.add_calib("bias", 2, "2013-01-01", "2013-01-01", "2013-06-16")
    survey.add_calib("bias", 2, "2013-08-01", "2013-06-17", "2014-01-01")
    with survey.registry.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE certified_calibration SET valid_end = '2013-06-17' WHERE valid_end < '2014'")
    err = refusal.spec(4, f'{RAW}[calibs]\nversion = "{CALIBS}"\n', survey.url)
    assert "several bias of version 2014A fit exposure visit=1 ccd=2" in err
    assert "bias-NONE-2-2013-01-01.fits" in err
    assert "bias-NONE-2-2013-08-01.fits" in err


def test_an_exposure_without_a_date_gets_no_calibrations(survey: Survey, refusal: Refusal) -> None:
    survey.add("calexp", "c.fits", run=RUN_A, visit=1, ccd=2, filter="HSC-R", pointing=533)
    survey.add_calib("bias", 2, "2013-01-01", "2013-01-01", "2014-01-01")
    err = refusal.spec(5, f'[[inputs]]\ndataset = "calexp"\n[calibs]\nversion = "{CALIBS}"\n', survey.url)
    assert "exposure visit=1 ccd=2 (HSC-R, None) has no date, so no bias can be chosen for it" in err


# Files that are not what is registered


@pytest.mark.parametrize("stage", ["symlink", "relsymlink", "hardlink", "copy"])
def test_an_absent_file_is_named(survey: Survey, refusal: Refusal, stage: str) -> None:
    survey.add_raw(1, 2)
    gone = survey.add_raw(1, 3)
    gone.unlink()
    err = refusal.spec(1, f'stage = "{stage}"\n{RAW}', survey.url)
    assert f"{gone} is registered but cannot be found: No such file or directory" in err
    assert "Nothing was written" in err
    assert "1-2.fits" not in err


@pytest.mark.parametrize("stage", ["symlink", "relsymlink", "hardlink", "copy"])
def test_a_file_of_another_size_is_named_with_both_sizes(survey: Survey, refusal: Refusal, stage: str) -> None:
    path = survey.add_raw(1, 2)
    path.write_text("longer than it was registered", encoding="utf-8")
    err = refusal.spec(1, f'stage = "{stage}"\n{RAW}', survey.url)
    assert f"{path} has 29 bytes, registered with 12" in err


def test_other_bytes_of_the_same_size_are_noticed_when_they_are_copied(survey: Survey, refusal: Refusal) -> None:
    path = survey.add_raw(1, 2)
    path.write_text("raw/1-2.FITS", encoding="utf-8")
    err = refusal.spec(1, f'stage = "copy"\n{RAW}', survey.url)
    assert f"file://{path}: md5sum is " in err
    assert "registered as " in err
    assert "it is not the file that was registered" in err


def test_a_folder_in_place_of_a_file_is_named(survey: Survey, refusal: Refusal) -> None:
    path = survey.add_raw(1, 2)
    path.unlink()
    path.mkdir()
    assert f"{path} is no regular file" in refusal.spec(1, RAW, survey.url)


def test_a_dead_link_in_the_archive_is_named(survey: Survey, refusal: Refusal) -> None:
    path = survey.add_raw(1, 2)
    path.unlink()
    path.symlink_to("nowhere")
    assert f"{path} is registered but cannot be found" in refusal.spec(1, RAW, survey.url)


def test_many_problems_are_listed_up_to_a_limit(survey: Survey, refusal: Refusal) -> None:
    for ccd in range(15):
        survey.add_raw(1, ccd).unlink()
    err = refusal.spec(1, RAW, survey.url)
    assert err.count("cannot be found") == 10
    assert "and perhaps more" in err


def test_a_file_that_no_archive_keeps_cannot_be_an_input(survey: Survey, refusal: Refusal) -> None:
    survey.add_raw(1, 2)
    with survey.registry.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM file_archive_info")
    assert "1-2.fits (in no archive) is registered but kept in no archive" in refusal.spec(5, RAW, survey.url)


@pytest.mark.parametrize("stage", ["symlink", "relsymlink", "hardlink"])
def test_a_remote_file_cannot_be_linked(survey: Survey, refusal: Refusal, stage: str) -> None:
    survey.registry.add_archive("cloud", "https://example.invalid/data")
    row = {"relpath": "map.pickle", "filesize": 1}
    survey.registry.ingest_table([row], filetype="deepcoadd_skymap", archive="cloud")
    err = refusal.spec(2, f'stage = "{stage}"\n[[files]]\nfilename = "map.pickle"\nas = "a"\n', survey.url)
    assert f"https://example.invalid/data/map.pickle is not on this machine, so it cannot be staged by {stage}" in err
    assert "use auto or copy" in err


def test_a_remote_file_that_is_absent_is_named_once(survey: Survey, refusal: Refusal) -> None:
    survey.registry.add_archive("cloud", "memory://cloud")
    row = {"relpath": "map.pickle", "filesize": 1}
    survey.registry.ingest_table([row], filetype="deepcoadd_skymap", archive="cloud")
    err = refusal.spec(1, '[[files]]\nfilename = "map.pickle"\nas = "a"\n', survey.url)
    assert "    memory://cloud/map.pickle: it is not there\n" in err
    assert err.count("map.pickle") == 1


# Where the job shall be


def make_folder(path: Path) -> None:
    path.mkdir()
    (path / "precious").write_text("keep", encoding="utf-8")


IN_THE_WAY: dict[str, Callable[[Path], object]] = {
    "folder": make_folder,
    "empty folder": Path.mkdir,
    "file": Path.touch,
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "link to a folder": lambda path: path.symlink_to("."),
}


@pytest.mark.parametrize("what", IN_THE_WAY)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_what_is_in_the_way_stays_as_it_is(demo: Demo, refusal: Refusal, what: str, dry: tuple[str, ...]) -> None:
    IN_THE_WAY[what](refusal.job)
    err = refusal(4, "--mapper", "hsc", "--dataset", "raw", "--registry", demo.url, *dry)
    assert f"{refusal.job} exists: choose another folder or remove it first" in err


@pytest.mark.parametrize("name", ["JOB[1]", "JOB*", "JOB?", "a]b"])
def test_a_folder_that_the_butler_would_glob_is_refused(demo: Demo, refusal: Refusal, name: str) -> None:
    arguments = ("--mapper", "hsc", "--dataset", "raw", "--registry", demo.url)
    assert "choose another" in refusal(2, *arguments, job=refusal.folder / name)
    assert "choose another" in refusal(2, *arguments, job=refusal.folder / name / "JOB")


def test_a_file_where_the_parent_folder_should_be_is_named(
    demo: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    arguments = ["--mapper", "hsc", "--dataset", "raw", "--registry", demo.url]
    for below in ("file/JOB", "file/deeper/JOB"):
        for dry in ([], ["--dry-run"]):
            assert run_dbb(["materialize-repo", str(tmp_path / below), *arguments, *dry]) == 4
            assert f"{tmp_path}/file is no folder; choose another" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("place", "advice"), [(".", "JOB"), ("/", "/JOB")])
def test_a_folder_that_has_no_name_of_its_own_is_refused(
    demo: Demo, refusal: Refusal, monkeypatch: pytest.MonkeyPatch, place: str, advice: str
) -> None:
    monkeypatch.chdir(refusal.folder)
    err = refusal(2, "--mapper", "hsc", "--dataset", "raw", "--registry", demo.url, job=Path(place))
    assert f"job folder '{place}' is there already: name a new folder, e.g. {advice}\n" in err


@pytest.mark.parametrize(
    "place", ["../a", "/tmp/a", "a/../b", "a//b", "./a", "a[1]", "a*b", "a?", "a\\\\b", "a/", ".."]
)
def test_a_fixed_name_outside_or_with_a_pattern_is_refused(demo: Demo, refusal: Refusal, place: str) -> None:
    assert "fixed name" in refusal.spec(2, f'{MAP}"{place}"\n', demo.url)


@pytest.mark.parametrize("place", ["registry.sqlite3", "repositoryCfg.yaml", "CALIB/calibRegistry.sqlite3"])
@pytest.mark.parametrize("stage", ["symlink", "hardlink", "copy"])
def test_a_fixed_name_cannot_be_that_of_a_file_of_dbb(demo: Demo, refusal: Refusal, place: str, stage: str) -> None:
    before = (demo.archive / "skymap/skyMap-1.pickle").read_bytes()
    err = refusal.spec(4, f'stage = "{stage}"\n{RAW}{MAP}"{place}"\n', demo.url)
    assert f"cannot be in/{place}: dbb writes that file itself; choose another name" in err
    assert (demo.archive / "skymap/skyMap-1.pickle").read_bytes() == before


STRANGE = [
    f"{registry}{end}"
    for registry in ("registry.sqlite3", "CALIB/calibRegistry.sqlite3")
    for end in ("-journal", "-wal", "-shm")
] + ["_mapper", "_parent"]


@pytest.mark.parametrize("place", STRANGE)
def test_a_fixed_name_cannot_be_one_that_sqlite_or_the_butler_looks_for(
    demo: Demo, refusal: Refusal, place: str
) -> None:
    assert f"cannot be in/{place}: SQLite or the Butler would read it" in refusal.spec(4, f'{MAP}"{place}"\n', demo.url)
    below = refusal.spec(4, f'{MAP}"{place}/registry.sqlite3"\n', demo.url)
    assert f"cannot be in/{place}: SQLite or the Butler would read it" in below


@pytest.mark.parametrize("stage", ["symlink", "hardlink", "copy"])
def test_a_fixed_name_that_is_too_long_for_the_file_system_is_refused(demo: Demo, refusal: Refusal, stage: str) -> None:
    for place in ("a" * 300, "b" * 300 + "/c"):
        err = refusal.spec(1, f'stage = "{stage}"\n{RAW}{MAP}"{place}"\n', demo.url)
        assert "File name too long" in err
    assert "folders deep" in refusal.spec(2, f'{MAP}"{"a/" * 1500}b"\n', demo.url)


@pytest.mark.parametrize("given", [["--refcat", "ps1"], ["--spec"]])
def test_an_unknown_reference_catalogue_is_refused(demo: Demo, refusal: Refusal, given: list[str]) -> None:
    if given == ["--spec"]:
        err = refusal.spec(5, f'{RAW}[[refcats]]\nname = "ps1"\n', demo.url)
    else:
        err = refusal(5, "--mapper", "hsc", "--dataset", "raw", "--registry", demo.url, *given)
    assert "unknown reference catalogue 'ps1'" in err
    assert "dbb refcat add" in err


@pytest.mark.parametrize("stage", ["symlink", "hardlink", "copy"])
@pytest.mark.parametrize("place", ["STRIPE82L", "STRIPE82L/2013-06-17", "CALIB"])
def test_a_fixed_name_cannot_be_that_of_a_folder(demo: Demo, refusal: Refusal, place: str, stage: str) -> None:
    err = refusal.spec(4, f'stage = "{stage}"\n{RAW}{MAP}"{place}"\n', demo.url)
    assert f"cannot be in/{place}: a file and a folder would have one name there" in err


def test_two_fixed_files_cannot_have_one_name(demo: Demo, refusal: Refusal) -> None:
    err = refusal.spec(4, f'{MAP}"a/b"\n{MAP}"a/b"\n', demo.url)
    assert "two files want to be in/a/b; the second is file://" in err


def test_a_fixed_file_below_another_one_is_refused(demo: Demo, refusal: Refusal) -> None:
    for deep in ("a/b", "a/b/c"):
        assert "cannot be in/" in refusal.spec(4, f'{MAP}"a"\n{MAP}"{deep}"\n', demo.url)


# The process beside this one that makes links


def linked(folder: Path, *records: tuple[str, int | None, str]) -> tuple[list[str], list[str]]:
    """Make links in this process and in one beside it; return what each says is wrong."""
    found: list[list[str]] = []
    for kind in ("here", "beside"):
        root = folder / kind
        root.mkdir()
        maker = LinkMaker(str(root)) if kind == "here" else LinkProcess(str(root))
        answers = [maker.link(source, size, source, path) for source, size, path in records]
        if isinstance(maker, LinkMaker):
            maker.close()
            found.append([answer for answer in answers if answer])
        else:
            found.append(maker.finish())
    return found[0], found[1]


def test_links_that_the_file_system_refuses_are_problems_in_words(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.touch()
    long = "a" * 300
    records = [(str(source), 0, f"in/{long}"), (str(source), 0, f"in/{long}/b"), (str(source), 0, "in/c")]
    here, beside = linked(tmp_path, *records)
    assert here == beside == [f"{source} cannot be {path}: File name too long" for _, _, path in records[:2]]
    assert (tmp_path / "here/in/c").is_symlink()
    assert (tmp_path / "beside/in/c").is_symlink()


def test_folders_may_lie_in_each_other_as_deep_as_paths_are_long(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.touch()
    path = "a/" * 1900 + "b"
    try:
        assert linked(tmp_path, (str(source), 0, path)) == ([], [])
    finally:
        # Python's own way to remove a tree fails at this depth
        subprocess.run(["rm", "-r", tmp_path / "here", tmp_path / "beside"], check=True)


def test_an_interrupt_from_the_keyboard_is_not_for_the_process_that_makes_links(tmp_path: Path) -> None:
    process = LinkProcess(str(tmp_path))
    try:
        assert os.getpgid(process._process.pid) != os.getpgid(0)
    finally:
        process.kill()


# Registries


def test_a_registry_of_a_newer_schema_is_refused_with_the_version_that_reads_it(
    demo: Demo, refusal: Refusal, tmp_path: Path
) -> None:
    url = demo.copy(tmp_path / "newer")
    with closing(sqlite3.connect(tmp_path / "newer/registry.db")) as database, database:
        database.execute("UPDATE dbb_schema SET version = version + 1, dbb = '9.9.9'")
    assert "use dbb 9.9.9 or newer" in refusal.spec(6, RAW, url)


def test_a_registry_that_is_not_there_is_named(refusal: Refusal, tmp_path: Path) -> None:
    assert f"unknown registry 'sqlite:///{tmp_path}/none.db'" in refusal.spec(5, RAW, f"sqlite:///{tmp_path}/none.db")
    assert not (tmp_path / "none.db").exists()


def test_a_registry_that_is_another_file_is_named(refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database, but long enough to be looked into" * 40, encoding="utf-8")
    assert "unknown registry" in refusal.spec(5, RAW, f"sqlite:///{tmp_path}/text.db")


def test_no_registry_at_all_tells_the_three_ways_to_name_one(
    refusal: Refusal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DBB_REGISTRY", raising=False)
    monkeypatch.chdir(tmp_path)
    err = refusal(2, "--mapper", "hsc", "--dataset", "raw")
    assert all(words in err for words in ("--registry URL", "$DBB_REGISTRY", "dbb.toml"))


# Manifests


@pytest.fixture(scope="module")
def manifest(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A small manifest with something in every part."""
    job = tmp_path_factory.mktemp("good") / "JOB"
    spec = RepoSpec(
        "hsc",
        (InputSpec("raw", id=("visit=903334 ccd=16^22",)),),
        calibs=CalibSpec(CALIBS),
        files=(FileSpec("skyMap-1.pickle", "deepCoadd/skyMap.pickle"),),
        outputs=OutputSpec("Ht0_r20p01", ("calexp",)),
    )
    with Registry(demo.url) as registry:
        materialize_repo(registry, job, spec)
    loaded: dict[str, Any] = json.loads((job / "manifest.json").read_text(encoding="utf-8"))
    return loaded


def change(manifest: dict[str, Any], place: str, value: object) -> dict[str, Any]:
    """Return a copy with another value at e.g. ``inputs.0.path``."""
    changed = copy.deepcopy(manifest)
    *way, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    node: Any = changed
    for part in way:
        node = node[part]
    node[last] = value
    return changed


@pytest.mark.parametrize(
    ("place", "value", "code", "words"),
    [
        ("schema", 2, 6, "has schema 2, this dbb reads 1"),
        ("schema", "1", 6, "has schema '1'"),
        ("stage", "teleport", 2, "stage 'teleport' is none of auto, "),
        ("stage", ["copy"], 2, "is none of auto, "),
        ("era", "1999", 2, "era '1999' is none of 2017, 2021, both"),
        ("era", {}, 2, "is none of 2017"),
        ("butler", {}, 2, "'butler' is incomplete"),
        ("butler", 7, 2, "'butler' is incomplete"),
        ("butler.raw", {"visit": "int); DROP TABLE raw"}, 2, "no Gen2 registry can have"),
        ("butler.raw", {"visit; --": "int"}, 2, "no Gen2 registry can have"),
        ("butler.visit", ["other"], 2, "must be columns of raw"),
        ("butler.visit", [], 2, "'butler'"),
        ("butler.exposure", [], 2, "'butler'"),
        ("butler.calibrations", ["bias b"], 2, "no Gen2 registry can have"),
        ("butler.calibrations", ["bias", "bias"], 2, "'butler'"),
        ("butler.calibrations", ["bias"], 2, "'dark' is no calibration type of this camera; known: bias"),
        ("butler.class", "os.system ''\n_policy: x", 2, "is no dotted name of a Python class"),
        ("butler.class", "os.system", 2, "'os.system' is no dotted name of a Python class that ends in 'Mapper'"),
        ("butler.class", "HscMapper", 2, "'HscMapper' is no dotted name of a Python class"),
        ("butler.class", "a.b\u0430.Mapper", 2, "is no dotted name of a Python class"),
        ("butler.calibrations", ["bias", "bias_visit"], 2, "two of one name: calibration table 'bias_visit'"),
        ("butler.raw.id", "int", 2, "two of one name: column of raw 'id'"),
        ("outputs", 5, 2, "each of 'outputs' needs dataset, section and template"),
        ("outputs", ["calexp"], 2, "each of 'outputs' needs dataset, section and template"),
        ("outputs.0.template", None, 2, "each of 'outputs' needs dataset, section and template"),
        ("outputs.0.template", "../../../etc/x", 2, "calexp: template '../../../etc/x' is refused"),
        ("outputs.0.template", "/etc/%(visit)07d", 2, "calexp: template '/etc/x' is refused"),
        ("outputs.0.template", "a/%(visit)07d/../../../x", 2, "is refused"),
        ("outputs.0.template", "a/%(visit)d[0]", 2, "is refused"),
        ("outputs.0.template", "", 2, "is refused"),
        ("outputs.0.template", "a/%s", 2, "has a % that begins no %(key)s"),
        ("outputs.0.template", "a/%(visit", 2, "has a % that begins no %(key)s"),
        ("outputs.0.section", "camera", 2, "section 'camera' of calexp is none of exposures, calibrations, datasets"),
        ("outputs.0.dataset", "cal exp", 2, "'cal exp' cannot be the name of an output's dataset type"),
        ("outputs.0.python", "os.system('x')", 2, "python \"os.system('x')\" of calexp is no name in Python"),
        ("outputs.0.persistable", ["x"], 2, "persistable ['x'] of calexp is no name in Python"),
        ("outputs.0.storage", "a..b", 2, "storage 'a..b' of calexp is no name in Python"),
        ("outputs.0.tables", "raw", 2, "tables 'raw' of calexp must be a list of names"),
        ("outputs.0.tables", ["raw; --"], 2, "must be a list of names"),
        ("inputs.0.filesize", True, 2, "filesize"),
        ("inputs.0.source", "/tmp/\ud800", 2, "lone surrogate"),
        ("inputs.0.path", "in/\udc80", 2, "lone surrogate"),
        ("inputs.0.run", "\ud800", 2, "lone surrogate"),
        ("created", "\ud800", 2, "lone surrogate"),
        ("exposures.0.filter", "\ud800", 2, "cannot be rows of the job's registry"),
        ("calibs.0.calib_date", "\ud800", 2, "lone surrogate"),
        ("inputs.0.path", "in/" + "a/" * 1500 + "b", 2, "lies more than 100 folders deep"),
        ("inputs.0.path", "in/" + "a" * 300, 1, "File name too long"),
        ("inputs.0.path", "in/" + "a" * 300 + "/b", 1, "File name too long"),
        ("inputs.0.path", "in/_parent/registry.sqlite3", 4, "SQLite or the Butler would read it"),
        ("inputs", {}, 2, "expected one of ["),
        ("inputs.0", "in/x", 2, "an entry of 'inputs' lacks one of source, path"),
        ("inputs.0.path", "in/../../escaped", 2, "'in/../../escaped' is refused"),
        ("inputs.0.path", "/tmp/escaped", 2, "'/tmp/escaped' is refused"),
        ("inputs.0.path", "out/CALIB", 2, "does not lie below in/"),
        ("inputs.0.path", "in", 2, "does not lie below in/"),
        ("inputs.0.path", "in/a[0]", 2, "'in/a[0]' is refused"),
        ("inputs.0.path", ["in/x"], 2, "path and dataset must be texts"),
        ("inputs.0.path", "in/CALIB/calibRegistry.sqlite3", 4, "dbb writes that file itself"),
        ("inputs.0.data_id", "visit=1", 2, "data_id an object"),
        ("inputs.0.source", "relative/path", 2, "must be a URL or an absolute path"),
        ("inputs.0.source", "file://relative", 2, "must be a URL or an absolute path"),
        ("inputs.0.source", "/tmp/\0", 2, "must be a URL or an absolute path"),
        ("inputs.0.source", 3, 2, "must be a URL or an absolute path"),
        ("inputs.0.source", "/does/not/exist", 1, "/does/not/exist is registered but cannot be found"),
        ("inputs.0.filesize", 3, 1, "registered with 3"),
        ("inputs.0.filesize", "3", 2, "filesize"),
        ("files.0", {"source": "/etc/passwd"}, 2, "an entry of 'files' lacks one of source, path"),
        ("files.0.path", "in/repositoryCfg.yaml", 4, "dbb writes that file itself"),
        ("calibs.0.calib_date", None, 2, "an entry of 'calibs' lacks one of"),
        ("calibs.0.valid_end", ["2014"], 2, "cannot be a row"),
        ("calibs.0.data_id", {"filter": "NONE"}, 2, "has no ccd in its data id"),
        ("calibs.0.data_id", {"ccd": [1]}, 2, "cannot be a row"),
        ("calibs.0.data_id", {"ccd": 10**30}, 2, "cannot be a row"),
        ("calibs.0.dataset", "calexp", 2, "'calexp' is no calibration type of this camera; known: bias, dark"),
        ("exposures.0", 5, 2, "an exposure must be an object"),
        ("exposures.0.visit", {"a": 1}, 2, "cannot be rows of the job's registry"),
        ("exposures.0.visit", 10**30, 2, "cannot be rows of the job's registry"),
    ],
)
def test_a_wrong_manifest_is_refused(
    refusal: Refusal, manifest: dict[str, Any], place: str, value: object, code: int, words: str
) -> None:
    assert words in refusal.manifest(code, change(manifest, place, value))


def test_two_exposures_with_one_key_are_refused(refusal: Refusal, manifest: dict[str, Any]) -> None:
    doubled = change(manifest, "exposures", manifest["exposures"][:1] * 2)
    assert "UNIQUE constraint failed: raw.visit, raw.ccd" in refusal.manifest(2, doubled)


def test_two_entries_with_one_path_are_refused(refusal: Refusal, manifest: dict[str, Any]) -> None:
    doubled = change(manifest, "inputs", manifest["inputs"][:1] * 2)
    assert "two files want to be in/" in refusal.manifest(4, doubled)


@pytest.mark.parametrize("key", ["schema", "mapper", "era", "stage"])
def test_a_manifest_without_a_needed_key_says_which(refusal: Refusal, manifest: dict[str, Any], key: str) -> None:
    lacking = {name: value for name, value in manifest.items() if name != key}
    assert f"manifest.json lacks {key}" in refusal.manifest(2, lacking)


def test_a_manifest_without_a_known_mapper_needs_the_part_of_dbb(refusal: Refusal, manifest: dict[str, Any]) -> None:
    lacking = {name: value for name, value in manifest.items() if name != "butler"} | {"mapper": "nocam"}
    assert "unknown mapper 'nocam'; known: " in refusal.manifest(5, lacking)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "no json",
        '{"schema"',
        '{"schema": 1,}',
        "{1: 2}",
        '{"inputs": null}',
        "{} {}",
        "{}x",
        "\ufeff{}",
    ],
)
def test_a_text_that_is_no_manifest_is_refused(refusal: Refusal, text: str) -> None:
    assert "manifest.json" in refusal.manifest(2, text)


def test_a_manifest_that_is_not_text_is_refused(refusal: Refusal) -> None:
    (refusal.folder / "m.json").write_bytes(b'{"schema": 1, "mapper": "\xff\xfe"}')
    assert "it is not UTF-8" in refusal(2, "--from", str(refusal.folder / "m.json"))


def test_a_manifest_of_endless_brackets_is_refused(refusal: Refusal) -> None:
    assert "nested too deeply" in refusal.manifest(2, '{"schema": ' + "[" * 200_000)


def test_a_manifest_that_is_not_there_is_named(refusal: Refusal) -> None:
    assert "unknown manifest 'nowhere.json'. There is no such file" in refusal(5, "--from", "nowhere.json")


def test_a_folder_is_no_manifest(refusal: Refusal) -> None:
    assert "manifest" in refusal(2, "--from", str(refusal.folder))


def test_a_manifest_cut_off_anywhere_is_refused(refusal: Refusal, manifest: dict[str, Any]) -> None:
    text = json.dumps(manifest)
    cuts = {1, 2, 10, len(text) - 1, *random.Random(3).sample(range(1, len(text)), 40)}
    for cut in sorted(cuts):
        assert "manifest.json" in refusal.manifest(2, text[:cut])


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["in/x", "..", "/", "in/"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


def places(node: object, prefix: str = "") -> Iterator[str]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield f"{prefix}{key}"
        yield from places(child, f"{prefix}{key}.")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_a_manifest_is_taken_or_refused_in_words(
    manifest: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    place = data.draw(st.sampled_from(list(places(manifest))))
    path = tmp_path / "m.json"
    path.write_text(json.dumps(change(manifest, place, data.draw(VALUES))), encoding="utf-8")
    job = tmp_path / f"JOB{len(list(tmp_path.iterdir()))}"
    code = run_dbb(["materialize-repo", str(job), "--from", str(path)])
    err = capsys.readouterr().err
    assert UNEXPECTED not in err
    assert job.exists() == (code == 0)
    assert not list(tmp_path.glob(".*"))
    for entry in job.rglob("*"):
        assert os.path.realpath(entry.parent).startswith(str(job))


@pytest.mark.parametrize("option", [["--id", "visit=1"], ["--dataset", "raw"], ["--calibs", "x"], ["--era", "2017"]])
@pytest.mark.parametrize("source", [["--from", "m.json"], ["--spec", "job.toml"]])
def test_options_that_a_file_answers_cannot_be_given_besides(
    refusal: Refusal, option: list[str], source: list[str]
) -> None:
    assert f"{option[0]} cannot be combined with {source[0]}" in refusal(2, *source, *option)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give --mapper, --spec or --from"),
        (["--mapper", "hsc"], "nothing to stage: give --dataset at least once"),
        (["--mapper", "hsc", "--dataset", "raw", "--outputs", "src"], "--outputs needs --output-run"),
        (["--stage", "teleport"], "'teleport' is not one of"),
        (["--spec", "a", "--from", "b"], "--spec cannot be combined with --from"),
    ],
)
def test_options_that_make_no_sense_are_refused(refusal: Refusal, arguments: list[str], words: str) -> None:
    assert words in refusal(2, *arguments)
