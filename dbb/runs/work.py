"""A run under way, as an engine sees it: job files are written, events are merged, and states follow."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dbb.config import absolute_url
from dbb.engine import EngineJob
from dbb.errors import DbbError
from dbb.pipeline.workflow import Job
from dbb.registry import Database
from dbb.runs.cancel import is_cancelled
from dbb.runs.control import JobMark, job_reason, mark_jobs
from dbb.runs.jobfiles import JobWriter
from dbb.runs.merge import merge
from dbb.runs.poststage import bring_earlier_home
from dbb.runs.takeover import TakenOver

Say = Callable[[str, int, int], None]
"""Takes a line, how many jobs have ended, and how many there are."""
_REPORTS = "ended.jsonl"
"""What was reported of jobs, a line each: for whoever attends the run after this process."""
_log = logging.getLogger(__name__)


class Work:
    """A run under way, as an engine sees it."""

    at_once = 1
    retries = 0

    def __init__(
        self, db: Database, writer: JobWriter, jobs: Sequence[Job], taken: TakenOver, *, settings: Mapping[str, str]
    ) -> None:
        self._db, self._writer, self._taken = db, writer, taken
        self.settings = settings
        self._jobs = {job.name: job for job in jobs}
        self._followers: dict[str, list[str]] = {name: [] for name in self._jobs}
        for job in jobs:
            for name in job.after:
                self._followers[name].append(job.name)
        self._open = {name: set(job.after) for name, job in self._jobs.items()}
        self.jobs: Sequence[EngineJob] = [
            EngineJob(job.name, tuple(job.after), job.resources, writer.modules_of(job)) for job in _in_order(jobs)
        ]
        self.say: Say = lambda _, __, ___: None
        self.problems: dict[str, str] = {}
        self.unmoved = ""
        self._done: set[str] = set()

    @property
    def run(self) -> str:
        """The name of the run; see `EngineWork`."""
        return self._writer.run

    @property
    def registry(self) -> str:
        """The URL of the registry; see `EngineWork`."""
        return absolute_url(self._db.url, Path.cwd())

    @property
    def folder(self) -> Path:
        """The folder of the run; see `EngineWork`."""
        return self._writer.folder

    @property
    def is_cancelled(self) -> bool:
        """Whether the operator wants no more of this run; see `EngineWork`."""
        return is_cancelled(self.folder)

    def begin(self) -> None:
        """Tell the registry what can start, and what is done already."""
        if self._taken.done:
            self._taken.mark(self._db, self._writer.run)
        ready = {name: JobMark("ready") for name, waiting in self._open.items() if not waiting}
        mark_jobs(self._db, self._writer.run, ready)
        self._writer.stages.begin(self._writer.inputs)

    def restore(self) -> None:
        """Know what was reported before, by another process; its last report may be new to it."""
        path = self.folder / _REPORTS
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            with contextlib.suppress(ValueError):  # a line that a kill has cut off: that job is reported once more
                report = json.loads(line)
                if "again" in report:
                    self.problems.clear()
                elif report["problem"]:
                    self._lose(report["job"], report["problem"])
                else:
                    self._win(report["job"])

    def begin_again(self) -> None:
        """Wait once more for jobs that were not done, because somebody has started them again."""
        self.problems.clear()
        self._note({"again": True})

    def prepare(self, name: str) -> Path | None:
        """Write the file of a job; see `EngineWork`."""
        job = self._jobs[name]
        if set(job.wrapnums) <= self._taken.done.keys():
            remark = self._taken.remark if job.wrapnums else None
            mark_jobs(self._db, self._writer.run, {name: JobMark("succeeded", remark)})
            return None
        return self._writer.write(job, self._taken)

    def command(self, job: Path) -> Sequence[str]:
        """Return the command line that runs a job; see `EngineWork`."""
        return [sys.executable, "-m", "dbb_cli", "run-job", str(job)]

    def collect(self, names: Sequence[str]) -> None:
        """Merge what jobs have recorded; see `EngineWork`."""
        try:
            self._merge(names, final=False)
            self._writer.stages.ended(())  # what was copied home meanwhile is registered
        except DbbError as error:
            _log.warning("what jobs record waits for the registry: %s", error)  # it is kept in their folders

    def attendant(self) -> Sequence[str]:
        """Return the command line that attends this run; see `EngineWork`."""
        return [sys.executable, "-m", "dbb_cli", "attend", self.run]

    def is_over(self, name: str) -> bool:
        """Whether a job has ended or never will begin; see `EngineWork`."""
        return name in self._done or name in self.problems

    def ended(self, name: str, problem: str = "") -> None:
        """Note the end of a job, and what that means for others; see `EngineWork`."""
        if self.is_over(name):
            return
        self._merge([name], final=True)
        if problem:
            problem = job_reason(self._db, self._writer.run, name) or problem
            marks = {name: JobMark("failed", problem)}
            marks |= dict.fromkeys(self._lose(name, problem), JobMark("blocked", f"job {name} is not done"))
        else:
            marks = dict.fromkeys(self._win(name), JobMark("ready"))
        mark_jobs(self._db, self._writer.run, marks)
        self._note({"job": name, "problem": problem})
        self.say(f"{name}: {problem or 'succeeded'}", len(self._done) + len(self.problems), len(self._jobs))
        try:
            self._writer.stages.ended([name])
        except DbbError as error:
            _log.warning("outputs of %s wait for the end of the run to be copied home: %s", name, error)

    def close(self, why: str) -> None:
        """Note of jobs that were never started why they never will be, unless the run was cancelled."""
        why = "the run was cancelled" if self.is_cancelled else why
        left = [name for name in self._jobs if name not in self._done and name not in self.problems]
        mark_jobs(self._db, self._writer.run, dict.fromkeys(left, JobMark("blocked", why)))
        self.problems |= dict.fromkeys(left, why)

    def bring_home(self) -> None:
        """Wait until the home archive has all outputs that are to go there."""
        left = [self._writer.stages.finish(), bring_earlier_home(self._db, self.run) if self._taken.run else ""]
        self.unmoved = "; ".join(one for one in left if one)

    def stop(self) -> None:
        """Let go of what is done in the background."""
        self._writer.stages.stop()

    def _note(self, report: Mapping[str, object]) -> None:
        with (self.folder / _REPORTS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(report) + "\n")

    def _win(self, name: str) -> list[str]:
        """Note that a job is done; return those that may begin now."""
        self._done.add(name)
        ready = []
        for follower in self._followers[name]:
            self._open[follower].discard(name)
            if not self._open[follower] and not self.is_over(follower):
                ready.append(follower)
        return ready

    def _lose(self, name: str, problem: str) -> list[str]:
        """Note that a job is not done; return those that never will begin."""
        self.problems[name] = problem
        lost = [name]
        for one in lost:
            for follower in self._followers[one]:
                if not self.is_over(follower):
                    self.problems[follower] = f"blocked by {name}"
                    lost.append(follower)
        return lost[1:]

    def _merge(self, names: Sequence[str], *, final: bool) -> None:
        folders = [folder for name in names if (folder := self._writer.path(self._jobs[name]).parent).is_dir()]
        if folders:
            merge(self._db, folders, final=final)


def _in_order(jobs: Sequence[Job]) -> list[Job]:
    """Return jobs with those that others wait for before them."""
    import graphlib

    by_name = {job.name: job for job in jobs}
    order = graphlib.TopologicalSorter({job.name: job.after for job in jobs}).static_order()
    return [by_name[name] for name in order]
