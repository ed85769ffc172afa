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
        self.ended_together({name: problem})

    def ended_together(self, problems: Mapping[str, str]) -> None:
        """Note the end of jobs, and what that means for others; see `EngineWork`."""
        new = {name: problem for name, problem in problems.items() if not self.is_over(name)}
        if not new:
            return
        self._merge(list(new), final=True)
        for name, problem in new.items():
            if problem:
                new[name] = job_reason(self._db, self._writer.run, name) or problem
        mark_jobs(self._db, self._writer.run, self._marks(new))
        for name, problem in new.items():  # only now: what raises before is repeated
            if problem:
                self._lose(name, problem)
            else:
                self._win(name)
            self._note({"job": name, "problem": problem})
            self.say(f"{name}: {problem or 'succeeded'}", len(self._done) + len(self.problems), len(self._jobs))
        try:
            self._writer.stages.ended(list(new))
        except DbbError as error:
            _log.warning("outputs of %s wait for the end of the run to be copied home: %s", ", ".join(new), error)

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

    def _marks(self, problems: Mapping[str, str]) -> dict[str, JobMark]:
        """Return what the end of jobs makes of them, and of those that wait for them."""
        marks: dict[str, JobMark] = {}
        done = {name for name, problem in problems.items() if not problem}
        for name, problem in problems.items():
            if problem:
                marks[name] = JobMark("failed", problem)
                marks |= dict.fromkeys(self._behind(name), JobMark("blocked", f"job {name} is not done"))
        for name in done:
            for follower in self._followers[name]:
                if self._open[follower] <= done and not self.is_over(follower):
                    marks.setdefault(follower, JobMark("ready"))
        return marks

    def _behind(self, name: str) -> list[str]:
        """Return the jobs that wait for one, and for those that wait for it."""
        found = [name]
        seen = {name}
        for one in found:
            new = [other for other in self._followers[one] if other not in seen and not self.is_over(other)]
            found += new
            seen.update(new)
        return found[1:]

    def _win(self, name: str) -> None:
        self._done.add(name)
        for follower in self._followers[name]:
            self._open[follower].discard(name)

    def _lose(self, name: str, problem: str) -> None:
        self.problems |= {name: problem, **dict.fromkeys(self._behind(name), f"blocked by {name}")}

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
