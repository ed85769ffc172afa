"""Reading tables of facts: Parquet, ECSV, CSV, JSON lines, or rows that a program has; in batches, in order."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbb.errors import NotFoundError, TableError

BATCH = 5_000
FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".ecsv": "ecsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
Rows = Sequence[Mapping[str, Any]]
"""What a program may give in place of a file."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a table.

    Parameters
    ----------
    columns
        Values by column name as the table spells it; None where a row has no value. All of one length.
    first_row
        Number of the first row, counted from 1.
    size
        Number of rows.
    """

    columns: Mapping[str, Sequence[Any]]
    first_row: int
    size: int


@dataclass(frozen=True, slots=True)
class Table:
    """A table that can be read any number of times; `name` is for messages."""

    source: Path | Rows

    @property
    def name(self) -> str:
        """The file's name, or what stands for it."""
        return str(self.source) if isinstance(self.source, Path) else "the given rows"

    def batches(self) -> Iterator[Batch]:
        """Read the table from the start.

        Raises
        ------
        NotFoundError
            If the file is not there.
        TableError
            If its format is unknown or it cannot be read; names the row where one is at fault.
        """
        if not isinstance(self.source, Path):
            return _from_rows(self.source, self.name)
        if not self.source.is_file():
            raise NotFoundError("table", str(self.source), hint="There is no such file")
        kind = FORMATS.get(self.source.suffix.lower())
        if kind is None:
            raise TableError(f"{self.source}: the format is told by the suffix, one of {', '.join(FORMATS)}")
        return {"parquet": _parquet, "ecsv": _ecsv, "csv": _csv, "jsonl": _json_lines}[kind](self.source)


def _from_rows(rows: Iterable[Mapping[str, Any]], name: str) -> Iterator[Batch]:
    first = 1
    pending: list[Mapping[str, Any]] = []
    for row in rows:
        if not isinstance(row, dict | Mapping):
            raise TableError(f"{name}, row {first + len(pending)}: expected an object with the columns as keys")
        pending.append(row)
        if len(pending) == BATCH:
            yield _batch(pending, first, name)
            first, pending = first + len(pending), []
    if pending:
        yield _batch(pending, first, name)


def _batch(rows: Sequence[Mapping[str, Any]], first: int, table: str) -> Batch:
    names = list(dict.fromkeys(name for row in rows for name in row))
    _check_header(names, table)
    return Batch({name: [row.get(name) for row in rows] for name in names}, first, len(rows))


def _csv(path: Path) -> Iterator[Batch]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            header = next(reader, None)
            if not header:
                raise TableError(f"{path}: the first line must name the columns")
            _check_header(header, path)
            yield from _csv_batches(reader, header, path)
    except (csv.Error, UnicodeDecodeError) as error:
        raise TableError(f"{path} cannot be read as CSV: {error}") from error


def _csv_batches(reader: Iterator[list[str]], header: Sequence[str], path: Path) -> Iterator[Batch]:
    first = 1
    pending: list[list[str]] = []
    for fields in reader:
        if not fields:
            continue
        if len(fields) != len(header):
            row = first + len(pending)
            raise TableError(f"{path}, row {row}: {len(fields)} fields, but the header names {len(header)} columns")
        pending.append(fields)
        if len(pending) == BATCH:
            yield _csv_batch(header, pending, first)
            first, pending = first + len(pending), []
    if pending:
        yield _csv_batch(header, pending, first)


def _csv_batch(header: Sequence[str], rows: Sequence[Sequence[str]], first: int) -> Batch:
    columns = [[value if value != "" else None for value in column] for column in zip(*rows, strict=True)]
    return Batch(dict(zip(header, columns, strict=True)), first, len(rows))


def _check_header(header: Sequence[str], path: Path | str) -> None:
    lowered = [name.lower() for name in header]
    for name in header:
        if lowered.count(name.lower()) > 1:
            raise TableError(f"{path}: the column {name!r} is there twice")


def _json_lines(path: Path) -> Iterator[Batch]:
    def rows() -> Iterator[Mapping[str, Any]]:
        with path.open(encoding="utf-8") as stream:
            for number, line in enumerate((line for line in stream if line.strip()), start=1):
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise TableError(f"{path}, row {number}: {error}") from error

    try:
        yield from _from_rows(rows(), str(path))
    except UnicodeDecodeError as error:
        raise TableError(f"{path} cannot be read as JSON lines: {error}") from error


def _parquet(path: Path) -> Iterator[Batch]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = 1
    try:
        with pq.ParquetFile(path) as file:
            _check_header(file.schema_arrow.names, path)
            for batch in file.iter_batches(batch_size=BATCH):
                columns = dict(zip(batch.schema.names, (column.to_pylist() for column in batch.columns), strict=True))
                yield Batch(columns, first, batch.num_rows)
                first += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path} cannot be read as Parquet: {error}") from error


def _ecsv(path: Path) -> Iterator[Batch]:
    from astropy.table import Table as AstropyTable

    try:
        table = AstropyTable.read(path, format="ascii.ecsv")
    except Exception as error:
        raise TableError(f"{path} cannot be read as ECSV: {error}") from error
    _check_header(table.colnames, path)
    for start in range(0, len(table), BATCH):
        part = table[start : start + BATCH]
        # a masked value comes out of tolist() as None
        columns = {name: list(part[name].tolist()) for name in table.colnames}
        yield Batch(columns, start + 1, len(part))
