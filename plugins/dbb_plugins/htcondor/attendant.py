"""Looks after a run that DAGMan works off: brings what its jobs did into the registry, and gets the next ones ready."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable

from dbb.engine import EngineWork
from dbb.errors import DbbError
from dbb_plugins.htcondor import pool
from dbb_plugins.htcondor.nodelog import NodeLog
from dbb_plugins.htcondor.packing import pack
from dbb_plugins.htcondor.places import Note, Places
from dbb_plugins.htcondor.settings import read_settings
from dbb_plugins.htcondor.unpacking import drop_luggage, note_lost, unpack

_TICK, _LOOK, _ASK = 0.2, 2.0, 5.0
"""Seconds between looks for notes, which come in bunches, at what runs, and at the queue."""
_RARELY = 20
"""Looking at what runs takes no more than a part in so many of the time."""
_PATIENCE = 60.0
"""Seconds that jobs have to leave the queue when a run is interrupted."""
_SAY_AGAIN = 60.0
_log = logging.getLogger(__name__)


class Attendant:
    """Attends one run.

    Everything that it decides from is on disk or in the registry before the note that told of it goes: another may go
    on at any point.
    """

    def __init__(self, work: EngineWork) -> None:
        self._work, self._places = work, Places(work.folder)
        self._travels = read_settings(work.settings).transfers
        self._jobs = {job.name: job for job in work.jobs}
        self._followers: dict[str, list[str]] = {name: [] for name in self._jobs}
        for job in work.jobs:
            for name in job.after:
                self._followers[name].append(job.name)
        self._nodes = NodeLog(self._places.folder / f"{work.run}.dag.nodes.log")
        self._lock = self._places.folder / f"{work.run}.dag.lock"
        self._next_look = self._asked = self._warned = float("-inf")

    def prepare(self, names: Iterable[str]) -> None:
        """Get jobs ready whose turn it is, and those after them if there is nothing to run."""
        ready = deque(names)
        while ready:
            name = ready.popleft()
            told = self._places.told(name)
            if not self._is_next(name) or told == "run":
                continue
            try:
                path = self._work.prepare(name) if not told else None
                if path is not None and self._travels:
                    pack(path)
            except (DbbError, OSError) as error:
                self._work.ended(name, str(error))
                continue
            self._places.tell(name, "skip" if path is None else "run")
            if path is None:
                self._work.ended(name)
                ready.extend(self._followers[name])

    def attend(self) -> None:
        """Attend the run until no job is left that can start and DAGMan is gone."""
        is_ready = False
        while True:
            try:
                if not is_ready:  # another, that was killed, may have left some to be prepared
                    self.prepare(self._jobs)
                    is_ready = True
                if self._work.is_cancelled:
                    self.end_all("the run was cancelled", patience=float("inf"))
                    return
                if not self._take_notes():
                    if self._is_over():
                        return
                    time.sleep(_TICK)
            except DbbError as error:  # the registry is away: notes wait, and so does DAGMan
                self._warn(f"{self._work.run} waits: {error}")
                time.sleep(_ASK)

    def end_all(self, why: str, *, patience: float = _PATIENCE) -> None:
        """Take all jobs out of the queue, wait until they have ended, and report them."""
        limit = time.monotonic() + patience
        asked = False
        while time.monotonic() < limit:
            try:
                if not pool.read_queue(self._work.folder):
                    self._report_rest(why)
                    return
                if not asked:
                    pool.remove(self._work.folder, f"dbb: {why}")
                    asked = True
            except DbbError as error:
                self._warn(f"the jobs of {self._work.run} could not be ended yet: {error}")
            time.sleep(_TICK)
        _log.warning("jobs of %s may still be in the queue of HTCondor: end them with dbb cancel", self._work.run)

    def _is_next(self, name: str) -> bool:
        over = self._work.is_over
        return not over(name) and all(over(before) for before in self._jobs[name].after)

    def _take_notes(self) -> bool:
        """Report the jobs of which there are notes; return whether there were any."""
        notes = self._places.notes()
        known = [name for name in notes if name in self._jobs]
        fresh = [name for name in known if not self._work.is_over(name)]
        self._work.ended_together({name: self._problem(name, notes[name]) for name in fresh})
        for name in known:
            self.prepare(self._followers[name])
        for name in notes:
            self._places.acknowledge(name)
        return bool(notes)

    def _problem(self, name: str, note: Note) -> str:
        lost = self._bring_home(name)
        log = self._work.folder / "jobs" / name / f"run.{note.retry + 1}.log"
        return f"{note.problem}; see {log}" if note.problem else lost

    def _is_over(self) -> bool:
        """Whether the run is over; while it is not, bring in what jobs do."""
        now = time.monotonic()
        over = all(self._work.is_over(name) for name in self._jobs)
        if now >= self._next_look and not over:
            self._work.collect(self._nodes.running())
            end = time.monotonic()
            self._next_look = end + max(_LOOK, (end - now) * _RARELY)
        if now - self._asked < (_LOOK / 2 if over or not self._lock.exists() else _ASK):
            return False
        self._asked = now
        try:
            queue = pool.read_queue(self._work.folder)
        except pool.PoolError as error:
            self._warn(f"{self._work.run} waits: {error}")
            return over
        for one in queue:
            if not one.name and one.reason:
                self._warn(f"DAGMan of {self._work.run}, job {one.cluster}, is held: {one.reason}")
        if not queue and not over:
            self._take_notes()
            self._report_rest("DAGMan is gone from the queue of HTCondor")
        return not queue

    def _report_rest(self, why: str) -> None:
        """Report the jobs that had begun when all was taken out of the queue."""
        self._nodes.running()
        for name in self._jobs:
            if self._work.is_over(name):
                continue
            lost, folder = self._bring_home(name), self._work.folder / "jobs" / name
            if name in self._nodes.began and self._travels:
                note_lost(folder)
            if any(folder.glob("events.*.jsonl")):
                self._work.ended(name, lost if name in self._nodes.succeeded else why)

    def _bring_home(self, name: str) -> str:
        """Bring home what has come back from a job that has ended; return why some of it cannot be kept."""
        folder = self._work.folder / "jobs" / name
        if not self._travels or not folder.is_dir():
            return ""
        lost = unpack(folder)
        drop_luggage(folder)
        return lost

    def _warn(self, text: str) -> None:
        if time.monotonic() - self._warned >= _SAY_AGAIN:
            self._warned = time.monotonic()
            _log.warning("%s", text)
