"""What is exported from a registry is imported into another one without loss, whatever databases they are in."""

from __future__ import annotations

import functools
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from demo_survey import tree
from hypothesis import given, settings
from registries import contents, execute, rows, small_registry
from rich_registry import FILETYPES, plain_contents, rich_registry

from dbb import Registry
from dbb.errors import ConflictError, DbbError, IntegrityError, NotFoundError, SchemaVersionError
from dbb.report.lineage import lineage
from dbb.runs.status import run_status
from dbb_cli.main import run as run_dbb

DBB = Path(sys.executable).parent / "dbb"
COADD = "calexp-HSC-R-0-8x6-r11p95.fits"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all of the rich registry."""
    folder = tmp_path_factory.mktemp("rich")
    with rich_registry(f"sqlite:///{folder / 'survey.db'}", folder) as registry:
        registry.export(folder / "out")
    return folder / "out"


@pytest.fixture
def original(exported: Path) -> Iterator[Registry]:
    with Registry(f"sqlite:///{exported.parent / 'survey.db'}") as registry:
        yield registry


@pytest.fixture
def empty(registry_url: str) -> Iterator[Registry]:
    with Registry.create(registry_url) as registry:
        yield registry


def test_an_empty_registry_becomes_the_exported_one(exported: Path, original: Registry, empty: Registry) -> None:
    done = empty.import_folder(exported)
    assert (done.added, done.known, done.runs, done.refused) == (29, 0, 2, ())
    assert plain_contents(empty) == plain_contents(original)
    assert empty.mapper_name == "hsc"
    with Registry(empty.url) as again:
        assert again.filetypes() == original.filetypes()
        assert lineage(again, COADD) == lineage(original, COADD)
        assert run_status(again) == run_status(original)


def test_an_export_of_an_import_has_the_same_bytes(exported: Path, empty: Registry, tmp_path: Path) -> None:
    empty.import_folder(exported)
    empty.export(tmp_path / "again")
    assert tree(tmp_path / "again") == tree(exported)


def test_an_import_can_be_repeated(exported: Path, empty: Registry) -> None:
    empty.import_folder(exported)
    before = contents(empty)
    done = empty.import_folder(exported)
    assert (done.added, done.known, done.runs, done.refused) == (0, 29, 0, ())
    assert contents(empty) == before


def test_an_imported_registry_can_be_added_to(exported: Path, empty: Registry) -> None:
    empty.import_folder(exported)
    row = {"relpath": "new.fits", "visit": 77, "ccd": 0, "md5sum": "a" * 32}
    assert empty.ingest_table([row], filetype="calexp", archive="home", run="Ht0_r12p01").added == 1
    assert len(empty.query("calexp")) == 9


def test_both_databases_are_exported_to_the_same_bytes(registry_url: str, exported: Path, tmp_path: Path) -> None:
    with Registry.create(registry_url) as registry:
        registry.import_folder(exported)
        registry.export(tmp_path / "one")
    with Registry.create(f"sqlite:///{tmp_path / 'two.db'}") as other:
        other.import_folder(tmp_path / "one")
        other.export(tmp_path / "two")
    assert tree(tmp_path / "two") == tree(tmp_path / "one") == tree(exported)


def test_a_registry_that_knows_some_of_it_gets_the_rest_under_new_numbers(
    registry_url: str, exported: Path, original: Registry
) -> None:
    with small_registry(registry_url, *FILETYPES) as registry:
        registry.add_archive("home", original.archives()["home"])
        others = [{"relpath": f"other-{n}.fits", "visit": 100 + n, "ccd": 1} for n in range(7)]
        registry.ingest_table(others, filetype="calexp", archive="home", run="Ht0_r11p94")
        raws = [{"relpath": f"raw/raw-1-{n}.fits", "visit": 1, "ccd": n, "filter": "HSC-R"} for n in (0, 1)]
        registry.ingest_table(raws, filetype="hsc_raw", archive="home")
        registry.tag("PROTO-0.1", "Ht0_r11p94")
        done = registry.import_folder(exported)
        assert (done.added, done.known, done.runs, done.refused) == (27, 2, 2, ())
        assert named(lineage(registry, COADD)) == named(lineage(original, COADD))
        assert [one.as_dict() | {"id": 0} for one in run_status(registry)] == [
            one.as_dict() | {"id": 0} for one in run_status(original)
        ]
        assert len(registry.query("calexp")) == 8 + 7
        tagged = "select r.attnum from proctag t, pfw_attempt r where r.id = t.pfw_attempt_id order by t.position"
        assert rows(registry, tagged) == [(94,), (96,), (95,)]
        before = contents(registry)
        assert registry.import_folder(exported).added == 0
        assert contents(registry) == before


def named(found: Any) -> set[tuple[str, str, str]]:
    """Return relations by names: numbers may differ."""
    return {(relation, found.nodes[one].name, found.nodes[other].name) for relation, one, other in found.edges}


def test_a_run_that_only_its_files_told_of_gets_its_record(
    registry_url: str, exported: Path, original: Registry
) -> None:
    with small_registry(registry_url, *FILETYPES) as registry:
        registry.add_archive("home", original.archives()["home"])
        row = {"relpath": "r11/p95/more.fits", "visit": 5, "ccd": 5}
        registry.ingest_table([row], filetype="calexp", archive="home", run="Ht0_r11p95")
        assert run_status(registry) == []
        assert registry.import_folder(exported).runs == 1
        assert len(run_status(registry)) == 2


CONTRADICTIONS = {
    "checksum": (
        "update desfile set md5sum = '" + "f" * 32 + "' where filename = 'raw-7-0.fits'",
        "raw/raw-7-0.fits: registered with md5sum ffff",
    ),
    "filetype": (
        "update desfile set filetype = 'log' where filename = 'ps1.tar'",
        "ps1.tar: registered with filetype log, now refcat_tar",
    ),
    "run": (
        "update desfile set pfw_attempt_id = 1 where filename = 'packed.tar'",
        "packed.tar: registered for another run",
    ),
    "archive": (
        "update ops_archive set root = 's3://other' where name = 'tape'",
        "archive tape: registered with root s3://other",
    ),
    "place": (
        "update file_archive_info set desfile_id = (select min(id) from desfile) where archive_name = 'tape'",
        "raw/raw-7-0.fits: registered as the place of another file",
    ),
    "overlaps": ("update overlap_version set skymap = 'x'", "overlap version loaded: registered with another sky map"),
    "state": (
        "update task set state = 'failed', status = 1 where name = 'attempt'",
        "registered as failed, now succeeded",
    ),
    "days": ("update certified_calibration set valid_end = '2014-03-01'", "bias.fits: certified in 2014A from 2014-01"),
    "catalogue": (
        "update refcat set tar_id = (select id from desfile where filename = 'packed.tar')",
        "reference catalogue ps1: registered with another tar",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_what_contradicts_the_registry_is_told_and_nothing_is_changed(
    empty: Registry, exported: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, told = CONTRADICTIONS[name]
    empty.import_folder(exported)
    execute(empty, change)
    if name != "checksum":  # besides, something that would be new
        execute(empty, "delete from visit_tag")
    before = contents(empty)
    assert run_dbb(["import", str(exported), "--registry", empty.engine.url.render_as_string(hide_password=False)]) == 4
    err = capsys.readouterr().err
    assert told in err
    assert "nothing was changed" in err
    assert contents(empty) == before


def test_all_contradictions_are_told_at_once(empty: Registry, exported: Path) -> None:
    empty.import_folder(exported)
    for change, _ in (CONTRADICTIONS[name] for name in ("checksum", "archive", "catalogue")):
        execute(empty, change)
    assert len(empty.import_folder(exported).refused) >= 3


def test_overlapping_validity_ranges_are_refused(empty: Registry, exported: Path) -> None:
    empty.import_folder(exported)
    bias = {"relpath": "other.fits", "ccd": 0, "calibDate": "2014-01-03"}
    empty.ingest_table([bias], filetype="bias", archive="home")
    execute(empty, "delete from certified_calibration")
    dated = bias | {"validStart": "2014-01-20", "validEnd": "2014-01-25"}
    empty.certify_calibrations([dated], version="2014A", filetype="bias")
    before = contents(empty)
    with pytest.raises(ConflictError, match="bias calibrations overlap in version 2014A"):
        empty.import_folder(exported)
    assert contents(empty) == before


def test_a_dry_run_changes_nothing_and_says_the_same(empty: Registry, exported: Path, tmp_path: Path) -> None:
    before = contents(empty)
    assert empty.import_folder(exported, dry_run=True).added == 29
    assert contents(empty) == before
    done = empty.import_folder(exported)
    assert empty.export(tmp_path / "none", dry_run=True).rows == empty.export(tmp_path / "some").rows
    assert done.added == 29
    assert not (tmp_path / "none").exists()


def test_a_registry_of_another_camera_is_refused(exported: Path, tmp_path: Path) -> None:
    with (
        Registry.create(f"sqlite:///{tmp_path / 'a.db'}", mapper="generic") as registry,
        pytest.raises(ConflictError, match="is of a registry for hsc, this one is for generic"),
    ):
        registry.import_folder(exported)


def test_other_tools_read_a_table_with_its_runs(exported: Path) -> None:
    table = ds.dataset(exported / "desfile", partitioning="hive").to_table()
    assert table.num_rows == 29
    assert set(table["run"].to_pylist()) == {None, "Ht0_r11p95", "Ht0_r11p96"}


def test_a_snapshot_is_exported_like_any_registry(original: Registry, tmp_path: Path) -> None:
    original.snapshot(tmp_path / "campaign.db", where="visit = 1")
    with Registry(f"sqlite:///{tmp_path / 'campaign.db'}") as snapshot:
        snapshot.export(tmp_path / "out")
        with Registry.create(f"sqlite:///{tmp_path / 'new.db'}") as new:
            new.import_folder(tmp_path / "out")
            assert plain_contents(new) == plain_contents(snapshot)


@pytest.fixture
def broken(exported: Path, tmp_path: Path) -> Path:
    """A copy of the folder, to be changed."""
    shutil.copytree(exported, tmp_path / "broken")
    return tmp_path / "broken"


def signed(folder: Path, change: Callable[[dict[str, Any]], object] = lambda said: None) -> None:
    """Change the manifest, and let it say of every file what that is now."""
    said = json.loads((folder / "manifest.json").read_text())
    for part in said["files"]:
        data = (folder / part["path"]).read_bytes()
        part |= {"filesize": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change(said)
    (folder / "manifest.json").write_text(json.dumps(said))


def rewrite(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Change the rows of a file, with a manifest that knows of it."""
    path = next(iter(sorted((folder / name).rglob("part.parquet"))))
    pq.write_table(change(pq.ParquetFile(path).read()), path)
    signed(folder)


def put(column: str, *values: Any) -> Callable[[Any], Any]:
    """Return what replaces the first values of a column."""

    def change(table: Any) -> Any:
        at = table.schema.get_field_index(column)
        changed = pa.array([*values, *table[column].to_pylist()[len(values) :]], type=table.schema.field(at).type)
        return table.set_column(at, table.schema.field(at), changed)

    return change


def cut(folder: Path) -> None:
    path = next(folder.rglob("part.parquet"))
    path.write_bytes(path.read_bytes()[:-10])


def flip(folder: Path) -> None:
    path = next(folder.rglob("part.parquet"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def schema(folder: Path, version: int) -> None:
    signed(folder, lambda said: said.update(schema=version, dbb="0.0.7"))


FAULTS: dict[str, tuple[Callable[[Path], object], str, int]] = {
    "no manifest": (lambda one: (one / "manifest.json").unlink(), "There is no manifest.json", 5),
    "cut manifest": (lambda one: (one / "manifest.json").write_text('{"format": "dbb'), "cannot be read", 2),
    "other manifest": (lambda one: (one / "manifest.json").write_text("[1]"), "not the manifest of an exported", 2),
    "absent": (lambda one: next(one.rglob("part.parquet")).unlink(), "is absent", 1),
    "cut": (cut, "it is broken", 1),
    "flipped": (flip, "its checksum is another one", 1),
    "newer": (lambda one: schema(one, 99), "use dbb 0.0.7 or newer", 6),
    "older": (lambda one: schema(one, 3), "import it with dbb 0.0.7 into a new registry, run 'dbb migrate'", 6),
    "climbing": (
        lambda one: signed(one, lambda said: said["files"][0].update(path="../../etc/part.parquet")),
        "none that an export has",
        2,
    ),
    "unknown table": (
        lambda one: signed(one, lambda said: said["filetypes"].pop("calexp")),
        "there is no table calexp",
        2,
    ),
    "own table": (
        lambda one: signed(one, lambda said: said["filetypes"]["calexp"].update(metadata_table="task")),
        "is one of dbb's own",
        2,
    ),
    "filetype": (
        lambda one: signed(one, lambda said: said["filetypes"]["calexp"].update(metadata_table='x"; drop')),
        "cannot be a table name",
        2,
    ),
    "types": (
        lambda one: rewrite(
            one,
            "calexp",
            lambda table: table.rename_columns(["x", *table.column_names[1:]]),
        ),
        "the columns are",
        2,
    ),
    "rows": (lambda one: rewrite(one, "calexp", lambda table: table.slice(1)), "the manifest says", 2),
    "path": (lambda one: rewrite(one, "file_archive_info", put("path", "../up")), "is refused", 2),
    "name": (lambda one: rewrite(one, "file_archive_info", put("filename", "a/b.fits")), "is refused", 2),
    "root": (lambda one: rewrite(one, "ops_archive", put("root", "relative/path")), "no root of an archive", 2),
    "checksum": (lambda one: rewrite(one, "desfile", put("md5sum", "xyz")), "'xyz' is no such value", 2),
    "number": (lambda one: rewrite(one, "desfile", put("id", -5)), "cannot be", 2),
    "large": (lambda one: rewrite(one, "desfile", put("id", 1 << 62)), "cannot be", 2),
    "missing": (lambda one: rewrite(one, "desfile", put("filename", None)), "a value is missing", 2),
    "nul": (lambda one: rewrite(one, "desfile", put("filename", "a\x00b")), "NUL", 2),
    "dangling": (lambda one: rewrite(one, "calexp", put("desfile_id", 4711)), "there is no file 4711", 2),
    "twice": (
        lambda one: rewrite(one, "desfile", lambda table: put("id", table["id"][1].as_py())(table)),
        "the registry refused",
        1,
    ),
    "filetype of a file": (lambda one: rewrite(one, "desfile", put("filetype", "none")), "the registry refused", 1),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_or_foreign_folder_is_refused_and_nothing_is_written(
    empty: Registry, broken: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, told, code = FAULTS[name]
    change(broken)
    before = contents(empty)
    url = empty.engine.url.render_as_string(hide_password=False)
    assert run_dbb(["import", str(broken), "--registry", url]) == code
    err = capsys.readouterr().err
    assert told in err, err
    assert "Traceback" not in err
    assert contents(empty) == before


@settings(max_examples=60)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), which=st.integers(0, 200))
def test_any_changed_bit_is_found(exported: Path, place: float, bit: int, which: int) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as scratch:
        folder = Path(scratch) / "out"
        shutil.copytree(exported, folder)
        files = sorted(path for path in folder.rglob("part.parquet"))
        path = files[which % len(files)]
        data = bytearray(path.read_bytes())
        data[int(place * len(data))] ^= 1 << bit
        path.write_bytes(bytes(data))
        with Registry.create("sqlite://") as registry, pytest.raises(IntegrityError):
            registry.import_folder(folder)


texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=12)
files = st.fixed_dictionaries(
    {
        "relpath": st.builds(
            "{}/{}{}".format, st.sampled_from("abc"), st.integers(0, 30), st.sampled_from(["", ".fz"])
        ),
        "filesize": st.none() | st.integers(0, 2**50),
        "md5sum": st.none() | st.sampled_from(["a" * 32, "b" * 32]),
        "visit": st.integers(-(2**63), 2**63 - 1),
        "ccd": st.integers(0, 3),
        "filter": st.none() | texts,
        "expTime": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "dateObs": st.none() | st.dates().map(str),
    }
)
batches = st.lists(
    st.tuples(st.sampled_from(["home", "tape"]), st.none() | st.integers(1, 3), st.lists(files, max_size=6)), max_size=5
)


@functools.cache
def template() -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        small_registry(f"sqlite:///{scratch}/a.db", "calexp").close()
        return Path(scratch, "a.db").read_bytes()


def new_registry(path: str) -> Registry:
    Path(path).write_bytes(template())
    return Registry(f"sqlite:///{path}")


def fill(registry: Registry, made: list[tuple[str, int | None, list[dict[str, Any]]]]) -> None:
    for archive in ("home", "tape"):
        registry.add_archive(archive, f"/data/{archive}")
    for archive, attempt, listed in made:
        run = None if attempt is None else f"Ht0_r1p{attempt}"
        unique = {row["relpath"]: row for row in listed}
        registry.ingest_table(list(unique.values()), filetype="calexp", archive=archive, run=run)


@settings(max_examples=12)
@given(made=batches, more=batches)
def test_export_and_import_are_inverse_and_repeatable(made: Any, more: Any) -> None:
    with (
        tempfile.TemporaryDirectory() as scratch,
        new_registry(f"{scratch}/a.db") as one,
        new_registry(f"{scratch}/b.db") as two,
    ):
        fill(one, made)
        one.export(f"{scratch}/x")
        two.import_folder(f"{scratch}/x")
        assert plain_contents(two) == plain_contents(one)
        two.export(f"{scratch}/y")
        assert tree(Path(scratch, "x")) == tree(Path(scratch, "y"))
        # an import into a registry that knows some of it: all or nothing, and never twice
        fill(two, more)
        before = plain_contents(two)
        done = two.import_folder(f"{scratch}/x")
        assert (done.added, done.refused) == (0, ())
        assert plain_contents(two) == before


@settings(max_examples=12)
@given(made=batches, more=batches)
def test_two_registries_come_together_without_a_lost_file(made: Any, more: Any) -> None:
    with (
        tempfile.TemporaryDirectory() as scratch,
        new_registry(f"{scratch}/a.db") as one,
        new_registry(f"{scratch}/b.db") as two,
    ):
        fill(one, made)
        fill(two, more)
        one.export(f"{scratch}/x")
        before = plain_contents(two)
        done = two.import_folder(f"{scratch}/x")
        if done.refused:
            assert plain_contents(two) == before
            return
        places = {(record.archive, record.relpath) for registry in (one, two) for record in registry.query("calexp")}
        assert {(record.archive, record.relpath) for record in two.query("calexp")} == places
        assert done.added + done.known == len(rows(one, "select id from desfile"))
        assert two.import_folder(f"{scratch}/x").added == 0


def test_an_export_does_not_replace_what_is_there(original: Registry, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ConflictError, match="exists"):
        original.export(tmp_path / "out")


def test_every_error_of_an_import_is_one_of_ours(empty: Registry, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        empty.import_folder(tmp_path)
    assert issubclass(SchemaVersionError, DbbError)


def large(url: str) -> Registry:
    registry = small_registry(url, "calexp")
    registry.add_archive("home", "/data")
    listed = [{"relpath": f"{n}.fits", "visit": n // 100, "ccd": n % 100, "md5sum": f"{n:032x}"} for n in range(20_000)]
    registry.ingest_table(listed, filetype="calexp", archive="home", run="Ht0_r11p95")
    return registry


def kill(arguments: list[str], begun: Callable[[], object], delay: float) -> int:
    """Start dbb, kill it a while after it began to write, and return how it ended."""
    process = subprocess.Popen([DBB, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not begun():
        time.sleep(0.0005)
    time.sleep(delay)
    process.kill()
    _, err = process.communicate()
    assert "Traceback" not in err
    assert process.returncode in {0, -signal.SIGKILL}
    return process.returncode


def test_a_killed_export_leaves_all_or_nothing_and_the_next_one_sweeps(tmp_path: Path) -> None:
    url, out = f"sqlite:///{tmp_path / 'survey.db'}", tmp_path / "to" / "out"
    with large(url) as registry:
        registry.export(tmp_path / "expected")
    dice, left = random.Random(5), 0
    for number in range(10):
        kill(
            ["export", str(out), "--registry", url],
            lambda: list(out.parent.glob(".out.dbb-*")),
            number / 10 * 0.5 * dice.random(),
        )
        left += len(list(out.parent.glob(".out.dbb-*")))
        if out.exists():
            assert tree(out) == tree(tmp_path / "expected")
            shutil.rmtree(out)
    assert left > 0
    assert run_dbb(["export", str(out), "--registry", url]) == 0
    assert [one.name for one in out.parent.iterdir()] == ["out"]


def test_a_killed_import_leaves_all_or_nothing(registry_url: str, tmp_path: Path) -> None:
    with large(f"sqlite:///{tmp_path / 'survey.db'}") as registry:
        registry.export(tmp_path / "out")
    with Registry.create(registry_url) as target:
        url = target.engine.url.render_as_string(hide_password=False)
        before, dice, killed = contents(target), random.Random(6), 0
        for step in range(1, 20):  # later and later, until one is through
            delay = 0.15 * (step + dice.random())
            code = kill(["import", str(tmp_path / "out"), "--registry", url], lambda: True, delay)
            if code == 0:
                break
            killed += 1
            found = contents(target)
            if found != before:
                break  # it was done when it was killed
        assert killed > 0
        assert run_dbb(["import", str(tmp_path / "out"), "--registry", url]) == 0
        assert rows(target, "select count(*) from desfile") == [(20_000,)]
        assert rows(target, "select count(*) from file_archive_info") == [(20_000,)]
        assert rows(target, "select count(*) from calexp") == [(20_000,)]
