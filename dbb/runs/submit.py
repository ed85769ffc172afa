"""Submitting a run: planned, registered, its jobs started by an engine, and what they do merged as it goes."""

from __future__ import annotations

import getpass
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dbb.engine import Engine, EngineJob
from dbb.errors import ConflictError, NotFoundError, PluginError, UsageError
from dbb.pipeline.model import Data, Pipeline
from dbb.pipeline.planner import plan
from dbb.pipeline.settings import message_section, settings_of
from dbb.pipeline.workflow import Job, Workflow
from dbb.plugins import plugins
from dbb.registry import Database
from dbb.registry.runs import Run
from dbb.runs.begin import Purpose, begin_run, next_attempt
from dbb.runs.cancel import is_cancelled
from dbb.runs.control import JobMark, mark_jobs
from dbb.runs.jobfiles import JobWriter, job_settings
from dbb.runs.merge import merge
from dbb.runs.takeover import TakenOver, take_over
from dbb.storage import new_folder

RUN_FOLDER = "run_folder"
"""The setting of an attempt that says where its folder is."""
_MOST_NUMBERS = 20
_SAID = ("project", "jira_id", "pipeline", "campaign")
Say = Callable[[str, int, int], None]
"""Takes a line, how many jobs have ended, and how many there are."""


@dataclass(frozen=True, slots=True)
class Submission:
    """How a run is to be submitted.

    Parameters
    ----------
    engine
        Which engine starts its jobs.
    folder
        The folder of the run; made. None: one called after the run in the current folder.
    at_once
        How many jobs may run at the same time.
    retries
        How often a job that fails is started again.
    resume
        A run whose finished quanta need not run again, or None.
    """

    engine: str = "local"
    folder: Path | None = None
    at_once: int = 1
    retries: int = 0
    resume: str | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submitted run.

    Parameters
    ----------
    run
        ``Ht0_r11p95``.
    folder
        Its folder.
    jobs
        How many jobs it has.
    problems
        By the names of jobs that are not done, why.
    reused
        How many quanta were taken over from an earlier attempt.
    """

    run: str
    folder: Path
    jobs: int
    problems: Mapping[str, str]
    reused: int = 0


@dataclass(slots=True)
class _Planned:
    """A run that is planned and not yet begun."""

    run: Run
    workflow: Workflow
    pipeline: Pipeline
    folder: Path
    settings: Mapping[str, str]
    taken: TakenOver
    number_given: bool

    def outcome(self, problems: Mapping[str, str]) -> Submitted:
        """Return what became of it."""
        return Submitted(str(self.run), self.folder, len(self.workflow.jobs), problems, len(self.taken.done))


def submit(
    db: Any, pipeline: Pipeline, submission: Submission, *, dry_run: bool = False, say: Say | None = None
) -> Submitted:
    """Plan a pipeline and run it to its end.

    Parameters
    ----------
    db
        The registry (`dbb.Registry`), which must know the inputs.
    pipeline
        What to run. Its attempt number is the next free one, unless it says one itself.
    submission
        How.
    dry_run
        Plan and check everything, and change nothing.
    say
        Takes a line for each job that ends.

    Raises
    ------
    PipelineError, CollidingOutputsError
        If it cannot be planned.
    MissingError, AmbiguousError
        If inputs are not in an archive.
    ConflictError
        If the attempt, or the folder, is there already.
    NotFoundError
        If there is no such engine.

    Notes
    -----
    Everything is checked before the first row or file is written. When this is interrupted, jobs are ended in order and
    what they did is merged; the run can be resumed.
    """
    engine = find_engine(submission.engine)
    for _ in range(_MOST_NUMBERS):
        try:
            planned = _plan(db, pipeline, submission)
            writer = _checked(db, planned)
            if dry_run:
                return planned.outcome({})
            _begin(db, planned)
            break
        except _NumberTakenError:
            continue  # somebody else has begun an attempt meanwhile
    else:
        raise ConflictError(f"others took {_MOST_NUMBERS} attempt numbers while this one was planned: try again")
    work = _Work(db, planned, writer, submission, say or (lambda _, __, ___: None))
    work.begin()
    engine.run(work)
    return planned.outcome(work.problems)


def find_engine(name: str) -> Engine:
    """Return the engine called `name`.

    Raises
    ------
    NotFoundError
        If no plug-in brings it.
    PluginError
        If a plug-in gives something else than engines.
    """
    known: dict[str, Engine] = {}
    for plugin, engines in plugins().each("dbb_engines"):
        for engine in engines:
            if not isinstance(engine, Engine):
                raise PluginError(f"plug-in {plugin} gives {engine!r:.60} as an engine")
            known[engine.name] = engine
    if name not in known:
        raise NotFoundError("engine", name, known, "Engines come from plug-ins: 'dbb plugins' lists them")
    return known[name]


class _NumberTakenError(Exception):
    """The attempt number that a run was planned with is somebody else's now."""


def _plan(db: Any, pipeline: Pipeline, submission: Submission) -> _Planned:
    settings = settings_of(pipeline)
    given = "attnum" in pipeline.tree and submission.resume is None
    if not given:
        reqnum, unitname = settings.get("reqnum", ""), settings.get("unitname", "")
        if not (reqnum.isascii() and reqnum.isdigit()) or not unitname:
            raise UsageError("reqnum and unitname are missing: a run has no name without them")
        number = next_attempt(db, int(reqnum), unitname)
        pipeline = replace(pipeline, tree={**pipeline.tree, "attnum": Data(number)})
    workflow = plan(pipeline, db)
    said = workflow.run
    run = Run(str(said["unitname"]), int(said["reqnum"]), int(said["attnum"]))
    taken = take_over(db, submission.resume, workflow) if submission.resume is not None else TakenOver()
    folder = (submission.folder or Path(str(run))).absolute()
    if folder.exists():
        raise ConflictError(f"{folder} exists: choose another folder with --workdir, or remove it")
    return _Planned(run, workflow, pipeline, folder, settings_of(pipeline), taken, given)


def _checked(db: Any, planned: _Planned) -> JobWriter:
    """Return what writes the job files, once all that must be there is there."""
    settings = job_settings(planned.settings, message_section(planned.pipeline))
    writer = JobWriter(db, planned.workflow, settings, planned.folder)
    writer.check(planned.taken)
    return writer


def _begin(db: Any, planned: _Planned) -> None:
    """Make the folder of a run, and register it: both or neither."""
    settings = planned.settings
    purpose = Purpose(
        **{name: settings.get(name) for name in _SAID},
        labels=tuple(label.strip() for label in settings.get("label", "").split(",") if label.strip()),
        values={RUN_FOLDER: str(planned.folder)},
        archive_path=settings.get("ops_run_dir"),
    )
    _write_folder(planned.folder, planned)
    try:
        begin_run(db, planned.workflow, operator=_operator(settings), purpose=purpose)
    except BaseException as error:
        shutil.rmtree(planned.folder, ignore_errors=True)
        if isinstance(error, ConflictError) and not planned.number_given:
            raise _NumberTakenError from error
        raise


def _operator(settings: Mapping[str, str]) -> str:
    return settings.get("operator") or getpass.getuser()


def _write_folder(folder: Path, planned: _Planned) -> None:
    """Keep with the run what it was planned from."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as aside:
        with (aside / "workflow.json").open("w", encoding="utf-8") as stream:
            stream.writelines(planned.workflow.as_json())
        (aside / "pipeline.json").write_text(json.dumps(planned.pipeline.as_dict(), indent=1), encoding="utf-8")
        (aside / "jobs").mkdir()


def read_submitted(folder: Path) -> Pipeline:
    """Return the pipeline that a run was planned from.

    Raises
    ------
    NotFoundError
        If the folder of the run is gone.
    """
    try:
        data = json.loads((folder / "pipeline.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise NotFoundError(
            "folder of a run", str(folder), hint=f"Its pipeline.json cannot be read: {error}"
        ) from error
    return Pipeline.from_dict(data)


class _Work:
    """A run under way, as an engine sees it."""

    def __init__(self, db: Database, planned: _Planned, writer: JobWriter, submission: Submission, say: Say) -> None:
        self._db, self._run, self._writer, self._say = db, str(planned.run), writer, say
        self._jobs = {job.name: job for job in planned.workflow.jobs}
        self._taken = planned.taken
        self._followers: dict[str, list[str]] = {name: [] for name in self._jobs}
        for job in planned.workflow.jobs:
            for name in job.after:
                self._followers[name].append(job.name)
        self._open = {name: set(job.after) for name, job in self._jobs.items()}
        self.folder = planned.folder
        self.jobs: Sequence[EngineJob] = [
            EngineJob(job.name, tuple(job.after), job.resources) for job in _in_order(planned.workflow.jobs)
        ]
        self.at_once, self.retries = submission.at_once, submission.retries
        self.problems: dict[str, str] = {}
        self._done = 0

    @property
    def is_cancelled(self) -> bool:
        """Whether the operator wants no more of this run; see `EngineWork`."""
        return is_cancelled(self.folder)

    def begin(self) -> None:
        """Tell the registry what can start, and what is done already."""
        if self._taken.done:
            self._taken.mark(self._db, self._run)
        ready = {name: JobMark("ready") for name, waiting in self._open.items() if not waiting}
        mark_jobs(self._db, self._run, ready)

    def prepare(self, name: str) -> Path | None:
        """Write the file of a job; see `EngineWork`."""
        job = self._jobs[name]
        if set(job.wrapnums) <= self._taken.done.keys():
            mark_jobs(self._db, self._run, {name: JobMark("succeeded", self._taken.remark)})
            return None
        return self._writer.write(job, self._taken)

    def command(self, job: Path) -> Sequence[str]:
        """Return the command line that runs a job; see `EngineWork`."""
        return [sys.executable, "-m", "dbb_cli", "run-job", str(job)]

    def collect(self, names: Sequence[str]) -> None:
        """Merge what jobs have recorded; see `EngineWork`."""
        self._merge(names, final=False)

    def ended(self, name: str, problem: str = "") -> None:
        """Note the end of a job, and what that means for others; see `EngineWork`."""
        self._merge([name], final=True)
        if problem:
            self._give_up(name, problem)
        else:
            self._done += 1
        self._say(f"{name}: {problem or 'succeeded'}", self._done + len(self.problems), len(self._jobs))
        if problem:
            return
        ready = {}
        for follower in self._followers[name]:
            self._open[follower].discard(name)
            if not self._open[follower] and follower not in self.problems:
                ready[follower] = JobMark("ready")
        if ready:
            mark_jobs(self._db, self._run, ready)

    def _give_up(self, name: str, problem: str) -> None:
        self.problems[name] = problem
        marks = {name: JobMark("failed", problem)}
        lost = [name]
        for one in lost:
            for follower in self._followers[one]:
                if follower not in self.problems:
                    self.problems[follower] = f"blocked by {name}"
                    marks[follower] = JobMark("blocked", f"job {name} is not done")
                    lost.append(follower)
        mark_jobs(self._db, self._run, marks)

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
