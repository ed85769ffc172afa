"""Outputs from the archive near the machines to the home archive: as jobs, blocks or the run end."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

import sqlalchemy as sa

from dbb.pipeline.levels import HOME, TARGET, ArchiveLevels
from dbb.registry import Database
from dbb.registry._tables import pfw_attempt, task
from dbb.registry.archives import archives
from dbb.registry.runs import Run
from dbb.runs.begin import attempt_values
from dbb.runs.copies import MOVED, Waiting, count_waiting, job_tasks, mark_moved, outputs_waiting, register_copies
from dbb.runs.find import find_run
from dbb.runs.states import OPEN
from dbb.runs.transfers import Key, Transfer, Transfers

_EVERY = 0.5
"""Seconds between looks at what has come home."""
_AT_ONCE = 4


class Poststage:
    """Brings the outputs of a run home.

    Parameters
    ----------
    db
        The registry.
    run
        Which has outputs in `target` that `home` is to have too.
    target, home
        Names of archives.
    transfers
        What copies.
    """

    def __init__(self, db: Database, run: str, target: str, home: str, transfers: Transfers) -> None:
        self._db, self._run, self._target, self._home, self._transfers = db, run, target, home, transfers
        self._attempt: int | None = None
        self._jobs: dict[str, int] = {}
        self._ended: list[str] = []
        self._under_way: dict[Key, Transfer] = {}
        self._errors: dict[Key, str] = {}
        self._looked = 0.0

    def take(self, names: Iterable[str]) -> None:
        """Let what jobs made be copied; what was copied meanwhile is registered."""
        self._ended += names
        if time.monotonic() < self._looked + _EVERY:
            return
        self._settle()
        if self._ended:
            if not self._jobs:
                self._jobs = job_tasks(self._db, self._number)
            self._add([self._jobs[name] for name in self._ended if name in self._jobs])
            self._ended.clear()
        self._looked = time.monotonic()

    def finish(self, given_up: Callable[[], bool]) -> str:
        """Wait until all outputs are at home; return what is not, and why, or an empty text."""
        self._errors.clear()
        self._add(None)
        self._transfers.wait(self._under_way, given_up)
        self._settle()
        errors = [*self._errors.values(), *("it was given up" for _ in self._under_way)]
        if errors:
            return (
                f"{len(errors)} outputs of {self._run} wait in archive {self._target} and are not in {self._home}:"
                f" {errors[0]}; 'dbb attend {self._run}' tries again"
            )
        mark_moved(self._db, self._number)
        return ""

    def rest(self) -> None:
        """Register what has come home so far."""
        self._settle()

    @property
    def _number(self) -> int:
        if self._attempt is None:
            with self._db.read() as conn:
                self._attempt = find_run(conn, self._run).id
        return self._attempt

    def _add(self, jobs: Collection[int] | None) -> None:
        waiting = outputs_waiting(self._db, self._number, self._target, self._home, jobs)
        found = [one for file in waiting if (one := self._wanted(file)) is not None]
        new = [one for one in found if one.key not in self._under_way]
        self._transfers.add(new)
        self._under_way |= {one.key: one for one in new}

    def _wanted(self, file: Waiting) -> Transfer | None:
        """Return the copy to make of a file; none if home has another file in its place."""
        one = file.transfer
        if file.holder is None:
            return one
        if file.holder_md5sum == one.md5sum:
            return None
        if file.holder_attempt == self._number:  # a later try of a step made it anew
            return replace(one, replaces=frozenset({file.holder_md5sum or ""}))
        self._errors[one.key] = f"{one.relpath} is registered there with other bytes"
        return None

    def _settle(self) -> None:
        over = self._transfers.take(self._under_way)
        ended = {key: self._under_way.pop(key) for key in over}
        self._errors |= {key: why for key, why in over.items() if why}
        # should the registry refuse, they wait as before, and are found in their places
        register_copies(self._db, [ended[key] for key, why in over.items() if not why])


def bring_home(db: Database, run: str, given_up: Callable[[], bool] = lambda: False) -> str:
    """Copy the outputs of a run that are in its target archive only to its home archive.

    Returns
    -------
    str
        What could not be copied, and why; empty if all is at home, or the run has no two archives.

    Raises
    ------
    NotFoundError, AmbiguousError, UsageError
        If `run` is none, or several.
    """
    said = attempt_values(db, run)
    if not said.keys() >= {TARGET, HOME} or MOVED in said:
        return ""
    with db.read() as conn:
        roots = archives(conn)
    transfers = Transfers(roots, _AT_ONCE)
    try:
        return Poststage(db, run, said[TARGET], said[HOME], transfers).finish(given_up)
    finally:
        transfers.stop()


def bring_earlier_home(db: Database, run: str) -> str:
    """Do the same for the attempts before a run that are over, whose files it goes on with; cancelled ones are left.

    Raises
    ------
    NotFoundError, AmbiguousError, UsageError
        If `run` is none, or several.
    """
    with db.read() as conn:
        now = find_run(conn, run).run
        attempt = pfw_attempt.c
        select = sa.select(attempt.id, attempt.attnum).where(
            attempt.reqnum == now.reqnum,
            attempt.unitname == now.unitname,
            attempt.attnum < now.attnum,
            task.c.id == attempt.task_id,
            task.c.state.not_in(OPEN),
        )
        earlier = {row[0]: row[1] for row in conn.execute(select)}
        waiting = sorted(count_waiting(conn, list(earlier)))
    left = [bring_home(db, str(Run(now.unitname, now.reqnum, earlier[number]))) for number in waiting]
    return "; ".join(one for one in left if one)


def two_archives(levels: ArchiveLevels) -> dict[str, str]:
    """Return the settings to remember with a run whose outputs go from its target archive home; none for others."""
    if levels.after is None or levels.target is None or levels.home is None:
        return {}
    return {TARGET: levels.target, HOME: levels.home}


def waits_for_home(db: Database, run: str) -> bool:
    """Whether a run has outputs that are to be copied home and are not there.

    Raises
    ------
    NotFoundError, AmbiguousError, UsageError
        If `run` is none, or several.
    """
    with db.read() as conn:
        return bool(count_waiting(conn, [find_run(conn, run).id]))
