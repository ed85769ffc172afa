"""The engine htcondor keeps the contract of all engines on a real pool."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from dbb.engine import Engine
from dbb.testing import EngineContract, EngineRuns
from dbb_plugins.htcondor import HTCondorEngine


@pytest.mark.usefixtures("in_pool")
class TestHTCondor(EngineContract):
    @pytest.fixture
    def engine(self) -> Engine:
        return HTCondorEngine()


@pytest.mark.long
@pytest.mark.usefixtures("in_pool")
class TestWithoutASharedFileSystem(EngineContract):
    """Programs and what they tell lie on one machine here; the files of jobs travel."""

    @pytest.fixture
    def engine(self) -> Engine:
        return HTCondorEngine()

    @pytest.fixture
    def settings(self) -> Mapping[str, str]:
        return {"condor_file_transfer": "True"}

    def test_a_cancelled_run_ends(self, runs: EngineRuns) -> None:
        """The record of a job that is removed does not come back: it was killed, and of its steps nothing is known."""
        runs.order("early-left", "sleep 60")
        with runs.when_told("begin early-left", lambda: runs.cancel("U_r1p01")):
            done = runs.submit(at_once=1)
        assert len(done.problems) == 5
        assert runs.alive() == []
        assert runs.told == ["begin early-left"]
        assert set(runs.states(done.run).values()) == {"blocked"}

    def test_an_interrupted_engine_leaves_no_process_and_loses_nothing(self, runs: EngineRuns) -> None:
        """What came back before is done, and the run is resumed."""
        runs.order("late-left", "sleep 60")
        with (
            runs.when_told("begin late-left", lambda: os.kill(os.getpid(), signal.SIGINT)),
            pytest.raises(KeyboardInterrupt),
        ):
            runs.submit(at_once=1)
        assert runs.alive() == []
        states = runs.states("U_r1p01")
        assert (states["early-left"], states["late-left"]) == ("succeeded", "blocked")
        runs.order("late-left", "")
        assert runs.submit(resume="U_r1p01").problems == {}
        assert runs.told.count("begin early-left") == 1


@pytest.mark.usefixtures("in_pool")
def test_a_folder_that_the_queue_does_not_know_has_no_jobs(tmp_path: Path) -> None:
    engine = HTCondorEngine()
    assert engine.queue(tmp_path) == {}
    engine.cancel(tmp_path)
