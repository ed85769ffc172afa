"""List files: columns, formats, order, and values that would shift columns."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbb.errors import PipelineError
from dbb.pipeline.listfiles import ListText, compile_list, divided
from dbb.pipeline.model import Pipeline, Place
from dbb.pipeline.scope import Scope
from dbb.pipeline.section import Line, Section
from dbb_plugins.wcl import read_wcl

VALUE = st.text(st.characters(codec="utf-8"), max_size=8)


def _section(**keys: Any) -> Section:
    tree = Pipeline.of(keys).tree
    pipeline = Pipeline({}, {("module", "m", "list", "corr", key): Place("s.wcl", 7) for key in keys})
    return Section("list", "m", "corr", tree, Scope({"base": "ccd"}).within(tree), pipeline)


def _fullname(nick: str, values: Mapping[str, str]) -> str:
    return f"{nick or 'own'}/{values['filename']}"


def _line(nick: str = "img", **values: str) -> Line:
    return {nick: {"filename": "a.fits", "tract": "0", "patch": "8,6", "ccd": "7", **values}}


def _text(lines: list[Line], **keys: Any) -> ListText:
    return compile_list(_section(**keys), _fullname).text(lines)


def test_a_list_has_one_line_per_data_line_and_a_blank_between_columns() -> None:
    lines = [_line(), _line(filename="b.fits", ccd="8")]
    done = _text(lines, columns="img.fullname, tract,patch ccd")
    assert done.text == "img/a.fits 0 8,6 7\nimg/b.fits 0 8,6 8\n"
    assert done.rows == [("img/a.fits", "0", "8,6", "7"), ("img/b.fits", "0", "8,6", "8")]
    assert done.columns == ("img.fullname", "tract", "patch", "ccd")
    assert done.nicks == ("img",)


def test_without_columns_a_list_holds_paths_as_the_list_itself_says() -> None:
    done = _text([_line()])
    assert (done.text, done.columns, done.nicks) == ("own/a.fits\n", ("fullname",), ())


def test_blank_columns_and_format_are_the_defaults() -> None:
    assert _text([_line()], columns=" ", format=" ").text == "own/a.fits\n"


def test_variables_in_columns_are_replaced() -> None:
    assert _text([_line()], columns="${base},tract").text == "7 0\n"


def test_any_nick_means_the_one_file_of_a_line() -> None:
    assert _text([_line("file00001")], columns="img.fullname,img.ccd").text == "img/a.fits 7\n"


def test_of_several_files_each_nick_means_its_own() -> None:
    line = {**_line("img", ccd="1"), **_line("psf", ccd="2", filename="p.psf")}
    assert _text([line], columns="img.fullname,psf.fullname,psf.ccd,tract").text == "img/a.fits psf/p.psf 2 0\n"


def test_a_key_that_the_nick_lacks_is_looked_for_in_the_other_files() -> None:
    line = {"img": {"filename": "a.fits"}, "psf": {"filename": "p.psf", "seeing": "0.7"}}
    assert _text([line], columns="img.fullname,img.seeing").text == "img/a.fits 0.7\n"


def test_a_key_without_nick_must_have_one_value_on_a_line() -> None:
    line = {**_line("img", ccd="1"), **_line("psf", ccd="2")}
    with pytest.raises(
        PipelineError, match=r"list corr: the files img, psf .* different values of 'ccd': 1, 2; .*NICK\.ccd"
    ):
        _text([line], columns="img.fullname,ccd")


def test_a_missing_column_is_named_with_the_file_and_what_there_is() -> None:
    with pytest.raises(
        PipelineError, match=r"s\.wcl:7: .*line of a\.fits has no 'img\.cd'; known: ccd.*allow_missing = True"
    ):
        _text([_line()], columns="fullname,img.cd")


def test_a_missing_column_may_be_allowed_to_be_empty() -> None:
    assert _text([_line()], columns="ccd,nope,tract", allow_missing="True", format="textcsv").text == "7, , 0\n"
    assert _text([_line()], columns="ccd,nope,tract", allow_missing="True").text == "7  0\n"
    assert _text([_line()], columns="$FMT{%05d,nope},ccd", allow_missing="True", format="texttab").text == "\t7\n"


def test_any_number_of_columns_may_be_formatted() -> None:
    columns = "$FMT{%05d,ccd}, $fmt{%05.1f,img.ccd} $FMT{%s[1], img.fullname},$FMT{%+.2e,tract} ccd"
    done = _text([_line(ccd="7.0")], columns=columns)
    assert done.text == "00007 007.0 img/a.fits[1] +0.00e+00 7.0\n"
    assert done.columns == ("ccd", "img.ccd", "img.fullname", "tract", "ccd")


@pytest.mark.parametrize("form", ["%", "%x", "%*d", "%d %d", "%(ccd)s", "d", "", "%c", "%99999d"])
def test_only_formats_of_one_number_or_text_are_taken(form: str) -> None:
    with pytest.raises(PipelineError, match="expected one of the formats"):
        _text([], columns=f"$FMT{{{form},ccd}}")


@pytest.mark.parametrize("columns", ["$FMT{%d}", "$FMT{%d,a", "$x", "a$b", "$FMT{%d,a}$FMT{%d,b}", "$FMT{%d,}", ",a"])
def test_columns_that_cannot_be_read_are_shown(columns: str) -> None:
    with pytest.raises(PipelineError, match=r"s\.wcl:7: module m, list corr: columns = "):
        _text([], columns=columns)


@pytest.mark.parametrize("value", ["x", "7.5", "inf", "nan", "", "1" * 5000])
def test_what_is_no_whole_number_cannot_be_formatted_as_one(value: str) -> None:
    with pytest.raises(PipelineError, match=r"column ccd is .*, which is no number to format"):
        _text([_line(ccd=value)], columns="$FMT{%05d,ccd}")


def test_tabs_part_columns_in_texttab() -> None:
    assert _text([_line(obj="NGC 1")], columns="ccd obj", format="texttab").text == "7\tNGC 1\n"


@pytest.mark.parametrize(
    ("format_", "value"),
    [
        *[("textsp", value) for value in ("NGC 1", "a\tb", " a", "", "a\nb")],
        *[("texttab", value) for value in ("a\tb", "a\n", "a\rb")],
        *[("wcl", value) for value in ("a # b", "a\nb", " a", "a\\")],
    ],
)
def test_a_value_that_the_format_cannot_hold_is_an_error_with_advice(format_: str, value: str) -> None:
    with pytest.raises(PipelineError, match=r"list corr: column obj of 'img/a\.fits' is .* use .*json"):
        _text([_line(), _line(obj=value)][1:], columns="img.fullname obj", format=format_)


def test_a_patch_with_a_comma_survives_in_textcsv() -> None:
    assert _text([_line()], columns="img.fullname,patch,ccd", format="textcsv").text == 'img/a.fits, "8,6", 7\n'


@given(st.integers(1, 3).flatmap(lambda n: st.lists(st.tuples(*[VALUE] * n), min_size=1, max_size=4)))
def test_a_csv_list_reads_back_as_its_rows(rows: list[tuple[str, ...]]) -> None:
    lines = [_line(**dict(zip("abc", row, strict=False))) for row in rows]
    done = _text(lines, columns="a,b,c"[: 2 * len(rows[0]) - 1], format="textcsv")
    assert [tuple(row) for row in csv.reader(io.StringIO(done.text, newline=""), skipinitialspace=True)] == rows


@given(
    st.lists(st.tuples(VALUE, VALUE), min_size=1, max_size=4), st.sampled_from([("textsp", None), ("texttab", "\t")])
)
def test_a_text_list_reads_back_as_its_rows_or_is_refused(
    rows: list[tuple[str, str]], kind: tuple[str, str | None]
) -> None:
    format_, separator = kind
    try:
        done = _text([_line(a=a, b=b) for a, b in rows], columns="a,b", format=format_)
    except PipelineError:
        return
    assert [tuple(line.split(separator)) for line in done.text.splitlines()] == rows


def test_a_json_list_is_an_array_of_one_object_per_line() -> None:
    done = _text([_line(), _line(obj="é")], columns="img.ccd,patch", format="json")
    assert json.loads(done.text) == [{"img.ccd": "7", "patch": "8,6"}] * 2
    assert len(done.text.splitlines()) == 4


@pytest.mark.parametrize("format_", ["wcl", "config"])
def test_a_wcl_list_is_a_file_section_per_line(format_: str, tmp_path: Any) -> None:
    done = _text([_line(), _line(ccd="8")], columns="img.fullname,ccd", format=format_)
    block = "<file>\n    img.fullname = img/a.fits\n    ccd = {}\n</file>\n"
    assert done.text == block.format(7) + block.format(8)
    file = tmp_path / "list.wcl"
    file.write_text(done.text, encoding="utf-8")
    assert read_wcl(file).tree == {"file": {"img.fullname": "img/a.fits", "ccd": "8"}}


@pytest.mark.parametrize(("format_", "text"), [("textsp", ""), ("textcsv", ""), ("wcl", ""), ("json", "[]\n")])
def test_a_list_of_no_lines_is_empty(format_: str, text: str) -> None:
    assert _text([], format=format_).text == text


def test_another_format_is_an_error_that_lists_the_formats() -> None:
    with pytest.raises(PipelineError, match=r"format = textxy: expected one of textsp, textcsv"):
        _text([], format="textxy")


@pytest.mark.parametrize(
    ("sortkey", "expected"),
    [
        ("ccd", "1 10 2 3"),
        ("(ccd)", "1 10 2 3"),
        ("(ccd, True, False)", "1 2 3 10"),
        ("(img.ccd,true,true)", "10 3 2 1"),
        ("(ccd,0,1)", "3 2 10 1"),
    ],
)
def test_lines_are_sorted_as_texts_or_numbers_forwards_or_backwards(sortkey: str, expected: str) -> None:
    lines = [_line(ccd=value) for value in ("2", "10", "3", "1")]
    assert [row[0] for row in _text(lines, columns="ccd", sortkey=sortkey).rows] == expected.split()


def test_lines_that_are_equal_to_the_key_keep_their_order() -> None:
    lines = [_line(ccd=value) for value in ("1", "2", "01", "2.0")]
    done = _text(lines, columns="ccd", sortkey="(ccd,True,True)")
    assert [row[0] for row in done.rows] == ["2", "2.0", "1", "01"]


def test_lines_may_be_sorted_by_path() -> None:
    lines = [_line(filename="b"), _line(filename="a")]
    assert _text(lines, columns="img.fullname", sortkey="img.fullname").text == "img/a\nimg/b\n"
    assert compile_list(_section(sortkey="filename"), _fullname).sorted(lines) == lines[::-1]


@pytest.mark.parametrize(
    ("sortkey", "problem"),
    [
        ("(a,b,c,d)", "sortkey = .*: expected key or"),
        ("a b", "expected key or"),
        ("(ccd,maybe)", "expected True or False"),
        ("nope", "has no 'nope'"),
        ("(patch,True)", "no number to sort by"),
    ],
)
def test_a_key_to_sort_by_that_cannot_be_used_is_an_error(sortkey: str, problem: str) -> None:
    with pytest.raises(PipelineError, match=rf"s\.wcl:7: .*{problem}"):
        _text([_line()], sortkey=sortkey)


COLUMN_PIECES = [
    "$FMT{",
    "%05d",
    "%s",
    "%e",
    ",",
    " ",
    "}",
    "ccd",
    "img.",
    "fullname",
    "a",
    "(",
    ")",
    "true",
    "${base}",
]
COLUMN_TEXT = st.lists(st.sampled_from(COLUMN_PIECES), max_size=8).map("".join)


@given(COLUMN_TEXT, COLUMN_TEXT, st.lists(VALUE, max_size=3), st.sampled_from(["textsp", "textcsv", "wcl", "json"]))
def test_whatever_is_written_gives_a_list_or_an_error_of_ours(
    columns: str, sortkey: str, values: list[str], format_: str
) -> None:
    lines = [_line(a=value, ccd=value[::-1]) for value in values]
    for keys in ({"columns": columns, "sortkey": sortkey}, {"columns": columns}, {"sortkey": sortkey}):
        with contextlib.suppress(PipelineError):
            assert len(_text(lines, format=format_, **keys).rows) == len(lines)


def test_a_list_divided_by_columns_is_one_section_per_file_with_keys_of_its_own() -> None:
    own = {"names": {"columns": "img.fullname", "flabel": "n"}, "ccds": {"columns": "${base}", "format": "textcsv"}}
    parts = divided(_section(columns="tract", flabel="l", format="texttab", div_list_by_col=own))
    assert [part.name for part in parts] == ["names", "ccds"]
    assert [part.text("flabel") for part in parts] == ["n", "l"]
    assert [part.expand("${flabel}") for part in parts] == ["n", "l"]
    assert [compile_list(part, _fullname).format for part in parts] == ["texttab", "textcsv"]
    assert [compile_list(part, _fullname).columns for part in parts] == [("img.fullname",), ("ccd",)]


def test_a_list_that_is_not_divided_is_itself() -> None:
    section = _section(columns="tract")
    assert divided(section) == [section]


@pytest.mark.parametrize("own", ["x", {}, {"a": "x"}])
def test_a_division_that_has_no_sections_is_an_error(own: Any) -> None:
    with pytest.raises(PipelineError, match=r"div_list_by_col.*expected a section"):
        divided(_section(div_list_by_col=own))


def test_an_error_in_a_part_of_a_list_has_the_place_of_the_part() -> None:
    place = Place("s.wcl", 9)
    inside = ("module", "m", "list", "corr", "div_list_by_col", "names", "format")
    section = _section(div_list_by_col={"names": {"format": "x"}})
    (part,) = divided(Section("list", "m", "corr", section.tree, section.scope, Pipeline({}, {inside: place})))
    with pytest.raises(PipelineError, match=r"s\.wcl:9: module m, list names: format = x"):
        compile_list(part, _fullname)
