"""A snapshot is a registry that reading commands read, and nobody writes to, whatever became of where it is from."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from demo_survey import FULL, OVERLAPS, RUN_A, RUN_B, Demo, make_demo, select, tree
from registries import contents, rows, small_registry
from rich_registry import plain_contents, rich_registry

from dbb import Registry, materialize_repo
from dbb.errors import ConflictError, NotFoundError, ParseError, UsageError
from dbb.jobs.run import run_job
from dbb.pipeline import plan, read_pipeline
from dbb.query.sql import UnknownNameError
from dbb.report.lineage import lineage
from dbb.runs.begin import begin_run
from dbb.runs.jobfiles import JobWriter, job_settings
from dbb.runs.merge import merge
from dbb.runs.report import run_messages, run_report
from dbb.runs.status import run_status
from dbb.runs.takeover import TakenOver
from dbb_cli.main import run as run_dbb

DBB = Path(sys.executable).parent / "dbb"
RUN = "Ht0_r11p95"


@pytest.fixture
def registry(registry_url: str, tmp_path: Path) -> Iterator[Registry]:
    with rich_registry(registry_url, tmp_path / "survey") as opened:
        yield opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "campaign.db"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return make_demo(tmp_path_factory)


def names(registry: Registry, filetype: str) -> set[str]:
    return {record.filename for record in registry.query(filetype)}


def test_a_snapshot_of_everything_has_every_row(registry: Registry, path: Path) -> None:
    done = registry.snapshot(path)
    assert (sum(done.files.values()), done.runs, done.size) == (29, 2, path.stat().st_size)
    with Registry(f"sqlite:///{path}") as copy:
        assert plain_contents(copy) == plain_contents(registry)
        assert copy.filetypes() == registry.filetypes()
        assert copy.mapper_name == registry.mapper_name


def test_a_snapshot_says_of_what_it_is_one(registry: Registry, path: Path) -> None:
    registry.snapshot(path, where="visit = 1", runs=[RUN])
    [(source, chosen, files)] = select(path, "select source, chosen, files from dbb_snapshot")
    assert source == registry.engine.url.render_as_string()
    assert (chosen, files) == (f"where visit = 1; runs {RUN}", 8)


def test_an_expression_chooses_among_the_filetypes_that_know_its_names(registry: Registry, path: Path) -> None:
    done = registry.snapshot(path, where="visit = 1 AND ccd = 0")
    # besides: what is certified, catalogues, the tar that a chosen raw lies in, and what has no data id
    always = {"bias": 1, "deepcoadd_skymap": 1, "refcat_tar": 1, "packed_tar": 1}
    assert done.files == {"hsc_raw": 1, "calexp": 2, **always}
    with Registry(f"sqlite:///{path}") as copy:
        assert names(copy, "hsc_raw") == {"raw-1-0.fits"}
        assert rows(copy, "select distinct visit from overlap") == [(1,)]
        assert rows(copy, "select member from tar_member order by 1") == [("189440.fits",), ("raw-1-0.fits",)]


def test_a_name_that_every_file_has_chooses_among_all(registry: Registry, path: Path) -> None:
    done = registry.snapshot(path, where="filename GLOB 'process-*'", dry_run=True)
    assert done.files["log"] == 8
    assert "calexp" not in done.files


def test_a_filetype_may_come_whole_or_by_an_expression_of_its_own(registry: Registry, path: Path) -> None:
    wanted = ["raw", "deepCoadd_calexp: patch = '8,6' AND attnum = 96"]
    done = registry.snapshot(path, filetypes=wanted)
    assert (done.files["hsc_raw"], done.files["deepcoadd_calexp"], done.files.get("calexp")) == (5, 1, None)
    again = registry.snapshot(path.with_name("other.db"), where="visit = 2", filetypes=wanted)
    assert (again.files["hsc_raw"], again.files["deepcoadd_calexp"], again.files["calexp"]) == (5, 1, 4)


def test_runs_choose_files_of_runs_and_let_others_pass(registry: Registry, path: Path) -> None:
    done = registry.snapshot(path, where="visit IN (1, 2)", runs=["tag:PROTO-0.1"], dry_run=True)
    assert done.files["calexp"] == 8
    done = registry.snapshot(path, where="visit IN (1, 2)", runs=[RUN])
    assert (done.files["calexp"], done.files["hsc_raw"], done.runs) == (4, 4, 1)


@pytest.mark.parametrize(
    "choice",
    [{}, {"where": "visit = 1"}, {"runs": [RUN]}, {"filetypes": ["deepcoadd_calexp"]}, {"where": "ccd = 77"}],
    ids=str,
)
def test_nothing_in_a_snapshot_refers_to_what_is_not_there(
    registry: Registry, path: Path, choice: dict[str, object]
) -> None:
    registry.snapshot(path, **choice)
    assert select(path, "pragma integrity_check") == [("ok",)]
    assert select(path, "pragma foreign_key_check") == []
    made = "select count(*) from desfile where wgb_task_id is not null and wgb_task_id not in (select id from task)"
    parts = "select count(*) from task where parent_task_id not in (select id from task)"
    roots = "select count(*) from task where root_task_id not in (select id from task)"
    assert [select(path, one) for one in (made, parts, roots)] == [[(0,)]] * 3


def test_a_run_that_was_named_has_its_record_and_another_none(registry: Registry, path: Path) -> None:
    registry.snapshot(path, where="visit = 1", runs=[RUN])
    with Registry(f"sqlite:///{path}") as copy:
        assert run_status(copy, RUN) == run_status(registry, RUN)
        assert [one.as_dict() | {"seconds": 0} for one in run_report(copy, RUN) if one.section != "missing"] == [
            one.as_dict() | {"seconds": 0} for one in run_report(registry, RUN) if one.section != "missing"
        ]
        assert run_messages(copy, RUN) == run_messages(registry, RUN)
    other = path.with_name("other.db")
    registry.snapshot(other, where="visit = 1")
    with Registry(f"sqlite:///{other}") as copy:
        assert run_status(copy) == []
        assert {record.run for record in copy.query("calexp")} == {RUN, "Ht0_r11p96"}
        [record] = [one for one in copy.query("calexp", runs=["tag:PROTO-0.1"]) if one["ccd"] == 0]
        assert record.run == "Ht0_r11p96"


def test_the_provenance_of_chosen_files_comes_with_them(registry: Registry, path: Path) -> None:
    registry.snapshot(path)
    with Registry(f"sqlite:///{path}") as copy:
        coadd = "calexp-HSC-R-0-8x6-r11p95.fits"
        assert lineage(copy, coadd) == lineage(registry, coadd)
    other = path.with_name("other.db")
    registry.snapshot(other, filetypes=["calexp", "deepcoadd_calexp"])
    with Registry(f"sqlite:///{other}") as copy:
        text = "\n".join(lineage(copy, coadd).tree())
    assert "derived from r11/p95/corr/CORR-0000001-000-r11p95.fits" in text
    assert "made by exec" in text
    assert "raw-1-0" not in text


def test_what_cannot_be_understood_is_refused_before_anything_is_written(registry: Registry, path: Path) -> None:
    for choice, error in (
        ({"where": "visti = 1"}, UnknownNameError),
        ({"where": "visit = "}, ParseError),
        ({"filetypes": ["calexq"]}, NotFoundError),
        ({"filetypes": ["calexp:"]}, UsageError),
        ({"filetypes": ["calexp", "calexp: ccd = 1"]}, UsageError),
        ({"filetypes": ["calexp: patchy = 1"]}, UnknownNameError),
        ({"runs": ["Ht0_r99p01"]}, NotFoundError),
        ({"runs": ["tag:NONE"]}, NotFoundError),
        ({"where": "tract = 0", "overlaps": "none"}, NotFoundError),
    ):
        with pytest.raises(error):
            registry.snapshot(path, **choice)
    path.write_text("mine")
    with pytest.raises(ConflictError, match="exists"):
        registry.snapshot(path)
    assert path.read_text() == "mine"
    assert sorted(one.name for one in path.parent.iterdir()) in (
        ["campaign.db", "registry.db", "registry.db-shm", "registry.db-wal", "survey"],
        ["campaign.db", "survey"],
    )


def test_a_dry_run_counts_and_writes_nothing(registry: Registry, path: Path) -> None:
    before = contents(registry)
    done = registry.snapshot(path, where="visit = 1", dry_run=True)
    assert done == registry.snapshot(path, where="visit = 1").__class__(done.files, done.runs)
    assert contents(registry) == before


def test_the_registry_is_left_as_it_was_and_can_be_written_on(registry: Registry, path: Path) -> None:
    before = contents(registry)
    registry.snapshot(path, where="visit = 1")
    assert contents(registry) == before
    registry.add_archive("more", "/data/more")
    assert [one for one in rows(registry, "select name from ops_archive") if one == ("more",)]


def test_a_snapshot_of_a_snapshot_is_a_snapshot(registry: Registry, path: Path) -> None:
    registry.snapshot(path)
    with Registry(f"sqlite:///{path}") as copy:
        copy.snapshot(path.with_name("again.db"))
        with Registry(f"sqlite:///{path.with_name('again.db')}") as again:
            assert plain_contents(again) == plain_contents(copy)


WRITING = {
    "archive add": ["archive", "add", "x", "file:///x"],
    "ingest-table": ["ingest-table", "t.csv", "--filetype", "calexp", "--archive", "home"],
    "ingest-files": ["ingest-files", "--filetype", "hsc_raw", "--archive", "home", "x.fits"],
    "tag": ["tag", "T", RUN],
    "overlaps load": ["overlaps", "load", "--version", "v", "o.csv"],
    "visits": ["visits", "tag", "good", "v.csv"],
    "register-filetypes": ["register-filetypes"],
}


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frozen")
    with rich_registry(f"sqlite:///{folder / 'survey.db'}", folder) as registry:
        registry.snapshot(folder / "campaign.db")
    (folder / "campaign.db").chmod(0o644)  # as a copy that was sent somewhere may be
    (folder / "t.csv").write_text("relpath,visit,ccd\na.fits,1,2\n")
    (folder / "o.csv").write_text('tract,patch,visit,ccd\n0,"8,6",1,2\n')
    (folder / "v.csv").write_text("visit\n1\n")
    return folder / "campaign.db"


@pytest.mark.parametrize("command", WRITING.values(), ids=WRITING.keys())
def test_a_command_that_writes_refuses_a_snapshot(
    frozen: Path, command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(frozen.parent)
    (frozen.parent / "home").mkdir(exist_ok=True)
    (frozen.parent / "home/x.fits").touch()
    before = hashlib.sha256(frozen.read_bytes()).hexdigest()
    code = run_dbb([*command, "--registry", f"sqlite:///{frozen}"])
    err = capsys.readouterr().err
    assert code == 4, err
    assert "campaign.db is a snapshot of sqlite:///" in err
    assert "survey.db of 20" in err
    assert hashlib.sha256(frozen.read_bytes()).hexdigest() == before
    assert not list(frozen.parent.glob("campaign.db-*"))


def test_a_registry_is_not_made_over_a_snapshot_and_one_needs_no_migration(
    frozen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = frozen.read_bytes()
    assert run_dbb(["create", f"sqlite:///{frozen}"]) == 4
    assert "is a snapshot of" in capsys.readouterr().err
    assert run_dbb(["migrate", "--registry", f"sqlite:///{frozen}"]) == 0
    assert frozen.read_bytes() == before
    assert not list(frozen.parent.glob("campaign.db-*"))


def test_a_snapshot_is_read_without_locks_and_without_files_beside_it(frozen: Path) -> None:
    with closing(sqlite3.connect(frozen, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")  # as if the file system answered nobody who asks for a lock
        with Registry(f"sqlite:///{frozen}") as copy:
            assert len(copy.query("calexp")) == 8
            assert not list(frozen.parent.glob("campaign.db-wal"))
        other.execute("ROLLBACK")


@pytest.mark.skipif(os.getuid() == 0 and not Path("/usr/bin/unshare").exists(), reason="root may write everything")
def test_a_snapshot_can_be_read_where_nothing_may_be_written(frozen: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / "campaign.db").write_bytes(frozen.read_bytes())
    (folder / "campaign.db").chmod(0o444)
    folder.chmod(0o555)
    code = "import sys, dbb; print(len(dbb.Registry(sys.argv[1]).query('calexp')))"
    plain = ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--"] if os.getuid() == 0 else []
    command = [*plain, sys.executable, "-c", code, f"sqlite:///{folder / 'campaign.db'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    folder.chmod(0o755)
    assert (done.stdout, done.returncode) == ("8\n", 0), done.stderr


def test_a_registry_in_a_folder_that_may_not_be_written_has_snapshots(tmp_path: Path) -> None:
    with small_registry(f"sqlite:///{tmp_path / 'a.db'}", "calexp") as registry:
        registry.add_archive("home", "/data")
        registry.ingest_table([{"relpath": "a.fits", "visit": 1, "ccd": 2}], filetype="calexp", archive="home")
    (tmp_path / "a.db").chmod(0o444)
    with Registry(f"sqlite:///{tmp_path / 'a.db'}") as registry:
        assert registry.snapshot(tmp_path / "b.db").files == {"calexp": 1}


def test_a_repository_from_a_snapshot_is_the_one_from_the_registry(demo: Demo, tmp_path: Path) -> None:
    url = demo.copy(tmp_path)
    with Registry(url) as registry:
        materialize_repo(registry, tmp_path / "one", FULL)
        everything = "raw", "calexp", "deepCoadd_calexp", "deepCoadd_tempExp"
        registry.snapshot(tmp_path / "campaign.db", filetypes=everything, runs=[RUN_A, RUN_B])
    for gone in tmp_path.glob("registry.db*"):
        gone.unlink()
    with Registry(f"sqlite:///{tmp_path / 'campaign.db'}") as copy:
        materialize_repo(copy, tmp_path / "two", FULL)
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    assert one.pop("manifest.json")
    assert two.pop("manifest.json")  # which may say another moment
    assert one == two


def test_every_reading_command_takes_a_snapshot(
    demo: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot, url = tmp_path / "campaign.db", demo.copy(tmp_path)
    assert run_dbb(["snapshot", str(snapshot), "--registry", url]) == 0
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    for command in (
        ["query-files", "raw", "--where", "tract = 0 AND patch = '8,6'", "--overlaps", OVERLAPS],
        ["lineage", "CORR-0903334-016-r12p01.fits"],
        ["status"],
        ["archive", "list"],
        ["overlaps", "list"],
        ["refcat", "list"],
        ["verify"],
    ):
        told = []
        for registry in (url, f"sqlite:///{snapshot}"):
            code = run_dbb([*command, "--registry", registry])
            told.append((code, capsys.readouterr().out))
        assert told[0] == told[1], command
        assert told[0][0] == 0, command


SUBMIT = """\
unitname = Ht0
reqnum = 30
attnum = 1
home_archive = runs
blocklist = all
<block>
    <all>
        modulelist = look
    </all>
</block>
<filename_pattern>
    look = look-${visit}-${ccd}.txt
    raw = HSCA${visit}-${ccd}.fits
</filename_pattern>
<directory_pattern>
    <look>
        runtime = look
        ops = look
    </look>
    <raw>
        runtime = raw
        ops = raw
    </raw>
</directory_pattern>
<module>
    <look>
        wrapperloop = visit, ccd
        loopobj = file.raw
        modnamepat = look-${visit}-${ccd}
        <file>
            <raw>
                dataset = raw
                where = visit = 903334
                loopkey = visit, ccd
                dirpat = raw
            </raw>
            <look>
                filetype = genfile
                filepat = look
                dirpat = look
            </look>
        </file>
        <exec_1>
            execname = /usr/bin/cp
            used = file.raw
            was_generated_by = file.look
            ancestry = file.raw:file.look
            <cmdline>
                _1 = ${file.raw.fullname}
                _2 = ${file.look.fullname}
            </cmdline>
        </exec_1>
    </look>
</module>
"""


def test_jobs_are_planned_and_run_from_a_snapshot_and_merged_into_the_registry(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "look.wcl").write_text(SUBMIT)
    pipeline = read_pipeline(tmp_path / "look.wcl")
    with Registry(demo.copy(tmp_path)) as registry:
        registry.add_archive("runs", str(tmp_path / "runs"))
        registry.snapshot(tmp_path / "campaign.db", where="visit = 903334")
        begin_run(registry, plan(pipeline, lambda: registry), operator="op")
    for file in tmp_path.glob("registry.db*"):
        file.rename(tmp_path / f"away-{file.name}")
    with Registry(f"sqlite:///{tmp_path / 'campaign.db'}") as copy:
        workflow = plan(pipeline, lambda: copy)
        assert len(workflow.instances) == 4
        settings = job_settings({"home_archive": "runs"}, {})
        writer = JobWriter(copy, workflow, settings, tmp_path / "run")
        jobs = [writer.write(job, TakenOver()) for job in workflow.jobs]
    for job in jobs:
        assert run_job(job).result.is_good
    for file in tmp_path.glob("away-*"):
        file.rename(tmp_path / file.name.removeprefix("away-"))
    with Registry(f"sqlite:///{tmp_path / 'registry.db'}") as registry:
        done = merge(registry, [job.parent for job in jobs])
        assert done.refused == ()
        assert len(registry.query("genfile", where="run = 'Ht0_r30p01'")) == 4


def test_a_killed_process_leaves_all_or_nothing_and_the_next_one_sweeps(tmp_path: Path) -> None:
    url, path = f"sqlite:///{tmp_path / 'survey.db'}", tmp_path / "out" / "campaign.db"
    with small_registry(url, "calexp") as registry:
        registry.add_archive("home", "/data")
        listed = [{"relpath": f"{n}.fits", "visit": n // 100, "ccd": n % 100} for n in range(30_000)]
        registry.ingest_table(listed, filetype="calexp", archive="home", run=RUN)
        expected = plain_contents(registry)
    arguments = ["snapshot", str(path), "--registry", url]
    dice, left = random.Random(7), 0
    for number in range(12):
        process = subprocess.Popen([DBB, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and not list(path.parent.glob(".campaign.db.dbb-*")):
            time.sleep(0.0005)
        time.sleep(number / 12 * 0.3 * dice.random())
        process.kill()
        _, err = process.communicate()
        assert "Traceback" not in err
        left += len(list(path.parent.glob(".campaign.db.dbb-*")))
        if path.exists():
            with Registry(f"sqlite:///{path}") as copy:
                assert plain_contents(copy) == expected
            path.unlink()
        else:
            assert process.returncode == -signal.SIGKILL
    assert left > 0
    assert run_dbb(arguments) == 0
    assert [one.name for one in path.parent.iterdir()] == ["campaign.db"]
