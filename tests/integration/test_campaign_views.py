"""What operators are shown of a campaign: the state of its runs, and a report on its units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from event_files import event_file, make_workflow, register_raws, write_run
from registries import small_registry, statements

from dbb import Registry
from dbb.errors import NotFoundError
from dbb.pipeline.workflow import Workflow
from dbb.runs.begin import Purpose, begin_run
from dbb.runs.campaign_report import campaign_report
from dbb.runs.merge import merge
from dbb.runs.queued import status_rows
from dbb.runs.status import run_status
from dbb.runs.units import Unit, register_units, tried_units


def workflow_of(unit: str, attnum: int) -> Workflow:
    """Plan two steps in one job; attempts of different units need different numbers, which are in the files' names."""
    made = make_workflow(1, 2, attnum=attnum, gather=False)
    jobs = [replace(job, name=job.name.replace("Ht0", unit)) for job in made.jobs]
    return replace(made, run={**made.run, "unitname": unit}, jobs=jobs)


def begin(registry: Registry, unit: str, attnum: int, campaign: str | None = "deep") -> Workflow:
    workflow = workflow_of(unit, attnum)
    begin_run(registry, workflow, operator="op", purpose=Purpose(campaign=campaign))
    return workflow


def fail(folder: Path, workflow: Workflow, reason: str) -> None:
    """Let the first step of a run go well, and the second fail."""
    first, second = workflow.instances
    file = event_file(folder, workflow.jobs[0], workflow).run_step(first).begin_step(second)
    file.end_exec(second, status=4).add(second.wrapnum, state="failed", status=4, reason=reason)
    file.end("failed", 4).write()


@pytest.fixture
def registry(registry_url: str, tmp_path: Path) -> Iterator[Registry]:
    """A campaign of four units: done by the second attempt, failed, under way, not begun; and a run of no campaign."""
    with small_registry(registry_url, "hsc_raw", "calexp") as opened:
        opened.add_archive("home", str(tmp_path / "home"))
        register_raws(opened, 1, 2)
        register_units(opened, {Unit(11, f"Ht{number}"): "deep" for number in range(4)}, operator="op")
        fail(tmp_path / "1", begin(opened, "Ht0", 1), "the disk is full")
        write_run(tmp_path / "2", begin(opened, "Ht0", 2))
        fail(tmp_path / "3", begin(opened, "Ht1", 3), "the disk is full")
        begin(opened, "Ht2", 4)
        other = workflow_of("Other", 1)
        begin_run(opened, replace(other, run={**other.run, "reqnum": 12}), operator="op")
        merge(opened, [tmp_path / number for number in "123"])
        yield opened


def test_status_of_a_campaign_has_its_runs_only(registry: Registry) -> None:
    assert [(one.run, one.stat) for one in run_status(registry, campaign="deep")] == [
        *(("Ht0_r11p01", "FAIL"), ("Ht0_r11p02", "DONE"), ("Ht1_r11p03", "FAIL"), ("Ht2_r11p04", "PEND")),
    ]
    assert len(run_status(registry)) == 5


def test_a_report_counts_units_attempts_time_and_failures(registry: Registry) -> None:
    found = campaign_report(registry, "deep")
    assert [(one.section, one.what, one.state, one.count) for one in found] == [
        ("campaign", "deep", "under way", 4),
        ("units", "units", "done", 1),
        ("units", "units", "failed", 1),
        ("units", "units", "under way", 1),
        ("units", "units", "not begun", 1),
        ("attempts", "1 attempt", "failed", 1),
        ("attempts", "1 attempt", "under way", 1),
        ("attempts", "2 attempts", "done", 1),
        ("time", "steps", None, 6),
        ("time", "lost", None, 2),
        ("time", "repeated", None, 1),
        ("failures", "process", "failed", 2),
    ]
    assert found[0].text == "4 attempts"
    assert found[-1].text == "the disk is full (in 2 runs)"
    spent = {one.what: one.seconds or 0 for one in found if one.section == "time"}
    assert 0 < spent["lost"] < spent["steps"]
    assert 0 < spent["repeated"] < spent["steps"]


def test_a_verbose_report_names_the_units_that_are_not_done(registry: Registry) -> None:
    found = [one for one in campaign_report(registry, "deep", verbose=True) if one.section == "not done"]
    assert [(one.what, one.state, one.count) for one in found] == [
        ("Ht1_r11p03", "failed", 1),
        ("Ht2_r11p04", "under way", 1),
        ("Ht3 of request 11", "not begun", 0),
    ]


def test_an_unknown_campaign_is_told_with_those_that_there_are(registry: Registry) -> None:
    for ask in (lambda: campaign_report(registry, "deeq"), lambda: run_status(registry, campaign="deeq")):
        with pytest.raises(NotFoundError, match="unknown campaign 'deeq'; known: deep"):
            ask()


def test_statements_do_not_grow_with_units(registry: Registry) -> None:
    def ask() -> int:
        with statements(registry) as sent:
            status_rows(registry, campaign="deep")
            campaign_report(registry, "deep", verbose=True)
            tried_units(registry, [Unit(11, f"Ht{number}") for number in range(60)])
        return len(sent)

    few = ask()
    for number in range(4, 60):
        begin(registry, f"Ht{number}", number + 1)
    assert ask() == few


def test_an_attempt_that_succeeded_tells_how_a_unit_stands_though_a_newer_one_failed(
    registry: Registry, tmp_path: Path
) -> None:
    fail(tmp_path / "5", begin(registry, "Ht0", 5), "again")
    merge(registry, [tmp_path / "5"])
    found = tried_units(registry, [Unit(11, f"Ht{number}") for number in range(4)])
    assert {unit.unitname: (str(one.run), one.state) for unit, one in found.items()} == {
        "Ht0": ("Ht0_r11p02", "succeeded"),
        "Ht1": ("Ht1_r11p03", "failed"),
        "Ht2": ("Ht2_r11p04", "ready"),
    }
