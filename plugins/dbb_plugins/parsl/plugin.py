"""The engine itself: which jobs can start, what became of them, and an end in good order."""

from __future__ import annotations

import contextlib
import logging
import shlex
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TypeVar

from dbb.engine import Engine, EngineJob, EngineWork
from dbb.errors import DbbError, UsageError
from dbb.hookspecs import hookimpl
from dbb.locks import is_held
from dbb_plugins.parsl.kernel import Parsl
from dbb_plugins.parsl.sites import read_site

__all__ = ["ParslEngine", "dbb_engines"]

_FOLDER = "engine"
_STOP = "stop"
_TICK = 0.2
_LOOK_EVERY = 1.0
_GRACE = (20.0, 5.0)
"""Seconds that jobs have to end in good order, and after the next interruption, before their workers are ended."""
_LAST_GRACE = 10.0
"""Seconds that jobs have to end once their workers are gone."""
_PATIENCE = 60.0
"""Seconds until a job whose worker was lost, and that is still alive, is given up."""
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@hookimpl
def dbb_engines() -> Sequence[Engine]:
    """Add Parsl."""
    return [ParslEngine()]


class ParslEngine(Engine):
    """Starts jobs on the workers of Parsl."""

    name = "parsl"

    def check(self, settings: Mapping[str, str], folder: Path) -> None:
        """Refuse what cannot work; see `Engine.check`."""
        if shlex.quote(str(folder)) != str(folder):  # Parsl's scripts do not
            raise UsageError(f"{folder}: Parsl needs a folder without blanks and special characters: say --workdir")
        read_site(settings).config(folder / _FOLDER, (), 1)

    def run(self, work: EngineWork) -> None:
        """Run all jobs; see `Engine.run`."""
        pool = _Pool(work)
        try:
            pool.begin()
            pool.run()
        except BaseException:
            pool.end_all()
            raise
        pool.close()

    def cancel(self, folder: Path) -> None:
        """End the jobs of a run that nobody attends; see `Engine.cancel`."""
        (folder / _FOLDER).mkdir(exist_ok=True)
        (folder / _FOLDER / _STOP).touch()


@dataclass(slots=True)
class _Running:
    """A try of a job: what Parsl will say of it, where it prints, and how often it was started."""

    job: EngineJob
    path: Path
    log: Path
    future: Future[int]
    tries: int
    lost: float | None = None

    @property
    def is_lost(self) -> bool:
        """Whether no worker will tell any more how it ended."""
        return self.future.done() and self.code is None

    @property
    def code(self) -> int | None:
        """The exit code, or None if its worker was lost, or it never began."""
        if not self.future.done() or self.future.exception() is not None:
            return None
        return self.future.result()

    @property
    def problem(self) -> str:
        """Why it is not done; empty if it is."""
        if self.code == 0:
            return ""
        error = self.future.exception() if self.future.done() else None
        if error is not None:
            why = " ".join(str(error).split())
            return f"its worker was lost: {why}" if self.log.exists() else f"no worker took it: {why}"
        how = f"exit code {self.code}" if self.code is None or self.code > 0 else f"ended by signal {-self.code}"
        return f"{how}; see {self.log}"


class _Pool:
    """The jobs of one run under way.

    Whatever is asked of Parsl is asked in a thread of its own: Ctrl-C, which reaches the main thread, breaks nothing of
    it off, so that no worker is begun and not noted. That thread lives to the end: what it has begun ends with it.
    """

    def __init__(self, work: EngineWork) -> None:
        self._work = work
        self._folder = work.folder / _FOLDER
        self._stop = self._folder / _STOP
        self._jobs = {job.name: job for job in work.jobs}
        self._order = TopologicalSorter({job.name: job.after for job in work.jobs})
        self._order.prepare()
        self._ready = deque(self._order.get_ready())
        self._running: list[_Running] = []
        self._news = threading.Event()
        self._thread = ThreadPoolExecutor(1)
        self._looked = time.monotonic()
        self._parsl: Parsl | None = None
        self._is_open = True

    def begin(self) -> None:
        """Start the workers."""
        self._folder.mkdir(exist_ok=True)
        self._thread.submit(self._begin).result()

    def _begin(self) -> None:
        site = read_site(self._work.settings)
        self._parsl = Parsl(site.config(self._folder, self._work.jobs, self._work.at_once))

    def run(self) -> None:
        self._start_some()
        while self._running:
            self._news.wait(_TICK)
            self._news.clear()
            due = time.monotonic() - self._looked >= _LOOK_EVERY
            if due or any(one.is_lost for one in self._running):
                assert self._parsl is not None
                self._parsl.check()
            if self._reap():
                self._start_some()
            if due:
                self._looked = time.monotonic()
                if self._work.is_cancelled:
                    self.end_all()
                    return
                self._work.collect([one.job.name for one in self._running])

    def close(self) -> None:
        """End the workers, unless that is done."""
        if self._is_open:
            self._is_open = False
            self._patiently(self._close)
            self._thread.shutdown()

    def _close(self) -> None:
        if self._parsl is not None:
            self._parsl.close()

    def end_all(self) -> None:
        """End what runs, in good order if it will, and report it; when interrupted again, sooner."""
        if self._folder.is_dir():
            self._stop.touch()
        for seconds in _GRACE:
            with contextlib.suppress(KeyboardInterrupt):
                self._wait(seconds, lambda one: not one.future.done() and one.log.exists())
                break
        self.close()
        with contextlib.suppress(KeyboardInterrupt):
            self._wait(_LAST_GRACE, lambda one: is_held(one.log))
        for one in self._running:
            try:
                self._work.ended(one.job.name, "" if one.code == 0 else "interrupted")
            except DbbError as error:
                _log.warning("the end of %s is not registered: %s", one.job.name, error)  # its record is in its folder
        self._running.clear()

    def _wait(self, seconds: float, lives: Callable[[_Running], bool]) -> None:
        limit = time.monotonic() + seconds
        while any(lives(one) for one in self._running) and time.monotonic() < limit:
            self._news.wait(_TICK)
            self._news.clear()

    def _patiently(self, action: Callable[[], _T]) -> _T:
        """Do something of Parsl's that takes seconds, and is not broken off."""
        future = self._thread.submit(action)
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                return future.result()

    def _start_some(self) -> None:
        """Start what may start."""
        while self._ready and len(self._running) < self._work.at_once:
            job = self._jobs[self._ready.popleft()]
            try:
                path = self._work.prepare(job.name)
            except (DbbError, OSError) as error:
                self._done({job.name: str(error)})
                continue
            if path is None:
                self._done({job.name: ""})
            else:
                self._start(job, path, 1)

    def _start(self, job: EngineJob, path: Path, tries: int) -> None:
        self._thread.submit(self._launch, job, path, tries).result()

    def _launch(self, job: EngineJob, path: Path, tries: int) -> None:
        assert self._parsl is not None
        log = path.with_name(f"run.{tries}.log")
        future = self._parsl.submit(self._work.command(path), log, self._stop)
        self._running.append(_Running(job, path, log, future, tries))
        future.add_done_callback(lambda _: self._news.set())

    def _reap(self) -> bool:
        """Take the tries that have ended; return whether there are any."""
        over = [one for one in self._running if one.future.done() and not self._lingers(one)]
        again = [one for one in over if one.code != 0 and one.tries <= self._work.retries and not is_held(one.log)]
        self._done({one.job.name: one.problem for one in over if one not in again})
        if again:
            self._work.collect([one.job.name for one in again])
        for one in over:
            self._running.remove(one)
        for one in again:
            self._start(one.job, one.path, one.tries + 1)
        return bool(over)

    def _lingers(self, one: _Running) -> bool:
        """Whether a job whose worker was lost still is alive; it gets SIGTERM when it loses it."""
        if one.code is not None or not is_held(one.log):
            return False
        one.lost = one.lost or time.monotonic()
        return time.monotonic() - one.lost < _PATIENCE

    def _done(self, problems: Mapping[str, str]) -> None:
        self._work.ended_together(problems)
        self._order.done(*(name for name, problem in problems.items() if not problem))
        self._ready.extend(self._order.get_ready())
