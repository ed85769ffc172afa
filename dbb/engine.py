"""What a workflow engine is: it starts ``dbb run-job`` for each job of a run, when the jobs that it waits for are done.

An engine keeps no record. What happened is told by the events of the jobs, which `EngineWork` brings into the registry.

Some engines go on by themselves once they were given a run, as batch systems do. Such an engine says so by `detaches`.
Whoever then reports to `EngineWork` is an attendant, one process at a time: ``dbb submit`` until it ends or is killed,
after it ``dbb attend``, which an operator begins, or the engine when nobody attends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dbb.errors import UsageError


@dataclass(frozen=True, slots=True)
class EngineJob:
    """A job to be started.

    Parameters
    ----------
    name
        Unique in the run, safe as a file name.
    after
        Names of jobs that must have ended well before.
    resources
        What it asks for, as the pipeline says it: ``request_cpus``, ``request_memory`` in MB, …
    modules
        The modules whose quanta it runs, in order.
    """

    name: str
    after: tuple[str, ...] = ()
    resources: Mapping[str, str] = field(default_factory=dict)
    modules: tuple[str, ...] = ()


class EngineWork(Protocol):
    """A run as an engine sees it; dbb gives it."""

    @property
    def run(self) -> str:
        """Its name, ``Ht0_r11p95``."""

    @property
    def folder(self) -> Path:
        """The folder of the run; an engine keeps its own files in ``engine`` below it."""

    @property
    def settings(self) -> Mapping[str, str]:
        """What the pipeline says at top level; an engine finds there what it lets operators choose."""

    @property
    def registry(self) -> str:
        """The URL of the registry, good in any folder; it may hold a password."""

    @property
    def jobs(self) -> Sequence[EngineJob]:
        """All jobs, those that others wait for before them."""

    @property
    def at_once(self) -> int:
        """How many jobs may run at the same time."""

    @property
    def retries(self) -> int:
        """How often a job that failed is started again."""

    @property
    def is_cancelled(self) -> bool:
        """Whether the operator wants no more of this run: end what runs, and return."""

    def prepare(self, name: str) -> Path | None:
        """Write the file of a job that is about to start, and return it; None if there is nothing to run.

        Call it when all jobs that this one waits for have been reported by `ended`.

        Raises
        ------
        DbbError
            If the job cannot be started; report it by `ended`.
        """

    def command(self, job: Path) -> Sequence[str]:
        """Return the command line that runs a job by its file; its exit code is 0 if all went well."""

    def attendant(self) -> Sequence[str]:
        """Return the command line that attends this run, which needs the registry in ``$DBB_REGISTRY``.

        It ends at once, with exit code 4, if somebody attends already.
        """

    def collect(self, names: Sequence[str]) -> None:
        """Bring into the registry what jobs have recorded so far; as often as you like, while they run."""

    def ended(self, name: str, problem: str = "") -> None:
        """Report that a job has ended and will not be started again; `problem` says why it is not done, if it is not.

        Jobs that wait for one that is not done will never start. When this returns, the registry has it; to report the
        same again does nothing.
        """

    def ended_together(self, problems: Mapping[str, str]) -> None:
        """Report several jobs as `ended` does, each with its problem; much cheaper than one after the other."""

    def is_over(self, name: str) -> bool:
        """Whether a job has been reported by `ended`, or waits in vain for one that is not done."""


class Engine(ABC):
    """Starts the jobs of a run; `name` is what ``dbb submit --engine`` takes.

    An engine with `detaches` has `start` and `attend`; `queue` and `cancel` are asked of every engine, in any process.
    """

    name: str
    detaches: bool = False

    def check(self, settings: Mapping[str, str], folder: Path) -> None:  # noqa: B027  # an engine need not have settings
        """Refuse what cannot work; asked before a run is registered.

        Parameters
        ----------
        settings
            What the pipeline says at top level.
        folder
            That of the run, which is not made yet.

        Raises
        ------
        DbbError
            If they cannot work, or something is not installed.
        """

    @abstractmethod
    def run(self, work: EngineWork) -> None:
        """Start every job once those it waits for are done, and return when none is left that can start.

        A job that fails is started again up to ``work.retries`` times; one that waits for a failed job is not started.
        When this is interrupted (KeyboardInterrupt, SystemExit), what runs must be ended before the exception leaves.
        """

    def start(self, work: EngineWork) -> None:
        """Give a run to what goes on when this process is gone, and return.

        Raises
        ------
        DbbError
            If that does not take it.
        """
        raise UsageError(f"engine {self.name} runs jobs only as long as 'dbb submit' does")

    def attend(self, work: EngineWork) -> None:
        """Look after a run that was started until no job is left that can start; safe to begin again after a kill.

        When this is interrupted, the run goes on without an attendant.

        Raises
        ------
        DbbError
            If it cannot.
        """
        raise UsageError(f"engine {self.name} runs jobs only as long as 'dbb submit' does: use 'dbb submit --resume'")

    def queue(self, folder: Path) -> Mapping[str, str]:
        """Return what the engine's own queue says of jobs of the run in a folder, by their names.

        Words that operators know from it: ``idle``, ``running``, ``held: why``. Jobs that it does not know are absent.

        Raises
        ------
        DbbError
            If it does not answer in a few seconds.
        """
        return {}

    def cancel(self, folder: Path) -> None:  # noqa: B027  # jobs that end with their engine need nothing
        """End the jobs of the run in a folder that nobody attends, and start no more.

        Raises
        ------
        DbbError
            If that does not work.
        """
