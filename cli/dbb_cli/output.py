"""Printing rows: a table for people, JSON, CSV, ECSV and Parquet for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

Rows = Sequence[Mapping[str, Any]]


def print_rows(rows: Rows, form: str, columns: Sequence[str] = ()) -> None:
    """Print `rows` on stdout.

    Parameters
    ----------
    rows
        All with the same keys.
    form
        ``table``, ``json`` (a list of objects), ``csv``, ``ecsv`` or ``parquet``.
    columns
        Names for the head of an empty answer.

    Notes
    -----
    Nothing happens if stdout was closed before the program began.
    """
    if sys.stdout is None:
        return
    names = list(rows[0]) if rows else list(columns)
    {"table": _table, "json": _json, "csv": _csv, "ecsv": _ecsv, "parquet": _parquet}[form](rows, names)


def shown(text: str) -> str:
    """Return `text` with all that is no plain character escaped: the name of a file may hold what moves the cursor."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _table(rows: Rows, names: Sequence[str]) -> None:
    cells = [["" if row[name] is None else shown(str(row[name])) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    numeric = [all(isinstance(row[name], int | float | None) for row in rows) and bool(rows) for name in names]
    for line in [list(names), ["-" * width for width in widths], *cells]:
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ]
        click.echo("  ".join(padded).rstrip())


def _json(rows: Rows, names: Sequence[str]) -> None:
    click.echo("[" + ",\n ".join(json.dumps(dict(row), ensure_ascii=False) for row in rows) + "]")


def _csv(rows: Rows, names: Sequence[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([row[name] for name in names] for row in rows)


def _ecsv(rows: Rows, names: Sequence[str]) -> None:
    import numpy as np
    from astropy.table import MaskedColumn, Table

    table = Table()
    for name in names:
        values = [row[name] for row in rows]
        known = [value for value in values if value is not None]
        filler: Any = type(known[0])() if known else ""
        kind = {bool: "bool", int: "int64", float: "float64"}.get(type(filler))
        data = np.array(
            [filler if value is None else value for value in values], dtype=kind or (str if not known else None)
        )
        table[name] = MaskedColumn(data, mask=[value is None for value in values])
    table.write(sys.stdout, format="ascii.ecsv")


def _parquet(rows: Rows, names: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: [row[name] for row in rows] for name in names})
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    sys.stdout.buffer.write(buffer.getvalue().to_pybytes())
    sys.stdout.buffer.flush()
