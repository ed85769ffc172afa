"""The files of a run on their way between its two archives, while it is under way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dbb.errors import DbbError
from dbb.pipeline.levels import ArchiveLevels
from dbb.pipeline.workflow import Job
from dbb.registry import Database
from dbb.runs.cancel import is_cancelled
from dbb.runs.copies import Place
from dbb.runs.poststage import Poststage
from dbb.runs.prestage import Prestage
from dbb.runs.transfers import Transfers


class Stages:
    """Brings inputs to the target archive and outputs home, as far as the settings of a run want it.

    Parameters
    ----------
    db
        The registry.
    run, folder
        The run.
    levels
        Its archives.
    roots
        The URLs of all archives by name.
    jobs
        Its jobs.
    """

    def __init__(
        self,
        db: Database,
        run: str,
        folder: Path,
        levels: ArchiveLevels,
        roots: Mapping[str, str],
        jobs: Sequence[Job],
    ) -> None:
        self._folder, self._when = folder, levels.after
        self._transfers = Transfers(roots, levels.at_once)
        self._inputs = Prestage(db, levels, roots, self._transfers, self._is_given_up) if levels.stages else None
        self._outputs: Poststage | None = None
        if levels.after is not None and levels.target is not None and levels.home is not None:
            self._outputs = Poststage(db, run, levels.target, levels.home, self._transfers)
        self._blocks = {job.name: job.block for job in jobs}
        self._open: dict[str, set[str]] = {}
        for name, block in self._blocks.items():
            self._open.setdefault(block, set()).add(name)

    def begin(self, inputs: Sequence[Place]) -> None:
        """Let inputs be copied ahead of the jobs that read them."""
        if self._inputs is not None:
            self._inputs.begin(inputs)

    def localize(self, content: dict[str, Any]) -> None:
        """Wait until the target archive has what a job file names, and let it name the copies there.

        Raises
        ------
        DbbError
            If a file cannot be copied.
        """
        if self._inputs is not None:
            self._inputs.localize(content)

    def ended(self, names: Iterable[str]) -> None:
        """Let the outputs of jobs that are over go home, when it is time for that."""
        if self._outputs is None or self._when == "run":
            return
        if self._when == "job":
            self._outputs.take(names)
            return
        for name in names:
            block = self._blocks[name]
            self._open[block].discard(name)
            if not self._open[block]:
                self._outputs.take(one for one, its in self._blocks.items() if its == block)

    def finish(self) -> str:
        """Wait until all outputs are at home; return which are not, and why, or an empty text."""
        return "" if self._outputs is None or self._is_given_up() else self._outputs.finish(self._is_given_up)

    def stop(self) -> None:
        """Copy no more; what came home is registered."""
        self._transfers.stop()
        if self._outputs is not None:
            with suppress(DbbError):  # what the registry does not know lies in its place, and is found there
                self._outputs.rest()

    def _is_given_up(self) -> bool:
        return is_cancelled(self._folder)
