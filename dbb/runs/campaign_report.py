"""What an operator asks of a campaign: how many units are done, after how many attempts, what was lost, what fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dbb.registry import Database
from dbb.registry._connect import one_of
from dbb.registry._runtables import pfw_job, pfw_wrapper
from dbb.registry._tables import now, pfw_attempt, pfw_request, pfw_unit, task
from dbb.registry.runs import Run
from dbb.runs.report import Finding, elapsed
from dbb.runs.states import FAILED, INCOMPLETE, KILLED, OPEN, SUCCEEDED
from dbb.runs.tasks import seconds
from dbb.runs.units import Unit, find_campaign

DONE, NOT_DONE, UNDER_WAY, NOT_BEGUN = "done", "failed", "under way", "not begun"
_MEANINGS = {
    DONE: "an attempt succeeded",
    NOT_DONE: "all attempts are over, and none succeeded",
    UNDER_WAY: "an attempt is not over",
    NOT_BEGUN: "there is no attempt",
}
_MOST_REASONS = 20
_LOST = (FAILED, KILLED, INCOMPLETE)


@dataclass(slots=True)
class _Attempts:
    """The attempts of a unit, the first first: rows of the registry."""

    unit: Unit
    rows: list[Any]

    @property
    def state(self) -> str:
        states = [row.state for row in self.rows]
        if SUCCEEDED in states:
            return DONE
        if any(state in OPEN for state in states):
            return UNDER_WAY
        return NOT_DONE if states else NOT_BEGUN


def campaign_report(db: Database, campaign: str, *, verbose: bool = False) -> list[Finding]:
    """Return what there is to know of a campaign, in order of sections.

    Parameters
    ----------
    db
        The registry.
    campaign
        Its name.
    verbose
        Name each unit that is not done.

    Raises
    ------
    NotFoundError
        If there is no such campaign.

    Notes
    -----
    Seven statements at most, whatever the number of units.
    """
    with db.read() as conn:
        mine = find_campaign(conn, campaign)
        units = _units(conn, mine)
        attempts = [row.id for unit in units for row in unit.rows]
        again = [row.id for unit in units if len(unit.rows) > 1 for row in unit.rows]
        return [
            _whole(campaign, units, now(conn.dialect.name)),
            *_by_state(units),
            *_by_attempts(units),
            *_time(conn, attempts, again),
            *_failures(conn, attempts),
            *(_not_done(units) if verbose else ()),
        ]


def _units(conn: sa.Connection, mine: sa.ColumnElement[bool]) -> list[_Attempts]:
    unit, attempt = pfw_unit.c, pfw_attempt.c
    begun = pfw_attempt.join(task, task.c.id == attempt.task_id)
    same = (attempt.reqnum == unit.reqnum) & (attempt.unitname == unit.unitname)
    rows = conn.execute(
        sa.select(unit.reqnum, unit.unitname, attempt.id, attempt.attnum, attempt.submittime)
        .add_columns(task.c.state, task.c.start_time, task.c.end_time, task.c.reason)
        .select_from(pfw_unit.join(pfw_request, pfw_request.c.reqnum == unit.reqnum).outerjoin(begun, same))
        .where(mine)
        .order_by(unit.reqnum, unit.unitname, attempt.attnum)
    )
    found: dict[Unit, _Attempts] = {}
    for row in rows:
        one = found.setdefault(unit_of := Unit(row.reqnum, row.unitname), _Attempts(unit_of, []))
        if row.id is not None:
            one.rows.append(row)
    return list(found.values())


def _whole(campaign: str, units: Sequence[_Attempts], moment: Any) -> Finding:
    counts = Counter(unit.state for unit in units)
    rows = [row for unit in units for row in unit.rows]
    starts = [start for row in rows if (start := seconds(row.submittime)) is not None]
    is_over = not counts[UNDER_WAY] and not counts[NOT_BEGUN]
    ends = [end for row in rows if (end := seconds(row.end_time)) is not None] if is_over else [seconds(moment) or 0.0]
    took = round(max(0.0, max(ends) - min(starts)), 3) if starts and ends else None
    state = next((state for state in (UNDER_WAY, NOT_BEGUN, NOT_DONE) if counts[state]), DONE)
    return Finding("campaign", campaign, state, len(units), took, f"{len(rows)} attempts")


def _by_state(units: Sequence[_Attempts]) -> Iterator[Finding]:
    counts = Counter(unit.state for unit in units)
    for state, text in _MEANINGS.items():
        if counts[state]:
            yield Finding("units", "units", state, counts[state], None, text)


def _by_attempts(units: Sequence[_Attempts]) -> Iterator[Finding]:
    counts = Counter((len(unit.rows), unit.state) for unit in units if unit.rows)
    for (number, state), count in sorted(counts.items()):
        what = "1 attempt" if number == 1 else f"{number} attempts"
        yield Finding("attempts", what, state, count, None, "units with so many")


def _time(conn: sa.Connection, attempts: list[int], again: list[int]) -> Iterator[Finding]:
    """Give the time that steps took, and what of it was for nothing."""
    step, dialect = pfw_wrapper.c, conn.dialect.name
    took = elapsed(dialect)
    of_steps = sa.and_(task.c.id == step.task_id, task.c.start_time.is_not(None), task.c.end_time.is_not(None))
    lost = task.c.state.in_(_LOST)
    row = conn.execute(
        sa.select(
            sa.func.count(), sa.func.sum(took), sa.func.sum(sa.case((lost, 1), else_=0)),
            sa.func.sum(sa.case((lost, took))),
        ).where(of_steps, one_of(step.pfw_attempt_id, attempts, dialect))
    ).one()  # fmt: skip
    yield Finding("time", "steps", None, row[0], _rounded(row[1]), "all steps that ran, together")
    yield Finding("time", "lost", None, row[2] or 0, _rounded(row[3]), "steps that did not succeed")
    if again:
        same = pfw_attempt.c.reqnum, pfw_attempt.c.unitname, step.modname, step.wrapkeys
        repeated = (
            sa.select((sa.func.count() - 1).label("times"), (sa.func.sum(took) - sa.func.max(took)).label("spent"))
            .where(of_steps, task.c.state == SUCCEEDED, pfw_attempt.c.id == step.pfw_attempt_id)
            .where(one_of(step.pfw_attempt_id, again, dialect))
            .group_by(*same)
            .having(sa.func.count() > 1)
            .subquery()
        )
        times, spent = conn.execute(sa.select(sa.func.sum(repeated.c.times), sa.func.sum(repeated.c.spent))).one()
        text = "steps that had succeeded before"
        yield Finding("time", "repeated", None, int(times or 0), _rounded(spent), text)


def _rounded(value: Any) -> float:
    return round(max(0.0, float(value or 0.0)), 3)


def _failures(conn: sa.Connection, attempts: list[int]) -> Iterator[Finding]:
    """Give what failed most: modules with the reason, and jobs that failed though no step of them did."""
    step, job, dialect = pfw_wrapper.c, pfw_job.c, conn.dialect.name
    inner = task.alias("inner")
    in_step = sa.exists().where(
        step.pfw_job_task_id == job.task_id, inner.c.id == step.task_id, inner.c.state.in_(_LOST)
    )
    statements = [
        _grouped(step.modname, dialect).where(
            task.c.id == step.task_id, one_of(step.pfw_attempt_id, attempts, dialect)
        ),
        _grouped(None, dialect).where(
            task.c.id == job.task_id, one_of(job.pfw_attempt_id, attempts, dialect), sa.not_(in_step)
        ),
    ]
    rows = [row for statement in statements for row in conn.execute(statement)]
    for row in sorted(rows, key=lambda row: (-row.steps, row.what, row.state, row.reason or ""))[:_MOST_REASONS]:
        runs = "1 run" if row.runs == 1 else f"{row.runs} runs"
        text = f"{row.reason or 'no reason is known'} (in {runs})"
        yield Finding("failures", row.what, row.state, row.steps, _rounded(row.spent), text)


def _grouped(module: sa.ColumnElement[str] | None, dialect: str) -> sa.Select[Any]:
    what = sa.literal_column("'job'") if module is None else module
    counts = sa.func.count().label("steps"), sa.func.count(task.c.root_task_id.distinct()).label("runs")
    return (
        sa.select(
            what.label("what"), task.c.state, task.c.reason, *counts, sa.func.sum(elapsed(dialect)).label("spent")
        )
        .where(task.c.state.in_(_LOST))
        .group_by(*(() if module is None else (module,)), task.c.state, task.c.reason)
        .order_by(counts[0].desc())
        .limit(_MOST_REASONS)
    )


def _not_done(units: Sequence[_Attempts]) -> Iterator[Finding]:
    for unit in units:
        if unit.state == DONE:
            continue
        last = unit.rows[-1] if unit.rows else None
        what = str(unit.unit) if last is None else str(Run(unit.unit.unitname, unit.unit.reqnum, last.attnum))
        text = _MEANINGS[NOT_BEGUN] if last is None else last.reason or f"it is {last.state}"
        yield Finding("not done", what, unit.state, len(unit.rows), None, text)
