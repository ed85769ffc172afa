"""What jobs wrote into their event files is in the registry after a merge, once, however they are merged."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from event_files import BEGAN, event_file, job_name, make_workflow, register_raws, write_run
from registries import contents, execute, rows, small_registry, statements
from run_story import story

from dbb import Registry
from dbb.errors import NotFoundError
from dbb.pipeline.workflow import Workflow
from dbb.report.lineage import lineage
from dbb.runs import merge as module
from dbb.runs.begin import begin_run
from dbb.runs.merge import merge

JOBS, CCDS = 2, 2
MODULES = (
    "select modname, count(*) from pfw_wrapper w, pfw_attempt a where w.pfw_attempt_id=a.id and a.reqnum=11 and"
    " a.attnum=95 group by modname order by min(w.wrapnum)"
)
WALL_CLOCK = (
    "select end_time - start_time from task t, pfw_attempt a where t.id=a.task_id and a.reqnum=11 and a.attnum=95"
)
COADDS = (
    "select f.path ||'/'||f.filename from file_archive_info f, desfile d, proctag t where d.filetype='deepcoadd_calexp'"
    " and t.tag='PROTO-0.1' and t.pfw_attempt_id=d.pfw_attempt_id and f.desfile_id=d.id order by f.filename"
)


def new_registry(url: str, folder: Path) -> Registry:
    """Make a registry that knows what the runs of these tests read."""
    opened = small_registry(url, "hsc_raw", "calexp", "deepcoadd_calexp")
    opened.add_archive("home", str(folder / "home"))
    register_raws(opened, JOBS, CCDS)
    return opened


@pytest.fixture
def workflow() -> Workflow:
    return make_workflow(JOBS, CCDS)


@pytest.fixture
def registry(registry_url: str, tmp_path: Path, workflow: Workflow) -> Iterator[Registry]:
    with new_registry(registry_url, tmp_path) as opened:
        begin_run(opened, workflow, operator="op")
        yield opened


@pytest.fixture
def expected(tmp_path: Path, workflow: Workflow) -> dict[str, list[tuple[object, ...]]]:
    """What an undisturbed run leaves behind."""
    with new_registry(f"sqlite:///{tmp_path / 'undisturbed.db'}", tmp_path) as opened:
        begin_run(opened, workflow, operator="op")
        write_run(tmp_path / "undisturbed", workflow)
        merge(opened, [tmp_path / "undisturbed"])
        return told(opened)


def told(registry: Registry) -> dict[str, list[tuple[object, ...]]]:
    """Return the story of a registry as SQLite tells it: moments are seconds there, and truth is a number."""
    plain = {
        name: sorted((tuple(_plain(value) for value in row) for row in found), key=repr)
        for name, found in story(registry).items()
    }
    return {name: found for name, found in plain.items() if not name.startswith("ops_")}


def _plain(value: object) -> object:
    stamp = getattr(value, "timestamp", None)
    return int(value) if isinstance(value, bool) else stamp() if stamp is not None else value


def seconds(value: object) -> float:
    return float(getattr(value, "total_seconds", lambda: value)())


def test_the_queries_of_the_note_are_answered(registry: Registry, workflow: Workflow, tmp_path: Path) -> None:
    write_run(tmp_path, workflow)
    merge(registry, [tmp_path])
    registry.tag("PROTO-0.1", "Ht0_r11p95")
    assert rows(registry, MODULES) == [("process", 4), ("coadd", 1)]
    ((wall_clock,),) = rows(registry, WALL_CLOCK)
    assert seconds(wall_clock) == 23
    assert rows(registry, COADDS) == [("r11/p95/coadd/calexp-HSC-R-0-8x6-r11p95.fits",)]


def test_both_databases_say_the_same(
    registry: Registry, workflow: Workflow, tmp_path: Path, expected: dict[str, list[tuple[object, ...]]]
) -> None:
    write_run(tmp_path / "RUN", workflow)
    done = merge(registry, [tmp_path / "RUN"])
    assert (done.logs, done.files, done.refused) == (3, 10, ())
    assert told(registry) == expected


def test_a_program_has_its_arguments_version_times_and_use_of_the_machine(
    registry: Registry, workflow: Workflow, tmp_path: Path
) -> None:
    write_run(tmp_path, workflow)
    merge(registry, [tmp_path])
    (row,) = rows(
        registry,
        "select e.name, cmdargs, version, maxrss, stime, utime, t.end_time - t.start_time, exec_host, t.state, t.status"
        " from pfw_exec e, task t, pfw_wrapper w"
        " where t.id = e.task_id and w.task_id = t.parent_task_id and wrapnum = 1",
    )
    assert row[:6] == ("processCcd.py", "jobrepo --id visit=1 ccd=0", "17.0", 250_000, 0.25, 3.5)
    assert seconds(row[6]) == 3.75
    assert row[7:] == ("node1", "succeeded", 0)


def test_the_software_of_a_job_is_kept(registry: Registry, workflow: Workflow, tmp_path: Path) -> None:
    write_run(tmp_path, workflow)
    merge(registry, [tmp_path])
    row = ("node1", 100, "op", "0.1", "3.11.2", "Linux", '{"SETUP": "x"}', '{"afw": "17"}')
    columns = "host, pid, username, dbb, python, platform, environment, software"
    assert rows(registry, f"select distinct {columns} from event_log") == [row]


def test_lineage_goes_through_the_steps_of_a_run(registry: Registry, workflow: Workflow, tmp_path: Path) -> None:
    write_run(tmp_path, workflow)
    merge(registry, [tmp_path])
    found = lineage(registry, "calexp-HSC-R-0-8x6-r11p95.fits")
    names = {node.name for node in found.nodes.values()}
    assert {f"raw/raw-{visit}-{ccd}.fits" for visit in (1, 2) for ccd in (0, 1)} < names


def test_merging_again_or_a_copy_changes_nothing(registry: Registry, workflow: Workflow, tmp_path: Path) -> None:
    paths = write_run(tmp_path / "RUN", workflow)
    merge(registry, [tmp_path / "RUN"])
    before = contents(registry)
    shutil.copytree(tmp_path / "RUN", tmp_path / "copy")
    assert merge(registry, [tmp_path / "copy", *paths, tmp_path / "RUN"]).events == 0
    paths[0].write_bytes(paths[0].read_bytes()[:1000])  # an older copy
    assert merge(registry, paths).events == 0
    assert contents(registry) == before


def test_files_that_grow_give_the_same_as_whole_ones(
    registry: Registry, workflow: Workflow, tmp_path: Path, expected: dict[str, list[tuple[object, ...]]]
) -> None:
    whole = {path: path.read_bytes() for path in write_run(tmp_path / "RUN", workflow)}
    dice, there = random.Random(5), dict.fromkeys(whole, 0)
    for path in whole:
        path.write_bytes(b"")
    events = 0
    while there != {path: len(text) for path, text in whole.items()}:
        path = dice.choice(list(whole))
        there[path] = min(len(whole[path]), there[path] + dice.randrange(1, 1500))
        path.write_bytes(whole[path][: there[path]])
        events += merge(registry, [tmp_path / "RUN"]).events
    assert events == sum(text.count(b"\n") for text in whole.values())
    assert told(registry) == expected


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_the_size_of_a_batch_does_not_matter(
    registry: Registry,
    workflow: Workflow,
    tmp_path: Path,
    expected: dict[str, list[tuple[object, ...]]],
    batch: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BATCH", batch)
    paths = write_run(tmp_path / "RUN", workflow)
    merge(registry, reversed(paths))  # the job that reads comes before those that write
    assert rows(registry, "select count(*) from pending_use") == [(0,)]
    assert told(registry) == expected


def test_a_job_in_progress_is_seen_as_that(registry: Registry, workflow: Workflow, tmp_path: Path) -> None:
    file = event_file(tmp_path, workflow.jobs[0], workflow)
    file.run_step(workflow.instance(1)).begin_step(workflow.instance(2)).write()
    merge(registry, [tmp_path])
    states = dict(
        rows(registry, "select name || ' ' || label, state from task where name in ('attempt', 'block', 'job')")
    )
    assert states == {
        "attempt Ht0_r11p95": "running",
        "block single": "running",
        "block together": "unready",
        f"job {job_name(1)}": "running",
        f"job {job_name(2)}": "ready",
        f"job {job_name(3)}": "unready",
    }
    steps = "select wrapnum, state, end_time is null from pfw_wrapper w, task t where t.id = w.task_id order by wrapnum"
    assert [tuple(map(str, row[:2])) for row in rows(registry, steps)[:2]] == [("1", "succeeded"), ("2", "running")]
    assert rows(registry, "select processing_state from attempt_state") == [("NEW",)]


def test_a_job_that_ended_without_a_word_is_killed_when_it_is_known_to_be_over(
    registry: Registry, workflow: Workflow, tmp_path: Path
) -> None:
    file = event_file(tmp_path, workflow.jobs[0], workflow)
    path = file.begin_step(workflow.instance(1)).write()
    with path.open("a") as stream:
        stream.write('{"t": 1, "torn')
    assert merge(registry, [tmp_path]).lost == 0
    assert merge(registry, [tmp_path], final=True).lost == 1
    steps = (
        "select t.name, state, status from task t"
        " where t.parent_task_id in (select task_id from pfw_job where jobnum = 1)"
    )
    assert sorted(rows(registry, steps), key=repr) == [("wrapper", "blocked", None), ("wrapper", "killed", 9)]
    execs = "select distinct state from task where name = 'exec_1' and state not in ('ready', 'unready')"
    assert sorted(rows(registry, execs)) == [("blocked",), ("killed",)]
    job = "select state, status, reason from task where name = 'job' and state not in ('ready', 'unready')"
    assert rows(registry, job) == [("killed", 9, "it ended without a word")]
    before = contents(registry)
    assert merge(registry, [tmp_path], final=True).lost == 0
    assert contents(registry) == before


def test_steps_that_were_not_reached_are_blocked_and_their_programs_too(
    registry: Registry, workflow: Workflow, tmp_path: Path
) -> None:
    file = event_file(tmp_path, workflow.jobs[0], workflow)
    first, second = workflow.instance(1), workflow.instance(2)
    file.begin_step(first).end_exec(first, status=3).add(1, state="failed", status=3, reason="exec_1 ended with 3")
    file.add(second.wrapnum, state="blocked", by=1).end("failed", 3).write()
    merge(registry, [tmp_path])
    steps = (
        "select t.name, state, status, reason from task t where name in ('wrapper', 'exec_1')"
        " and state not in ('ready', 'unready') order by t.id"
    )
    assert sorted(rows(registry, steps), key=repr) == [
        ("exec_1", "blocked", None, "what it belongs to has ended"),
        ("exec_1", "failed", 3, None),
        ("wrapper", "blocked", None, "step 1 did not succeed"),
        ("wrapper", "failed", 3, "exec_1 ended with 3"),
    ]


@pytest.mark.parametrize("first", [1, 2])
def test_of_several_tries_the_last_says_the_states_and_all_made_files(
    registry: Registry, workflow: Workflow, tmp_path: Path, first: int
) -> None:
    one, two = workflow.instance(1), workflow.instance(2)
    failing = event_file(tmp_path, workflow.jobs[0], workflow, 1).run_step(one, "first ").begin_step(two)
    failing.end_exec(two, status=1).add(2, state="failed", status=1).end("failed", 1).write()
    event_file(tmp_path, workflow.jobs[0], workflow, 2).run_step(one, "second ").begin_step(two).write()
    for number in (first, 3 - first):
        merge(registry, [tmp_path / "jobs" / job_name(1) / f"events.{number}.jsonl"])
    steps = "select wrapnum, state, status from pfw_wrapper w, task t where t.id = w.task_id and wrapnum < 3 order by 1"
    assert rows(registry, steps) == [(1, "succeeded", 0), (2, "running", None)]
    execs = "select state, status, maxrss from pfw_exec e, task t where t.id = e.task_id order by t.id limit 2"
    assert rows(registry, execs) == [("succeeded", 0, 250_000), ("running", None, None)]
    calexps = "select filesize from desfile where filetype = 'calexp' order by filesize"
    assert rows(registry, calexps) == [(1006,), (1007,)]
    kept = "select filesize from desfile d, file_archive_info f where f.desfile_id = d.id and d.filetype = 'calexp'"
    assert rows(registry, kept) == [(1007,)]
    assert rows(registry, "select message from task_message where message_lvl = 1") == []


def test_a_file_that_a_retry_made_again_is_one_row(registry: Registry, workflow: Workflow, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        event_file(tmp_path, workflow.jobs[0], workflow, number).run_step(workflow.instance(1)).write()
        merge(registry, [tmp_path])
    assert rows(registry, "select count(*) from desfile where pfw_attempt_id is not null") == [(2,)]
    assert rows(registry, "select count(*) from opm_used") == [(1,)]
    assert rows(registry, "select trynum from event_log order by 1") == [(1,), (2,), (3,)]


def test_messages_join_with_task_run_and_log(registry: Registry, workflow: Workflow, tmp_path: Path) -> None:
    write_run(tmp_path, workflow)
    merge(registry, [tmp_path])
    found = rows(
        registry,
        "select w.modname, message_lvl, ops_message_pattern_id, message, log_file, log_line from task_message m,"
        " pfw_wrapper w, pfw_attempt a, desfile d where m.task_id = w.task_id and m.pfw_attempt_id = a.id and"
        " d.wgb_task_id = w.task_id and d.filename = w.log order by w.wrapnum",
    )
    assert found[0] == ("process", 2, 7, "Warning: step 1", "process.log", 12)
    assert len(found) == 5


def test_a_clock_that_goes_back_loses_nothing(registry: Registry, workflow: Workflow, tmp_path: Path) -> None:
    file = event_file(tmp_path, workflow.jobs[0], workflow)
    file.begin_step(workflow.instance(1))
    file._time = BEGAN - 5000
    file.end_exec(workflow.instance(1)).make_files(workflow.instance(1)).add(1, state="succeeded", status=0).write()
    merge(registry, [tmp_path])
    (row,) = rows(
        registry, "select state, start_time, end_time from pfw_wrapper w, task t where t.id = w.task_id and wrapnum = 1"
    )
    assert row[0] == "succeeded"
    assert row[2] < row[1]


def test_files_of_unknown_runs_jobs_and_writers_are_refused_and_the_rest_go_in(
    registry: Registry, workflow: Workflow, tmp_path: Path
) -> None:
    good = event_file(tmp_path, workflow.jobs[0], workflow).run_step(workflow.instance(1)).write()
    stranger = make_workflow(1, 1, attnum=7)
    unknown = event_file(tmp_path, stranger.jobs[0], stranger).write()
    garbage = tmp_path / "x" / "events.1.jsonl"
    garbage.parent.mkdir()
    garbage.write_text("[1]\n")
    endless = tmp_path / "z" / "events.1.jsonl"
    endless.parent.mkdir()
    endless.write_text(good.read_text().replace('"try": 1', '"try": Infinity'))
    torn = tmp_path / "y" / "events.1.jsonl"
    torn.parent.mkdir()
    torn.write_text('{"log": "abc')
    done = merge(registry, [tmp_path])
    assert done.events == good.read_text().count("\n")
    why = {one.relpath: one.why for one in done.refused}
    assert why.keys() == {str(unknown), str(garbage), str(endless)}
    assert "no job Ht0_r11p7_j0001 of run Ht0_r11p07" in why[str(unknown)]
    assert "first line does not say whose events follow" in why[str(garbage)]


def test_a_pipe_in_place_of_an_event_file_keeps_nobody_waiting(registry: Registry, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "events.1.jsonl")
    (refused,) = merge(registry, [tmp_path]).refused
    assert refused.why == "it is no file"


def test_a_folder_that_is_not_there_is_an_error(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="unknown folder"):
        merge(registry, [tmp_path / "nowhere"])


def test_a_dry_run_counts_and_changes_nothing(
    registry: Registry, workflow: Workflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 10)
    write_run(tmp_path, workflow)
    before = contents(registry)
    would = merge(registry, [tmp_path], dry_run=True)
    assert contents(registry) == before
    assert merge(registry, [tmp_path]) == would


def test_statements_grow_with_batches_and_not_with_events(registry: Registry, tmp_path: Path) -> None:
    def sent(workflow: Workflow, folder: Path) -> int:
        begin_run(registry, workflow, operator="op")
        write_run(folder, workflow)
        with statements(registry, in_transactions=True) as some:
            merge(registry, [folder])
        return len(some)

    small, large = make_workflow(1, 2, attnum=1, gather=False), make_workflow(8, 60, attnum=2, gather=False)
    register_raws(registry, 8, 60)
    few = sent(small, tmp_path / "small")
    assert sent(large, tmp_path / "large") <= few + 2
    assert few < 60


def test_a_registry_without_the_filetypes_of_logs_gets_them(
    registry: Registry, workflow: Workflow, tmp_path: Path
) -> None:
    execute(registry, "delete from ops_filetype where filetype = 'log'")
    write_run(tmp_path, workflow)
    merge(registry, [tmp_path])
    assert rows(registry, "select count(*) from desfile where filetype = 'log'") == [(5,)]
    assert rows(registry, "select count(*) from task_message where message_lvl = 1") == [(0,)]
