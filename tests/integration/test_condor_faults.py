"""Whatever happens to a pool, a job or who waits for it, a run on HTCondor makes the same as an undisturbed one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from batch_systems import PoolForTests, wait_for
from run_story import story
from submitted_runs import PARTS, SubmittedRuns, kill_all

from dbb import Registry

pytestmark = pytest.mark.timeout(400)

TRAVEL = ("--set", "condor_file_transfer=True")
RUN, JOB = "U_r1p01", "U_r1p01_middle_j0002"
SAID = {f"{what} {name}" for what in ("begin", "end") for name in ("seed", *PARTS, "total")}
# what was made, of what, by which programs; and that no row is there twice
TABLES = ("desfile", "number", "file_archive_info", "opm_used", "opm_was_derived_from", "pfw_job", "pfw_wrapper")
_RUN_SECONDS = 240


class DisturbedRun:
    """A run that has begun, whose step ``part-1-1`` waits until it may go on."""

    def __init__(self, runs: SubmittedRuns, pool: PoolForTests, *arguments: str) -> None:
        self.runs, self.pool = runs, pool
        runs.order("part-1-1", f'while [ ! -e "{runs.folder}/go" ]; do sleep 0.05; done')
        self.submit = runs.start("submit.des", "--engine", "htcondor", *arguments)
        wait_for(lambda: "begin part-1-1" in runs.told, "the step runs")

    def go_on(self) -> None:
        (self.runs.folder / "go").touch()

    def ends_well(self) -> None:
        """Let it go on, and wait for those that attend it."""
        self.go_on()
        out = "".join(self.submit.communicate(timeout=_RUN_SECONDS))
        assert self.submit.returncode == 0, out
        assert "4 of 4 jobs succeeded" in out

    def begun(self, name: str) -> int:
        return self.runs.told.count(f"begin {name}")

    def process(self, name: str, *arguments: str) -> psutil.Process:
        """Return the process of the pool whose name begins so, and that has these arguments."""
        members = set(self.pool.daemons.members())
        found = [one for one in psutil.process_iter(["name", "cmdline"]) if one.pid in members]
        (one,) = [
            one for one in found if one.info["name"].startswith(name) and set(arguments) <= set(one.info["cmdline"])
        ]
        return one

    def status(self) -> dict[str, Any]:
        """Return what ``dbb status`` says of it."""
        rows: list[dict[str, Any]] = json.loads(self.runs.dbb("status", RUN, "--format", "json"))
        return rows[0]


@pytest.fixture
def runs(in_pool: PoolForTests, sqlite_url: str, tmp_path: Path) -> SubmittedRuns:
    return SubmittedRuns(sqlite_url, tmp_path)


@pytest.fixture
def run(runs: SubmittedRuns, in_pool: PoolForTests, request: pytest.FixtureRequest) -> Iterator[DisturbedRun]:
    """A run whose jobs have one try, if a test does not say more: what ends them by no fault of theirs costs none."""
    begun = DisturbedRun(runs, in_pool, *getattr(request, "param", ()))
    yield begun
    if begun.submit.poll() is None:
        kill_all(begun.submit)


@pytest.fixture
def small_disk(in_pool: PoolForTests) -> Iterator[Path]:
    """The disk that jobs find on the node: one of 200 kB of its own."""
    folder = in_pool.folder / "execute"
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k,mode=755", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a disk that is full needs a small one, which only root can mount")
    try:
        yield folder
        in_pool.clear()
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What a run on this machine makes when nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed")
    local = SubmittedRuns(f"sqlite:///{folder}/registry.db", folder / "runs")
    local.submit()
    return record(local)


def record(runs: SubmittedRuns) -> dict[str, list[str]]:
    """Return what is registered, in words that are the same in every folder."""
    with Registry(runs.url) as registry:
        told = story(registry)
    return {name: sorted(str(row).replace(str(runs.folder), "FOLDER") for row in told[name]) for name in TABLES}


@pytest.mark.long
def test_a_pool_that_is_stopped_is_missed_by_status_and_goes_on_when_it_is_started(
    run: DisturbedRun, undisturbed: dict[str, list[str]]
) -> None:
    run.pool.stop()
    assert "HTCondor cannot be used" in run.status()["queue"]
    run.pool.start(lifeline=True)
    run.ends_well()
    assert record(run.runs) == undisturbed


@pytest.mark.long
@pytest.mark.parametrize("run", [(), TRAVEL], indirect=True, ids=["shared", "travel"])
def test_a_pool_that_crashed(run: DisturbedRun, undisturbed: dict[str, list[str]]) -> None:
    run.pool.crash()
    run.pool.start(lifeline=True)
    run.ends_well()
    assert record(run.runs) == undisturbed


@pytest.mark.long
def test_a_machine_that_crashed(run: DisturbedRun, undisturbed: dict[str, list[str]]) -> None:
    kill_all(run.submit)
    run.pool.crash()
    run.pool.start(lifeline=True)
    run.go_on()
    wait_for(lambda: set(run.runs.states().values()) == {"succeeded"}, "the run has ended", _RUN_SECONDS)
    wait_for(lambda: "is over" in run.runs.dbb_any("attend", RUN), "nobody attends it any more")
    assert record(run.runs) == undisturbed


@pytest.mark.long
def test_a_schedd_that_is_killed_finds_its_jobs_again(run: DisturbedRun, undisturbed: dict[str, list[str]]) -> None:
    run.process("condor_schedd").kill()
    run.ends_well()
    assert sorted(run.runs.told) == sorted(SAID)
    assert record(run.runs) == undisturbed


def test_a_dagman_that_is_killed_goes_on(run: DisturbedRun, undisturbed: dict[str, list[str]]) -> None:
    run.process("condor_dagman").kill()
    run.ends_well()
    assert sorted(run.runs.told) == sorted(SAID)
    assert record(run.runs) == undisturbed


@pytest.mark.long
@pytest.mark.parametrize("run", [("--retries", "1")], indirect=True, ids=["retry"])
def test_a_job_that_is_killed_is_started_again(run: DisturbedRun, undisturbed: dict[str, list[str]]) -> None:
    job_file = str(run.runs.folder / RUN / "jobs" / JOB / "job.json")
    run.process("python", "run-job", job_file).kill()
    run.ends_well()
    assert run.begun("part-1-1") == 2
    assert record(run.runs) == undisturbed


@pytest.mark.long
def test_a_job_that_is_held_goes_on_when_it_is_released(run: DisturbedRun, undisturbed: dict[str, list[str]]) -> None:
    ours = f'dbb_job == "{JOB}"'
    run.pool.hold(ours)
    wait_for(lambda: run.pool.queue("JobStatus", constraint=ours) == [["5"]], "the job is held")
    run.go_on()
    wait_for(lambda: "held" in str(run.status()["queue"]), "the status says so")
    run.pool.release(ours)
    run.ends_well()
    assert record(run.runs) == undisturbed


@pytest.mark.long
def test_a_submit_that_is_killed_is_followed_by_attend(run: DisturbedRun, undisturbed: dict[str, list[str]]) -> None:
    run.submit.kill()
    run.submit.communicate()
    run.submit = run.runs.dbb_started("attend", RUN)
    run.ends_well()
    assert sorted(run.runs.told) == sorted(SAID)
    assert record(run.runs) == undisturbed


@pytest.mark.long
def test_a_schedd_that_does_not_answer_is_told_by_status(run: DisturbedRun, undisturbed: dict[str, list[str]]) -> None:
    schedd = run.process("condor_schedd")
    schedd.suspend()
    try:
        now = run.status()
    finally:
        schedd.resume()
    assert "has not answered" in now["queue"]
    assert (now["block"], now["failed"], now["jobs"]) == ("middle", 0, 4)
    run.ends_well()
    assert record(run.runs) == undisturbed


@pytest.mark.long
def test_a_disk_that_was_full_for_a_job(runs: SubmittedRuns, undisturbed: dict[str, list[str]]) -> None:
    python = runs.folder / "python"  # no file may have more than 1 kB at the first try of one job
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *{JOB}*) mkdir {runs.folder}/tried 2>&1 && ulimit -f 2;; esac\n'
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    runs.submit("--engine", "htcondor", "--retries", "1", "--set", f"condor_executable={python}")
    assert (runs.folder / "tried").exists()
    assert len(list((runs.folder / RUN / "jobs" / JOB).glob("run.*.log"))) == 2
    assert record(runs) == undisturbed


@pytest.mark.long
def test_a_node_with_a_full_disk_holds_jobs_until_there_is_room(
    runs: SubmittedRuns, in_pool: PoolForTests, small_disk: Path, undisturbed: dict[str, list[str]]
) -> None:
    filler = small_disk / "filler"
    with filler.open("wb") as stream:
        assert subprocess.run(["head", "--bytes=1000000", "/dev/zero"], stdout=stream, check=False).returncode
    submit = runs.start("submit.des", "--engine", "htcondor", *TRAVEL)
    wait_for(lambda: "No space left on device" in runs.dbb_any("status", RUN), "the status says so", 120)
    filler.unlink()
    in_pool.release("true")
    out = "".join(submit.communicate(timeout=_RUN_SECONDS))
    assert submit.returncode == 0, out
    assert record(runs) == undisturbed
