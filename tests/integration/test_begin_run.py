"""Beginning a run registers its attempt and all that it will do, once, in a few statements."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
from event_files import job_name, make_workflow
from registries import contents, rows, small_registry, statements

from dbb import Registry
from dbb.errors import ConflictError, UsageError
from dbb.pipeline.workflow import Workflow
from dbb.runs.begin import Purpose, begin_run, reserve_attempt

TREE = """
with recursive tree(id, depth, says) as (
  select id, 0, name || ' ' || label from task where parent_task_id is null
  union all
  select t.id, depth + 1, t.name || ' ' || t.label from task t join tree on t.parent_task_id = tree.id)
select depth, says from tree order by depth, id
"""


@pytest.fixture
def registry(registry_url: str) -> Iterator[Registry]:
    with small_registry(registry_url) as opened:
        yield opened


def test_the_tasks_of_a_run_form_the_tree_that_desdm_has(registry: Registry) -> None:
    begin_run(registry, make_workflow(jobs=1, ccds=1), operator="op")
    assert rows(registry, TREE) == [
        (0, "attempt Ht0_r11p95"),
        (1, "block single"),
        (1, "block together"),
        (2, f"job {job_name(1)}"),
        (2, f"job {job_name(2)}"),
        (3, "wrapper process"),
        (3, "wrapper coadd"),
        (4, "exec_1 processCcd.py"),
        (4, "exec_1 assembleCoadd.py"),
    ]
    assert rows(registry, "select count(*) from task t, pfw_attempt a where t.root_task_id = a.task_id") == [(9,)]


def test_what_waits_for_other_jobs_is_unready_and_the_rest_is_ready(registry: Registry) -> None:
    begin_run(registry, make_workflow(jobs=2, ccds=1), operator="op")
    states = rows(registry, "select name, label, state from task where name in ('block', 'job', 'attempt') order by id")
    assert states == [
        ("attempt", "Ht0_r11p95", "ready"),
        ("block", "single", "ready"),
        ("block", "together", "unready"),
        ("job", job_name(1), "ready"),
        ("job", job_name(2), "ready"),
        ("job", job_name(3), "unready"),
    ]


def test_blocks_jobs_steps_and_programs_have_the_columns_of_desdm(registry: Registry) -> None:
    begin_run(registry, make_workflow(jobs=2, ccds=2), operator="op")
    assert rows(registry, "select blknum, name, modulelist, numexpjobs from pfw_block order by blknum") == [
        (1, "single", "process", 2),
        (2, "together", "coadd", 1),
    ]
    assert rows(registry, "select jobnum, jobkeys, expect_num_wrap from pfw_job order by jobnum") == [
        (1, "visit=1", 2),
        (2, "visit=2", 2),
        (3, "", 1),
    ]
    wrapper = "select wrapnum, name, modname, wrapkeys, log from pfw_wrapper order by wrapnum limit 1"
    assert rows(registry, wrapper) == [(1, "processCcd.py", "process", "visit=1,ccd=0", "process-1.log")]
    assert rows(registry, "select execnum, name from pfw_exec order by task_id limit 1") == [(1, "processCcd.py")]
    planned = "select filename, filetype, path, saved, optional from planned_file where filename like 'calexp%'"
    assert [tuple(map(str, row)) for row in rows(registry, planned)] in (
        [("calexp-HSC-R-0-8x6-r11p95.fits", "deepcoadd_calexp", "r11/p95/coadd", saved, optional)]
        for saved, optional in (("1", "0"), ("True", "False"))
    )


def test_what_a_run_is_for_is_kept_with_its_request_and_attempt(registry: Registry) -> None:
    purpose = Purpose(
        "ACT", pipeline="hsc", campaign="Y3", labels=["test"], values={"why": "a try"}, archive_path="r11"
    )
    begin_run(registry, make_workflow(), operator="op", purpose=purpose)
    begin_run(registry, make_workflow(attnum=96), operator="other", purpose=Purpose("OTHER", jira_id="X-1"))
    assert rows(registry, "select project, jira_id, pipeline, campaign from pfw_request") == [
        ("ACT", "X-1", "hsc", "Y3")
    ]
    attempts = "select attnum, operator, numexpblk, archive_path from pfw_attempt order by attnum"
    assert rows(registry, attempts) == [(95, "op", 2, "r11"), (96, "other", 2, None)]
    assert rows(registry, "select label from pfw_attempt_label") == [("test",)]
    assert rows(registry, "select key, val from pfw_attempt_val where key = 'why'") == [("why", "a try")]
    assert rows(registry, "select processing_state, data_state from attempt_state") == [("NEW", "NEW")] * 2


def test_a_run_that_exists_is_refused_and_nothing_changes(registry: Registry) -> None:
    begin_run(registry, make_workflow(), operator="op")
    before = contents(registry)
    with pytest.raises(ConflictError, match="run Ht0_r11p95 exists already"):
        begin_run(registry, make_workflow(), operator="op")
    assert contents(registry) == before


def test_a_run_that_ingested_files_belong_to_is_refused(registry: Registry) -> None:
    registry.register_filetypes([registry.filetype("genfile")])
    registry.add_archive("home", "/data/home")
    registry.ingest_table([{"relpath": "a"}], filetype="genfile", archive="home", run="Ht0_r11p95")
    with pytest.raises(ConflictError, match="run Ht0_r11p95 exists already"):
        begin_run(registry, make_workflow(), operator="op")


def test_a_reserved_attempt_is_taken_by_the_run_it_was_reserved_for(registry: Registry) -> None:
    begin_run(registry, make_workflow(), operator="op")
    reserved = reserve_attempt(registry, 11, "Ht0", operator="op")
    assert str(reserved.run) == "Ht0_r11p96"
    with pytest.raises(ConflictError):
        begin_run(registry, make_workflow(attnum=96), operator="thief")
    with pytest.raises(UsageError, match="the workflow is of Ht0_r11p97, but Ht0_r11p96 was reserved"):
        begin_run(registry, make_workflow(attnum=97), operator="op", reserved=reserved)
    assert begin_run(registry, make_workflow(attnum=96), operator="op", reserved=reserved) == reserved
    with pytest.raises(ConflictError):
        begin_run(registry, make_workflow(attnum=96), operator="op", reserved=reserved)


def test_a_workflow_without_a_run_is_refused(registry: Registry) -> None:
    with pytest.raises(UsageError, match="says no run"):
        begin_run(registry, replace(make_workflow(), run={"reqnum": 11}), operator="op")
    with pytest.raises(UsageError, match="is no run"):
        reserve_attempt(registry, 11, "a/b", operator="op")


def test_statements_do_not_grow_with_the_run(registry: Registry) -> None:
    def sent(workflow: Workflow) -> int:
        with statements(registry) as some:
            begin_run(registry, workflow, operator="op")
        return len(some)

    assert sent(make_workflow(jobs=1, ccds=1)) == sent(make_workflow(jobs=20, ccds=20, attnum=96)) < 25


def test_attempt_numbers_taken_at_once_are_all_different(registry: Registry) -> None:
    script = (
        "import sys; from dbb import Registry; from dbb.runs.begin import reserve_attempt\n"
        "with Registry(sys.argv[1]) as registry:\n"
        "    for _ in range(10): print(reserve_attempt(registry, 11, 'Ht0', operator='op').run.attnum)"
    )
    command = [sys.executable, "-c", script, registry.url]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    numbers = [int(word) for process in processes for word in process.communicate()[0].split()]
    assert sorted(numbers) == list(range(1, 41))
