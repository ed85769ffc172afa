"""Questions that differ only in their values share one SELECT, which takes longer to make than most take to answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count
from typing import Any

import sqlalchemy as sa

from dbb.filetypes import Filetype
from dbb.query import Node, names_in, parse
from dbb.query.plain import plain
from dbb.query.sql import Value, sql_type, to_sql
from dbb.registry._connect import rows_table
from dbb.registry._tables import desfile
from dbb.registry.archives import archive_order, archives
from dbb.registry.database import Database
from dbb.registry.overlaps import OVERLAP_COLUMNS, OverlapVersion, find_version
from dbb.registry.scope import OVERLAP_TYPES, FileScope, needs_overlaps
from dbb.registry.select import (
    FileQuery,
    check_overlaps,
    files_statement,
    found_overlaps,
    loaded_overlaps,
    overlapping_files,
    select_files,
)


def prepare_files(
    db: Database, conn: sa.Connection, query: FileQuery
) -> tuple[Filetype, sa.Select[Any], dict[str, object]]:
    """Do what `select_files` does, but make the SELECT of a plain question only once for each form of question.

    Returns
    -------
    tuple
        The filetype, the SELECT, and the values of its parameters.
    """
    filetype = db.filetype(query.filetype)
    node = None if query.where is None or query.runs or query.ids or query.files else parse(query.where, query.binds)
    needed = node is not None and needs_overlaps(filetype, names_in(node), db.keys)
    question = None if node is None else plain(node, query.where or "", _types(filetype, with_overlaps=needed))
    if node is None or question is None:
        return *select_files(db, conn, query), {}
    version = find_version(conn, query.overlaps) if needed else None
    order = query.archives or archive_order(archives(conn), ())
    rows = None if version is None else "live" if version.live else version.id
    key = ("files", filetype.name, question.form, rows, order)
    statement = db.kept(key, lambda: _template(db, filetype, node, version, order))
    values: dict[str, object] = {_parameter(place): value for place, value in enumerate(question.values)}
    together = [(node, query.where or "")]
    if version is not None and version.live:
        values["rows"] = json.dumps(found_overlaps(db, conn, filetype, together, version))
    elif version is not None:
        check_overlaps(filetype, together, version)
    return filetype, statement, values


def _types(filetype: Filetype, *, with_overlaps: bool) -> dict[str, str]:
    own = {} if filetype.table is None else {column.name.lower(): column.type for column in filetype.columns}
    return OVERLAP_TYPES | own if with_overlaps else own


def _parameter(place: int) -> str:
    return f"value{place}"


def _template(
    db: Database, filetype: Filetype, node: Node, version: OverlapVersion | None, order: Sequence[str]
) -> sa.Select[Any]:
    """Return the SELECT of a plain question, whose values and found overlaps are parameters."""
    table, places = db.table(filetype), count()
    assert table is not None

    def bind(value: Value) -> sa.BindParameter[Any]:
        return sa.bindparam(_parameter(next(places)), type_=sql_type(value))

    if version is None:
        clause = to_sql(node, "", FileScope(filetype, table, desfile, None), db.dialect, bind)
    else:
        rows = (
            rows_table(None, OVERLAP_COLUMNS, db.dialect, texts=("patch",))
            if version.live
            else loaded_overlaps(version)
        )
        clause = overlapping_files(db, filetype, table, [(node, "")], rows, bind)
    return files_statement(db, filetype, [clause], order, {}, None)
