"""Tables of facts are read in batches, the same in every format; what cannot be read is named with its row."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import MaskedColumn
from astropy.table import Table as AstropyTable

from dbb.errors import NotFoundError, TableError
from dbb.ingest.tables import BATCH, Batch, Table

ROWS = [
    {"relpath": "a/1.fits", "visit": 903334, "expTime": 30.5, "field": None},
    {"relpath": "a/2.fits", "visit": None, "expTime": None, "field": "STRIPE 82, l"},
]


def as_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    def text(value: Any) -> str:
        return "" if value is None else '"' + str(value).replace('"', '""') + '"'

    lines = [",".join(map(text, row.values())) for row in rows]
    path.write_text("\n".join([",".join(rows[0]), *lines]) + "\n", encoding="utf-8")


def as_json(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def as_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(list(rows)), path)


def as_ecsv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    table = AstropyTable()
    for name in rows[0]:
        values = [row[name] for row in rows]
        some = next((value for value in values if value is not None), "")
        filled = [type(some)() if value is None else value for value in values]
        table[name] = MaskedColumn(filled, mask=[value is None for value in values])
    table.write(path, format="ascii.ecsv")


WRITERS: dict[str, Callable[[Path, Sequence[Mapping[str, Any]]], None]] = {
    ".csv": as_csv,
    ".jsonl": as_json,
    ".ndjson": as_json,
    ".json": as_json,
    ".parquet": as_parquet,
    ".pq": as_parquet,
    ".ecsv": as_ecsv,
}


def rows_of(batches: Sequence[Batch]) -> list[dict[str, Any]]:
    return [
        dict(zip(batch.columns, values, strict=True))
        for batch in batches
        for values in zip(*batch.columns.values(), strict=True)
    ]


@pytest.mark.parametrize("suffix", [*WRITERS, ".PARQUET"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    WRITERS[suffix.lower()](path, ROWS)
    found = rows_of(list(Table(path).batches()))
    if suffix == ".csv":  # which has texts only
        assert found == [{name: None if value is None else str(value) for name, value in row.items()} for row in ROWS]
    else:
        assert found == ROWS


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".ecsv"])
def test_long_tables_come_in_batches_with_their_row_numbers(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    WRITERS[suffix](path, [{"relpath": f"{n}"} for n in range(2 * BATCH + 1)])
    batches = list(Table(path).batches())
    assert [(batch.first_row, batch.size) for batch in batches] == [(1, BATCH), (BATCH + 1, BATCH), (2 * BATCH + 1, 1)]
    assert [row["relpath"] for row in rows_of(batches)] == [f"{n}" for n in range(2 * BATCH + 1)]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".ecsv"])
def test_a_table_without_rows_has_none(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    if suffix == ".csv":
        path.write_text("relpath,visit\n")
    elif suffix == ".parquet":
        pq.write_table(pa.table({"relpath": pa.array([], pa.string())}), path)
    else:
        AstropyTable({"relpath": []}).write(path, format="ascii.ecsv")
    assert rows_of(list(Table(path).batches())) == []


def test_rows_of_a_program_are_read_like_a_table() -> None:
    table = Table([{"relpath": "a", "visit": 1}, {"relpath": "b", "ccd": 2}])
    assert table.name == "the given rows"
    expected = [{"relpath": "a", "visit": 1, "ccd": None}, {"relpath": "b", "visit": None, "ccd": 2}]
    assert rows_of(list(table.batches())) == rows_of(list(table.batches())) == expected


def test_a_csv_file_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes('relpath,field\r\n"a,b","Jörg ""J"""\r\n\r\nc,\r\n'.encode("utf-8-sig"))
    expected = [{"relpath": "a,b", "field": 'Jörg "J"'}, {"relpath": "c", "field": None}]
    assert rows_of(list(Table(path).batches())) == expected


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", b"", r"a\.csv: the first line must name the columns"),
        ("a.csv", b"relpath,visit\na,1\nb\n", r"a\.csv, row 2: 1 fields, but the header names 2 columns"),
        ("a.csv", b"relpath,visit\na,1,2\n", r"a\.csv, row 1: 3 fields"),
        ("a.csv", b"relpath,Relpath\na,b\n", r"a\.csv: the column 'relpath' is there twice"),
        ("a.csv", b'relpath\n"a\n', r"a\.csv cannot be read as CSV"),
        ("a.csv", b"relpath\n\xff\n", r"a\.csv cannot be read as CSV"),
        ("a.jsonl", b'{"relpath": "a"}\n\n{"relpath":\n', r"a\.jsonl, row 2: Expecting value"),
        ("a.jsonl", b'{"relpath": "a"}\n["b"]\n', r"row 2: expected an object with the columns as keys"),
        ("a.jsonl", b"[" * 100_000, r"a\.jsonl, row 1: "),
        ("a.jsonl", b"\xff\n", r"a\.jsonl cannot be read as JSON lines"),
        ("a.parquet", b"PAR1 not at all", r"a\.parquet cannot be read as Parquet"),
        ("a.ecsv", b"relpath visit\na 1\n", r"a\.ecsv cannot be read as ECSV"),
        ("a.txt", b"relpath\n", r"a\.txt: the format is told by the suffix, one of \.parquet"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TableError, match=problem):
        list(Table(path).batches())


def test_columns_that_differ_in_case_only_are_refused_in_every_format(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"ccd": [1], "CCD": [2]}), path)
    with pytest.raises(TableError, match="the column 'ccd' is there twice"):
        list(Table(path).batches())
    path = tmp_path / "a.ecsv"
    AstropyTable({"ccd": [1], "CCD": [2]}).write(path, format="ascii.ecsv")
    with pytest.raises(TableError, match="the column 'ccd' is there twice"):
        list(Table(path).batches())
    with pytest.raises(TableError, match="the column 'ccd' is there twice"):
        list(Table([{"ccd": 1, "CCD": 2}]).batches())


def test_an_absent_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"unknown table '.*none\.csv'\. There is no such file"):
        list(Table(tmp_path / "none.csv").batches())
