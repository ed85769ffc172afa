"""Filetypes come from TOML; what cannot be one is refused with file, filetype and entry named."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbb.errors import NotFoundError, UsageError
from dbb.filetypes import CONVERTERS, Column, Filetype, load_filetypes

MOCK = """
[sets.where]
tract = "int"
patch = "patch"

[filetypes.mock]
description = "A catalogue of mocks."
dataset = "mockCat"
metadata_table = "Mocks"
keys = ["tract", "patch", "zBin"]
sets = ["where"]
directory = "mocks/${tract}"
name = "mock-${patch}-${zBin:2}.fits"
[filetypes.mock.columns]
zBin = { type = "int", source = "header:ZBIN|Z-BIN" }
seed = { type = "int", required = true }
tract = { type = "int", source = "header:TRACT" }

[filetypes.note]
"""


def read(folder: Path, text: str) -> dict[str, Filetype]:
    path = folder / "filetypes.toml"
    path.write_text(text, encoding="utf-8")
    return load_filetypes(path)


def test_a_filetype_is_what_its_entry_says(tmp_path: Path) -> None:
    found = read(tmp_path, MOCK)
    mock = found["mock"]
    assert (mock.name, mock.dataset, mock.table, mock.keys) == ("mock", "mockCat", "mocks", ("tract", "patch", "zBin"))
    assert mock.columns == (
        Column("tract", "int", "header:TRACT", required=True),
        Column("patch", "patch", "name", required=True),
        Column("zBin", "int", "header:ZBIN|Z-BIN", required=True),
        Column("seed", "int", "name", required=True),
    )
    assert mock.directory is not None
    assert (mock.description, mock.directory.text) == ("A catalogue of mocks.", "mocks/${tract}")


def test_a_filetype_without_columns_has_no_table(tmp_path: Path) -> None:
    assert read(tmp_path, MOCK)["note"] == Filetype("note", None, None, (), ())


def test_columns_are_found_without_regard_to_case(tmp_path: Path) -> None:
    mock = read(tmp_path, MOCK)["mock"]
    assert mock.column("ZBIN").name == "zBin"
    with pytest.raises(NotFoundError, match=r"unknown column 'zbn'; known: zBin, .*Filetype mock lacks it"):
        mock.column("zbn")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[filetypes.Mock]", r"filetype 'Mock': the name must be lower-case"),
        ("[filetypes.'a b']", r"filetype 'a b': the name must be lower-case"),
        ("[filetypes.a]\nkey = ['visit']", r"filetype a: unknown entries \['key'\]; known: columns, "),
        ("[filetypes.a]\nkeys = ['visit']", r"filetype a: keys \['visit'\] are not among its columns"),
        ("[filetypes.a]\nsets = ['expo']\n[sets.exposure]\nx='int'", r"unknown set of columns 'expo'; known: exposure"),
        ("[filetypes.a.columns]\nx = 'integer'", r"filetype a, column x: type 'integer' is none of int, float"),
        ("[filetypes.a.columns]\nx = 5", r"filetype a, column x: type ''"),
        ("[filetypes.a.columns]\nx = {type='int', source='fits'}", r"column x: source 'fits' is none of header:KEY"),
        ("[filetypes.a.columns]\n'x y' = 'int'", r"filetype a: 'x y' cannot be a column name"),
        ("[filetypes.a.columns]\nDesFile_ID = 'int'", r"'DesFile_ID' cannot be a column name"),
        ("[filetypes.a]\nmetadata_table='a;b'\ncolumns={x='int'}", r"filetype a: 'a;b' cannot be a table name"),
        ("[filetypes.a]\nname = '$visit.fits'", r"pattern '\$visit\.fits': write variables as"),
        ("[filetype.a]", r"unknown entries \['filetype'\]; known: filetypes, sets"),
        ("filetypes = 3", "filetypes must be a table"),
        ("[filetypes]\nx = 3", "filetype x must be a table"),
        ("sets = 3", "sets must be a table"),
        ("[sets]\nx = 3", "set x must be a table"),
        ("[filetypes.a]\nsets = 3", "filetype a: sets must be a list of names"),
        ("[filetypes.a]\ncolumns = 3", "filetype a, columns must be a table"),
        ("[filetypes.a", r"cannot be read"),
    ],
)  # fmt: skip
def test_an_unusable_entry_is_named_with_its_file(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        read(tmp_path, text)
    assert str(tmp_path / "filetypes.toml") in str(caught.value)


def test_two_columns_that_differ_in_case_only_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"filetype a: .*dateobs"):
        read(tmp_path, "[filetypes.a.columns]\ndateObs='date'\ndateobs='date'")


def test_names_are_short_enough_for_every_database(tmp_path: Path) -> None:
    assert read(tmp_path, f"[filetypes.{'a' * 55}.columns]\n{'b' * 55}='int'")
    for text in (f"[filetypes.{'a' * 56}]", f"[filetypes.a.columns]\n{'b' * 56}='int'"):
        with pytest.raises(UsageError, match=r"aaa|bbb"):
            read(tmp_path, text)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml cannot be read"):
        load_filetypes(tmp_path / "none.toml")


@given(st.integers(-(2**63), 2**63 - 1))
def test_an_integer_is_itself_in_every_form_a_table_may_give(value: int) -> None:
    to_int = CONVERTERS["int"]
    assert to_int(value) == to_int(str(value)) == to_int(np.int64(value)) == value
    if abs(value) < 2**53:
        assert to_int(float(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_itself_in_every_form_a_table_may_give(value: float) -> None:
    to_float = CONVERTERS["float"]
    assert to_float(value) == to_float(repr(value)) == to_float(np.float64(value)) == value


@given(st.dates())
def test_a_date_is_itself_in_every_form_a_table_may_give(day: dt.date) -> None:
    to_date = CONVERTERS["date"]
    assert to_date(day) == to_date(day.isoformat()) == to_date(dt.datetime.combine(day, dt.time(23))) == day.isoformat()


@given(st.booleans())
def test_a_truth_is_itself_in_every_form_a_table_may_give(value: bool) -> None:
    to_bool = CONVERTERS["bool"]
    forms: list[object] = [value, int(value), str(value), str(value).lower(), str(value)[0], str(int(value))]
    assert [to_bool(form) for form in forms] == [value] * len(forms)


@given(st.integers(0, 999), st.integers(0, 999))
def test_a_patch_is_stored_in_one_spelling(x: int, y: int) -> None:
    assert CONVERTERS["patch"](f"{x},{y}") == CONVERTERS["patch"](f"{x}x{y}") == f"{x}x{y}"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *(
            ("int", value)
            for value in (True, 1.5, "1.0", "", "x", "1_000", "١", None, 2**63, -(2**63) - 1, math.inf, math.nan)
        ),
        *(("float", value) for value in ("", "x", "1_0", None, math.nan, math.inf, "-inf", "nan")),
        *(("date", value) for value in ("", "2013-6-17", "2013-02-30", "17.6.2013", "20130617", "2013-06-17T01:00")),
        *(("patch", value) for value in ("", "8", 8, "8-6")),
        *(("bool", value) for value in ("", "yes", 2, 0.5)),
        *(("str", value) for value in ("a\x00b", "a\ud800b")),
    ],
)
def test_what_does_not_fit_its_column_is_refused(kind: str, value: object) -> None:
    with pytest.raises((ValueError, OverflowError)):
        CONVERTERS[kind](value)
