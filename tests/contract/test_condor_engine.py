"""The engine htcondor keeps the contract of all engines on a real pool."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbb.engine import Engine
from dbb.testing import EngineContract
from dbb_plugins.htcondor import HTCondorEngine


@pytest.mark.usefixtures("in_pool")
class TestHTCondor(EngineContract):
    @pytest.fixture
    def engine(self, in_pool: None) -> Engine:
        return HTCondorEngine()


def test_a_folder_that_the_queue_does_not_know_has_no_jobs(in_pool: None, tmp_path: Path) -> None:
    engine = HTCondorEngine()
    assert engine.queue(tmp_path) == {}
    engine.cancel(tmp_path)
