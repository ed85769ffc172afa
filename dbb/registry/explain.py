"""How a database goes about a question: its plan, read so that a user sees which tables are read as a whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dbb.registry._tables import desfile, file_archive_info, image_corners, metadata
from dbb.registry.prepared import PreparedFiles
from dbb.registry.ready import Ready

BIG = 100_000
"""Rows of a table from which on reading all of it is warned of."""

_LOOK_UP, _ALL, _SORT = "looks up", "reads all", "sorts"
_STEP = re.compile(
    r"(?P<verb>SEARCH|SCAN) (?:TABLE )?(?P<table>\w+)(?: AS (?P<alias>\w+))?"
    r"(?: USING (?P<auto>AUTOMATIC )?(?:PARTIAL )?(?:COVERING )?(?:INDEX )?"
    r"(?P<index>INTEGER PRIMARY KEY|PRIMARY KEY|\w+)?)?"
    r"(?: \((?P<by>[^)]*)\))?"
)
_ALIAS = re.compile(r"\b(?:FROM|JOIN|,) +(\w+) AS (\w+)")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the database does.

    Parameters
    ----------
    does
        ``looks up``, ``reads all`` or ``sorts``.
    table
        Of the registry; None for what was found before.
    by
        The index, and its columns as far as the database says which it compares.
    rows
        Rows of the table, as far as they are known; nothing counts them for this.
    """

    does: str
    table: str | None = None
    by: str | None = None
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a question is answered.

    Parameters
    ----------
    sql
        The SELECT, with the driver's marks for values.
    parameters
        The values in order, or by name.
    steps
        What the database does, in its order.
    warnings
        What makes it slow, and what to do about it.
    """

    sql: str
    parameters: Sequence[object] | Mapping[str, object]
    steps: tuple[Step, ...]
    warnings: tuple[str, ...]


def explain_files(
    conn: sa.Connection, prepared: PreparedFiles, keys: Sequence[str], *, limited: bool = False, big: int = BIG
) -> Explanation:
    """Ask the database how it would answer a question; it does not answer it.

    Parameters
    ----------
    conn, prepared
        The connection, and the question.
    keys
        The columns of the index of the filetype's metadata table.
    limited
        Whether only the first files are wanted, so that reading ends early where nothing has to be sorted.
    big
        Rows of a table from which on reading all of it is warned of.
    """
    statement = prepared.statement
    ready = statement if isinstance(statement, Ready) else Ready.of(statement, conn.dialect, lists=True)
    parameters = ready.parameters(prepared.values)
    read = _sqlite_steps if conn.dialect.name == "sqlite" else _postgres_steps
    steps = tuple(read(conn, ready.text, parameters))
    early = limited and all(step.does != _SORT for step in steps)
    large = [step for step in steps if step.does == _ALL and step.table and (step.rows or 0) >= big]
    own = prepared.filetype.table
    warnings = () if early else tuple(dict.fromkeys(_warning(step, own, keys) for step in large))
    return Explanation(ready.text, parameters, steps, warnings)


def _sqlite_steps(conn: sa.Connection, text: str, parameters: Any) -> Iterator[Step]:
    aliases = {alias: table for table, alias in _ALIAS.findall(text)}
    counts = _sqlite_counts(conn)
    for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", parameters).all():
        detail = str(row[3])
        if detail.startswith("USE TEMP B-TREE FOR"):
            yield Step(_SORT, by=detail.removeprefix("USE TEMP B-TREE FOR ").lower())
        elif (found := _STEP.match(detail)) is not None and "VIRTUAL TABLE" not in detail:
            table = aliases.get(found["alias"] or found["table"], str(found["table"]))
            # an index that is made for one question is made of the whole table
            does = _LOOK_UP if found["verb"] == "SEARCH" and not found["auto"] else _ALL
            by = " ".join(part for part in (found["index"], found["by"] and f"({found['by']})") if part)
            yield Step(does, table, by or None, counts.get(table))


def _sqlite_counts(conn: sa.Connection) -> dict[str, int]:
    """Return how many rows tables had when they were last analyzed, and the number of files as it is now."""
    known: dict[str, int] = {}
    if conn.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'").first() is not None:
        for table, stat in conn.exec_driver_sql("SELECT tbl, stat FROM sqlite_stat1 WHERE stat IS NOT NULL").all():
            known[table] = max(known.get(table, 0), int(stat.split()[0]))
    files = conn.scalar(sa.select(sa.func.max(desfile.c.id))) or 0
    return known | {desfile.name: files, file_archive_info.name: max(files, known.get(file_archive_info.name, 0))}


def _postgres_steps(conn: sa.Connection, text: str, parameters: Any) -> Iterator[Step]:
    [[found]] = conn.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {text}", parameters).all()
    plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    counts = {
        name: int(rows)
        for name, rows in conn.exec_driver_sql("SELECT relname, reltuples FROM pg_class WHERE relkind = 'r'").all()
    }
    yield from _postgres_nodes(plan, counts)


def _postgres_nodes(node: Mapping[str, Any], counts: Mapping[str, int]) -> Iterator[Step]:
    for inner in node.get("Plans", ()):
        yield from _postgres_nodes(inner, counts)
    kind, table = node["Node Type"], node.get("Relation Name")
    if "Sort" in kind:
        yield Step(_SORT, by=", ".join(node.get("Sort Key", ())) or None)
    elif table is not None:
        condition = node.get("Index Cond") or node.get("Recheck Cond")
        by = " ".join(part for part in (node.get("Index Name"), condition) if part)
        yield Step(_LOOK_UP if condition else _ALL, table, by or None, counts.get(table))


def _warning(step: Step, own: str | None, keys: Sequence[str]) -> str:
    """Say what is read as a whole, and what to do about it."""
    told = f"reads all of {step.table}, {step.rows} rows"
    if step.table == own and keys:
        return (
            f"{told}: a condition on {keys[0]} (=, IN, <, >) reads only what fits; it must hold beside the others (AND)"
        )
    if step.table == file_archive_info.name:
        return f"{told}: compare relpath as a whole (=), or filename with what it begins with (GLOB 'CORR-09*')"
    if step.table == image_corners.name:
        return f"{told}: name a tract, and patches of it, rather than coordinates"
    if step.table == desfile.name:
        return f"{told}: a condition on the data id or on filename (=), or --runs, reads only what fits"
    if step.table in metadata.tables:
        return f"{told}: a condition on the data id beside it (AND) may help"
    return f"{told}: ask for a condition that its index begins with"
