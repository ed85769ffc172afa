"""Runs: request number, unit name and attempt number, written ``Ht0_r11p95``; ``r11p95`` means any unit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler

from dbb.errors import NotFoundError, UsageError
from dbb.registry._connect import compile_once, run_compiled
from dbb.registry._insert import insert_missing
from dbb.registry._tables import now, pfw_attempt, pfw_request, pfw_unit, proctag

_RUN = re.compile(r"(?:([A-Za-z0-9][A-Za-z0-9.+_-]*)_)?r([0-9]{1,9})p([0-9]{1,9})")


@dataclass(frozen=True, slots=True, order=True)
class Run:
    """One attempt at processing a unit of a request; `unitname` is empty where any unit is meant.

    >>> str(parse_run("Ht0_r11p5"))
    'Ht0_r11p05'
    """

    unitname: str
    reqnum: int
    attnum: int

    def __str__(self) -> str:
        return (
            f"{self.unitname}_r{self.reqnum}p{self.attnum:02d}"
            if self.unitname
            else f"r{self.reqnum}p{self.attnum:02d}"
        )

    @property
    def values(self) -> dict[str, object]:
        """What patterns know of a run."""
        return {"unitname": self.unitname, "reqnum": self.reqnum, "attnum": self.attnum}


def parse_run(text: str) -> Run:
    """Read ``Ht0_r11p95`` or ``r11p95``.

    Raises
    ------
    UsageError
        If `text` is neither.
    """
    match = _RUN.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is no run: write UNIT_rREQUESTpATTEMPT, e.g. Ht0_r11p95, or r11p95 for any unit")
    return Run(match[1] or "", int(match[2]), int(match[3]))


def full_run(text: str) -> Run:
    """Read a run that must name its unit.

    Raises
    ------
    UsageError
        If `text` is no run or names no unit.
    """
    run = parse_run(text)
    if not run.unitname:
        raise UsageError(f"run {text!r} names no unit: write e.g. Ht0_{run}")
    return run


def run_condition(run: Run) -> sa.ColumnElement[bool]:
    """Return the condition on pfw_attempt that picks the attempts `run` means."""
    exact = sa.and_(pfw_attempt.c.reqnum == run.reqnum, pfw_attempt.c.attnum == run.attnum)
    return sa.and_(exact, pfw_attempt.c.unitname == run.unitname) if run.unitname else exact


def ensure_run(conn: sa.Connection, run: Run) -> int:
    """Return the id of the attempt, making request, unit and attempt where they are missing."""
    found = conn.scalar(sa.select(pfw_attempt.c.id).where(run_condition(run)))
    if found is not None:
        return int(found)
    moment = now(conn.dialect.name)
    insert_missing(conn, pfw_request, [{"reqnum": run.reqnum, "created_date": moment}])
    insert_missing(conn, pfw_unit, [{"reqnum": run.reqnum, "unitname": run.unitname}])
    values = {**run.values, "submittime": moment}
    return int(conn.execute(sa.insert(pfw_attempt).values(values).returning(pfw_attempt.c.id)).scalar_one())


def all_runs(conn: sa.Connection) -> dict[int, Run]:
    """Return every run by the id of its attempt."""
    rows = conn.execute(sa.select(pfw_attempt.c.id, pfw_attempt.c.unitname, pfw_attempt.c.reqnum, pfw_attempt.c.attnum))
    return {row.id: Run(row.unitname, row.reqnum, row.attnum) for row in rows}


def rank_runs(conn: sa.Connection, texts: Sequence[str]) -> dict[int, int]:
    """Return the attempts that an ordered list of runs and ``tag:NAME`` means, each with its place in the order.

    Raises
    ------
    NotFoundError
        If a run or tag does not exist.
    UsageError
        If a text is no run.
    """
    ranks: dict[int, int] = {}
    place = 0
    for text in texts:
        for together in _tagged(conn, text[4:]) if text.startswith("tag:") else [_attempts(conn, text)]:
            ranks.update((attempt, place) for attempt in together if attempt not in ranks)
            place += 1
    return ranks


def _attempts(conn: sa.Connection, text: str) -> list[int]:
    run = parse_run(text)
    found = [number for (number,) in run_compiled(conn, _attempts_of(conn.dialect, bool(run.unitname)), run.values)]
    if not found:
        raise NotFoundError("run", text, [str(run) for run in all_runs(conn).values()])
    return found


@lru_cache(maxsize=8)
def _attempts_of(dialect: sa.Dialect, of_unit: bool) -> SQLCompiler:
    names = ("reqnum", "attnum", "unitname") if of_unit else ("reqnum", "attnum")
    given = (pfw_attempt.c[name] == sa.bindparam(name) for name in names)
    return compile_once(sa.select(pfw_attempt.c.id).where(*given).order_by(pfw_attempt.c.id), dialect)


def _tagged(conn: sa.Connection, tag: str) -> list[list[int]]:
    found = [[attempt] for (attempt,) in run_compiled(conn, _attempts_with(conn.dialect), {"tag": tag})]
    if not found:
        raise NotFoundError("tag", tag, conn.scalars(sa.select(proctag.c.tag).distinct()))
    return found


@lru_cache(maxsize=8)
def _attempts_with(dialect: sa.Dialect) -> SQLCompiler:
    statement = sa.select(proctag.c.pfw_attempt_id).where(proctag.c.tag == sa.bindparam("tag"))
    return compile_once(statement.order_by(proctag.c.position), dialect)
