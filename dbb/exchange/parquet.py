"""Tables as Parquet: their columns and types, writing rows, and reading what somebody else may have written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from dbb.errors import TableError
from dbb.exchange.fetch import is_time

_MOST_ROWS, _MOST_BYTES = 1 << 20, 1 << 30
"""Of one row group: it is held in memory."""
_BATCH = 20_000


def arrow_schema(table: sa.Table) -> Any:
    """Return names and types of a table's columns; times are seconds since 1970."""
    return pa.schema([pa.field(column.name, _type(column)) for column in table.columns])


def _type(column: sa.Column[Any]) -> Any:
    if is_time(column) or isinstance(column.type, sa.Float):
        return pa.float64()
    if isinstance(column.type, sa.Boolean):
        return pa.bool_()
    return pa.int64() if isinstance(column.type, sa.Integer) else pa.string()


def write_rows(path: Path, table: sa.Table, batches: Iterable[list[tuple[Any, ...]]]) -> int:
    """Write rows to a new file, a row group for each batch; return how many. Without rows there is no file."""
    schema, count, writer = arrow_schema(table), 0, None
    try:
        for rows in batches:
            if writer is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                writer = pq.ParquetWriter(path, schema, compression="zstd")
            writer.write_batch(_record_batch(rows, schema), row_group_size=_MOST_ROWS)
            count += len(rows)
    finally:
        if writer is not None:
            writer.close()
    return count


def _record_batch(rows: list[tuple[Any, ...]], schema: Any) -> Any:
    columns = []
    for values, kind in zip(zip(*rows, strict=True), schema.types, strict=True):
        # SQLite gives truth as a number
        plain = [value if value is None else bool(value) for value in values] if kind == pa.bool_() else values
        columns.append(pa.array(plain, type=kind))
    return pa.record_batch(columns, schema=schema)


def check_file(path: Path, table: sa.Table, rows: int) -> None:
    """Make sure that a file has the columns of a table, so many rows, and no more in one piece than fits in memory.

    Raises
    ------
    TableError
        If it has not, or is no Parquet file.
    """
    try:
        with pq.ParquetFile(path) as file:
            found, wanted, about = file.schema_arrow, arrow_schema(table), file.metadata
            if not found.equals(wanted):
                raise TableError(f"{path}: the columns are {_shown(found)}, those of {table.name} are {_shown(wanted)}")
            groups = [about.row_group(number) for number in range(about.num_row_groups)]
            if about.num_rows != rows:
                raise TableError(f"{path}: it has {about.num_rows} rows, the manifest says {rows}")
            if any(one.num_rows > _MOST_ROWS or one.total_byte_size > _MOST_BYTES for one in groups):
                raise TableError(f"{path}: a row group has more than {_MOST_ROWS} rows, or 1 GiB")
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path} cannot be read as Parquet: {error}") from error


def read_batches(path: Path) -> Iterator[Any]:
    """Give the rows of a file in record batches.

    Raises
    ------
    TableError
        If it cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=_BATCH)
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path} cannot be read as Parquet: {error}") from error


def _shown(schema: Any) -> str:
    text = ", ".join(f"{field.name} {field.type}" for field in schema)
    return text if len(text) < 500 else f"{text[:500]}…"
