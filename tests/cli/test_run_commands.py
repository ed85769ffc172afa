"""The commands that merge events and show runs: what they print, and how they exit."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from event_files import event_file, make_workflow, register_raws, write_run
from registries import contents, small_registry

from dbb import Registry
from dbb.pipeline.workflow import Workflow
from dbb.runs.begin import begin_run
from dbb_cli.commands import status
from dbb_cli.main import run

RUN = "Ht0_r11p95"


@pytest.fixture
def workflow() -> Workflow:
    return make_workflow(2, 2)


@pytest.fixture
def registry(
    sqlite_url: str, tmp_path: Path, workflow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Registry]:
    monkeypatch.setenv("DBB_REGISTRY", sqlite_url)
    with small_registry(sqlite_url, "hsc_raw", "calexp", "deepcoadd_calexp") as opened:
        opened.add_archive("home", str(tmp_path / "home"))
        register_raws(opened, 2, 2)
        begin_run(opened, workflow, operator="op")
        yield opened


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert run([*arguments, "--format", "json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_merge_says_what_it_did_and_exits_with_3_if_a_file_was_refused(
    registry: Registry, workflow: Workflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "RUN", workflow)
    before = contents(registry)
    assert run(["merge", str(tmp_path / "RUN"), "--dry-run"]) == 0
    assert capsys.readouterr().err == "61 events of 3 files would be merged, 10 files registered\n"
    assert contents(registry) == before
    assert run(["merge", str(tmp_path / "RUN")]) == 0
    assert capsys.readouterr().err == "61 events of 3 files merged, 10 files registered\n"
    stranger = make_workflow(1, 1, attnum=7)
    event_file(tmp_path / "RUN", stranger.jobs[0], stranger).write()
    assert run(["merge", str(tmp_path / "RUN"), "--format", "json"]) == 3
    said = json.loads(capsys.readouterr().out)
    assert (said["events"], said["logs"], said["files"], said["lost"]) == (0, 0, 0, 0)
    assert "no job Ht0_r11p7_j0001" in said["refused"][0]["why"]


def test_merge_tells_of_jobs_that_ended_without_a_word(
    registry: Registry, workflow: Workflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    event_file(tmp_path, workflow.jobs[0], workflow).write()
    assert run(["merge", str(tmp_path), "--final"]) == 0
    assert "1 jobs had ended without a word: they count as killed" in capsys.readouterr().err


def test_status_job_report_and_messages_show_a_run(
    registry: Registry, workflow: Workflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "RUN", workflow)
    assert run(["merge", str(tmp_path / "RUN")]) == 0
    (one,) = answer(capsys, "status")
    assert list(one) == list(status._STATUS)
    assert (one["run"], one["stat"], one["steps"]) == (RUN, "DONE", "5/5")
    jobs = answer(capsys, "job", "r11p95")
    assert list(jobs[0]) == list(status._JOB)
    assert [(row["job"], row["jstate"], row["wrap"]) for row in jobs] == [
        (1, "DONE", 2),
        (2, "DONE", 4),
        (3, "DONE", 5),
    ]
    assert {row["section"] for row in answer(capsys, "report", RUN)} == {"run", "modules", "slowest"}
    messages = answer(capsys, "messages", RUN, "--level", "warning")
    assert list(messages[0]) == list(status._MESSAGE)
    assert messages[0]["message"] == "Warning: step 1"
    assert answer(capsys, "messages", RUN, "--level", "error") == []


@pytest.mark.parametrize("command", ["status", "job", "report", "messages"])
@pytest.mark.parametrize("form", ["table", "csv", "ecsv", "parquet"])
def test_every_view_has_every_format(
    registry: Registry, capsysbinary: pytest.CaptureFixture[bytes], command: str, form: str
) -> None:
    assert run([command, RUN, "--format", form]) == 0
    assert capsysbinary.readouterr().out


def test_a_run_that_is_not_there_is_code_5(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "r1p1"]) == 5
    assert "unknown run 'r1p1'; known: Ht0_r11p95" in capsys.readouterr().err


def test_watching_shows_changes_until_the_run_is_over(
    registry: Registry,
    workflow: Workflow,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status, "_INTERVAL", 0.02)
    write_run(tmp_path / "RUN", workflow)
    codes: list[int] = []
    watcher = threading.Thread(target=lambda: codes.append(run(["status", RUN, "--watch", "--format", "csv"])))
    watcher.start()
    while "PEND" not in (out := capsys.readouterr().out):
        assert watcher.is_alive(), out
    assert run(["merge", str(tmp_path / "RUN")]) == 0
    watcher.join(60)
    assert codes == [0]
    assert "DONE" in capsys.readouterr().out
