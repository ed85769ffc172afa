"""What a job has recorded gets into the registry as it happened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from event_files import RUN
from job_files import md5sum
from registries import rows, small_registry

from dbb import Registry
from dbb.butler import InputSpec, RepoSpec, materialize_repo
from dbb.jobs import run_job
from dbb.pipeline.workflow import InputFile, Instance, Job, OutputFile, Workflow
from dbb.plugins import plugins
from dbb.runs.begin import begin_run
from dbb.runs.merge import merge

PLACE = {"archive": "home", "relpath": "raw/raw-1-0.fits"}
CALEXP = "CORR-0000001-000-r11p95.fits"
NAME = "Ht0_r11p95_j0001"


@pytest.fixture
def workflow() -> Workflow:
    def step(wrapnum: int, module: str, script: str, inputs: list[InputFile], outputs: list[OutputFile]) -> Instance:
        log = f"log/{module}-{wrapnum}.log"
        return Instance(module, "b", wrapnum, {}, [["sh", "-c", script]], inputs, outputs, [], log, "r11/p95/log")

    metadata = {"visit": "1", "ccd": "0", "filter": "HSC-R", "pointing": "671"}
    calexp = OutputFile("calexp", CALEXP, f"out/{CALEXP}", "r11/p95/corr", "calexp", True, True, False, metadata)
    steps = [
        step(
            1,
            "process",
            f"echo 'process FATAL: no stars'; cp in/raw.fits out/{CALEXP}",
            [InputFile("raw", "raw-1-0.fits", "in/raw.fits", None, PLACE)],
            [calexp],
        ),
        step(2, "coadd", "exit 4", [InputFile("calexp", CALEXP, f"out/{CALEXP}")], []),
        step(3, "merge", "true", [], []),
    ]
    return Workflow(RUN, steps, [Job(NAME, "b", 1, {}, [1, 2, 3])])


@pytest.fixture
def registry(registry_url: str, tmp_path: Path, workflow: Workflow) -> Iterator[Registry]:
    with small_registry(registry_url, "hsc_raw", "calexp") as opened:
        (tmp_path / "home" / "raw").mkdir(parents=True)
        image = fits.PrimaryHDU(np.arange(4096, dtype=np.int16).reshape(64, 64), fits.Header({"EXPTIME": 30.0}))
        image.writeto(tmp_path / "home" / "raw" / "raw-1-0.fits")
        opened.add_archive("home", str(tmp_path / "home"))
        raw = {"relpath": PLACE["relpath"], "visit": 1, "ccd": 0, "filter": "HSC-R"}
        opened.ingest_table([raw], filetype="hsc_raw", archive="home")
        begin_run(opened, workflow, operator="op")
        yield opened


def write_job(folder: Path, workflow: Workflow) -> Path:
    """Write the job file that a submission would."""
    job = workflow.jobs[0]
    steps = []
    for one in workflow.instances_of(job):
        made = [output.filename for output in one.outputs]
        used = [file.filename for file in one.inputs]
        exec_: dict[str, Any] = {"name": "exec_1", "execname": "sh", "used": used, "generated": made}
        steps.append(one.as_dict() | {"execs": [exec_ | {"ancestry": [[used, made]]}]})
    entry = {
        "schema": 1,
        "run": workflow.run,
        "job": job.as_dict(),
        "steps": steps,
        "archives": {"home": f"file://{folder}/home"},
        "home": "home",
        "filetypes": {"calexp": plugins().mapper("hsc").filetypes["calexp"].as_dict()},
        "messages": {"patterns": [{"id": 109, "pattern": "FATAL"}]},
    }
    path = folder / "RUN" / "jobs" / job.name / "job.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(entry), encoding="utf-8")
    return path


def test_states_files_places_relations_and_messages_arrive(
    registry: Registry, workflow: Workflow, tmp_path: Path
) -> None:
    path = write_job(tmp_path, workflow)
    assert run_job(path).result.state == "failed"
    assert merge(registry, [tmp_path / "RUN"]).refused == ()
    assert rows(
        registry, "select state, status from task t, pfw_wrapper w where w.task_id = t.id order by wrapnum"
    ) == [
        ("succeeded", 0),
        ("failed", 4),
        ("blocked", None),
    ]
    assert rows(registry, "select state from task t, pfw_job j where j.task_id = t.id") == [("failed",)]
    where = "select path, f.filename, f.compression from file_archive_info f, desfile d where f.desfile_id = d.id"
    assert rows(registry, f"{where} and wgb_task_id is not null order by f.filename") == [
        ("r11/p95/corr", CALEXP, ".fz"),
        ("r11/p95/log", "coadd-2.log", ""),
        ("r11/p95/log", "process-1.log", ""),
    ]
    assert rows(registry, "select visit, ccd, filter, count(*) from calexp group by visit, ccd, filter") == [
        (1, 0, "HSC-R", 2)
    ]
    used = "select d.filename, d.compression from opm_used u, desfile d, task t where u.desfile_id = d.id"
    assert rows(registry, f"{used} and t.id = u.task_id and t.name like 'exec%' order by 1, 2") == [
        (CALEXP, ""),
        ("raw-1-0.fits", ""),
    ]
    derived = "select p.filename, p.compression, c.filename, c.compression from opm_was_derived_from o, desfile p"
    derived += ", desfile c where o.parent_desfile_id = p.id and o.child_desfile_id = c.id order by 1"
    assert rows(registry, derived) == [(CALEXP, "", CALEXP, ".fz"), ("raw-1-0.fits", "", CALEXP, "")]
    messages = "select message_lvl, ops_message_pattern_id, message, log_file, log_line from task_message"
    assert rows(registry, messages) == [(1, 109, "process FATAL: no stars", "process-1.log", 1)]


def test_the_next_job_is_given_the_compressed_file_which_is_the_one_that_is_kept(
    registry: Registry, workflow: Workflow, tmp_path: Path
) -> None:
    run_job(write_job(tmp_path, workflow))
    merge(registry, [tmp_path / "RUN"])
    (found,) = registry.query("calexp", runs=["Ht0_r11p95"])
    assert found.relpath == f"r11/p95/corr/{CALEXP}.fz"
    assert found.md5sum == md5sum((tmp_path / "home" / found.relpath).read_bytes())
    materialize_repo(registry, tmp_path / "JOB", RepoSpec("hsc", (InputSpec("calexp", runs=("Ht0_r11p95",)),)))
    (link,) = (tmp_path / "JOB" / "in").rglob("CORR*")
    assert link.resolve() == (tmp_path / "home" / found.relpath).resolve()
