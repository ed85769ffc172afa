"""What a workflow engine is: it starts ``dbb run-job`` for each job of a run, when the jobs that it waits for are done.

An engine keeps no record. What happened is told by the events of the jobs, which `EngineWork` brings into the registry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


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
    """

    name: str
    after: tuple[str, ...] = ()
    resources: Mapping[str, str] = field(default_factory=dict)


class EngineWork(Protocol):
    """A run as an engine sees it; dbb gives it."""

    @property
    def folder(self) -> Path:
        """The folder of the run; an engine keeps its own files in ``engine`` below it."""

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

    def collect(self, names: Sequence[str]) -> None:
        """Bring into the registry what jobs have recorded so far; as often as you like, while they run."""

    def ended(self, name: str, problem: str = "") -> None:
        """Report that a job has ended and will not be started again; `problem` says why it is not done, if it is not.

        Jobs that wait for one that is not done will never start.
        """


class Engine(ABC):
    """Starts the jobs of a run; `name` is what ``dbb submit --engine`` takes."""

    name: str

    @abstractmethod
    def run(self, work: EngineWork) -> None:
        """Start every job once those it waits for are done, and return when none is left that can start.

        A job that fails is started again up to ``work.retries`` times; one that waits for a failed job is not started.
        When this is interrupted (KeyboardInterrupt, SystemExit), what runs must be ended before the exception leaves.
        """
