"""Running a campaign: each attempt is a process, ``dbb submit``, some at once; units that failed are resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from dbb.config import VARIABLE
from dbb.errors import ConflictError, DbbError
from dbb.locks import claimed
from dbb.registry import Database
from dbb.registry.runs import Run
from dbb.runs.alive import end_orphans, is_submitted, live_jobs
from dbb.runs.begin import next_attempt
from dbb.runs.campaign import Campaign, UnitPlan
from dbb.runs.control import close_run
from dbb.runs.merge import merge
from dbb.runs.submit import operator_of
from dbb.runs.units import Tried, Unit, failure_of, register_units, tried_units
from dbb.runs.work import Say

_TICK = 0.05
_LOOK_EVERY = 1.0
_PATIENCE = 5.0
"""Seconds between looks at a registry that does not answer."""
_LOCK = "campaign.lock"
_REFUSED = (2, 4, 5)
"""Exit codes of ``dbb submit`` after which it would be refused again."""
_IN_PART = 3
"""The exit code of ``dbb submit`` for jobs that are not done, or outputs that are not in the home archive."""
_TAIL = 4096


@dataclass(slots=True)
class Outcome:
    """What became of a campaign.

    Parameters
    ----------
    units
        How many it has.
    done
        Units that succeeded, now or before.
    problems
        By unit, why it is not done.
    not_begun
        Units for which nothing was done, because the campaign was stopped.
    attempts
        How many attempts were begun now.
    is_interrupted
        Whether the operator ended it.
    """

    units: int
    done: set[Unit] = field(default_factory=set)
    problems: dict[Unit, str] = field(default_factory=dict)
    not_begun: list[Unit] = field(default_factory=list)
    attempts: int = 0
    is_interrupted: bool = False

    @property
    def ended(self) -> int:
        """How many units are over."""
        return len(self.done) + len(self.problems)


def run_campaign(
    db: Database,
    campaign: Campaign,
    plans: Sequence[UnitPlan],
    *,
    say: Say | None = None,
    interruptions: Callable[[], int] = lambda: 0,
) -> Outcome:
    """Run the units of a campaign that `check_campaign` has planned, and that are not done.

    Parameters
    ----------
    db
        The registry.
    campaign
        How.
    plans
        The units.
    say
        Takes a line for each thing that happens, how many units are over, and how many there are.
    interruptions
        Returns how often the operator has asked for an end so far. After the first time nothing is begun, and what runs
        is ended in good order; each time is passed on to the attempts once.

    Raises
    ------
    ConflictError
        If a campaign runs in this folder already.
    DbbError
        If the folder cannot be made.

    Notes
    -----
    Attempts are processes of their own: they go on if this one is killed. Doing all again is safe: units that succeeded
    are passed over, what still runs is waited for, what failed is resumed.
    """
    with _alone(campaign.place):
        register_units(db, {plan.unit: plan.campaign for plan in plans}, operator=operator_of(plans[0].settings))
        return _Pool(db, campaign, plans, say or (lambda _, __, ___: None), interruptions).run()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _LOCK).touch()
    except OSError as error:
        raise DbbError(f"{folder} cannot be the folder of a campaign: {error}") from error
    with claimed(folder / _LOCK) as ours:
        if not ours:
            raise ConflictError(f"a campaign runs in {folder}: wait for its end, or choose another folder")
        yield


@dataclass(slots=True)
class _Waiting:
    """A unit that is to be tried: how often it was, and what went wrong."""

    plan: UnitPlan
    tries: int = 0
    why: str = ""


@dataclass(slots=True)
class _UnderWay:
    """An attempt under way: our own process, or one that goes on without its own, or is somebody else's.

    `before` is the attempt that there was when ours was started; `is_told` is whether its jobs were asked to end.
    """

    unit: _Waiting
    folder: Path
    child: subprocess.Popen[bytes] | None = None
    log: Path | None = None
    before: Run | None = None
    looked: float = 0.0
    is_told: bool = False


class _Pool:
    """The attempts of a campaign that are under way, and the units that wait."""

    def __init__(
        self, db: Database, campaign: Campaign, plans: Sequence[UnitPlan], say: Say, interruptions: Callable[[], int]
    ) -> None:
        self._db, self._campaign, self._say, self._interruptions = db, campaign, say, interruptions
        self._queue = deque(_Waiting(plan) for plan in plans if not plan.is_done)
        self._running: list[_UnderWay] = []
        self._heard = 0
        self._outcome = Outcome(len(plans), {plan.unit for plan in plans if plan.is_done})
        self._not_before = 0.0

    def run(self) -> Outcome:
        """Run until nothing is left that may begin."""
        try:
            while True:
                self._hear()
                if time.monotonic() >= self._not_before:
                    self._work()
                if not self._running and (self._stops or not self._queue):
                    return self._finish()
                time.sleep(_TICK)
        finally:
            self._end_all()

    def _work(self) -> None:
        try:
            for one in list(self._running):
                if self._is_over(one):
                    self._conclude(one)
                    self._running.remove(one)
            while self._queue and len(self._running) < self._campaign.at_once and not self._stops:
                self._begin(self._queue[0])
                self._queue.popleft()
        except DbbError as error:  # the registry is away: the attempts wait for it, and so do we
            if not self._not_before:
                self._tell(f"waiting: {error}")
            self._not_before = time.monotonic() + _PATIENCE
            if self._heard:
                self._give_up(error)
        else:
            self._not_before = 0.0

    @property
    def _stops(self) -> bool:
        """Whether nothing more may begin."""
        most = self._campaign.stop_after
        return self._heard > 0 or (most is not None and len(self._outcome.problems) >= most)

    def _tell(self, text: str) -> None:
        self._say(text, self._outcome.ended, self._outcome.units)

    def _hear(self) -> None:
        """Pass on what the operator wants, once each time."""
        asked = self._interruptions()
        if asked <= self._heard:
            return
        if not self._heard:
            self._tell("interrupted: attempts are being ended")
        self._heard = asked
        for one in list(self._running):
            if one.child is not None and one.child.poll() is None:
                one.child.terminate()
            else:
                self._end_what_is_left(one)

    def _end_what_is_left(self, one: _UnderWay) -> None:
        """End the jobs of an attempt whose own process is gone; what is not ours to end goes on."""
        if live_jobs(one.folder) and not is_submitted(one.folder):
            end_orphans(one.folder)
            one.is_told = True
        else:
            self._running.remove(one)
            self._outcome.problems[one.unit.plan.unit] = f"{one.folder.name} goes on: 'dbb cancel' ends it"

    def _tried(self, unit: Unit) -> Tried | None:
        return tried_units(self._db, [unit]).get(unit)

    def _begin(self, waiting: _Waiting) -> None:
        unit = waiting.plan.unit
        tried = self._tried(unit)
        if tried is not None and tried.is_done:
            self._done(unit, str(tried.run), "succeeded meanwhile")
        elif tried is not None and tried.folder is not None and (alive := tried.alive()):
            self._running.append(_UnderWay(waiting, tried.folder))
            self._tell(f"{tried.run}: waits for its end: {alive}")
        elif tried is not None and (unknown := tried.unknown()):
            self._fail(waiting, str(tried.run), unknown)
        else:
            self._start(waiting, tried)

    def _start(self, waiting: _Waiting, tried: Tried | None) -> None:
        unit = waiting.plan.unit
        resume = tried is not None and tried.can_be_resumed
        if tried is not None and tried.is_open and not resume:
            close_run(self._db, str(tried.run), f"its folder {tried.folder} is gone")
        run = Run(unit.unitname, unit.reqnum, next_attempt(self._db, unit.reqnum, unit.unitname))
        folder = self._campaign.place / str(run)
        log = self._campaign.place / f"{run}.log"
        command = self._command(waiting.plan, folder, str(tried.run) if tried is not None and resume else None)
        try:
            with log.open("wb") as stream:
                child = subprocess.Popen(  # noqa: S603  # our own command, and no shell
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, VARIABLE: self._db.url},
                    start_new_session=True,  # Ctrl-C reaches the campaign alone, which passes it on
                )
        except OSError as error:
            self._fail(waiting, str(run), f"'dbb submit' cannot be started: {error}")
            return
        waiting.tries += 1
        self._outcome.attempts += 1
        self._running.append(_UnderWay(waiting, folder, child, log, tried.run if tried is not None else None))
        self._tell(f"{run}: resumes {tried.run}" if resume and tried is not None else f"{run}: begun")

    def _command(self, plan: UnitPlan, folder: Path, resume: str | None) -> list[str]:
        how = self._campaign
        words = [sys.executable, "-m", "dbb_cli", "submit", str(how.submit_file), "--workdir", str(folder)]
        words += [word for key, value in plan.settings.items() for word in ("--set", f"{key}={value}")]
        words += ["--engine", how.engine, "--jobs", str(how.jobs), "--retries", str(how.retries)]
        return words if resume is None else [*words, "--resume", resume]

    def _is_over(self, one: _UnderWay) -> bool:
        """Whether nothing of an attempt is alive any more."""
        if one.child is not None and one.child.poll() is None:
            return False
        if time.monotonic() - one.looked < _LOOK_EVERY:
            return False
        one.looked = time.monotonic()
        tried = self._tried(one.unit.plan.unit)
        if tried is None or not (one.child is None or one.child.returncode < 0 or tried.is_open) or not tried.alive():
            return True
        if self._heard and not one.is_told:  # killed, and its jobs go on
            self._end_what_is_left(one)
        return False

    def _conclude(self, one: _UnderWay) -> None:
        """Note what became of a unit; perhaps it is to be tried again."""
        waiting, unit = one.unit, one.unit.plan.unit
        tried = self._tried(unit)
        if tried is None or (one.child is not None and tried.run == one.before):
            name, why = one.folder.name, f"nothing was begun: {_last_words(one)}"
            again = one.child is not None and one.child.returncode not in _REFUSED
        else:
            if tried.is_open:
                tried = self._close(tried)
            name, why, again = str(tried.run), failure_of(self._db, tried), not tried.is_cancelled
            if tried.is_done and (one.child is None or one.child.returncode != _IN_PART):
                self._done(unit, name, "succeeded")
                return
            if tried.is_done:  # what is missing is no work for another attempt
                why, again = f"its jobs succeeded, but {_last_words(one)}", False
        if again and waiting.tries <= self._campaign.resubmit and not self._stops:
            waiting.why = why
            self._queue.append(waiting)
            self._tell(f"{name}: {why}; to be resubmitted")
        else:
            self._fail(waiting, name, why)

    def _close(self, tried: Tried) -> Tried:
        """Bring into the registry what an attempt did that was killed, and that nothing of it is to come."""
        if tried.folder is not None and (tried.folder / "jobs").is_dir():
            merge(self._db, [tried.folder / "jobs"], final=True)
        close_run(self._db, str(tried.run), "'dbb submit' was killed")
        return self._tried(Unit(tried.run.reqnum, tried.run.unitname)) or tried

    def _done(self, unit: Unit, name: str, how: str) -> None:
        self._outcome.done.add(unit)
        self._tell(f"{name}: {how}")

    def _fail(self, waiting: _Waiting, name: str, why: str) -> None:
        self._outcome.problems[waiting.plan.unit] = why
        self._tell(f"{name}: {why}")

    def _finish(self) -> Outcome:
        for waiting in self._queue:
            if waiting.why:
                self._outcome.problems[waiting.plan.unit] = waiting.why
            else:
                self._outcome.not_begun.append(waiting.plan.unit)
        self._outcome.is_interrupted = self._heard > 0
        return self._outcome

    def _give_up(self, error: DbbError) -> None:
        """Note of attempts that are over, and of which the registry cannot tell, that this is so."""
        for one in list(self._running):
            if one.child is None or one.child.poll() is not None:
                self._running.remove(one)
                self._outcome.problems[one.unit.plan.unit] = f"what became of it is unknown: {error}"

    def _end_all(self) -> None:
        """End what runs, if something went wrong here."""
        for one in self._running:
            if one.child is not None and one.child.poll() is None:
                with suppress(ProcessLookupError):
                    one.child.send_signal(signal.SIGTERM)
        for one in self._running:
            if one.child is not None:
                one.child.wait()


def _last_words(one: _UnderWay) -> str:
    """Return the last line that an attempt has printed, or how it ended."""
    if one.log is not None and one.log.is_file():
        with one.log.open("rb") as stream:
            stream.seek(max(0, one.log.stat().st_size - _TAIL))
            lines = stream.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        if said:
            return said[-1]
    return f"'dbb submit' ended with {one.child.returncode if one.child is not None else 'nothing to say'}"
