"""The repository of a job, which plug-ins make: once, before the first step."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from dbb.errors import DbbError, PluginError
from dbb.jobs.context import Record
from dbb.jobs.jobfile import JobRepo, RepositoryEntry, Step
from dbb.jobs.step import Result


class Preparer:
    """Asks plug-ins to make the repository, and to get it ready for each step.

    Parameters
    ----------
    entry
        What the job file says of the repository, or None if there is none.
    work
        The work folder.
    record
        Takes events.
    """

    def __init__(self, entry: RepositoryEntry | None, work: Path, record: Record) -> None:
        self._entry, self._record = entry, record
        self._repo = None if entry is None else JobRepo(work, entry.folder, entry.manifest)
        self._lock = threading.Lock()
        self.problem = ""

    @property
    def wrapnum(self) -> int | None:
        """Number of the step that stands for making the repository, or None."""
        return None if self._entry is None else self._entry.wrapnum

    @property
    def result(self) -> Result | None:
        """What became of making the repository, or None if there is none."""
        if self._entry is None:
            return None
        return Result("failed", 1, self.problem) if self.problem else Result("succeeded")

    def is_own(self, step: Step) -> bool:
        """Whether a step stands for making the repository."""
        return self._entry is not None and step.wrapnum == self._entry.wrapnum

    def begin(self, steps: Sequence[Step]) -> None:
        """Make the repository before anything else is put into its folder; that this fails is kept as `problem`."""
        if self._entry is None or self._repo is None:
            return
        own = next((step for step in steps if self.is_own(step)), None)
        first: Mapping[str, object] = own.entry if own is not None else steps[0].entry if steps else {}
        number = self._entry.wrapnum
        if number is not None:
            self._record(number, state="running", module=self._entry.module)
        try:
            self.prepare(first)
            if not (self._repo.work / self._repo.folder).is_dir():
                from dbb.plugins import plugins

                asked = [one.plugin_name for one in plugins().hook.dbb_prepare_step.get_hookimpls()]
                raise PluginError(f"no plug-in has made the repository {self._repo.folder}; asked: {', '.join(asked)}")
        except (DbbError, OSError) as error:
            self.problem = f"repository {self._repo.folder}: {error}"
        except BaseException:  # a signal
            if number is not None:
                self._record(number, state="killed", status=1, reason="ended by a signal")
            raise
        if number is not None:
            self._record(number, **(self.result or Result("succeeded")).as_dict())

    def prepare(self, step: Mapping[str, object]) -> None:
        """Get the repository ready for a step.

        Raises
        ------
        DbbError
            If a plug-in cannot, or breaks its contract.
        """
        if self._repo is None:
            return
        from dbb.plugins import plugins  # a job without a repository starts without them

        with self._lock:
            try:
                plugins().hook.dbb_prepare_step(step=step, repo=self._repo)
            except DbbError:
                raise
            except Exception as error:
                raise PluginError(f"a plug-in failed to prepare a step: {type(error).__name__}: {error}") from error
