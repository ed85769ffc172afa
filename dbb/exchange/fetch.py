"""Rows of a registry in batches, as plain values: numbers, text, truth, and times as seconds since 1970."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from dbb.registry._connect import compile_once
from dbb.registry._tables import TIMESTAMP

BATCH = 20_000


def is_time(column: sa.Column[Any]) -> bool:
    """Whether a column holds points in time, which PostgreSQL does not keep as numbers."""
    return column.type is TIMESTAMP


def plain(column: sa.Column[Any], dialect: str) -> sa.ColumnElement[Any]:
    """Return a column as a SELECT gives its plain values."""
    if dialect == "postgresql" and is_time(column):
        return sa.cast(sa.func.extract("epoch", column), sa.Double).label(column.name)
    return column


def stream(
    conn: sa.Connection, statement: sa.Select[Any], values: Mapping[str, Any] | None = None, batch: int = BATCH
) -> Iterator[list[tuple[Any, ...]]]:
    """Give the rows of a SELECT without lists among its values; only one batch of them is in memory."""
    compiled = compile_once(statement, conn.dialect)
    named = compiled.construct_params(values or {})
    given: Any = named if compiled.positiontup is None else tuple(named[name] for name in compiled.positiontup)
    driver: Any = conn.connection.driver_connection
    cursor = driver.cursor() if conn.dialect.name == "sqlite" else driver.cursor(name="dbb_rows", binary=True)
    try:
        cursor.execute(compiled.string, given)
        while rows := cursor.fetchmany(batch):
            yield rows
    finally:
        cursor.close()
