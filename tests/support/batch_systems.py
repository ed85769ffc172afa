"""HTCondor and Slurm for tests: real daemons on loopback that end with the process that started them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from condor_pool import CondorPool
from condor_programs import find_condor
from kept import EngineError
from slurm_cluster import SlurmCluster

__all__ = ["EngineError", "PoolForTests", "SlurmCluster", "run_pool", "run_slurm", "wait_for"]


class PoolForTests(CondorPool):
    """A pool with the mishaps of a real one."""

    @property
    def is_running(self) -> bool:
        """Whether its daemons run."""
        return self.daemons.pid is not None

    def restart(self) -> None:
        """Stop the daemons and start them."""
        self.stop()
        self.start(lifeline=True)

    def queue(self, *attributes: str, constraint: str = "true") -> list[list[str]]:
        """Return these attributes of the jobs in the queue, as ``condor_q`` prints them."""
        shown = self.run("condor_q", "-allusers", "-constraint", constraint, "-af:t", *attributes)
        return [line.split("\t") for line in shown.splitlines()]

    def hold(self, constraint: str) -> None:
        """Hold the jobs for which a ClassAd expression is true."""
        self.run("condor_hold", "-constraint", constraint)

    def release(self, constraint: str) -> None:
        """Release held jobs."""
        self.run("condor_release", "-constraint", constraint)

    def clear(self) -> None:
        """Remove all jobs, and wait until they are gone."""
        if self.queue("ClusterId"):
            self.run("condor_rm", "-all")
            wait_for(lambda: not self.queue("ClusterId"), "the queue is empty", 60)


@contextmanager
def run_pool(folder: Path) -> Iterator[PoolForTests]:
    """Run a pool; nothing is fetched for it."""
    find_condor(fetch=False)
    pool = PoolForTests(folder)
    pool.start(lifeline=True)
    try:
        yield pool
    finally:
        pool.crash()


@contextmanager
def run_slurm(folder: Path) -> Iterator[SlurmCluster]:
    """Run a Slurm of one node."""
    cluster = SlurmCluster(folder)
    cluster.start(lifeline=True)
    try:
        yield cluster
    finally:
        cluster.crash()


def wait_for(is_true: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Return as soon as something is true; fail if that takes too long."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"after {seconds:g} s it is not so that {what}"
        time.sleep(0.1)
