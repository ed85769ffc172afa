"""The engine that runs jobs on this machine, as many at once as it has room for."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from dbb.engine import Engine, EngineJob, EngineWork
from dbb.errors import DbbError
from dbb.hookspecs import hookimpl
from dbb.locks import hold

__all__ = ["LocalEngine", "dbb_engines"]

_TICK = 0.02
_LOOK_EVERY = 1.0
_GRACE = (20.0, 5.0)
"""Seconds that jobs have to end in good order, and after the next interruption, before they are killed."""
_log = logging.getLogger(__name__)


@hookimpl
def dbb_engines() -> Sequence[Engine]:
    """Add this machine."""
    return [LocalEngine()]


@dataclass(slots=True)
class _Running:
    """A job that runs: its process and what that prints, how often it was started, and what it takes."""

    job: EngineJob
    log: Path
    process: subprocess.Popen[bytes]
    tries: int
    cpus: int
    memory: float


@dataclass(slots=True)
class _Room:
    """What this machine has for jobs: processors, and memory in MB."""

    cpus: int
    memory: float = field(default_factory=lambda: os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20)

    def fits(self, cpus: int, memory: float, running: Sequence[_Running]) -> bool:
        """Whether a job fits beside those that run; one alone always does."""
        taken = sum(one.cpus for one in running), sum(one.memory for one in running)
        return not running or (taken[0] + cpus <= self.cpus and taken[1] + memory <= self.memory)


class LocalEngine(Engine):
    """Starts jobs as processes of this machine.

    Each is the leader of its own session, so that Ctrl-C reaches this engine alone, which then ends the jobs in order.
    """

    name = "local"

    def run(self, work: EngineWork) -> None:
        """Run all jobs; see `Engine.run`."""
        pool = _Pool(work)
        try:
            pool.run()
        except BaseException:
            pool.end_all()
            raise


class _Pool:
    """The jobs of one run under way."""

    def __init__(self, work: EngineWork) -> None:
        self._work = work
        self._waiting = {job.name: set(job.after) for job in work.jobs}
        self._queue = list(work.jobs)
        self._room = _Room(work.at_once)
        self._running: list[_Running] = []
        self._starter = ThreadPoolExecutor(1)  # Ctrl-C breaks no thread off: no process is begun and not noted
        self._looked = time.monotonic()

    def run(self) -> None:
        self._start_some()
        while self._running:
            if self._reap():
                self._start_some()
            if time.monotonic() - self._looked >= _LOOK_EVERY:
                self._looked = time.monotonic()
                if self._work.is_cancelled:
                    self.end_all()
                    return
                self._work.collect([one.job.name for one in self._running])
            time.sleep(_TICK)
        self._starter.shutdown()

    def end_all(self) -> None:
        """End what runs, in good order if it will, and report it; when interrupted again, more and more roughly."""
        try:
            for seconds in _GRACE:
                with contextlib.suppress(KeyboardInterrupt):
                    self._starter.shutdown()
                    self._terminate(seconds)
                    break
        finally:
            for one in self._running:
                _signal(one.process, signal.SIGKILL)
                one.process.wait()
        for one in self._running:
            try:
                self._work.ended(one.job.name, "" if one.process.returncode == 0 else "interrupted")
            except DbbError as error:
                _log.warning("the end of %s is not registered: %s", one.job.name, error)  # its record is in its folder
        self._running.clear()

    def _terminate(self, seconds: float) -> None:
        limit = time.monotonic() + seconds
        for one in self._running:
            _signal(one.process, signal.SIGTERM)
        for one in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.process.wait(max(0.0, limit - time.monotonic()))

    def _start_some(self) -> None:
        """Start what may start."""
        left: list[EngineJob] = []
        for job in self._queue:
            if job.name not in self._waiting:
                continue  # one that it waits for has just failed to start
            if self._waiting[job.name] or len(self._running) >= self._work.at_once:
                left.append(job)
                continue
            cpus, memory = _asked(job)
            if self._room.fits(cpus, memory, self._running):
                self._start(job, 1, cpus, memory)
            else:
                left.append(job)
        self._queue = [job for job in left if job.name in self._waiting]

    def _start(self, job: EngineJob, tries: int, cpus: int, memory: float) -> None:
        try:
            path = self._work.prepare(job.name)
            if path is not None:
                self._starter.submit(self._launch, path, job, tries, cpus, memory).result()
                return
        except (DbbError, OSError) as error:
            self._done(job, str(error))
            return
        self._done(job, "")

    def _launch(self, path: Path, job: EngineJob, tries: int, cpus: int, memory: float) -> None:
        name = path.with_name(f"run.{tries}.log")
        with name.open("wb") as log:
            hold(log.fileno())  # by which others see that the job is alive, before it can say so
            process = subprocess.Popen(  # noqa: S603  # the command is dbb's own
                self._work.command(path), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            self._running.append(_Running(job, name, process, tries, cpus, memory))

    def _reap(self) -> bool:
        """Take the jobs that have ended; return whether there are any."""
        over = [one for one in self._running if one.process.poll() is not None]
        for one in over:
            code = one.process.returncode
            if code != 0 and one.tries <= self._work.retries:
                self._work.collect([one.job.name])
                self._start(one.job, one.tries + 1, one.cpus, one.memory)
            else:
                self._done(one.job, f"{_problem(code)}; see {one.log}" if code else "")
            self._running.remove(one)
        return bool(over)

    def _done(self, job: EngineJob, problem: str) -> None:
        self._work.ended(job.name, problem)
        del self._waiting[job.name]
        if not problem:
            for names in self._waiting.values():
                names.discard(job.name)
            return
        lost = {job.name}
        for other in self._queue:  # those that others wait for come before them
            if lost & self._waiting.get(other.name, set()):
                lost.add(other.name)
                del self._waiting[other.name]


def _asked(job: EngineJob) -> tuple[int, float]:
    """Return the processors and MB of memory that a job asks for; what is no number counts as the least."""

    def number(key: str, least: float) -> float:
        try:
            return max(least, float(job.resources.get(key, least)))
        except ValueError:
            return least

    return int(number("request_cpus", 1)), number("request_memory", 0)


def _problem(code: int) -> str:
    return f"ended by signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    if process.poll() is None:
        os.killpg(process.pid, number)
