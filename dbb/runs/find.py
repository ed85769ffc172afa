"""Finding the run that an operator means."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from dbb.errors import AmbiguousError, NotFoundError
from dbb.registry._tables import pfw_attempt, task
from dbb.registry.runs import Run, parse_run, run_condition


@dataclass(frozen=True, slots=True)
class BegunRun:
    """A run that was begun: its attempt, the task that stands for all of it, and the state of that."""

    id: int
    run: Run
    task: int
    state: str
    status: int | None


def find_run(conn: sa.Connection, text: str) -> BegunRun:
    """Return the run that ``Ht0_r11p95`` or ``r11p95`` names.

    Raises
    ------
    UsageError
        If `text` is no run.
    NotFoundError
        If no such run was begun.
    AmbiguousError
        If it names no unit and several units have such a run.
    """
    found = _begun(conn, run_condition(parse_run(text)))
    if not found:
        known = [str(one.run) for one in _begun(conn, sa.true())]
        raise NotFoundError("run", text, known, "Only runs that were submitted have jobs")
    if len(found) > 1:
        raise AmbiguousError(f"several runs are called {text}: {', '.join(str(one.run) for one in found)}")
    return found[0]


def _begun(conn: sa.Connection, condition: sa.ColumnElement[bool]) -> list[BegunRun]:
    attempt = pfw_attempt.c
    select = sa.select(
        attempt.id, attempt.unitname, attempt.reqnum, attempt.attnum, task.c.id, task.c.state, task.c.status
    )
    rows = conn.execute(select.where(task.c.id == attempt.task_id, condition).order_by(attempt.id))
    return [BegunRun(row[0], Run(row[1], row[2], row[3]), *row[4:]) for row in rows]
