"""How runs stand: one row for each, as DES operators know it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa

from dbb.registry import Database
from dbb.registry._connect import one_of
from dbb.registry._runtables import attempt_state, pfw_attempt_val, pfw_block
from dbb.registry._tables import pfw_attempt, pfw_request, task
from dbb.registry.runs import Run
from dbb.runs.begin import SUBMIT_SITE
from dbb.runs.copies import count_waiting
from dbb.runs.find import find_run
from dbb.runs.states import (
    BAD,
    BLOCKED,
    FAILED,
    INCOMPLETE,
    KILLED,
    OPEN,
    RUNNING,
    STATUS_DELETED,
    SUCCEEDED,
    WAITING,
)
from dbb.runs.units import find_campaign

_ENDED = {SUCCEEDED: "DONE", FAILED: "FAIL", BLOCKED: "FAIL", KILLED: "KILL", INCOMPLETE: "FAIL"}


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How a run stands.

    Parameters
    ----------
    id
        Of its attempt.
    prj, pipeline, campaign
        Of its request.
    run
        ``Ht0_r11p95``.
    block
        The block that is under way, or the last one.
    subblock
        The modules that run in it now.
    stat
        Of the jobs of this block how many are held up by a failure, pending and running, and how many there are, as
        ``(0/3/2/9)``; before the first begins ``PEND``, after the run ``DONE``, ``FAIL``, ``KILL`` or, if its
        operator cancelled it, ``DEL``.
    done, failed, jobs
        Of all its jobs how many succeeded, how many did not or cannot run any more, and how many there are.
    steps
        How many of its steps succeeded, of how many, as ``12/40``.
    operator
        Who began it.
    submitsite, runsite
        Where it was begun and where it runs.
    to_home
        How many of its outputs wait in its target archive to be copied home.
    """

    id: int
    prj: str | None
    pipeline: str | None
    campaign: str | None
    run: str
    block: str
    subblock: str
    stat: str
    done: int
    failed: int
    jobs: int
    steps: str
    operator: str | None
    submitsite: str | None
    runsite: str | None
    to_home: int = 0

    @property
    def is_open(self) -> bool:
        """Whether the run is not over."""
        return self.stat == "PEND" or self.stat.startswith("(")

    def as_dict(self) -> dict[str, Any]:
        """Return all columns."""
        return asdict(self)


def run_status(db: Database, run: str | None = None, *, campaign: str | None = None) -> list[RunStatus]:
    """Return how a run, or each run that was begun, stands, in the order in which they were begun.

    Parameters
    ----------
    db
        The registry.
    run
        ``Ht0_r11p95`` or ``r11p95``, or None.
    campaign
        Only the runs of this campaign.

    Raises
    ------
    NotFoundError, AmbiguousError, UsageError
        If `run` is none, or several, or there is no such campaign.

    Notes
    -----
    Six statements, and one to find what is named. Tasks are counted in an index that has nothing else to read.
    """
    with db.read() as conn:
        chosen = [] if run is None else [pfw_attempt.c.id == find_run(conn, run).id]
        if campaign is not None:
            chosen.append(find_campaign(conn, campaign))
        rows = _attempts(conn, chosen)
        roots = [row.root for row in rows]
        blocks = _blocks(conn, [row.id for row in rows])
        counts = _counts(conn, roots)
        current = {attempt: _current(of_run) for attempt, of_run in blocks.items()}
        in_block = _counts_below(conn, [one.task_id for one in current.values()])
        modules = _running(conn, [row.root for row in rows if row.state == RUNNING])
        waiting = count_waiting(conn, [row.id for row in rows] if chosen else None)
    found = [
        _status(row, current.get(row.id), counts.get(row.root, {}), in_block, modules.get(row.root, [])) for row in rows
    ]
    return [replace(one, to_home=waiting[one.id][0]) if one.id in waiting else one for one in found]


_Counts = dict[str, int]


def _attempts(conn: sa.Connection, chosen: Sequence[sa.ColumnElement[bool]]) -> list[Any]:
    attempt, request, setting = pfw_attempt.c, pfw_request.c, pfw_attempt_val.c
    select = (
        sa.select(
            *(attempt[name] for name in ("id", "unitname", "reqnum", "attnum", "operator")),
            *(request[name] for name in ("project", "pipeline", "campaign")),
            attempt.task_id.label("root"),
            task.c.state,
            task.c.status,
            attempt_state.c.data_state,
            setting.val.label("submitsite"),
        )
        .select_from(
            pfw_attempt.join(task, task.c.id == attempt.task_id)
            .join(pfw_request, request.reqnum == attempt.reqnum)
            .outerjoin(attempt_state, attempt_state.c.pfw_attempt_id == attempt.id)
            .outerjoin(pfw_attempt_val, (setting.pfw_attempt_id == attempt.id) & (setting.key == SUBMIT_SITE))
        )
        .order_by(attempt.id)
    )
    return list(conn.execute(select.where(*chosen)))


def _blocks(conn: sa.Connection, attempts: list[int]) -> dict[int, list[Any]]:
    block = pfw_block.c
    select = (
        sa.select(block.task_id, block.pfw_attempt_id, block.name, block.target_site, task.c.state)
        .where(task.c.id == block.task_id, one_of(block.pfw_attempt_id, attempts, conn.dialect.name))
        .order_by(block.pfw_attempt_id, block.blknum)
    )
    found: dict[int, list[Any]] = {}
    for row in conn.execute(select):
        found.setdefault(row.pfw_attempt_id, []).append(row)
    return found


def _current(blocks: list[Any]) -> Any:
    """Return the block that runs, else the first that is not over, else the last."""
    return next((one for wanted in ((RUNNING,), OPEN) for one in blocks if one.state in wanted), blocks[-1])


def _counts(conn: sa.Connection, roots: list[int]) -> dict[int, dict[str, _Counts]]:
    which = sa.and_(one_of(task.c.root_task_id, roots, conn.dialect.name), task.c.name.in_(["job", "wrapper"]))
    select = sa.select(task.c.root_task_id, task.c.name, task.c.state, sa.func.count()).where(which)
    found: dict[int, dict[str, _Counts]] = {}
    for root, name, state, count in conn.execute(select.group_by(task.c.root_task_id, task.c.name, task.c.state)):
        found.setdefault(root, {}).setdefault(name, {})[state] = count
    return found


def _counts_below(conn: sa.Connection, blocks: list[int]) -> dict[int, _Counts]:
    which = sa.and_(one_of(task.c.parent_task_id, blocks, conn.dialect.name), task.c.name == "job")
    select = sa.select(task.c.parent_task_id, task.c.state, sa.func.count()).where(which)
    found: dict[int, _Counts] = {}
    for block, state, count in conn.execute(select.group_by(task.c.parent_task_id, task.c.state)):
        found.setdefault(block, {})[state] = count
    return found


def _running(conn: sa.Connection, roots: list[int]) -> dict[int, list[str]]:
    which = sa.and_(
        one_of(task.c.root_task_id, roots, conn.dialect.name), task.c.name == "wrapper", task.c.state == RUNNING
    )
    select = sa.select(task.c.root_task_id, task.c.label).where(which).distinct().order_by(task.c.label)
    found: dict[int, list[str]] = {}
    for root, module in conn.execute(select):
        found.setdefault(root, []).append(module)
    return found


def _status(
    row: Any, block: Any, counts: dict[str, _Counts], in_block: dict[int, _Counts], modules: list[str]
) -> RunStatus:
    jobs, steps = counts.get("job", {}), counts.get("wrapper", {})
    lost = sum(jobs.get(state, 0) for state in BAD)
    return RunStatus(
        row.id,
        row.project,
        row.pipeline,
        row.campaign,
        str(Run(row.unitname, row.reqnum, row.attnum)),
        block.name if block else "",
        ",".join(modules),
        _stat(row, in_block.get(block.task_id, {}) if block else {}),
        jobs.get(SUCCEEDED, 0),
        lost,
        sum(jobs.values()),
        f"{steps.get(SUCCEEDED, 0)}/{sum(steps.values())}",
        row.operator,
        row.submitsite,
        block.target_site if block else None,
    )


def _stat(row: Any, jobs: _Counts) -> str:
    if row.state in _ENDED:
        return "DEL" if row.status == STATUS_DELETED else _ENDED[row.state]
    if row.state != RUNNING:
        return "PEND"
    waiting = sum(jobs.get(state, 0) for state in WAITING)
    return f"({jobs.get(BLOCKED, 0)}/{waiting}/{jobs.get(RUNNING, 0)}/{sum(jobs.values())})"
