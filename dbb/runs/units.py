"""Units of campaigns, as the registry knows them: what was tried of each, and which campaign they belong to."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from dbb.engine import Engine
from dbb.errors import ConflictError, NotFoundError
from dbb.registry import Database
from dbb.registry._connect import one_of
from dbb.registry._insert import insert_missing, run_many
from dbb.registry._runtables import pfw_attempt_val
from dbb.registry._tables import now, pfw_attempt, pfw_request, pfw_unit, task
from dbb.registry.runs import Run
from dbb.runs.alive import check_nobody_runs
from dbb.runs.begin import SUBMIT_SITE
from dbb.runs.engines import ENGINE, find_engine
from dbb.runs.kept import RUN_FOLDER, WORKFLOW
from dbb.runs.states import BAD, OPEN, STATUS_DELETED, SUCCEEDED


class Unit(NamedTuple):
    """A unit of a request: what is to be processed, however often it is tried."""

    reqnum: int
    unitname: str

    def __str__(self) -> str:
        return f"{self.unitname} of request {self.reqnum}"


@dataclass(frozen=True, slots=True)
class Tried:
    """The attempt that tells how a unit stands: the newest that succeeded, else the newest.

    Parameters
    ----------
    run
        Which.
    root
        The task that stands for all of it.
    state, status
        Of that task.
    folder
        Its folder, if ``dbb submit`` began it.
    site
        The machine on which it was begun.
    engine
        What ran its jobs.
    """

    run: Run
    root: int
    state: str
    status: int | None
    folder: Path | None
    site: str | None
    engine: str | None

    @property
    def is_done(self) -> bool:
        """Whether it succeeded."""
        return self.state == SUCCEEDED

    @property
    def is_open(self) -> bool:
        """Whether the registry has something of it still to come."""
        return self.state in OPEN

    @property
    def is_cancelled(self) -> bool:
        """Whether its operator ended it."""
        return self.state in BAD and self.status == STATUS_DELETED

    @property
    def can_be_resumed(self) -> bool:
        """Whether its folder is there."""
        return self.folder is not None and (self.folder / WORKFLOW).is_file()

    def alive(self) -> str:
        """Return what of it still runs, or nothing."""
        if self.folder is None or not self.folder.is_dir():
            return ""
        try:
            check_nobody_runs(self.folder, str(self.run), self._engine())
        except ConflictError as error:
            return str(error)
        return ""

    def _engine(self) -> Engine | None:
        try:
            return None if self.engine is None else find_engine(self.engine)
        except NotFoundError:
            return None

    def unknown(self) -> str:
        """Return why nobody can tell from here whether it still runs, or nothing."""
        if not self.is_open or (self.folder is not None and self.folder.is_dir()):
            return ""
        if self.folder is None:
            return f"{self.run} is open, and 'dbb submit' did not begin it: end it with 'dbb cancel'"
        if self.site != platform.node():
            return (
                f"{self.run} was begun on {self.site} in {self.folder}, which is not seen from here: go on there, or "
                f"end it with 'dbb cancel {self.run}'"
            )
        return ""


def tried_units(db: Database, units: Sequence[Unit]) -> dict[Unit, Tried]:
    """Return what tells how units stand; those of which nothing was begun are left out.

    Notes
    -----
    One statement.
    """
    attempt = pfw_attempt.c
    begun = pfw_attempt.join(task, task.c.id == attempt.task_id)
    values = {key: pfw_attempt_val.alias(key) for key in (RUN_FOLDER, SUBMIT_SITE, ENGINE)}
    for key, value in values.items():
        begun = begun.outerjoin(value, (value.c.pfw_attempt_id == attempt.id) & (value.c.key == key))
    with db.read() as conn:
        dialect = conn.dialect.name
        select = (
            sa.select(attempt.reqnum, attempt.unitname, attempt.attnum, task.c.id, task.c.state, task.c.status)
            .add_columns(*(value.c.val.label(key) for key, value in values.items()))
            .select_from(begun)
            .where(one_of(attempt.reqnum, sorted({unit.reqnum for unit in units}), dialect))
            .where(one_of(attempt.unitname, sorted({unit.unitname for unit in units}), dialect))
            .order_by(
                attempt.reqnum, attempt.unitname, sa.case((task.c.state == SUCCEEDED, 1), else_=0), attempt.attnum
            )
        )
        rows = conn.execute(select).all()
    wanted = set(units)
    return {  # the last of a unit stays
        unit: Tried(
            Run(row.unitname, row.reqnum, row.attnum),
            row.id,
            row.state,
            row.status,
            Path(row.run_folder) if row.run_folder is not None else None,
            row.submitsite,
            row.engine,
        )
        for row in rows
        if (unit := Unit(row.reqnum, row.unitname)) in wanted
    }


def failure_of(db: Database, tried: Tried) -> str:
    """Return what went wrong in an attempt: the first of its jobs that did, and how many more."""
    with db.read() as conn:
        bad = sa.and_(task.c.root_task_id == tried.root, task.c.name == "job", task.c.state.in_(BAD))
        rows = conn.execute(
            sa.select(task.c.label, task.c.state, task.c.reason, sa.func.count().over())
            .where(bad)
            .order_by(sa.case({state: at for at, state in enumerate(BAD)}, value=task.c.state), task.c.id)
            .limit(1)
        ).all()
    if not rows:
        return f"it {tried.state}" if tried.state in BAD else f"it is {tried.state}"
    name, state, reason, count = rows[0]
    more = f", and {count - 1} more" if count > 1 else ""
    return f"{name}: {reason or state}{more}"


def campaigns_of(db: Database, reqnums: Iterable[int]) -> dict[int, str | None]:
    """Return the campaigns of requests; those that the registry does not know are left out."""
    request = pfw_request.c
    with db.read() as conn:
        known = one_of(request.reqnum, sorted(set(reqnums)), conn.dialect.name)
        rows = conn.execute(sa.select(request.reqnum, request.campaign).where(known))
        return {reqnum: campaign for reqnum, campaign in rows}  # noqa: C416  # dict() of rows has no type


def register_units(db: Database, units: Mapping[Unit, str], *, operator: str) -> None:
    """Register units, by their campaigns, before anything of them is begun; what is there stays."""
    campaigns = {unit.reqnum: campaign for unit, campaign in units.items()}

    def work(conn: sa.Connection) -> None:
        made = {"created_date": now(conn.dialect.name), "created_by": operator}
        insert_missing(conn, pfw_request, [{"reqnum": reqnum, **made} for reqnum in sorted(campaigns)])
        named = (
            sa.update(pfw_request)
            .where(pfw_request.c.reqnum == sa.bindparam("request"), pfw_request.c.campaign.is_(None))
            .values(campaign=sa.bindparam("new_campaign"))
        )
        run_many(conn, named, [{"request": one, "new_campaign": name} for one, name in sorted(campaigns.items())])
        insert_missing(conn, pfw_unit, [unit._asdict() for unit in sorted(units)])

    if units:
        db.write(work)


def find_campaign(conn: sa.Connection, name: str) -> sa.ColumnElement[bool]:
    """Return the condition on pfw_request that picks the requests of a campaign.

    Raises
    ------
    NotFoundError
        If there is no such campaign.
    """
    mine = pfw_request.c.campaign == name
    if conn.scalar(sa.select(sa.func.count()).select_from(pfw_request).where(mine)):
        return mine
    known = conn.scalars(sa.select(pfw_request.c.campaign).where(pfw_request.c.campaign.is_not(None)).distinct())
    raise NotFoundError("campaign", name, list(known), "The setting 'campaign' of a submit file names it")
