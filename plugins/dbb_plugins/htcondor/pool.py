"""What this process says to HTCondor, through its bindings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from dbb.errors import DbbError
from dbb_plugins.htcondor.dag import quote

_PATIENCE = 10.0
_STATES = {1: "idle", 2: "running", 3: "removed", 4: "completed", 5: "held", 6: "running", 7: "suspended"}
_SCHEDULER = 7


class PoolError(DbbError):
    """HTCondor does not answer, or refuses."""


class Queued(NamedTuple):
    """A job in the queue; `name` is empty for DAGMan itself."""

    name: str
    state: str
    reason: str
    cluster: int

    @property
    def words(self) -> str:
        """Return its state, as operators are told."""
        return f"{self.state}: {self.reason}" if self.reason else self.state


def check() -> None:
    """Make sure that this machine has HTCondor, and the bindings that talk to it.

    Raises
    ------
    PoolError
        If not.
    """
    with _bindings() as htcondor:
        htcondor.Collector().locate(htcondor.DaemonType.Schedd)


def submit_dag(dag: Path, run: str, getenv: str) -> int:
    """Give a DAG to the queue; return its cluster.

    Raises
    ------
    PoolError
        If HTCondor does not take it.
    """
    with _bindings() as htcondor:
        names = ",".join(name.strip() for name in getenv.replace(";", ",").split(","))
        options = {"UseDagDir": True, "AutoRescue": 1, "BatchName": run, "GetFromEnv": names}
        description = htcondor.Submit.from_dag(str(dag), options)
        description["initialdir"] = str(dag.parent).replace("$", "$(DOLLAR)")
        return int(htcondor.Schedd().submit(description).cluster())


def read_queue(folder: Path) -> list[Queued]:
    """Return what is in the queue of the run in a folder.

    Raises
    ------
    PoolError
        If HTCondor does not answer; a schedd that hangs takes 20 seconds, in which this process stands still.
    """
    names = ["ClusterId", "JobStatus", "JobUniverse", "HoldReason", "dbb_job"]
    with _bindings() as htcondor:
        return [_queued(ad) for ad in htcondor.Schedd().query(_mine(folder), names)]


def ask_queue(folder: Path) -> list[Queued]:
    """Return the same as `read_queue`, and wait no longer than ten seconds.

    Raises
    ------
    PoolError
        If HTCondor does not answer until then.
    """
    command = [sys.executable, "-m", "dbb_plugins.htcondor.ask", str(folder)]
    try:  # in a process of its own: the bindings let nothing else run while they wait
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)  # noqa: S603  # ours
    except subprocess.TimeoutExpired:
        raise PoolError(f"HTCondor has not answered for {_PATIENCE:.0f} seconds") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()  # before the last, the bindings may complain by themselves
        raise PoolError(lines[-1] if lines else f"HTCondor could not be asked: exit code {done.returncode}")
    return [Queued(*one) for one in json.loads(done.stdout)]


def remove(folder: Path, why: str) -> None:
    """Take DAGMan, and with it all its jobs, out of the queue.

    Raises
    ------
    PoolError
        If HTCondor does not answer, or refuses.
    """
    with _bindings() as htcondor:
        result = htcondor.Schedd().act(htcondor.JobAction.Remove, _mine(folder), why)
        if result is not None and result.get("TotalPermissionDenied", 0):
            raise PoolError("HTCondor does not let you remove the jobs of this run: they are somebody else's")


def _mine(folder: Path) -> str:
    return f"dbb_folder =?= {quote(str(folder))}"


def _queued(ad: Any) -> Queued:
    name = "" if ad.get("JobUniverse") == _SCHEDULER else str(ad.get("dbb_job", ""))
    state = _STATES.get(int(ad.get("JobStatus", 0)), "unknown")
    reason = str(ad.get("HoldReason", "")) if state == "held" else ""
    return Queued(name, state, reason, int(ad["ClusterId"]))


@contextmanager
def _bindings() -> Iterator[Any]:
    """Give the module ``htcondor2``; whatever it raises becomes a PoolError."""
    try:
        import htcondor2
    except ImportError as error:
        advice = "run pip install 'mini-dbb[htcondor]'"
        raise PoolError(f"the bindings of HTCondor are not installed ({error}): {advice}") from error
    try:
        yield htcondor2
    except (htcondor2.HTCondorException, OSError, ValueError, KeyError) as error:
        text = " ".join(str(error).split())
        place = os.environ.get("CONDOR_CONFIG", "/etc/condor/condor_config")
        raise PoolError(
            f"HTCondor cannot be used: {text}; does condor_q answer here, with the configuration {place}?"
        ) from error
