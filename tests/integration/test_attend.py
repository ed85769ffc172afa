"""A run whose engine goes on by itself is detached, attended by whoever wants to, cancelled and resumed."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import detached_engine
import pytest
from submitted_runs import PARTS, SubmittedRuns, wait_for

SUBMIT = ("submit.des", "--engine", "detached")


@pytest.fixture
def runs(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SubmittedRuns:
    site = tmp_path / "site"
    detached_engine.install(site)
    monkeypatch.setenv("PYTHONPATH", f"{site}:{Path(detached_engine.__file__).parent}")
    return SubmittedRuns(sqlite_url, tmp_path)


@pytest.fixture
def waiting(runs: SubmittedRuns) -> SubmittedRuns:
    """A detached run whose first job waits for the file ``go``."""
    runs.order("seed", f'while [ ! -e "{runs.folder}/go" ]; do sleep 0.05; done')
    runs.dbb("submit", *SUBMIT, "--detach")
    wait_for(lambda: "begin seed" in runs.told)
    return runs


def go_on(runs: SubmittedRuns) -> None:
    (runs.folder / "go").touch()


def exit_code(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=60)
    return process.returncode


def test_a_detached_run_goes_on_and_can_be_attended(waiting: SubmittedRuns) -> None:
    assert waiting.states()["total"] == "unready"
    assert "0 of 4 jobs have failed" in waiting.dbb("attend", "U_r1p01", "--dry-run")
    go_on(waiting)
    assert "U_r1p01: 4 of 4 jobs succeeded" in waiting.dbb("attend", "U_r1p01")
    assert set(waiting.states().values()) == {"succeeded"}
    assert waiting.told.count("begin seed") == 1
    assert "is over (succeeded)" in waiting.dbb("attend", "U_r1p01", code=4)


def test_it_is_made_of_the_same_as_one_that_was_waited_for(runs: SubmittedRuns) -> None:
    assert "4 of 4 jobs succeeded" in runs.dbb("submit", *SUBMIT)
    waited_for = runs.made()
    runs.dbb("submit", *SUBMIT, "--detach")
    runs.dbb("attend", "U_r1p02")
    assert runs.made() == waited_for
    assert runs.states(2) == runs.states(1)


def test_a_run_is_attended_by_one_process_at_a_time(waiting: SubmittedRuns) -> None:
    first = waiting.dbb_started("attend", "U_r1p01")
    wait_for(lambda: "somebody attends" in waiting.dbb_any("attend", "U_r1p01", "--dry-run"))
    go_on(waiting)
    assert exit_code(first) == 0


def test_an_attendant_that_is_killed_leaves_nothing_to_be_done_twice(runs: SubmittedRuns) -> None:
    runs.order("part-1-1", f'while [ ! -e "{runs.folder}/go" ]; do sleep 0.05; done')
    submit = runs.start(*SUBMIT)
    wait_for(lambda: "begin part-1-1" in runs.told)
    submit.kill()
    submit.communicate()
    go_on(runs)
    assert "U_r1p01: 4 of 4 jobs succeeded" in runs.dbb("attend", "U_r1p01")
    assert sorted(runs.told) == sorted(
        f"{what} {name}" for what in ("begin", "end") for name in ("seed", *PARTS, "total")
    )
    assert len(runs.made()) == 1 + 4 + 4


def test_an_attendant_that_is_interrupted_leaves_the_run_going_on(waiting: SubmittedRuns) -> None:
    attendant = waiting.dbb_started("attend", "U_r1p01")
    wait_for(lambda: "somebody attends" in waiting.dbb_any("attend", "U_r1p01", "--dry-run"))
    attendant.send_signal(signal.SIGINT)
    assert exit_code(attendant) == 130
    go_on(waiting)
    assert "4 of 4 jobs succeeded" in waiting.dbb("attend", "U_r1p01")


def test_a_run_in_the_queue_of_its_engine_is_not_resumed(waiting: SubmittedRuns) -> None:
    refused = waiting.dbb("submit", *SUBMIT, "--resume", "U_r1p01", code=4)
    assert "jobs of U_r1p01 still run" in refused
    (waiting.folder / "U_r1p01/engine/away").touch()
    waiting.dbb("merge", waiting.folder / "U_r1p01")
    go_on(waiting)
    wait_for(lambda: "end seed" in waiting.told)
    wait_for(lambda: "may still run: the queue" in waiting.dbb("submit", *SUBMIT, "--resume", "U_r1p01", code=4))


def test_a_run_that_nobody_attends_is_cancelled_in_the_queue(waiting: SubmittedRuns) -> None:
    (waiting.folder / "U_r1p01/engine/away").touch()
    assert "does not answer" in waiting.dbb("cancel", "U_r1p01", code=1)
    (waiting.folder / "U_r1p01/engine/away").unlink()
    waiting.dbb("cancel", "U_r1p01")  # said again, it reaches the engine
    wait_for(lambda: "still run" not in waiting.dbb_any("submit", *SUBMIT, "--resume", "U_r1p01", "--dry-run"))
    assert "is over" in waiting.dbb("attend", "U_r1p01", code=4)
    waiting.order("seed", "")
    assert "4 of 4 jobs succeeded" in waiting.dbb("submit", *SUBMIT, "--resume", "U_r1p01")


def test_a_run_that_is_attended_ends_when_it_is_cancelled(waiting: SubmittedRuns) -> None:
    attendant = waiting.dbb_started("attend", "U_r1p01")
    wait_for(lambda: "somebody attends" in waiting.dbb_any("attend", "U_r1p01", "--dry-run"))
    waiting.dbb("cancel", "U_r1p01")
    assert exit_code(attendant) == 3
    assert set(waiting.states().values()) == {"killed", "blocked"}


def test_an_engine_that_cannot_go_on_by_itself_says_so(runs: SubmittedRuns) -> None:
    refused = runs.dbb("submit", "submit.des", "--engine", "local", "--detach", code=2)
    assert "leave out --detach" in refused
    runs.submit()
    assert "is over" in runs.dbb("attend", "U_r1p01", code=4)
    assert "unknown run" in runs.dbb("attend", "U_r1p09", code=5)
