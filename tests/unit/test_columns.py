"""A column that is checked as a whole comes out as if each of its values had been looked at."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dbb.errors import UnsafePathError
from dbb.filetypes import CONVERTERS
from dbb.ingest.columns import convert_column
from dbb.ingest.derived import fill_gaps
from dbb.patterns import are_safe_paths, is_safe_path
from dbb.registry.relpaths import split_relpath, split_relpaths

KINDS = tuple(CONVERTERS)
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False, allow_infinity=False, width=32),
    "str": st.text(st.characters(codec="utf-8", exclude_characters="\x00")),
    "date": st.dates().map(str),
    "patch": st.tuples(st.integers(0, 99), st.integers(0, 99)).map(lambda xy: f"{xy[0]},{xy[1]}"),
    "bool": st.booleans(),
}
ANYTHING = st.one_of(
    st.integers(),
    st.floats(),
    st.booleans(),
    st.dates(),
    st.datetimes(),
    st.text(),
    st.text("0123456789+-._ eE\x00\ud800", max_size=6),
    st.sampled_from(["1_0", "٣", "1e400", "nan", "2013-02-30", "8,6", "08x06", "TRUE", "-", "1-2", "\ud800", 10**400]),
)


def one_by_one(values: list[Any], kind: str) -> list[Any] | None:
    try:
        return [None if value is None else CONVERTERS[kind](value) for value in values]
    except (ValueError, TypeError, OverflowError):
        return None


@pytest.mark.parametrize("kind", KINDS)
@given(values=st.lists(st.none() | ANYTHING, min_size=1, max_size=6))
def test_a_whole_column_comes_out_as_value_by_value_or_is_left_to_that(kind: str, values: list[Any]) -> None:
    found = convert_column(values, kind)
    assert found is None or repr(list(found)) == repr(one_by_one(values, kind))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_column_of_what_the_registry_keeps_is_converted_whole(kind: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | GOOD[kind], min_size=1, max_size=20))
    assert list(convert_column(values, kind) or ()) == one_by_one(values, kind)


@pytest.mark.parametrize("kind", ["int", "float", "date", "patch", "str"])
@given(data=st.data())
def test_so_is_what_is_read_from_text(kind: str, data: st.DataObject) -> None:
    values = [str(value) for value in data.draw(st.lists(GOOD[kind], min_size=1, max_size=20))]
    assert list(convert_column(values, kind) or ()) == one_by_one(values, kind)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("md5sum", ["0" * 32, "0" * 31]),
        ("md5sum", ["0" * 32 + "\n" + "0" * 32]),
        ("md5sum", ["A" * 32]),
        ("sha256", ["g" * 64]),
        ("filesize", [1, -1]),
        ("filesize", ["12", "-1"]),
        ("int", [True, 1]),
        ("date", [dt.datetime(2013, 1, 1, tzinfo=dt.UTC), dt.date(2013, 1, 1)]),
    ],
)
def test_what_is_doubtful_is_looked_at_one_by_one(kind: str, values: list[Any]) -> None:
    assert convert_column(values, kind) is None


def test_checksums_and_sizes_are_checked_whole() -> None:
    assert convert_column(["0" * 32, None], "md5sum") == ["0" * 32, None]
    assert convert_column(["f" * 64], "sha256") == ["f" * 64]
    assert convert_column([0, None, 5], "filesize") == [0, None, 5]


PATHS = st.lists(st.text("a./*\n\\\x7fé", max_size=6) | st.sampled_from([".", "..", "a/..", "../a", "a/.b", "..b"]))


@given(PATHS)
@example(["a\nb"])
@example(["a", ""])
def test_many_paths_are_safe_if_each_of_them_is(paths: list[str]) -> None:
    assert are_safe_paths(paths) == all(is_safe_path(path) for path in paths)


@given(st.lists(st.text("ab/.fzg", min_size=1, max_size=8), min_size=1))
def test_many_paths_are_split_as_one_is(relpaths: list[str]) -> None:
    columns = split_relpaths(relpaths)
    try:
        expected = [split_relpath(relpath) for relpath in relpaths]
    except UnsafePathError:
        assert columns is None
    else:
        assert columns is not None
        assert list(zip(*columns, strict=True)) == expected


NAMES = ("a", "b", "c", "d")
SMALL = st.none() | st.sampled_from([0, 1, True, 1.0, "x"])


def follow(known: Mapping[str, object]) -> dict[str, object]:
    """What is looked at depends on what was seen."""
    if known.get("a") == 1:
        return {"d": f"{known['a']!r} {known.get('b')!r}"}
    return {"c": "all", "d": sorted(map(repr, known.items()))} if "b" in known else {}


@given(st.lists(st.tuples(SMALL, SMALL, SMALL, SMALL), min_size=1, max_size=12))
def test_what_follows_is_the_same_as_if_each_row_had_been_asked(rows: list[tuple[Any, ...]]) -> None:
    expected = []
    for row in rows:
        more = follow({name: value for name, value in zip(NAMES, row, strict=True) if value is not None})
        expected.append(tuple(more.get(n) if v is None else v for n, v in zip(NAMES, row, strict=True)))
    found = fill_gaps(NAMES, list(zip(*rows, strict=True)), follow)
    assert repr(list(zip(*found, strict=True))) == repr(expected)


def test_rows_that_agree_in_what_is_looked_at_are_asked_once() -> None:
    calls = []

    def night(known: Mapping[str, object]) -> dict[str, object]:
        calls.append(known)
        return {"d": known["a"]}

    found = fill_gaps(NAMES, [["x", "y"] * 50, range(100), range(100), [None] * 100], night)
    assert (list(found[3]), len(calls)) == (["x", "y"] * 50, 2)
