"""What operators are shown of a run: status, jobs, report and messages; cancelling, marking and resuming."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from event_files import event_file, job_name, made, make_workflow, register_raws, saved, write_run
from registries import contents, execute, rows, small_registry, statements

from dbb import Registry
from dbb.errors import AmbiguousError, ConflictError, NotFoundError, UsageError
from dbb.pipeline.workflow import Workflow
from dbb.runs.begin import Purpose, begin_run
from dbb.runs.control import JobMark, mark_cancelled, mark_jobs
from dbb.runs.jobs import job_status
from dbb.runs.merge import merge
from dbb.runs.report import run_messages, run_report
from dbb.runs.resume import finished_steps
from dbb.runs.status import run_status

RUN = "Ht0_r11p95"


@pytest.fixture
def workflow() -> Workflow:
    return make_workflow(2, 2)


@pytest.fixture
def registry(registry_url: str, tmp_path: Path, workflow: Workflow) -> Iterator[Registry]:
    with small_registry(registry_url, "hsc_raw", "calexp", "deepcoadd_calexp") as opened:
        opened.add_archive("home", str(tmp_path / "home"))
        register_raws(opened, 2, 2)
        purpose = Purpose("ACT", pipeline="hsc", campaign="Y3", sites={"single": "here"})
        begin_run(opened, workflow, operator="op", purpose=purpose)
        yield opened


@pytest.fixture
def half(registry: Registry, workflow: Workflow, tmp_path: Path) -> Registry:
    """A registry of a run of which a job failed in its second step, another runs, and the last is blocked."""
    failing = event_file(tmp_path, workflow.jobs[0], workflow).run_step(workflow.instance(1))
    failing.begin_step(workflow.instance(2))
    failing.add(2, exec=1, message={"level": 2, "pattern": 1, "text": "a warning", "file": "p.log", "line": 1})
    failing.add(2, exec=1, message={"level": 1, "pattern": 2, "text": "first error", "file": "p.log", "line": 2})
    failing.add(2, exec=1, message={"level": 1, "pattern": 2, "text": "second error", "file": "p.log", "line": 3})
    failing.end_exec(workflow.instance(2), status=4).add(2, state="failed", status=4, reason="exec_1 ended with 4")
    failing.end("failed", 4).write()
    event_file(tmp_path, workflow.jobs[1], workflow).begin_step(workflow.instance(3)).write()
    merge(registry, [tmp_path])
    mark_jobs(registry, RUN, {job_name(3): JobMark("blocked", f"{job_name(1)} failed")})
    return registry


def test_a_run_that_has_not_begun_pends(registry: Registry) -> None:
    (one,) = run_status(registry)
    assert (one.run, one.prj, one.pipeline, one.campaign, one.operator, one.runsite) == (
        *(RUN, "ACT", "hsc", "Y3", "op", "here"),
    )
    assert (one.stat, one.block, one.done, one.failed, one.jobs, one.steps) == ("PEND", "single", 0, 0, 3, "0/5")
    assert one.is_open


def test_the_block_under_way_tells_how_its_jobs_stand(half: Registry) -> None:
    (one,) = run_status(half, "r11p95")
    assert (one.block, one.subblock, one.stat) == ("single", "process", "(0/0/1/2)")
    assert (one.done, one.failed, one.jobs, one.steps) == (0, 2, 3, "1/5")


@pytest.mark.parametrize(
    ("state", "status", "stat"),
    [("succeeded", 0, "DONE"), ("failed", 1, "FAIL"), ("incomplete", 1, "FAIL"), ("killed", 9, "KILL")],
)
def test_a_run_that_is_over_says_how_it_ended(
    registry: Registry, workflow: Workflow, tmp_path: Path, state: str, status: int, stat: str
) -> None:
    write_run(tmp_path, replace(workflow, jobs=workflow.jobs[:2]))
    event_file(tmp_path, workflow.jobs[2], workflow).end(state, status).write()
    merge(registry, [tmp_path])
    (one,) = run_status(registry)
    assert (one.stat, one.is_open) == (stat, False)
    assert rows(registry, "select status from task where name = 'attempt'") == [(status,)]


def test_status_sends_a_fixed_number_of_statements(registry: Registry) -> None:
    with statements(registry) as few:
        run_status(registry)
    for number in range(60):
        begin_run(registry, make_workflow(3, 1, attnum=number + 1), operator="op")
    with statements(registry) as many:
        assert len(run_status(registry)) == 61
    assert len(many) == len(few)


def test_runs_are_named_with_or_without_unit(registry: Registry) -> None:
    other = make_workflow()
    begin_run(registry, replace(other, run={**other.run, "unitname": "Ht1"}), operator="op")
    assert [one.run for one in run_status(registry, RUN)] == [RUN]
    with pytest.raises(AmbiguousError, match="several runs are called r11p95: Ht0_r11p95, Ht1_r11p95"):
        run_status(registry, "r11p95")
    with pytest.raises(NotFoundError, match="unknown run 'Ht0_r11p96'; known: Ht0_r11p95"):
        run_report(registry, "Ht0_r11p96")
    with pytest.raises(UsageError):
        job_status(registry, "run 7")


def test_failed_running_and_blocked_jobs_never_look_alike(half: Registry) -> None:
    shown = [
        (one.job, one.ended, one.jstate, one.jstatus, one.wrap, one.state, one.status) for one in job_status(half, RUN)
    ]
    assert shown == [
        (1, "2/2", "FAIL", 4, 1, "DONE", 0),
        (1, "2/2", "FAIL", 4, 2, "FAIL", 4),
        (2, "0/2", "EXEC", None, 3, "EXEC", None),
        (3, "0/1", "BLOCKED", None, None, None, None),
    ]
    assert job_status(half, RUN)[-1].reason == f"{job_name(1)} failed"
    every = [(one.wrap, one.state) for one in job_status(half, RUN, verbose=True)]
    assert every == [(1, "DONE"), (2, "FAIL"), (3, "EXEC"), (4, "WAIT"), (5, "BLOCKED")]


def test_a_step_shows_what_it_is_at(registry: Registry, workflow: Workflow, tmp_path: Path) -> None:
    file = event_file(tmp_path, workflow.jobs[0], workflow)

    def shown() -> list[tuple[str, str | None]]:
        file.write()
        merge(registry, [tmp_path])
        return [(one.jstate, one.state) for one in job_status(registry, RUN) if one.job == 1]

    assert shown() == [("EXEC", None)]
    file.add(1, state="running", module="process")
    assert shown() == [("EXEC", "PRE")]
    file.add(1, exec=1, name="processCcd.py", state="running", argv=["processCcd.py"])
    assert shown() == [("EXEC", "EXEC")]
    file.end_exec(workflow.instance(1))
    assert shown() == [("EXEC", "POST")]
    file.add(1, state="succeeded", status=0).run_step(workflow.instance(2))
    assert shown() == [("POST", "DONE")]
    file.end()
    assert shown() == [("DONE", "DONE")]


def test_a_report_counts_by_module_and_tells_why(half: Registry) -> None:
    found = run_report(half, RUN)
    by_section: dict[str, list[tuple[object, ...]]] = {}
    for one in found:
        by_section.setdefault(one.section, []).append((one.what, one.state, one.count, one.text))
    assert by_section["run"] == [(RUN, "running", None, "has begun, and not ended")]
    assert by_section["modules"] == [
        ("process", "ready", 1, None),
        ("process", "running", 1, None),
        ("process", "succeeded", 1, None),
        ("process", "failed", 1, None),
        ("coadd", "blocked", 1, None),
    ]
    assert by_section["failures"] == [
        ("process #2 (visit=1,ccd=1)", "failed", None, "status 4: exec_1 ended with 4: first error")
    ]
    assert sorted(by_section["missing"], key=repr) == [
        ("calexp", "failed", 1, "the step failed"),
        ("calexp", "ready", 1, "the step was not run yet"),
        ("calexp", "running", 1, "the step is running"),
        ("deepcoadd_calexp", "blocked", 1, f"the step was blocked: {job_name(1)} failed"),
    ]
    assert [what for what, *_ in by_section["slowest"]] == ["process #1", "process #2"]
    named = [one.what for one in run_report(half, RUN, verbose=True) if one.section == "missing"]
    assert named[0] == "CORR-0000001-001-r11p95.fits"


def test_a_report_tells_of_files_that_were_not_kept_or_never_written(
    registry: Registry, workflow: Workflow, tmp_path: Path
) -> None:
    file = event_file(tmp_path, workflow.jobs[0], workflow)
    first, second = workflow.instance(1), workflow.instance(2)
    file.begin_step(first).add(1, exec=1, file=made(first.outputs[0].filename, "calexp"))
    file.add(1, state="succeeded", status=0).begin_step(second).add(2, state="succeeded", status=0).write()
    merge(registry, [tmp_path])
    missing = {one.text for one in run_report(registry, RUN) if one.section == "missing" and one.state == "succeeded"}
    assert missing == {"it was made, but is in no archive", "the step succeeded, but the file is not there"}


def test_a_job_that_failed_without_a_failing_step_is_among_the_failures(registry: Registry) -> None:
    mark_jobs(registry, RUN, {job_name(1): JobMark("failed", "it could not be started")})
    failures = [(one.what, one.text) for one in run_report(registry, RUN) if one.section == "failures"]
    assert failures == [("job 0001", "status 1: it could not be started")]


def test_inputs_that_their_step_never_reported_are_listed(
    registry: Registry, workflow: Workflow, tmp_path: Path
) -> None:
    event_file(tmp_path, workflow.jobs[2], workflow).begin_step(workflow.instance(5)).make_files(
        workflow.instance(5)
    ).write()
    merge(registry, [tmp_path])
    assert [one.what for one in run_report(registry, RUN) if one.section == "inputs"] == [
        one.filename for one in workflow.instance(5).inputs
    ]


def test_messages_are_those_of_a_level_and_worse_in_order(half: Registry) -> None:
    assert [one.message for one in run_messages(half, RUN, "error")] == ["first error", "second error"]
    (one, *_) = run_messages(half, RUN, "warning")
    assert (one.time, one.level, one.wrap, one.modname, one.log_line) == (
        *("2014-05-13T17:10:04+00:00", "warning", 1, "process", 12),
    )
    assert len(run_messages(half, RUN)) == 4


def test_a_cancelled_run_is_over_with_desdm_s_status(half: Registry, workflow: Workflow, tmp_path: Path) -> None:
    assert mark_cancelled(half, RUN) == 5  # attempt, block, job, step and program
    (one,) = run_status(half)
    assert (one.stat, one.failed, one.is_open) == ("DEL", 3, False)
    states = "select name, state, status from task where root_task_id = id or name = 'job' order by id"
    assert rows(half, states) == [
        ("attempt", "killed", 5),
        ("job", "failed", 4),
        ("job", "killed", 5),
        ("job", "blocked", None),
    ]
    assert rows(half, "select count(*) from task where state in ('unready', 'ready', 'running')") == [(0,)]
    assert rows(half, "select processing_state, data_state from attempt_state") == [("FAIL", "JUNK")]
    before = contents(half)
    with pytest.raises(ConflictError, match=r"run Ht0_r11p95 is over \(killed\)"):
        mark_cancelled(half, RUN)
    assert contents(half) == before
    # the job tells how it was ended when the run is cancelled already
    file = event_file(tmp_path, workflow.jobs[1], workflow).begin_step(workflow.instance(3))
    file.add(3, state="killed", status=143).end("killed", 143).write()
    merge(half, [tmp_path])
    assert run_status(half)[0].stat == "DEL"


def test_jobs_become_ready_with_their_steps_and_programs(registry: Registry) -> None:
    mark_jobs(registry, RUN, {job_name(3): JobMark("ready")})
    assert rows(registry, "select distinct state from task where name in ('job', 'wrapper', 'exec_1')") == [("ready",)]
    assert rows(registry, "select state from task where name = 'block' order by id") == [("ready",), ("ready",)]


def test_a_job_that_is_over_is_not_marked_and_an_unknown_one_is_refused(half: Registry) -> None:
    before = contents(half)
    mark_jobs(half, RUN, {job_name(1): JobMark("ready")})
    mark_jobs(half, RUN, {})
    assert contents(half) == before
    with pytest.raises(NotFoundError, match="unknown job 'nobody'"):
        mark_jobs(half, RUN, {"nobody": JobMark("ready")})
    with pytest.raises(UsageError, match="there is no state 'sleepy'"):
        mark_jobs(half, RUN, {job_name(1): JobMark("sleepy")})


def test_finished_steps_are_those_with_all_their_outputs_in_an_archive(half: Registry) -> None:
    (one,) = finished_steps(half, RUN)
    assert (one.wrapnum, one.module, one.keys) == (1, "process", "visit=1,ccd=0")
    (file,) = one.files
    assert (file.planned, file.archive, file.relpath) == (
        *("CORR-0000001-000-r11p95.fits", "home", "r11/p95/corr/CORR-0000001-000-r11p95.fits"),
    )
    execute(half, "delete from file_archive_info where path like '%corr'")
    assert finished_steps(half, RUN) == []


def test_a_compressed_output_is_kept_and_an_optional_one_need_not_be(
    registry: Registry, workflow: Workflow, tmp_path: Path
) -> None:
    first = workflow.instance(1)
    name = first.outputs[0].filename
    file = event_file(tmp_path, workflow.jobs[0], workflow).begin_step(first)
    file.add(1, exec=1, file=made(name, "calexp")).add(1, exec=None, file=made(name, "calexp", "", ".fz"))
    file.add(1, compressed={"from": {"filename": name}, "to": {"filename": name, "compression": ".fz"}, "status": 0})
    file.add(1, saved=saved(name, f"corr/{name}.fz", ".fz")).add(1, state="succeeded", status=0)
    file.begin_step(workflow.instance(2)).add(2, state="succeeded", status=0).write()
    merge(registry, [tmp_path])
    assert [(one.wrapnum, [file.relpath for file in one.files]) for one in finished_steps(registry, RUN)] == [
        (1, [f"corr/{name}.fz"])
    ]
    execute(registry, "update planned_file set optional = (1 = 1)")
    assert [one.wrapnum for one in finished_steps(registry, RUN)] == [1, 2]


def test_jobs_and_steps_are_counted_in_an_index_alone(sqlite_url: str) -> None:
    with small_registry(sqlite_url) as registry:
        begin_run(registry, make_workflow(), operator="op")
        with statements(registry) as sent:
            run_status(registry)
        (counting,) = [one for one in sent if "count(" in one and "root_task_id" in one]
        with registry.read() as conn:
            plan = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {counting}", (1, "job", "wrapper")).all()
    assert "USING COVERING INDEX ix_task_state" in str(plan)
