"""Where the workers of Parsl are, as a submit file says: here, in Slurm jobs, or as a Config of the user's."""

from __future__ import annotations

import math
import os
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dbb.engine import EngineJob
from dbb.errors import DbbError, NotFoundError, UsageError

if TYPE_CHECKING:
    from parsl import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.providers.base import ExecutionProvider

__all__ = ["Site", "read_site"]

_PREFIX = "parsl_"
_SETTINGS = ("site", "partition", "nodes", "walltime", "options", "worker_init", "address")
_OF_SLURM = ("partition", "nodes", "walltime", "options")
_LOOPBACK = "127.0.0.1"
_WALLTIME = re.compile(r"\d{1,3}:[0-5]\d:[0-5]\d")
_HOUR = "01:00:00"
_BEAT = (2, 30)
"""Seconds between two signs of life of a worker pool, and without one until it counts as lost."""
_PERIOD = 0.5
_MOST_FAILURES = 3
"""So many blocks of workers in a row that come to nothing end the run."""
_POOL = "parsl.executors.high_throughput.process_worker_pool"
# What a pool that was killed leaves behind is in its process group.
# A pool that has not met the interchange yet when dbb submit is killed waits for it for ever.
_SUBMIT_GUARD = "(while kill -0 PID 2>/dev/null; do sleep 2; done; kill 0) >/dev/null 2>&1 &"
_POOL_GUARD = "|| (code=$?; [ $code -lt 128 ] || kill 0; exit $code)"


@dataclass(frozen=True, slots=True)
class Site:
    """Where jobs run.

    Parameters
    ----------
    kind
        ``local``, ``slurm``, or the path of a Python file that gives ``config``.
    partition, walltime, options
        Of Slurm: the partition, how long a Slurm job may last (``HH:MM:SS``), and more options of ``sbatch``.
    nodes
        How many Slurm jobs of one node each there may be.
    worker_init
        Shell commands that workers run first.
    address
        Of this machine, where workers reach it, and where Parsl listens.
    """

    kind: str = "local"
    partition: str | None = None
    nodes: int = 1
    walltime: str = _HOUR
    options: tuple[str, ...] = ()
    worker_init: str = ""
    address: str = _LOOPBACK

    def config(self, folder: Path, jobs: Sequence[EngineJob], at_once: int) -> Config:
        """Return what Parsl is told.

        Parameters
        ----------
        folder
            Where Parsl keeps its own files.
        jobs
            What is to be run; workers have room for the largest.
        at_once
            How many jobs may run at the same time.

        Raises
        ------
        DbbError
            If Parsl is not installed, or the user's file is of no use.
        """
        try:
            from parsl import Config
        except ImportError as error:
            raise DbbError("engine parsl needs the package parsl: pip install 'mini-dbb[parsl]'") from error

        if self.kind not in _KINDS:
            config = _users_config(Path(self.kind))
            config.run_dir = str(folder)
            config.retries = 0
        else:
            workers = self._executor(max(1, at_once), _Largest.of(jobs))
            config = Config(executors=[workers], run_dir=str(folder), strategy_period=_PERIOD, usage_tracking=0)
        for executor in config.executors:
            _tame(executor)
        return config

    def _executor(self, at_once: int, largest: _Largest) -> HighThroughputExecutor:
        from parsl.executors import HighThroughputExecutor
        from parsl.jobs.error_handlers import windowed_error_handler

        if self.kind == "local":
            workers, provider = largest.fit_here(at_once), self._here()
        else:
            workers = math.ceil(at_once / self.nodes)
            provider = self._slurm(workers, largest)
        return HighThroughputExecutor(
            label="dbb",
            address=self.address,
            provider=provider,
            max_workers_per_node=workers,
            cores_per_worker=0.001,  # the workers are counted already
            poll_period=100,  # messages are taken at once anyway; what Parsl does in between costs as much as a job
            heartbeat_period=_BEAT[0],
            heartbeat_threshold=_BEAT[1],
            block_error_handler=partial(windowed_error_handler, threshold=_MOST_FAILURES),
            encrypted=True,
        )

    def _here(self) -> ExecutionProvider:
        from parsl.launchers import SimpleLauncher
        from parsl.providers import LocalProvider

        return LocalProvider(  # type: ignore[no-untyped-call]  # Parsl's has no types
            worker_init=self.worker_init, launcher=SimpleLauncher()
        )

    def _slurm(self, workers: int, largest: _Largest) -> ExecutionProvider:
        from parsl.launchers import SimpleLauncher
        from parsl.providers import SlurmProvider

        return SlurmProvider(
            partition=self.partition,
            max_blocks=self.nodes,
            cores_per_node=workers * largest.cpus,
            mem_per_node=math.ceil(workers * largest.memory / 1024) or None,
            walltime=self.walltime,
            scheduler_options="\n".join(f"#SBATCH {option}" for option in self.options),
            worker_init=self.worker_init,
            launcher=SimpleLauncher(),
            exclusive=False,
        )


_KINDS = ("local", "slurm")


@dataclass(frozen=True, slots=True)
class _Largest:
    """The processors and MB of memory that the largest jobs ask for."""

    cpus: int
    memory: float

    @classmethod
    def of(cls, jobs: Sequence[EngineJob]) -> _Largest:
        def number(job: EngineJob, key: str) -> float:
            try:
                return float(job.resources.get(key, 0))
            except ValueError:
                return 0

        cpus = max((number(job, "request_cpus") for job in jobs), default=1)
        return cls(max(1, int(cpus)), max((number(job, "request_memory") for job in jobs), default=0))

    def fit_here(self, at_once: int) -> int:
        """Return how many fit on this machine, with as many processors as jobs may run; at least one."""
        room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
        in_memory = int(room // self.memory) if self.memory else at_once
        return max(1, min(at_once // self.cpus, in_memory))


def read_site(settings: Mapping[str, str]) -> Site:
    """Read where jobs are to run.

    Parameters
    ----------
    settings
        What the pipeline says at top level.

    Raises
    ------
    UsageError, NotFoundError
        If a setting is unknown, of no use here, or makes no sense.
    """
    said = {key.removeprefix(_PREFIX): value.strip() for key, value in settings.items() if key.startswith(_PREFIX)}
    for name in said:
        if name not in _SETTINGS:
            raise NotFoundError("setting", _PREFIX + name, [_PREFIX + one for one in _SETTINGS])
    kind = said.get("site", "local")
    _check_kind(kind)
    for name in said:
        if (name in _OF_SLURM and kind != "slurm") or (kind not in _KINDS and name != "site"):
            there = "parsl_site = slurm" if kind in _KINDS else "the Config that parsl_site names"
            raise UsageError(f"{_PREFIX}{name} means nothing with parsl_site = {kind}: leave it out, or see {there}")
    site = Site(
        kind=kind,
        partition=said.get("partition"),
        nodes=_count(said.get("nodes", "1")),
        walltime=said.get("walltime", _HOUR),
        options=_options(said.get("options", "")),
        worker_init=said.get("worker_init", "") + "\n",
        address=said.get("address", _LOOPBACK),
    )
    if not _WALLTIME.fullmatch(site.walltime):
        raise UsageError(f"parsl_walltime = {site.walltime}: expected hours, minutes and seconds as in 12:00:00")
    return site


def _check_kind(kind: str) -> None:
    if kind == "slurm" and shutil.which("sbatch") is None:
        raise UsageError("parsl_site = slurm: sbatch is not on the PATH; submit where Slurm's commands are")
    if kind not in _KINDS and not Path(kind).is_file():
        raise UsageError(f"parsl_site = {kind}: it is neither local nor slurm, and there is no such file")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise UsageError(f"parsl_nodes = {text}: expected a number of nodes")
    return int(text)


def _options(text: str) -> tuple[str, ...]:
    options = tuple(text.split())
    for option in options:
        if not option.startswith("-"):
            raise UsageError(f"parsl_options: {option} is no option of sbatch; write them as --account=NAME")
    return options


def _users_config(path: Path) -> Config:
    """Return the Config that a file of the user's gives."""
    from parsl import Config

    try:
        config = runpy.run_path(str(path)).get("config")
    except Exception as error:  # whatever goes wrong in somebody's file
        raise UsageError(f"parsl_site = {path}: it raises {type(error).__name__}: {error}") from error
    if not isinstance(config, Config):
        raise UsageError(f"parsl_site = {path}: it does not give a parsl.Config named config")
    return config


def _tame(executor: object) -> None:
    """Let an executor listen where it is told, leave nothing behind, and find its programs."""
    from parsl.executors import HighThroughputExecutor
    from parsl.executors.high_throughput.executor import DEFAULT_INTERCHANGE_LAUNCH_CMD
    from parsl.providers import LocalProvider

    if not isinstance(executor, HighThroughputExecutor):
        return
    if executor.address is None:
        raise UsageError(
            f"executor {executor.label!r} of the Config has no address: Parsl would listen on all networks; say"
            f" address='{_LOOPBACK}' if workers run on this machine, else where they reach it"
        )
    if executor.interchange_launch_cmd == DEFAULT_INTERCHANGE_LAUNCH_CMD:
        executor.interchange_launch_cmd = [sys.executable, "-m", "dbb_plugins.parsl.interchange", str(os.getpid())]
    program, _, arguments = executor.launch_cmd.partition(" ")
    if program == "process_worker_pool.py":  # which the PATH need not have
        executor.launch_cmd = f"{shlex.quote(sys.executable)} -m {_POOL} {arguments}"
        if isinstance(executor.provider, LocalProvider):
            watch = _SUBMIT_GUARD.replace("PID", str(os.getpid()))
            executor.launch_cmd = f"{watch} {executor.launch_cmd} {_POOL_GUARD}"
