"""Which files answer a question: expression, data ids, runs in order → one SELECT, and its rows resolved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from dbb.errors import AmbiguousError, UsageError
from dbb.filetypes import Filetype
from dbb.mapper import Mapper
from dbb.query import names_in, parse, parse_ids
from dbb.query.bounds import overlap_bounds
from dbb.query.nodes import Node
from dbb.query.sql import Bind, bound, to_sql
from dbb.registry._connect import one_of, rows_table
from dbb.registry._tables import desfile, file_archive_info, overlap, pfw_attempt
from dbb.registry.archives import archive_order, archives
from dbb.registry.corners import OverlapRow, check_places, live_overlaps
from dbb.registry.database import Database
from dbb.registry.overlaps import OVERLAP_COLUMNS, OverlapVersion, find_version
from dbb.registry.relpaths import join_relpath
from dbb.registry.runs import rank_runs
from dbb.registry.scope import (
    FileScope,
    desfile_alias,
    needs_overlaps,
    overlap_names,
    overlap_ties,
)

_UNRANKED = 1_000_000_000
_MANY_RUNS = 50


@dataclass(frozen=True, slots=True)
class FileQuery:
    """A question about files of one filetype.

    Parameters
    ----------
    filetype
        Filetype or Butler dataset type.
    where
        An expression, or None.
    ids
        Gen2 data ids, any of which a file may fit.
    runs
        Runs and ``tag:NAME``, searched in this order; the first that has a data id wins. Files without a run pass.
    overlaps
        The overlap version that ``tract`` and ``patch`` of exposures refer to.
    archives
        All archives in order of preference (see `dbb.registry.archives.archive_order`), for files that several have;
        looked up if empty.
    binds
        Values of ``:name`` in `where`.
    files
        Numbers of registered files, if only these may answer.
    """

    filetype: str
    where: str | None = None
    ids: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    overlaps: str | None = None
    archives: tuple[str, ...] = ()
    binds: Mapping[str, object] = field(default_factory=dict)
    files: tuple[int, ...] = ()


FILE_COLUMNS = ("id", "filename", "compression", "filesize", "md5sum", "sha256", "pfw_attempt_id")
PLACE_COLUMNS = ("archive_name", "path")
RUN_COLUMNS = ("unitname", "reqnum", "attnum")
FIXED = len(FILE_COLUMNS) + len(PLACE_COLUMNS) + len(RUN_COLUMNS) + 1
"""Where the data id begins in a row: columns of file, place and run, and the run's rank, come first."""
_PATH_AT = len(FILE_COLUMNS) + PLACE_COLUMNS.index("path")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to select of each file besides the fixed columns and its data id.

    Parameters
    ----------
    columns
        Expressions over the metadata table and `joined`.
    joined
        A further table, outer-joined.
    ties
        Names of the columns that it shares with the metadata table.
    """

    columns: tuple[sa.ColumnElement[Any], ...]
    joined: sa.FromClause | None = None
    ties: tuple[str, ...] = ()


def select_files(
    db: Database, conn: sa.Connection, query: FileQuery, wanted: Wanted | None = None
) -> tuple[Filetype, sa.Select[Any]]:
    """Return the filetype and a SELECT of its files, ordered by data id, rank of the run, file, preference of archive.

    Parameters
    ----------
    db, conn
        The registry, and the connection to look up runs and versions with.
    query
        The question.
    wanted
        What follows the fixed columns and the data id in each row; the filetype's columns if None.
    """
    filetype = db.filetype(query.filetype)
    ranks = rank_runs(conn, query.runs) if query.runs else {}
    order = query.archives or archive_order(archives(conn), ())
    return filetype, files_statement(db, filetype, file_clauses(db, conn, filetype, query), order, ranks, wanted)


def files_statement(
    db: Database,
    filetype: Filetype,
    clauses: Iterable[sa.ColumnElement[bool]],
    archives_: Sequence[str],
    ranks: Mapping[int, int],
    wanted: Wanted | None,
) -> sa.Select[Any]:
    """Return the SELECT of the files that all clauses hold for, with the ranks of attempts; see `select_files`."""
    table = db.table(filetype)
    rank, ranked = _rank(ranks, db.dialect)
    keys = [table.c[key.lower()] for key in filetype.keys] if table is not None else []
    if wanted is None:
        wanted = Wanted(tuple(table.c[column.name.lower()] for column in filetype.columns if table is not None))
    statement = sa.select(
        *(desfile.c[name] for name in FILE_COLUMNS),
        *(file_archive_info.c[name] for name in PLACE_COLUMNS),
        *(pfw_attempt.c[name] for name in RUN_COLUMNS),
        rank.label("run_rank"),
        *keys,
        *wanted.columns,
    ).select_from(_origin(table, wanted, ranked))
    if table is None or _is_shared(db, filetype):
        statement = statement.where(desfile.c.filetype == filetype.name)
    if ranks:
        attempt = desfile.c.pfw_attempt_id
        # no list, which would have to be written out anew at each execution
        known = [attempt == number for number in ranks] if ranked is None else [ranked.c.attempt.is_not(None)]
        statement = statement.where(sa.or_(*known, attempt.is_(None)))
    statement = statement.where(*clauses)
    order = [*keys, rank] if ranks else keys
    # the metadata table's own number: its index then gives the whole order without a sort
    number = desfile.c.id if table is None else table.c.desfile_id
    return statement.order_by(*order, number, *_preference(archives_))


def _origin(table: sa.Table | None, wanted: Wanted, ranked: sa.FromClause | None) -> sa.FromClause:
    origin: sa.FromClause = desfile if table is None else table.join(desfile, table.c.desfile_id == desfile.c.id)
    origin = origin.outerjoin(file_archive_info, file_archive_info.c.desfile_id == desfile.c.id)
    origin = origin.outerjoin(pfw_attempt, pfw_attempt.c.id == desfile.c.pfw_attempt_id)
    if ranked is not None:
        origin = origin.outerjoin(ranked, ranked.c.attempt == desfile.c.pfw_attempt_id)
    joined = wanted.joined
    if joined is None or table is None:
        return origin
    return origin.outerjoin(joined, sa.and_(*(joined.c[tie] == table.c[tie] for tie in wanted.ties)))


def _is_shared(db: Database, filetype: Filetype) -> bool:
    return filetype.table is not None and len(db.filetypes().sharing(filetype.table)) > 1


def _conditions(query: FileQuery) -> Iterator[tuple[Node, str]]:
    if query.where is not None:
        yield parse(query.where, query.binds), query.where
    if query.ids:
        yield parse_ids(query.ids), "\n".join(query.ids)


def _rank(ranks: Mapping[int, int], dialect: str) -> tuple[sa.ColumnElement[int], sa.FromClause | None]:
    """Return the rank of a file's run, last for files without one, and a table of ranks where there are many."""
    if not ranks:
        return sa.literal(0), None
    if len(ranks) <= _MANY_RUNS:
        return sa.case(ranks, value=desfile.c.pfw_attempt_id, else_=_UNRANKED), None
    given = sa.literal({str(attempt): rank for attempt, rank in ranks.items()}, sa.JSON)
    each = sa.func.json_each_text(sa.cast(given, sa.JSON)) if dialect == "postgresql" else sa.func.json_each(given)
    pairs = each.table_valued("key", "value")
    attempt, rank = (sa.cast(column, sa.BigInteger) for column in (pairs.c.key, pairs.c.value))
    ranked = sa.select(attempt.label("attempt"), rank.label("place")).cte("ranked").prefix_with("MATERIALIZED")
    return sa.func.coalesce(ranked.c.place, _UNRANKED), ranked


def _preference(order: Sequence[str]) -> list[sa.ColumnElement[Any]]:
    ranks = {name: place for place, name in enumerate(order)}
    return [sa.case(ranks, value=file_archive_info.c.archive_name)] if len(ranks) > 1 else []


def file_clauses(
    db: Database, conn: sa.Connection, filetype: Filetype, query: FileQuery
) -> Iterator[sa.ColumnElement[bool]]:
    """Give the conditions of a question, but for its runs, on desfile and the filetype's metadata table."""
    table, together = db.table(filetype), []
    if query.files:
        yield one_of(desfile.c.id, query.files, db.dialect)
    for node, text in _conditions(query):
        if table is not None and needs_overlaps(filetype, names_in(node), db.keys):
            together.append((node, text))
        else:
            yield to_sql(node, text, FileScope(filetype, table, desfile, _camera(db, filetype, node)), db.dialect)
    if together and table is not None:
        pairs = _pairs(db, conn, filetype, together, find_version(conn, query.overlaps))
        yield overlapping_files(db, filetype, table, together, pairs)


def overlaps_used(db: Database, conn: sa.Connection, query: FileQuery) -> OverlapVersion | None:
    """Return the overlap version that answers for ``tract`` and ``patch`` in a question, or None if none is needed."""
    filetype = db.filetype(query.filetype)
    names = frozenset[str]().union(*(names_in(node) for node, _ in _conditions(query)))
    needed = filetype.table is not None and needs_overlaps(filetype, names, db.keys)
    return find_version(conn, query.overlaps) if needed else None


def select_overlaps(
    db: Database, conn: sa.Connection, query: FileQuery, names: Sequence[str]
) -> tuple[Filetype, sa.Select[Any]]:
    """Return the filetype and a SELECT of its files, each once for every overlap of it with which the conditions hold.

    Parameters
    ----------
    db, conn, query
        As for `select_files`.
    names
        The metadata columns that follow the fixed columns and the data id; tract and patch come last.

    Raises
    ------
    UsageError
        If files of this type refer to no exposures.
    """
    filetype = db.filetype(query.filetype)
    table, own = db.table(filetype), {column.name.lower() for column in filetype.columns}
    keys = db.keys(filetype.name)
    if table is None or keys.visit.lower() not in own:
        raise UsageError(f"files of {filetype.name} have no tract and patch, nor visits whose overlaps are known")
    conditions = list(_conditions(query))
    pairs = _pairs(db, conn, filetype, conditions, find_version(conn, query.overlaps), holding=True)
    tied = {name.lower(): pairs.c[column] for column, name in (("visit", keys.visit), ("ccd", keys.detector))}
    tied = {name: column for name, column in tied.items() if name in own}
    covered = sa.select(pairs.c.tract, pairs.c.patch, *(column.label(name) for name, column in tied.items()))
    covers = covered.subquery("covers")
    wanted = Wanted((*(table.c[name] for name in names), covers.c.tract, covers.c.patch), covers, tuple(tied))
    _, statement = select_files(db, conn, replace(query, where=None, ids=()), wanted)
    for node, text in conditions:
        scope = FileScope(filetype, table, desfile, _camera(db, filetype, node), covers)
        statement = statement.where(to_sql(node, text, scope, db.dialect))
    statement = statement.where(covers.c.tract.is_not(None))
    return filetype, statement.order_by(covers.c.tract, covers.c.patch)


def _pairs(
    db: Database,
    conn: sa.Connection,
    filetype: Filetype,
    together: Sequence[tuple[Node, str]],
    version: OverlapVersion,
    *,
    holding: bool = False,
) -> sa.FromClause:
    """Return the rows of a version as a table: loaded ones, or those found just now as one bound value."""
    if not version.live:
        check_overlaps(filetype, together, version)
        return loaded_overlaps(version)
    found = found_overlaps(db, conn, filetype, together, version, holding=holding)
    return rows_table(found, OVERLAP_COLUMNS, db.dialect, texts=("patch",))


def found_overlaps(
    db: Database,
    conn: sa.Connection,
    filetype: Filetype,
    together: Sequence[tuple[Node, str]],
    version: OverlapVersion,
    *,
    holding: bool = False,
) -> Sequence[OverlapRow]:
    """Return the overlaps that a live version has now where they matter to the expressions."""
    boxes = overlap_bounds(together, overlap_names(filetype), holding=holding)
    return live_overlaps(db, conn, filetype, version.skymap or "", boxes)


def check_overlaps(filetype: Filetype, together: Sequence[tuple[Node, str]], version: OverlapVersion) -> None:
    """See to it that the tracts and patches that expressions name are in the sky map of a version, if it has one."""
    if version.skymap is not None:
        check_places(version.skymap, overlap_bounds(together, overlap_names(filetype)))


def loaded_overlaps(version: OverlapVersion) -> sa.FromClause:
    """Return the rows that were loaded into a version, as a table."""
    rows = sa.select(*(overlap.c[name] for name in OVERLAP_COLUMNS))
    return rows.where(overlap.c.overlap_version_id == version.id).subquery("exposure_overlap")


def overlapping_files(
    db: Database,
    filetype: Filetype,
    table: sa.Table,
    together: Sequence[tuple[Node, str]],
    pairs: sa.FromClause,
    bind: Bind = bound,
) -> sa.ColumnElement[bool]:
    """Return the condition that one of a file's overlap rows fits all expressions, each as a whole.

    They are asked of an outer join, as an expression may hold without any overlap; databases make it an inner one
    where the expressions cannot.
    """
    inner, files = table.alias("overlapping"), desfile_alias()
    same = overlap_ties(filetype, db.keys(filetype.name), inner, pairs)
    origin = inner.join(files, files.c.id == inner.c.desfile_id).outerjoin(pairs, sa.and_(*same))
    fitting = sa.select(inner.c.desfile_id).select_from(origin)
    for node, text in together:
        scope = FileScope(filetype, inner, files, _camera(db, filetype, node), pairs)
        fitting = fitting.where(to_sql(node, text, scope, db.dialect, bind))
    return table.c.desfile_id.in_(fitting)


def _camera(db: Database, filetype: Filetype, node: Node) -> Mapper | None:
    return db.mapper(filetype.name) if _needs_synonyms(filetype, node) else None


def _needs_synonyms(filetype: Filetype, node: Node) -> bool:
    own = {column.name.lower() for column in filetype.columns}
    return not names_in(node) <= own | {"tract", "patch"}


def resolve(rows: Iterable[Sequence[Any]], filetype: Filetype, *, unique: bool) -> Iterator[Sequence[Any]]:
    """Keep of rows in the order of `select_files` one place per file and, if `unique`, one file per data id.

    A file that no archive keeps gives way to another of the same run: it is the one that was compressed to be saved.

    Raises
    ------
    AmbiguousError
        If two files of equal rank have one data id; names both.
    """
    end, rank_at = FIXED + len(filetype.keys), FIXED - 1
    last: Sequence[Any] | None = None
    last_key: object = None
    held: Sequence[Any] | None = None
    for row in rows:
        if last is not None and row[0] == last[0]:
            continue
        if unique:
            key = row[FIXED:end]
            if key == last_key and last is not None:
                if row[rank_at] == last[rank_at]:
                    if (row[_PATH_AT] is None) == (last[_PATH_AT] is None):
                        raise AmbiguousError(_two_files(filetype, row, last))
                    if row[_PATH_AT] is not None:
                        held = last = row
                continue
            last_key = key
        if held is not None:
            yield held
        held = last = row
    if held is not None:
        yield held


def resolve_overlaps(rows: Iterable[Sequence[Any]], filetype: Filetype) -> Iterator[Sequence[Any]]:
    """Keep of rows in the order of `select_overlaps` one file per data id, and each of its overlaps once.

    Raises
    ------
    AmbiguousError
        As `resolve`.
    """
    for _, several in groupby(rows, key=lambda row: row[FIXED : FIXED + len(filetype.keys)]):
        of_one = list(several)
        [chosen] = resolve(of_one, filetype, unique=True)
        of_file = {(row[-2], row[-1]): row for row in reversed(of_one) if row[0] == chosen[0]}
        yield from reversed(of_file.values())


def _two_files(filetype: Filetype, row: Sequence[Any], other: Sequence[Any]) -> str:
    values = row[FIXED : FIXED + len(filetype.keys)]
    data_id = " ".join(f"{key}={value}" for key, value in zip(filetype.keys, values, strict=True))
    first, second = (describe_place(one) for one in (other, row))
    return (
        f"two files of {filetype.name} have the data id {data_id or '(none)'}:\n    {first}\n    {second}\n"
        "Say with --runs which run comes first (a unit's name in it tells units apart), or narrow the condition"
    )


def sort_columns(name: str) -> list[sa.Column[Any]]:
    """Return the columns that sort the rows of `select_files` by one of the names that every file has."""
    place, run = file_archive_info.c, pfw_attempt.c
    return {
        "relpath": [place.path, place.filename, place.compression],
        "archive": [place.archive_name],
        "run": [run.unitname, run.reqnum, run.attnum],
    }.get(name) or [desfile.c[name]]


def run_text(row: Sequence[Any]) -> str | None:
    """Return the run of a row of `select_files`, ``Ht0_r11p95``, or None."""
    at = len(FILE_COLUMNS) + len(PLACE_COLUMNS)
    unitname, reqnum, attnum = row[at : at + len(RUN_COLUMNS)]
    return None if unitname is None else f"{unitname}_r{reqnum}p{attnum:02d}"


def describe_place(row: Sequence[Any]) -> str:
    """Return ``relpath (archive)`` of a row of `select_files`."""
    filename, compression, archive, path = row[1], row[2], row[len(FILE_COLUMNS)], row[len(FILE_COLUMNS) + 1]
    return (
        f"{filename}{compression} (in no archive)"
        if path is None
        else f"{join_relpath(path, filename, compression)} ({archive})"
    )
