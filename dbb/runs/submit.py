"""Submitting a run: planned, registered, its jobs started by an engine, and what they do merged as it goes."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dbb.engine import Engine
from dbb.errors import ConflictError, DbbError, UsageError
from dbb.locks import held
from dbb.pipeline.levels import archive_levels
from dbb.pipeline.model import Data, Pipeline
from dbb.pipeline.planner import plan
from dbb.pipeline.settings import message_section, settings_of, sites_of
from dbb.pipeline.workflow import Workflow
from dbb.registry.runs import Run
from dbb.runs.begin import Purpose, begin_run, next_attempt
from dbb.runs.control import close_run
from dbb.runs.engines import ENGINE, find_engine
from dbb.runs.jobfiles import JobWriter, job_settings
from dbb.runs.kept import PIPELINE, RUN_FOLDER, SUBMISSION, WORKFLOW
from dbb.runs.poststage import two_archives
from dbb.runs.takeover import TakenOver, settle, take_over
from dbb.runs.work import Say, Work
from dbb.storage import new_folder

_MOST_NUMBERS = 20
_SAID = ("project", "jira_id", "pipeline", "campaign")
_OF_ATTEMPT = {
    "basket": "basket",
    "group_submit_id": "group_submit_id",
    "pipeprod": "subpipeprod",
    "pipever": "subpipever",
    "use_qcf": "useqcf",
}
"""Columns of pfw_attempt by the settings that fill them."""


@dataclass(frozen=True, slots=True)
class Submission:
    """How a run is to be submitted.

    Parameters
    ----------
    engine
        Which engine starts its jobs: its name, or the engine itself.
    folder
        The folder of the run; made. None: one called after the run in the current folder.
    at_once
        How many jobs may run at the same time.
    retries
        How often a job that fails is started again.
    resume
        A run whose finished quanta need not run again, or None.
    detach
        Give the run to its engine and return, instead of waiting for its end.
    """

    engine: str | Engine = "local"
    folder: Path | None = None
    at_once: int = 1
    retries: int = 0
    resume: str | None = None
    detach: bool = False


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
    is_over
        Whether nothing more will happen; not if it was detached.
    unmoved
        Which of its outputs are not in the home archive, and why; empty if all are.
    kept
        The places in the archive of what it makes to be kept, and does not take over.
    """

    run: str
    folder: Path
    jobs: int
    problems: Mapping[str, str]
    reused: int = 0
    is_over: bool = True
    unmoved: str = ""
    kept: Sequence[str] = ()


@dataclass(slots=True)
class _Planned:
    """A run that is planned and not yet begun."""

    run: Run
    workflow: Workflow
    pipeline: Pipeline
    folder: Path
    settings: Mapping[str, str]
    taken: TakenOver

    def outcome(self, problems: Mapping[str, str], *, is_over: bool = True, unmoved: str = "") -> Submitted:
        """Return what became of it."""
        done = self.taken.done
        new = [one for one in self.workflow.instances if one.wrapnum not in done]
        kept = [output.relpath for one in new for output in one.outputs if output.save]
        jobs = len(self.workflow.jobs)
        return Submitted(str(self.run), self.folder, jobs, problems, len(done), is_over, unmoved, kept)


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
        If the attempt, or the folder, is there already, or what is to be resumed still runs.
    NotFoundError
        If there is no such engine.
    UsageError
        If the run is to be detached and the engine cannot do that.
    DbbError
        If the engine cannot work with what the pipeline says.

    Notes
    -----
    Everything is checked before the first row or file is written. When this is interrupted, jobs are ended in order and
    what they did is merged; the run can be resumed.
    """
    engine = submission.engine if isinstance(submission.engine, Engine) else find_engine(submission.engine)
    if submission.detach and not engine.detaches:
        raise UsageError(f"engine {engine.name} runs jobs only as long as 'dbb submit' does: leave out --detach")
    if submission.resume is not None:
        settle(db, submission.resume, dry_run=dry_run)
    for _ in range(_MOST_NUMBERS):
        number = _free_number(db, pipeline, submission)
        try:
            planned = _plan(db, pipeline, submission, number)
            engine.check(planned.settings, planned.folder)
            writer = _checked(db, planned)
            if dry_run:
                return planned.outcome({})
            _begin(db, planned, engine, submission)
            break
        except ConflictError:
            if number is None or number == _free_number(db, pipeline, submission):
                raise
            # else somebody has begun an attempt of this number meanwhile
    else:
        raise ConflictError(f"others took {_MOST_NUMBERS} attempt numbers while this one was planned: try again")
    with held(planned.folder / WORKFLOW):
        work = _run(db, planned, writer, engine, submission, say)
        return planned.outcome(work.problems, is_over=not submission.detach, unmoved=work.unmoved)


def _run(
    db: Any, planned: _Planned, writer: JobWriter, engine: Engine, submission: Submission, say: Say | None
) -> Work:
    """Let an engine run a run that is begun; return how it stands then."""
    work = Work(db, writer, planned.workflow.jobs, planned.taken, settings=planned.settings)
    work.at_once, work.retries = submission.at_once, submission.retries
    if say is not None:
        work.say = say
    if planned.taken.run:
        close_run(db, planned.taken.run, f"resumed as {planned.run}")
    try:
        work.begin()
        if submission.detach:
            engine.start(work)
            return work
        engine.run(work)
        work.close(f"engine {engine.name} did not start it")
        work.bring_home()
    except BaseException:
        with contextlib.suppress(DbbError):  # what matters is in the folder, and merged when the run is resumed
            work.close("the run was interrupted")
        raise
    finally:
        work.stop()
    return work


def _free_number(db: Any, pipeline: Pipeline, submission: Submission) -> int | None:
    """Return the attempt number that a run would get now; None if its pipeline says one itself."""
    if "attnum" in pipeline.tree and submission.resume is None:
        return None
    settings = settings_of(pipeline)
    reqnum, unitname = settings.get("reqnum", ""), settings.get("unitname", "")
    if not (reqnum.isascii() and reqnum.isdigit()) or not unitname:
        raise UsageError("reqnum and unitname are missing: a run has no name without them")
    return next_attempt(db, int(reqnum), unitname)


def _plan(db: Any, pipeline: Pipeline, submission: Submission, number: int | None) -> _Planned:
    if number is not None:
        pipeline = replace(pipeline, tree={**pipeline.tree, "attnum": Data(number)})
    workflow = plan(pipeline, db)
    said = workflow.run
    run = Run(str(said["unitname"]), int(said["reqnum"]), int(said["attnum"]))
    taken = take_over(db, submission.resume, workflow) if submission.resume is not None else TakenOver()
    folder = (submission.folder or Path(str(run))).absolute()
    if folder.exists():
        raise ConflictError(f"{folder} exists: choose another folder with --workdir, or remove it")
    return _Planned(run, workflow, pipeline, folder, settings_of(pipeline), taken)


def _checked(db: Any, planned: _Planned) -> JobWriter:
    """Return what writes the job files, once all that must be there is there."""
    settings = job_settings(planned.settings, message_section(planned.pipeline))
    writer = JobWriter(db, planned.workflow, settings, planned.folder)
    writer.check(planned.taken)
    return writer


def _begin(db: Any, planned: _Planned, engine: Engine, submission: Submission) -> None:
    """Register a run and make its folder; the registry says who has the number, so it comes first."""
    settings = planned.settings
    purpose = Purpose(
        **{name: settings.get(name) for name in _SAID},
        labels=tuple(label.strip() for label in settings.get("label", "").split(",") if label.strip()),
        values={RUN_FOLDER: str(planned.folder), ENGINE: engine.name, **two_archives(archive_levels(settings))},
        archive_path=settings.get("ops_run_dir"),
        sites=sites_of(planned.pipeline),
        more={
            **{column: settings[name] for name, column in _OF_ATTEMPT.items() if name in settings},
            "fullsubmitwcl": str(planned.folder / PIPELINE),
        },
    )
    begun = False
    try:
        with new_folder(planned.folder) as aside:
            _keep_plan(aside, planned, submission)
            begin_run(db, planned.workflow, operator=operator_of(settings), purpose=purpose)
            begun = True
    except ConflictError as error:
        if begun:  # somebody made a folder of this name meanwhile
            close_run(db, str(planned.run), str(error))
        raise


def operator_of(settings: Mapping[str, str]) -> str:
    """Return who runs a pipeline: whom its settings name, else the user."""
    try:
        return settings.get("operator") or getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user without an entry, as containers have them
        return str(os.getuid())


def _keep_plan(folder: Path, planned: _Planned, submission: Submission) -> None:
    """Keep with the run what it was planned from, and all that whoever attends it later must know."""
    with (folder / WORKFLOW).open("w", encoding="utf-8") as stream:
        stream.writelines(planned.workflow.as_json())
    (folder / PIPELINE).write_text(json.dumps(planned.pipeline.as_dict(), indent=1), encoding="utf-8")
    how = {"at_once": submission.at_once, "retries": submission.retries, "taken": planned.taken.as_dict()}
    (folder / SUBMISSION).write_text(json.dumps(how), encoding="utf-8")
    (folder / "jobs").mkdir()
