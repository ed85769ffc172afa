"""A whole job: its work folder, its steps in order, its record."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from dbb.errors import ConflictError, DbbError, IntegrityError
from dbb.jobs.context import Context
from dbb.jobs.environment import SetUp, describe, set_up
from dbb.jobs.events import EventLog, read_events
from dbb.jobs.guard import guarding
from dbb.jobs.inputs import stage_inputs
from dbb.jobs.jobfile import JobFile, Output, Step, read_job
from dbb.jobs.junk import files_of, junk_of, pack_junk
from dbb.jobs.messages import WARNING, make_message
from dbb.jobs.outputs import look_at
from dbb.jobs.process import Stopper
from dbb.jobs.repository import Preparer
from dbb.jobs.step import Result, blocked_by, made_by, run_one

_EVENTS = re.compile(r"events\.([0-9]+)\.jsonl")
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Interrupted(BaseException):
    """A signal came while nothing runs that would notice by itself."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a try of a job keeps its record and its files."""

    events: Path
    work: Path
    number: int


@dataclass(frozen=True, slots=True)
class JobResult:
    """What became of a job.

    Parameters
    ----------
    result
        Its state.
    steps
        The state of each of its steps that was begun or is blocked, by number.
    places
        Where its record and files are; the work folder may be gone.
    signal
        The signal that ended it, or None.
    """

    result: Result
    steps: Mapping[int, Result]
    places: Places
    signal: int | None = None


def places_of(path: Path, *, work: Path | None = None, events: Path | None = None, number: int | None = None) -> Places:
    """Return where the next try of a job is to be, or the one with a given number."""
    folder = path.parent
    if number is None:
        there = (_EVENTS.fullmatch(one.name) for one in folder.glob("events.*.jsonl"))
        number = max((int(match[1]) for match in there if match), default=0) + 1
    return Places(
        (events or folder / f"events.{number}.jsonl").absolute(), (work or folder / f"work.{number}").absolute(), number
    )


def run_job(
    path: Path, *, work: Path | None = None, events: Path | None = None, number: int | None = None
) -> JobResult:
    """Run a job to its end.

    Parameters
    ----------
    path
        The job file.
    work
        The work folder, which is made; default: ``work.K`` beside the job file.
    events
        Where its events go; default: ``events.K.jsonl`` beside the job file.
    number
        K, which try this is; default: one more than the tries that have left events there.

    Raises
    ------
    ConflictError
        If this try has been made already.
    UsageError, NotFoundError, UnsafePathError, SchemaVersionError
        If the job file cannot be used; nothing was done then.
    DbbError
        If events cannot be written.

    Notes
    -----
    SIGTERM, SIGINT and SIGHUP end the job in good order where this runs in the main thread: programs are ended, the
    states of their steps and the job's are recorded. Whatever happens, events on disk are a true account of what was
    done until then.
    """
    job = read_job(path)
    places = places_of(path.absolute(), work=work, events=events, number=number)
    _make_work(places.work)
    places.events.parent.mkdir(parents=True, exist_ok=True)
    with EventLog(places.events, job.name) as log:
        return _Job(job, places, log).run()


def _make_work(work: Path) -> None:
    try:
        work.mkdir(parents=True)
    except FileExistsError:
        if not work.is_dir() or next(work.iterdir(), None) is not None:
            raise ConflictError(f"work folder {work} is there already and not empty: choose another") from None
    except OSError as error:
        raise DbbError(f"the work folder {work} cannot be made: {error.strerror}") from error


def made_before(folder: Path, number: int) -> dict[str, frozenset[str]]:
    """Return MD5 sums of what tries before this one made, by name: what lies in the archive of it may be replaced."""
    found: dict[str, set[str]] = {}
    for path in folder.glob("events.*.jsonl"):
        match = _EVENTS.fullmatch(path.name)
        if match is None or int(match[1]) >= number:
            continue
        with contextlib.suppress(OSError, IntegrityError):  # then less is known, and less replaced
            for _, event in read_events(path):
                file = event.get("file")
                if isinstance(file, dict):
                    found.setdefault(f"{file['filename']}{file['compression']}", set()).add(file["md5sum"])
    return {name: frozenset(sums) for name, sums in found.items()}


@dataclass(slots=True)
class _Progress:
    """How far the steps are."""

    results: dict[int, Result] = field(default_factory=dict)
    first_bad: int | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, number: int, result: Result) -> None:
        with self.lock:
            self.results[number] = result
            if not result.is_good and self.first_bad is None:
                self.first_bad = number

    @property
    def bad(self) -> set[int]:
        with self.lock:
            return {number for number, result in self.results.items() if not result.is_good}


class _Job:
    """A job under way."""

    def __init__(self, job: JobFile, places: Places, log: EventLog) -> None:
        self._job, self._places, self._log = job, places, log
        self._stopper = Stopper()
        self._progress = _Progress()
        self._makers = made_by(job.steps)
        self._interruptible = False
        self._at_start: set[str] = set()
        self._preparer = Preparer(job.repository, places.work, log.append)
        self._early: list[tuple[int | None, dict[str, object]]] = []
        self._context = self._new_context()

    def _new_context(self) -> Context:
        job = self._job
        return Context(
            work=self._places.work,
            record=lambda step, /, **fields: self._early.append((step, fields)),
            environment=dict(os.environ),
            rules=job.rules,
            limits=job.limits,
            options=job.options,
            archives=job.archives,
            home=job.home,
            filetypes=job.filetypes,
            stopper=self._stopper,
            replaces=made_before(self._places.events.parent, self._places.number),
            prepare=self._preparer.prepare,
        )

    def run(self) -> JobResult:
        with self._handling_signals():
            with guarding(self._stopper):
                result = self._run()
            self._log.append(None, **result.as_dict())
        if self._job.options.purge_job_dir == "always" or (
            self._job.options.purge_job_dir == "success" and result.is_good
        ):
            shutil.rmtree(self._places.work, ignore_errors=True)
        return JobResult(result, dict(self._progress.results), self._places, self._stopper.signal)

    def _run(self) -> Result:
        start = time.time()
        try:
            ready, problem = self._set_up()
            self._begin(ready, start)
            if problem and not self._stopper.is_set:
                return Result("failed", 1, problem)
            with self._may_interrupt():
                self._bring_inputs()
            self._run_steps()
        except _Interrupted:
            pass
        result = self._result()
        return self._with_junk(result)

    def _set_up(self) -> tuple[SetUp, str]:
        if self._job.setup is None:
            return SetUp(self._context.environment), ""
        try:
            ready = set_up(self._context, self._job.setup)
        except (DbbError, OSError) as error:
            return SetUp(self._context.environment), str(error)
        self._context.environment = ready.environment
        return ready, ""

    def _begin(self, ready: SetUp, start: float) -> None:
        """Write the first event, then what came before it."""
        more = {"setup": dict(ready.record)} if ready.record else {}
        self._log.append(
            None,
            state="running",
            log=secrets.token_hex(16),
            run=dict(self._job.run),
            **{"try": self._places.number},
            start=start,
            **describe(ready.environment),
            **more,
        )
        for step, fields in self._early:
            self._log.append(step, **fields)
        self._context.record = self._log.append

    def _bring_inputs(self) -> None:
        steps = self._job.steps
        inputs = [one for step in steps for one in step.inputs]
        self._preparer.begin(steps)
        if self._preparer.result is not None and self._preparer.wrapnum is not None:
            self._progress.note(self._preparer.wrapnum, self._preparer.result)
        stage_inputs(self._context, inputs, self._makers.keys())
        if self._job.options.create_junk_tarball:
            self._at_start = set(files_of(self._places.work))

    def _run_steps(self) -> None:
        steps = [step for step in self._job.steps if not self._preparer.is_own(step)]
        for module, group in itertools.groupby(steps, key=lambda step: step.module):
            some = list(group)
            workers = min(self._job.parallel.get(module, 1), len(some))
            if workers <= 1:
                for step in some:
                    self._run_step(step)
                continue
            from concurrent.futures import ThreadPoolExecutor  # most jobs do without

            with ThreadPoolExecutor(workers) as pool:
                for done in [pool.submit(self._run_step, step) for step in some]:
                    done.result()

    def _run_step(self, step: Step) -> None:
        if self._stopper.is_set:
            return
        blocker = blocked_by(step, self._makers, self._progress.bad)
        if blocker is None and self._job.options.stop_on_fail:
            blocker = self._progress.first_bad
        reason = "" if blocker is None else f"step {blocker} did not end well"
        if self._preparer.problem:
            blocker, reason = self._preparer.wrapnum, self._preparer.problem
        if reason:
            result = Result("blocked", 0, reason)
            self._log.append(step.wrapnum, state="blocked", by=blocker, reason=reason)
        else:
            result = run_one(self._context, step)
        self._progress.note(step.wrapnum, result)

    def _result(self) -> Result:
        if self._stopper.signal is not None:
            name = signal.Signals(self._stopper.signal).name
            return Result("killed", 128 + self._stopper.signal, f"ended by signal {name}")
        if self._preparer.problem:
            return Result("failed", 1, self._preparer.problem)
        results = self._progress.results
        states = {result.state for result in results.values()}
        if not states - {"succeeded"}:
            return Result("succeeded")
        first = results[self._progress.first_bad or 0]
        state = "failed" if states & {"failed", "killed"} else "incomplete"
        return Result(state, first.status, f"step {self._progress.first_bad}: {first.reason}")

    def _with_junk(self, result: Result) -> Result:
        """Pack what is left over; that this fails is a remark, not a failure."""
        if not self._job.options.create_junk_tarball or self._stopper.is_set:
            return result
        known = self._at_start | {f"{one}.fz" for one in self._makers}
        for step in self._job.steps:
            known |= {one.fullname for one in step.lists} | {one.fullname for one in step.inputs}
            known |= {name for one in step.outputs for name in (one.fullname, *one.also)} | {step.log}
        work, run = self._places.work, self._job.run
        name = f"{run['unitname']}_r{run['reqnum']}p{run['attnum']:02d}_{self._job.name}"
        try:
            junk = junk_of(work, known | {"log/setup.log"})
            if not junk:
                return result
            target = self._places.events.parent / f"{name}_try{self._places.number}_junk.tar.gz"
            pack_junk(work, junk, target)
            output = Output("junk_tar", target.name, target.name, None, "junk_tar", save=False)
            self._log.append(None, exec=None, file=dict(look_at(None, output, target).event))
        except OSError as error:
            remark = make_message(f"no junk tarball: {error.strerror}", None, WARNING)
            self._log.append(None, exec=None, message=remark.as_dict(""))
        return result

    @contextlib.contextmanager
    def _may_interrupt(self) -> Iterator[None]:
        """Let a signal break off what is done inside."""
        self._interruptible = True
        try:
            if self._stopper.is_set:
                raise _Interrupted
            yield
        finally:
            self._interruptible = False

    @contextlib.contextmanager
    def _handling_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield  # somebody else's signals
            return

        def handle(number: int, frame: FrameType | None) -> None:
            self._stopper.stop(number)
            if self._interruptible:
                self._interruptible = False
                raise _Interrupted

        before = {number: signal.signal(number, handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
