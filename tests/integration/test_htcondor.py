"""Runs that HTCondor works off: detached, watched in both queues, cancelled, taken out by hand and put in again."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from batch_systems import PoolForTests
from submitted_runs import PARTS, SubmittedRuns, wait_for

SUBMIT = ("submit.des", "--engine", "htcondor", "--jobs", "4")
RUN = "U_r1p01"
EVERYTHING = sorted(f"{what} {name}" for what in ("begin", "end") for name in ("seed", *PARTS, "total"))


@pytest.fixture
def runs(in_pool: PoolForTests, sqlite_url: str, tmp_path: Path) -> SubmittedRuns:
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


def state(runs: SubmittedRuns) -> str:
    return str(rows_of(runs, "status", RUN)[0]["stat"])


def rows_of(runs: SubmittedRuns, *command: str) -> list[dict[str, Any]]:
    """Return the rows that a command prints, whatever it says on standard error."""
    text = runs.dbb(*command, "--format", "json")
    rows: list[dict[str, Any]] = json.JSONDecoder().raw_decode(text)[0]
    return rows


def test_a_detached_run_that_nobody_attends_is_attended_by_itself(waiting: SubmittedRuns) -> None:
    go_on(waiting)
    wait_for(lambda: state(waiting) == "DONE")
    assert sorted(waiting.told) == EVERYTHING
    assert set(waiting.states().values()) == {"succeeded"}


@pytest.mark.long
def test_a_run_goes_on_when_dbb_submit_is_killed(runs: SubmittedRuns) -> None:
    runs.order("seed", f'while [ ! -e "{runs.folder}/go" ]; do sleep 0.05; done')
    submit = runs.start(*SUBMIT)
    wait_for(lambda: "begin seed" in runs.told)
    submit.kill()
    submit.communicate()
    go_on(runs)
    wait_for(lambda: state(runs) == "DONE")
    assert sorted(runs.told) == EVERYTHING


@pytest.mark.long
def test_the_state_of_the_queue_is_shown_where_it_differs(waiting: SubmittedRuns, in_pool: PoolForTests) -> None:
    in_pool.hold('dbb_module == "seed"')
    wait_for(lambda: "held" in (rows_of(waiting, "status", RUN)[0]["queue"] or ""))
    assert rows_of(waiting, "job", RUN)[0]["queue"].startswith("held: ")
    assert "queue" in waiting.dbb("status", RUN)
    go_on(waiting)
    in_pool.release('dbb_module == "seed"')
    wait_for(lambda: state(waiting) == "DONE")
    assert rows_of(waiting, "status", RUN)[0]["queue"] is None
    assert "queue" not in waiting.dbb("status", RUN)


@pytest.mark.long
def test_a_queue_that_does_not_answer_is_told_in_words(waiting: SubmittedRuns, in_pool: PoolForTests) -> None:
    in_pool.stop()
    assert "HTCondor cannot be used" in rows_of(waiting, "status", RUN)[0]["queue"]
    assert "HTCondor cannot be used" in waiting.dbb("job", RUN)
    assert "HTCondor cannot be used" in waiting.dbb("submit", "--resume", RUN, code=4)
    assert waiting.told == ["begin seed"]
    in_pool.start(lifeline=True)
    go_on(waiting)
    wait_for(lambda: state(waiting) == "DONE", 110)


def test_a_detached_run_is_cancelled(waiting: SubmittedRuns, in_pool: PoolForTests) -> None:
    waiting.dbb("cancel", RUN)
    wait_for(lambda: not in_pool.queue("ClusterId"))
    assert state(waiting) == "DEL"
    assert waiting.told == ["begin seed"]


@pytest.mark.long
def test_a_run_whose_dag_is_removed_by_hand_is_over_and_resumed(waiting: SubmittedRuns, in_pool: PoolForTests) -> None:
    in_pool.run("condor_rm", "-constraint", f'dbb_run == "{RUN}"')
    assert "ended by signal SIGTERM" in waiting.dbb("attend", RUN, code=3)
    assert set(waiting.states().values()) == {"killed", "blocked"}
    go_on(waiting)
    assert "4 of 4 jobs succeeded" in waiting.dbb("submit", "--resume", RUN, "--engine", "htcondor", "--jobs", "4")


@pytest.mark.long
def test_a_removed_dag_goes_on_when_it_is_submitted_again_by_hand(runs: SubmittedRuns, in_pool: PoolForTests) -> None:
    runs.order("part-1-1", f'while [ ! -e "{runs.folder}/go" ]; do sleep 0.05; done')
    attendant = runs.start(*SUBMIT)
    wait_for(lambda: "begin part-1-1" in runs.told)
    in_pool.run("condor_rm", "-constraint", f'dbb_run == "{RUN}"')
    attendant.communicate(timeout=60)
    assert (attendant.returncode, state(runs)) == (3, "KILL")
    go_on(runs)
    in_pool.run("condor_submit_dag", "-usedagdir", str(runs.folder / RUN / "engine" / f"{RUN}.dag"))
    wait_for(lambda: state(runs) == "DONE")
    assert set(runs.states().values()) == {"succeeded"}
    assert runs.told.count("begin seed") == 1
    wait_for(lambda: "is over (succeeded)" in runs.dbb_any("attend", RUN))


@pytest.mark.long
def test_what_was_done_before_is_not_run_again(runs: SubmittedRuns) -> None:
    runs.order("total", "exit 4")
    runs.dbb("submit", *SUBMIT, code=3)
    runs.order("total", "")
    assert "4 of 4 jobs succeeded, 5 quanta taken over" in runs.dbb("submit", *SUBMIT, "--resume", RUN)
    assert runs.told.count("begin seed") == 1
    rescue = runs.folder / "U_r1p02" / "engine" / "U_r1p02.dag.rescue001"
    assert len(rescue.read_text().splitlines()) == 3


def test_sigterm_ends_the_jobs_in_good_order(runs: SubmittedRuns, in_pool: PoolForTests) -> None:
    runs.order("seed", "sleep 60")
    submit = runs.start(*SUBMIT)
    wait_for(lambda: "begin seed" in runs.told)
    os.kill(submit.pid, signal.SIGTERM)
    submit.communicate(timeout=60)
    assert submit.returncode == 130
    assert in_pool.queue("ClusterId") == []
    assert runs.states()["seed"] == "killed"
    assert "SIGTERM" in runs.dbb("job", RUN)


def test_without_a_shared_file_system_the_same_is_made(runs: SubmittedRuns) -> None:
    assert "4 of 4 jobs succeeded" in runs.dbb("submit", *SUBMIT, "--workdir", "it's mine & yours")
    shared = runs.made()
    assert "4 of 4 jobs succeeded" in runs.dbb("submit", *SUBMIT, "--set", "condor_file_transfer=True")
    assert runs.made() == shared
    assert runs.states(2) == runs.states(1)
    assert list((runs.folder / "U_r1p02/jobs").glob("*/sandbox")) == []


def test_settings_of_no_use_are_refused_before_anything_is_registered(runs: SubmittedRuns) -> None:
    assert "expected True or False" in runs.dbb("submit", *SUBMIT, "--set", "condor_file_transfer=perhaps", code=2)
    assert runs.dbb("status").split("\n")[2:] == [""]
