"""Which files, runs and tasks go into a snapshot: noted in temporary tables of the registry that they come from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from dbb.errors import UsageError
from dbb.exchange.content import filled_tables
from dbb.filetypes import Filetype
from dbb.query.sql import UnknownNameError
from dbb.registry import Database
from dbb.registry._connect import one_of
from dbb.registry._tables import (
    BIG,
    certified_calibration,
    desfile,
    pfw_attempt,
    refcat,
    tar_member,
    task,
)
from dbb.registry.runs import rank_runs
from dbb.registry.select import FileQuery, file_clauses

_SEEK_INDEX = "gzip_index"  # of a compressed reference catalogue
NOTED = sa.MetaData()
"""The temporary tables."""


def _noted(name: str, *more: sa.Column[Any]) -> sa.Table:
    number = sa.Column("id", BIG, primary_key=True, autoincrement=False)
    return sa.Table(name, NOTED, number, *more, prefixes=["TEMPORARY"])


chosen_file = _noted("dbb_chosen_file")
chosen_run = _noted("dbb_chosen_run", sa.Column("whole", sa.Boolean, nullable=False))
chosen_task = _noted("dbb_chosen_task")


@dataclass(frozen=True, slots=True)
class Choice:
    """What of a registry is wanted; all of it if nothing is said.

    Parameters
    ----------
    where
        An expression that chooses among the files of every filetype that knows its names.
    filetypes
        Names of filetypes, or ``"NAME: EXPRESSION"``: these are chosen by their own expression, or whole.
    runs
        Runs and ``tag:NAME``: only their files, and files that no run made.
    overlaps
        The overlap version that ``tract`` and ``patch`` of exposures refer to.
    """

    where: str | None = None
    filetypes: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    overlaps: str | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self.where is None and not self.filetypes and not self.runs

    def __str__(self) -> str:
        parts = [f"where {self.where}"] if self.where is not None else []
        parts += [f"filetype {text}" for text in self.filetypes]
        parts += [f"runs {','.join(self.runs)}"] if self.runs else []
        parts += [f"overlaps {self.overlaps}"] if self.overlaps is not None else []
        return "; ".join(parts) or "everything"


def note_choice(db: Database, conn: sa.Connection, choice: Choice) -> None:
    """Fill the temporary tables with what is chosen, and with all that belongs to it.

    Certified calibrations, tars of reference catalogues and datasets without a data id (sky maps, schemas, …) always
    do, and so do the tars that chosen files lie in. Of tasks there are those that made chosen files, with those that
    they are part of; of runs that were asked for by name there are all.

    Raises
    ------
    NotFoundError
        If a filetype, run, tag, or a name of an expression is unknown, the latter to every filetype.
    ParseError, UsageError, MissingError
        As for a query.
    """
    for table in NOTED.sorted_tables:
        conn.execute(sa.schema.CreateTable(table))
    ranks = rank_runs(conn, choice.runs) if choice.runs else {}
    _note_files(db, conn, choice, list(ranks))
    _note_runs(conn, choice, list(ranks))
    _note_tasks(conn, choice)


def _note(conn: sa.Connection, table: sa.Table, numbers: sa.Select[Any]) -> None:
    """Note the numbers that a SELECT gives, and that are not noted yet."""
    given = numbers.subquery("given")
    chosen = sa.select(*given.c).where(given.c[0].is_not(None))
    insert = (postgresql if conn.dialect.name == "postgresql" else sqlite).insert(table)
    conn.execute(insert.from_select([column.name for column in table.c], chosen).on_conflict_do_nothing())


def _note_files(db: Database, conn: sa.Connection, choice: Choice, runs: Sequence[int]) -> None:
    for statement in (
        [sa.select(desfile.c.id)] if choice.where is None and not choice.filetypes else _asked(db, conn, choice)
    ):
        if choice.runs:
            made = desfile.c.pfw_attempt_id
            statement = statement.where(sa.or_(one_of(made, runs, db.dialect), made.is_(None)))
        _note(conn, chosen_file, statement)
    _note(conn, chosen_file, sa.select(certified_calibration.c.desfile_id))
    _note(conn, chosen_file, sa.select(refcat.c.tar_id))
    inside = sa.select(tar_member.c.tar_id).where(tar_member.c.desfile_id.in_(sa.select(chosen_file.c.id)))
    _note(conn, chosen_file, inside)
    _analyze(conn, chosen_file)


def _asked(db: Database, conn: sa.Connection, choice: Choice) -> Iterator[sa.Select[Any]]:
    """Give for each filetype of which files are wanted the SELECT of their numbers."""
    own = _by_filetype(db, choice.filetypes)
    for name, where in own.items():
        filetype = db.filetype(name)
        yield _numbers(db, filetype, file_clauses(db, conn, filetype, _query(name, where, choice)))
    if choice.where is not None:
        yield from _knowing(db, conn, choice, own)
    fixed = [name for name in db.filetypes() if name not in own and _is_fixed(db.filetype(name))]
    yield sa.select(desfile.c.id).where(desfile.c.filetype.in_(fixed))


def _by_filetype(db: Database, texts: Sequence[str]) -> dict[str, str | None]:
    """Return the expression of each filetype that has one of its own, or None where all of its files are wanted."""
    own: dict[str, str | None] = {}
    for text in texts:
        name, colon, where = text.partition(":")
        filetype = db.filetype(name.strip()).name
        if filetype in own:
            raise UsageError(f"filetype {filetype} is given twice: join the expressions with OR")
        if colon and not where.strip():
            raise UsageError(f"filetype {text!r}: write NAME, or NAME: EXPRESSION")
        own[filetype] = where.strip() if colon else None
    return own


def _is_fixed(filetype: Filetype) -> bool:
    """Whether files of a type belong to no data in particular, but any job may need them."""
    return filetype.name == _SEEK_INDEX or (filetype.dataset is not None and not filetype.keys)


def _query(filetype: str, where: str | None, choice: Choice) -> FileQuery:
    return FileQuery(filetype, where, overlaps=choice.overlaps)


def _knowing(db: Database, conn: sa.Connection, choice: Choice, done: Collection[str]) -> Iterator[sa.Select[Any]]:
    """Give the SELECTs of the filetypes that know all names of the expression.

    Those without metadata know the same names: one SELECT serves all of them.
    """
    bare: list[str] = []
    filled = filled_tables(db, conn)
    refused: list[UnknownNameError] = []
    known = False
    for name in db.filetypes():
        filetype = db.filetype(name)
        if name in done:
            continue
        if filetype.table is None and bare:
            bare.append(name)
            continue
        try:
            clauses = list(file_clauses(db, conn, filetype, _query(name, choice.where, choice)))
        except UnknownNameError as error:
            refused.append(error)
            continue
        known = True
        if filetype.table is None:
            bare, common = [name], clauses
        elif filetype.table in filled:
            yield _numbers(db, filetype, clauses)
    if bare:
        yield sa.select(desfile.c.id).where(desfile.c.filetype.in_(bare), *common)
    if not known and refused:
        names = sorted({name for error in refused for name in error.known})
        hint = "No filetype knows all names of the expression"
        raise UnknownNameError(refused[0].text, refused[0].at, refused[0].name, names, hint)


def _numbers(db: Database, filetype: Filetype, clauses: Iterator[Any] | Sequence[Any]) -> sa.Select[Any]:
    table = db.table(filetype)
    origin: sa.FromClause = desfile
    if table is not None:
        origin = table.join(desfile, table.c.desfile_id == desfile.c.id)
    alone = table is not None and len(db.filetypes().sharing(table.name)) == 1
    statement = sa.select(desfile.c.id).select_from(origin).where(*clauses)
    return statement if alone else statement.where(desfile.c.filetype == filetype.name)


def _note_runs(conn: sa.Connection, choice: Choice, runs: Sequence[int]) -> None:
    """Note the runs of the chosen files, and which runs come whole: those that were named, or all of everything."""
    named = pfw_attempt.c.id.is_not(None) if choice.is_everything else one_of(pfw_attempt.c.id, runs, conn.dialect.name)
    _note(conn, chosen_run, sa.select(pfw_attempt.c.id, sa.true()).where(named))
    made = sa.select(desfile.c.pfw_attempt_id).where(desfile.c.id.in_(sa.select(chosen_file.c.id))).distinct()
    _note(conn, chosen_run, sa.select(pfw_attempt.c.id, sa.false()).where(pfw_attempt.c.id.in_(made)))
    _analyze(conn, chosen_run)


def _note_tasks(conn: sa.Connection, choice: Choice) -> None:
    if choice.is_everything:
        _note(conn, chosen_task, sa.select(task.c.id))
    files = sa.select(chosen_file.c.id)
    _note(conn, chosen_task, sa.select(desfile.c.wgb_task_id).where(desfile.c.id.in_(files)))
    whole = sa.select(pfw_attempt.c.task_id).where(
        pfw_attempt.c.id.in_(sa.select(chosen_run.c.id).where(chosen_run.c.whole))
    )
    _note(conn, chosen_task, sa.select(task.c.id).where(task.c.root_task_id.in_(whole)))
    _note(conn, chosen_task, sa.select(task.c.id).where(task.c.id.in_(whole)))
    above = sa.select(task.c.parent_task_id.label("id")).where(task.c.id.in_(sa.select(chosen_task.c.id)))
    walk = above.where(task.c.parent_task_id.is_not(None)).cte("walk", recursive=True)
    walk = walk.union(
        sa.select(task.c.parent_task_id).where(task.c.id == walk.c.id, task.c.parent_task_id.is_not(None))
    )
    _note(conn, chosen_task, sa.select(walk.c.id))
    _note(conn, chosen_task, sa.select(task.c.root_task_id).where(task.c.id.in_(sa.select(chosen_task.c.id))))
    _analyze(conn, chosen_task)


def _analyze(conn: sa.Connection, table: sa.Table) -> None:
    """Tell PostgreSQL how long a list is, which otherwise takes every temporary table for a short one."""
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql(f"ANALYZE {table.name}")
