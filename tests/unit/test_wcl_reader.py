"""WCL says what it says in DESDM, and what cannot be meant is an error with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbb.errors import PipelineError
from dbb.pipeline.model import Pipeline, Place, Tree
from dbb_plugins.wcl import dbb_read_pipeline, read_wcl


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(text: str, settings: dict[str, str] | None = None) -> Pipeline:
    Path("a.wcl").write_text(text, encoding="utf-8", newline="")
    return read_wcl(Path("a.wcl"), settings)


def tree(text: str) -> Tree:
    pipeline = read(text)
    assert pipeline.problems == ()
    return pipeline.tree


def warnings(text: str) -> tuple[Tree, list[str]]:
    pipeline = read(text)
    return pipeline.tree, [str(problem) for problem in pipeline.problems]


def errors(text: str, settings: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(PipelineError) as caught:
        read(text, settings)
    return str(caught.value).splitlines()


pytestmark = pytest.mark.usefixtures("folder")


def test_a_key_has_the_text_behind_the_first_equals_sign() -> None:
    assert tree("a = 1\nid = tract=${tract} patch='x'\nspaced = =b\n") == {
        "a": "1",
        "id": "tract=${tract} patch='x'",
        "spaced": "=b",
    }


def test_keys_and_sections_are_lower_case() -> None:
    assert tree("<Exec_1>\nExecName = Sex\n</EXEC_1>") == {"exec_1": {"execname": "Sex"}}


def test_keys_keep_their_case_in_cmdline_and_below_it() -> None:
    text = "<cmdline>\nC = 1\n<Sub>\nKey = 2\n</Sub>\nc = 3\n</cmdline>\nC = 4"
    assert tree(text) == {"cmdline": {"C": "1", "sub": {"Key": "2"}, "c": "3"}, "c": "4"}


def test_a_section_that_is_opened_again_goes_on() -> None:
    text = "<m>\n<a>\nx = 1\ny = 1\n</a>\n</m>\n<m>\n<a>\ny = 2\n</a>\n</m>"
    assert tree(text) == {"m": {"a": {"x": "1", "y": "2"}}}


@pytest.mark.parametrize("closing", ["</file>", "</red>\n</file>"])
def test_one_tag_opens_a_section_and_its_part(closing: str) -> None:
    assert tree(f"<file red>\nx = 1\n{closing}\ny = 2") == {"file": {"red": {"x": "1"}}, "y": "2"}


def test_a_backslash_joins_lines_without_a_blank() -> None:
    assert tree("a = g, \\\n   r,\\  \n   i\nb = 1\n") == {"a": "g, r,i", "b": "1"}


def test_a_comment_that_ends_in_a_backslash_swallows_nothing() -> None:
    assert tree("a = 1 # so \\\nb = 2\n# and \\\nc = 3") == {"a": "1", "b": "2", "c": "3"}


def test_a_backslash_before_a_comment_joins_lines() -> None:
    assert tree("a = 1, \\  # the first\n    2") == {"a": "1, 2"}


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_lines_may_end_as_on_any_system(end: str) -> None:
    assert tree(f"<s>{end}a = 1{end}</s>") == {"s": {"a": "1"}}


def test_the_last_of_several_values_counts_at_the_place_of_the_first() -> None:
    pipeline = read("a = 1\nb = 2\na = 3")
    assert list(pipeline.tree.items()) == [("a", "3"), ("b", "2")]
    assert pipeline.place("a") == Place("a.wcl", 3)


def test_every_key_and_section_has_its_place() -> None:
    pipeline = read("x = \\\n 1\n\n<file red>\n  y = 2\n</file>\n")
    assert pipeline.places == {
        ("x",): Place("a.wcl", 1),
        ("file",): Place("a.wcl", 4),
        ("file", "red"): Place("a.wcl", 4),
        ("file", "red", "y"): Place("a.wcl", 5),
    }


def test_the_folder_is_that_of_the_submit_file(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep/b.des").write_text("a = 1")
    assert read_wcl(Path("deep/b.des")).folder == Path("deep")


def test_an_equals_sign_too_many_is_cut_at_the_first_with_a_warning() -> None:
    assert warnings("c=doCal=False\nd=x = y") == (
        {"c": "doCal=False", "d": "x = y"},
        [
            "a.wcl:1: warning: c=doCal=False: cut at the first '=': c is 'doCal=False'; write blanks around that '='",
            "a.wcl:2: warning: d=x = y: cut at the first '=': d is 'x = y'; write blanks around that '='",
        ],
    )


def test_a_key_without_equals_sign_is_taken_with_a_warning() -> None:
    assert warnings("\ndepends hmmask.file.red") == (
        {"depends": "hmmask.file.red"},
        [
            "a.wcl:2: warning: depends hmmask.file.red: expected 'depends = hmmask.file.red', and taken as such",
        ],
    )


@pytest.mark.parametrize("line", ["x =", "x=", "x =   ", "x"])
def test_a_key_without_value_is_ignored_with_a_warning(line: str) -> None:
    found, said = warnings(f"{line}\na = 1")
    assert found == {"a": "1"}
    assert [text.partition(": ignored")[0] for text in said] == ["a.wcl:1: warning: x"]


def test_a_key_with_nothing_but_a_comment_is_empty() -> None:
    assert tree("x = # nothing\ny = #") == {"x": "", "y": ""}


def test_a_value_in_place_of_a_section_is_warned_of() -> None:
    assert warnings("<a>\nb = 1\n</a>\na = 2") == (
        {"a": "2"},
        ["a.wcl:4: warning: a = 2 replaces the section <a> of a.wcl:1"],
    )


def test_a_section_in_place_of_a_value_is_an_error_that_names_both_lines() -> None:
    assert errors("a = 1\n<a>\nb = 1\n</a>") == ["a.wcl:2: <a>: a is already a value, set at a.wcl:1"]


def test_a_section_inside_its_namesake_is_a_forgotten_slash() -> None:
    assert errors("<a>\nx = 1\n<a>\n") == [
        "a.wcl:3: <a> directly inside <a> of a.wcl:1: expected </a> (is a slash missing?)"
    ]


def test_a_section_two_levels_inside_its_namesake_is_fine() -> None:
    assert tree("<a>\n<b>\n<a>\nx = 1\n</a>\n</b>\n</a>") == {"a": {"b": {"a": {"x": "1"}}}}


def test_all_errors_are_told_at_once() -> None:
    assert errors("<a>\n</b>\n</a>\n</c>\n<x y z>\n= 1\n<d>\n<e>\n</d>\n<f>") == [
        "a.wcl:2: </b>: expected </a>, which closes <a> of a.wcl:1",
        "a.wcl:4: </c>: no section is open",
        "a.wcl:5: <x y z>: expected <name>, <name part> or </name>, alone on its line",
        "a.wcl:6: = 1: expected a key before '='",
        "a.wcl:9: </d>: expected </e>, which closes <e> of a.wcl:8",
        "a.wcl:10: <f>: expected </f> before the end of the file",
    ]


@pytest.mark.parametrize("line", ["<a> x = 1 </a>", "< a >", "<>", "</>", "<a", "</a b>", "<<a>>"])
def test_what_is_nearly_a_section_is_an_error(line: str) -> None:
    assert errors(line) == [f"a.wcl:1: {line}: expected <name>, <name part> or </name>, alone on its line"]


def test_sections_are_nested_within_reason() -> None:
    (error,) = errors("".join(f"<s{depth}>\n" for depth in range(100)))
    assert error == "a.wcl:51: <s50>: sections are nested more than 50 deep"


def test_a_file_of_another_encoding_is_read_with_a_warning() -> None:
    Path("a.wcl").write_bytes(b"# fine\na = caf\xe9\n")
    pipeline = read_wcl(Path("a.wcl"))
    assert pipeline.tree == {"a": "café"}
    assert [str(problem) for problem in pipeline.problems] == [
        "a.wcl:2: warning: is not UTF-8 from here on: read as Latin-1"
    ]


def test_a_byte_order_mark_means_nothing() -> None:
    assert tree("\ufeffa = 1") == {"a": "1"}


def test_a_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(PipelineError, match=r"b\.wcl: there is no such file"):
        read_wcl(Path("b.wcl"))


def test_a_folder_is_no_submit_file(folder: Path) -> None:
    with pytest.raises(PipelineError, match="is no file"):
        read_wcl(folder)


def test_only_wcl_is_read(folder: Path) -> None:
    for name in ("a.wcl", "a.des", "a.json", "a.toml", "a.py"):
        (folder / name).write_text("x = 1")
    read_names = [path.name for path in sorted(folder.iterdir()) if dbb_read_pipeline(path, {}) is not None]
    assert read_names == ["a.des", "a.wcl"]


def test_settings_win_over_the_file() -> None:
    pipeline = read("a = 1\n<m>\nb = 1\n</m>", {"A": "2", "m.b": "3", "new.c": "4"})
    assert pipeline.tree == {"a": "2", "m": {"b": "3"}, "new": {"c": "4"}}
    assert [str(pipeline.place(*path)) for path in [("a",), ("m",), ("m", "b"), ("new", "c")]] == [
        "--set:1",
        "a.wcl:2",
        "--set:2",
        "--set:3",
    ]


def test_a_setting_keeps_the_case_of_a_cmdline_key() -> None:
    assert read("", {"Exec_1.cmdline.C": "x"}).tree == {"exec_1": {"cmdline": {"C": "x"}}}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"m": "1"}, "--set:1: m: is a section, not a value; name a key in it: m.KEY=1"),
        ({"a": "2", "a.b": "1"}, "--set:2: a.b: a is a value, not a section"),
        ({"m..b": "1"}, "--set:1: 'm..b': expected a key, or sections and a key joined by dots"),
        ({"": "1"}, "--set:1: '': expected a key, or sections and a key joined by dots"),
    ],
)
def test_a_setting_that_fits_nowhere_is_an_error(settings: dict[str, str], problem: str) -> None:
    assert errors("a = 1\n<m>\nb = 1\n</m>", settings) == [problem]
