"""What real jobs write is in the registry after a merge, also of jobs that were killed and tried again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from job_files import start_dbb
from registries import rows, small_registry

from dbb import Registry
from dbb.pipeline.workflow import InputFile, Instance, Job, OutputFile, Workflow
from dbb.runs.begin import begin_run
from dbb.runs.jobs import job_status
from dbb.runs.merge import merge
from dbb.runs.report import run_messages

RUN = {"reqnum": 11, "unitname": "Ht0", "attnum": 95}
STEPS = 6


def step(wrapnum: int) -> Instance:
    """A step that copies what the one before it made, and says something."""
    name, before = f"n{wrapnum}_r11p95.txt", f"n{wrapnum - 1}_r11p95.txt"
    copied = f"cat {before} > {name}; " if wrapnum > 1 else ""
    script = f"echo Warning: step {wrapnum}; sleep 0.03; {copied}echo {wrapnum} >> {name}"
    inputs = [InputFile("text", before, before)] if wrapnum > 1 else []
    output = OutputFile("text", name, name, "r11p95", "genfile", True, False, False, {})
    argv = [["sh", "-c", script]]
    return Instance("copy", "only", wrapnum, {"n": str(wrapnum)}, argv, inputs, [output], [], f"log/{wrapnum}.log")


@pytest.fixture
def workflow() -> Workflow:
    instances = [step(wrapnum) for wrapnum in range(1, STEPS + 1)]
    return Workflow(RUN, instances, [Job("Ht0_r11p95_only_j0001", "only", 1, {}, range(1, STEPS + 1))])


@pytest.fixture
def registry(registry_url: str, tmp_path: Path, workflow: Workflow) -> Iterator[Registry]:
    with small_registry(registry_url) as opened:
        opened.add_archive("home", str(tmp_path / "home"))
        begin_run(opened, workflow, operator="op")
        yield opened


@pytest.fixture
def job(tmp_path: Path, workflow: Workflow) -> Path:
    """The job's file."""
    path = tmp_path / "RUN" / "jobs" / workflow.jobs[0].name / "job.json"
    path.parent.mkdir(parents=True)
    (tmp_path / "home").mkdir()
    pattern = {"id": 7, "pattern": "Warning:", "level": 2, "priority": 1, "execname": "global"}
    content = {
        "schema": 1,
        "dbb": "0",
        "run": RUN,
        "job": workflow.jobs[0].as_dict() | {"wrapnums": list(workflow.jobs[0].wrapnums)},
        "steps": [one.as_dict() for one in workflow.instances],
        "archives": {"home": f"file://{tmp_path}/home"},
        "home": "home",
        "messages": {"patterns": [pattern]},
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def files(registry: Registry) -> list[tuple[object, ...]]:
    """Names and checksums of what the archive has, with the step that made each."""
    return sorted(
        rows(
            registry,
            "select f.path, d.filename, d.md5sum, w.wrapnum from desfile d, file_archive_info f, task t, pfw_wrapper w"
            " where f.desfile_id = d.id and t.id = d.wgb_task_id and w.task_id in (t.id, t.parent_task_id)"
            " and d.filetype = 'genfile'",
        )
    )


def test_a_job_that_ran_is_in_the_registry_with_all_it_did(registry: Registry, job: Path, tmp_path: Path) -> None:
    with start_dbb("run-job", job) as process:
        assert process.wait(60) == 0, process.stderr and process.stderr.read()
    assert merge(registry, [tmp_path / "RUN"]).refused == ()
    assert [(one.wrap, one.state, one.status) for one in job_status(registry, "r11p95", verbose=True)] == [
        (number, "DONE", 0) for number in range(1, STEPS + 1)
    ]
    assert len(files(registry)) == STEPS
    assert rows(registry, "select count(*) from opm_used") == [(STEPS - 1,)]
    assert rows(registry, "select count(*) from opm_was_derived_from") == [(0,)]
    messages = [f"Warning: step {number}" for number in range(1, STEPS + 1)]
    assert [one.message for one in run_messages(registry, "r11p95")] == messages
    assert rows(registry, "select count(*) from pfw_exec where utime is null or maxrss is null") == [(0,)]
    assert rows(registry, "select count(*) from task where state <> 'succeeded' or status <> 0") == [(0,)]


def test_a_job_killed_at_any_moment_and_tried_again_leaves_what_an_undisturbed_one_does(
    registry: Registry, job: Path, tmp_path: Path
) -> None:
    states = set()
    for number, lines in enumerate((1, 9, 26, 40), 1):
        events = job.parent / f"events.{number}.jsonl"
        with start_dbb("run-job", job, start_new_session=True) as process:
            while process.poll() is None and (not events.exists() or events.read_bytes().count(b"\n") < lines):
                time.sleep(0.001)
            process.kill()
            process.wait(60)
        assert merge(registry, [tmp_path / "RUN"], final=True).refused == ()
        states |= {state for (state,) in rows(registry, "select distinct state from task")}
        assert rows(registry, "select count(*) from task where state = 'running'") == [(0,)]
    assert "killed" in states
    with start_dbb("run-job", job) as process:
        assert process.wait(60) == 0, process.stderr and process.stderr.read()
    assert merge(registry, [tmp_path / "RUN"]).refused == ()
    assert [one.state for one in job_status(registry, "r11p95", verbose=True)] == ["DONE"] * STEPS
    assert [(path, name, wrapnum) for path, name, _, wrapnum in files(registry)] == [
        ("r11p95", f"n{number}_r11p95.txt", number) for number in range(1, STEPS + 1)
    ]
    assert rows(registry, "select count(*) from desfile where filetype = 'genfile'") == [(STEPS,)]
    assert rows(registry, "select message from task_message where message_lvl = 1") == []
    assert len(rows(registry, "select id from event_log")) == 5
