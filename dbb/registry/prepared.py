"""Questions that differ only in their values share one SELECT, which takes longer to make than most take to answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple, Self

import sqlalchemy as sa

from dbb.filetypes import Filetype
from dbb.query import Node, names_in, parse
from dbb.query.plain import Plain, plain
from dbb.query.sql import Value, sql_type, to_sql
from dbb.registry._connect import rows_table
from dbb.registry._tables import desfile
from dbb.registry.database import Database
from dbb.registry.overlaps import OVERLAP_COLUMNS, OverlapVersion, find_version
from dbb.registry.ready import Ready
from dbb.registry.runs import rank_runs
from dbb.registry.scope import OVERLAP_TYPES, FileScope, needs_overlaps
from dbb.registry.select import (
    FileQuery,
    Wanted,
    check_overlaps,
    files_statement,
    found_overlaps,
    loaded_overlaps,
    overlapping_files,
    select_files,
)

_FETCH = 2_000
_FEW_RUNS = 50


class KeptWanted(NamedTuple):
    """What gives `Wanted`, once for each `key`."""

    key: Hashable
    make: Callable[[], Wanted]


class Finish(NamedTuple):
    """What is done with a SELECT before it is used, once for each `key`."""

    key: Hashable
    make: Callable[[sa.Select[Any]], sa.Select[Any]]


@dataclass(frozen=True, slots=True)
class PreparedFiles:
    """A question about files that is ready to be asked.

    Parameters
    ----------
    filetype
        Whose files are asked for.
    statement
        A SELECT as of `dbb.registry.select.select_files`.
    values
        Of the statement's parameters.
    """

    filetype: Filetype
    statement: Ready | sa.Select[Any]
    values: Mapping[str, object]

    def rows(self, conn: sa.Connection) -> Generator[Sequence[Any]]:
        """Ask, and give the rows as they come; close it where not all are taken."""
        if isinstance(self.statement, Ready):
            return self.statement.rows(conn, self.values)
        return _streamed(conn, self.statement, self.values)


def _streamed(conn: sa.Connection, statement: sa.Select[Any], values: Mapping[str, object]) -> Generator[Sequence[Any]]:
    with conn.execution_options(yield_per=_FETCH).execute(statement, values) as rows:
        yield from rows


def prepare_files(
    db: Database,
    conn: sa.Connection,
    query: FileQuery,
    wanted: KeptWanted | None = None,
    finish: Finish | None = None,
) -> PreparedFiles:
    """Do what `select_files` does, but make the SELECT of a plain question only once for each form of question.

    Parameters
    ----------
    db, conn, query
        As of `select_files`.
    wanted
        What follows the fixed columns and the data id in each row; the filetype's columns if None.
    finish
        What is done with the SELECT before it is used.
    """
    asked = _Asked.of(db, query)
    ranks = rank_runs(conn, query.runs) if asked.question is not None and query.runs else {}
    if asked.question is None or len(ranks) > _FEW_RUNS:
        _, statement = select_files(db, conn, query, wanted.make() if wanted else None)
        return PreparedFiles(asked.filetype, finish.make(statement) if finish else statement, {})
    version = find_version(conn, query.overlaps) if asked.needs_overlaps else None
    order = query.archives or db.archive_order(conn)
    form = _Form(db, asked.filetype, asked.node, version, order, ranks)
    ready = form.ready(asked.question, wanted, finish)
    values = _values(asked.question)
    if asked.node is not None and version is not None:
        together = [(asked.node, query.where or "")]
        if version.live:
            values["rows"] = json.dumps(found_overlaps(db, conn, asked.filetype, together, version))
        else:
            check_overlaps(asked.filetype, together, version)
    return PreparedFiles(asked.filetype, ready, values)


def prepare_alone(
    db: Database,
    query: FileQuery,
    wanted: KeptWanted | None = None,
    finish: Finish | None = None,
) -> PreparedFiles | None:
    """Do what `prepare_files` does without asking the registry anything, or return None if that cannot be.

    Notes
    -----
    The archives are taken to be those that were there when they were last asked for: an answer with others is in an
    order that does not count.
    """
    order = query.archives or db.known_archives
    asked = None if query.runs or not order else _Asked.of(db, query)
    if asked is None or asked.question is None or asked.needs_overlaps:
        return None
    form = _Form(db, asked.filetype, asked.node, None, order, {})
    return PreparedFiles(asked.filetype, form.ready(asked.question, wanted, finish), _values(asked.question))


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question that was read: its form is None if its SELECT depends on its values."""

    filetype: Filetype
    node: Node | None
    needs_overlaps: bool
    question: Plain | None

    @classmethod
    def of(cls, db: Database, query: FileQuery) -> Self:
        filetype = db.filetype(query.filetype)
        node = None if query.where is None else parse(query.where, query.binds)
        needed = node is not None and needs_overlaps(filetype, names_in(node), db.keys)
        return cls(filetype, node, needed, _plain(query, node, filetype, needed=needed))


def _values(question: Plain) -> dict[str, object]:
    return {_parameter(place): value for place, value in enumerate(question.values)}


def _plain(query: FileQuery, node: Node | None, filetype: Filetype, *, needed: bool) -> Plain | None:
    """Return the form of a question, or None if its SELECT depends on its values."""
    if query.ids or query.files:
        return None
    return Plain((), ()) if node is None else plain(node, query.where or "", _types(filetype, with_overlaps=needed))


def _types(filetype: Filetype, *, with_overlaps: bool) -> dict[str, str]:
    own = {} if filetype.table is None else {column.name.lower(): column.type for column in filetype.columns}
    return OVERLAP_TYPES | own if with_overlaps else own


def _parameter(place: int) -> str:
    return f"value{place}"


@dataclass(frozen=True, slots=True)
class _Form:
    """What the SELECT of a plain question depends on; its values and found overlaps are parameters."""

    db: Database
    filetype: Filetype
    node: Node | None
    version: OverlapVersion | None
    order: Sequence[str]
    ranks: Mapping[int, int]

    def ready(
        self,
        question: Plain,
        wanted: KeptWanted | None,
        finish: Finish | None,
    ) -> Ready:
        """Return the SELECT, made once for each form."""
        rows = None if self.version is None else "live" if self.version.live else self.version.id
        shape = (wanted.key if wanted else None, finish.key if finish else None)
        key = ("files", self.filetype.name, question.form, rows, self.order, tuple(self.ranks.items()), shape)

        def make() -> Ready:
            statement = self._statement(wanted.make() if wanted else None)
            return Ready.of(finish.make(statement) if finish else statement, self.db.engine.dialect)

        return self.db.kept(key, make)

    def _statement(self, wanted: Wanted | None) -> sa.Select[Any]:
        clauses = [] if self.node is None else [self._clause(self.node)]
        return files_statement(self.db, self.filetype, clauses, self.order, self.ranks, wanted)

    def _clause(self, node: Node) -> sa.ColumnElement[bool]:
        table, places = self.db.table(self.filetype), count()
        assert table is not None

        def bind(value: Value) -> sa.BindParameter[Any]:
            return sa.bindparam(_parameter(next(places)), type_=sql_type(value))

        dialect, version = self.db.dialect, self.version
        if version is None:
            return to_sql(node, "", FileScope(self.filetype, table, desfile, None), dialect, bind)
        rows = (
            rows_table(None, OVERLAP_COLUMNS, dialect, texts=("patch",)) if version.live else loaded_overlaps(version)
        )
        return overlapping_files(self.db, self.filetype, table, [(node, "")], rows, bind)
