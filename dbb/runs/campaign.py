"""A campaign: a submit file and a table, of which each row is a unit; read and checked before anything is begun."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbb.engine import Engine
from dbb.errors import CollidingOutputsError, DbbError, TableError, UsageError
from dbb.ingest.tables import Table
from dbb.pipeline.model import Pipeline
from dbb.pipeline.reading import read_pipeline
from dbb.pipeline.settings import settings_of
from dbb.registry import Database
from dbb.registry.runs import Run, full_run
from dbb.runs.begin import next_attempt
from dbb.runs.engines import find_engine
from dbb.runs.submit import Submission, submit
from dbb.runs.units import Tried, Unit, campaigns_of, tried_units


@dataclass(frozen=True, slots=True)
class Campaign:
    """What is to be run, and how.

    Parameters
    ----------
    submit_file
        The pipeline.
    table
        Its units: CSV, ECSV, JSON lines or Parquet. Columns are settings of the pipeline.
    settings
        Those that hold for all rows.
    folder
        Where the folders of the attempts are made; None: one called after the table in the current folder.
    engine
        Which engine starts the jobs.
    at_once
        How many attempts may run at the same time.
    jobs, retries
        Of each attempt, as of `Submission`.
    resubmit
        How often a unit that failed is tried again by a new attempt.
    stop_after
        After how many units that failed no more attempts are begun; None: never.
    """

    submit_file: Path
    table: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    engine: str = "local"
    at_once: int = 1
    jobs: int = 1
    retries: int = 0
    resubmit: int = 0
    stop_after: int | None = None

    @property
    def place(self) -> Path:
        """The folder of all attempts."""
        return (self.folder or Path(self.table.stem)).absolute()


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """A row that was checked, and what would be done for it.

    Parameters
    ----------
    unit, campaign
        What it is, and of which campaign.
    settings
        What the row and the campaign say, for the submit file.
    run
        The attempt that would be begun, or the one that makes that unnecessary.
    jobs, reused
        How many jobs it has, and how many quanta it would take over.
    tried
        What was tried before.
    """

    unit: Unit
    campaign: str
    settings: Mapping[str, str]
    run: Run
    jobs: int = 0
    reused: int = 0
    tried: Tried | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing is to be done."""
        return self.tried is not None and self.tried.is_done


def check_campaign(
    db: Database,
    campaign: Campaign,
    *,
    warn: Callable[[str], None] = lambda _: None,
    progress: Callable[[int], None] = lambda _: None,
) -> list[UnitPlan]:
    """Plan each unit of a campaign, and change nothing.

    Parameters
    ----------
    db
        The registry.
    campaign
        What is to be run.
    warn
        Takes each thing that the reader of the submit file noticed and could pass over, once.
    progress
        Takes how many rows are checked.

    Raises
    ------
    NotFoundError
        If there is no such table or engine.
    TableError
        If the table cannot be read or rows of it cannot run: all are named, with the reasons.
    """
    engine = find_engine(campaign.engine)
    checker = _Checker(db, campaign, engine, warn)
    number = 0
    for number, values in enumerate(_rows(campaign), start=1):
        checker.check(number, values)
        progress(number)
    if not number:
        raise TableError(f"{campaign.table} has no rows: there is nothing to submit")
    checker.check_campaigns()
    if checker.wrong:
        count = len({row for rows in checker.wrong.values() for row in rows})
        texts = [f"{_numbers(rows)}: {why}" for why, rows in checker.wrong.items()]
        raise TableError(
            "\n".join([f"{campaign.table}: {count} of {number} rows cannot run, so nothing was begun", *texts])
        )
    return list(checker.plans.values())


class _Checker:
    """Checks rows one after the other, and remembers what is wrong with which."""

    def __init__(self, db: Database, campaign: Campaign, engine: Engine, warn: Callable[[str], None]) -> None:
        self._db, self._campaign, self._engine, self._warn = db, campaign, engine, warn
        self._warned: set[str] = set()
        self._rows: dict[Unit, int] = {}
        self._made: dict[int, int] = {}  # by the hash of a place in the archive the row that fills it
        self.plans: dict[Unit, UnitPlan] = {}
        self.wrong: dict[str, list[int]] = {}

    def check(self, number: int, values: Mapping[str, Any]) -> None:
        """Plan a row."""
        try:
            settings = {**self._campaign.settings, **_settings(values, self._campaign.settings)}
            pipeline = read_pipeline(self._campaign.submit_file, settings)
            for problem in map(str, pipeline.problems):
                if problem not in self._warned:
                    self._warned.add(problem)
                    self._warn(problem)
            said = settings_of(pipeline)
            unit = self._identity(number, pipeline, said)
            name = said.get("campaign") or self._campaign.table.stem
            self.plans[unit] = self._plan(number, unit, name, {**settings, "campaign": name})
        except DbbError as error:
            self.wrong.setdefault(str(error), []).append(number)

    def _identity(self, number: int, pipeline: Pipeline, said: Mapping[str, str]) -> Unit:
        reqnum, unitname = said.get("reqnum", ""), said.get("unitname", "")
        if not (reqnum.isascii() and reqnum.isdigit()) or not unitname:
            raise UsageError("reqnum (a number) and unitname are needed, as columns or in the submit file")
        if "attnum" in pipeline.tree:
            raise UsageError("attnum is said, but a campaign takes the next free attempt number of each unit")
        unit = Unit(int(reqnum), full_run(str(Run(unitname, int(reqnum), 1))).unitname)
        first = self._rows.setdefault(unit, number)
        if first != number:
            raise UsageError(f"unit {unit} is in row {first} already: give each row a reqnum and unitname of its own")
        return unit

    def _plan(self, number: int, unit: Unit, name: str, settings: Mapping[str, str]) -> UnitPlan:
        tried = tried_units(self._db, [unit]).get(unit)
        if tried is not None and tried.is_done:
            return UnitPlan(unit, name, settings, tried.run, tried=tried)
        busy = tried is not None and bool(tried.alive() or tried.unknown())
        resume = str(tried.run) if tried is not None and tried.can_be_resumed and not busy else None
        run = Run(unit.unitname, unit.reqnum, next_attempt(self._db, unit.reqnum, unit.unitname))
        how = Submission(self._engine, self._campaign.place / str(run), resume=resume)
        done = submit(self._db, read_pipeline(self._campaign.submit_file, settings), how, dry_run=True)
        for place in done.kept:
            first = self._made.setdefault(hash(place), number)
            if first != number:
                raise CollidingOutputsError(
                    f"row {first} makes {place} too: give each unit names or folders of its own"
                )
        return UnitPlan(unit, name, settings, run, done.jobs, done.reused, tried)

    def check_campaigns(self) -> None:
        """Find requests that another campaign has, in the registry or in the table."""
        known = campaigns_of(self._db, {unit.reqnum for unit in self.plans})
        for unit, plan in self.plans.items():
            other = known.get(unit.reqnum)
            if other is None:
                known[unit.reqnum] = plan.campaign
            elif other != plan.campaign:
                why = (
                    f"request {unit.reqnum} belongs to campaign {other!r}, not {plan.campaign!r}: choose another reqnum"
                )
                self.wrong.setdefault(why, []).append(self._rows[unit])


def _rows(campaign: Campaign) -> Iterator[Mapping[str, Any]]:
    for batch in Table(campaign.table).batches():
        for values in zip(*batch.columns.values(), strict=True):
            yield dict(zip(batch.columns, values, strict=True))


def _settings(values: Mapping[str, Any], of_all: Mapping[str, str]) -> dict[str, str]:
    """Return what a row says, as ``--set`` takes it; a column without a value says nothing."""
    found = {}
    names = {name.lower() for name in of_all}
    for name, value in values.items():
        key = name.strip()
        if not key or "=" in key:
            raise UsageError(f"column {name!r} is no name of a setting")
        if key.lower() in names:
            raise UsageError(f"{key} is a column, and said for all rows too: take one of them away")
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        if not isinstance(value, str | int | float | dt.date):
            raise UsageError(f"column {key!r} holds {value!r:.40}: expected a text, a number or a date")
        found[key] = str(value).strip()
    return found


def _numbers(rows: Sequence[int]) -> str:
    """Return ``row 3`` or ``rows 1-4, 7``."""
    spans: list[list[int]] = []
    for row in rows:
        if spans and row == spans[-1][1] + 1:
            spans[-1][1] = row
        else:
            spans.append([row, row])
    shown = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
    return f"row{'s' if len(rows) > 1 else ''} {shown}"
