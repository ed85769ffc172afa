"""Command lines of exec sections: options, positional arguments, flags, lists, spelling of patches."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbb.errors import MissingVariableError, PipelineError, VariableError
from dbb.pipeline.cmdline import Command, compile_command
from dbb.pipeline.listfiles import ListText
from dbb.pipeline.model import Data, Pipeline, Place
from dbb.pipeline.scope import Scope
from dbb.pipeline.values import Hole

CORR = ListText(
    ("img.fullname", "patch", "ccd", "filter"),
    [("c/1.fits", "8,6", "10", "HSC-R"), ("c/2.fits", "8,6", "4", "HSC-I"), ("c/3.fits", "8,7", "4", "HSC-R")],
    "",
    ("img",),
)

PIECES = [
    "${a}",
    "${b:3}",
    "$opt{x}",
    "${a_${b}}",
    "${ccd}",
    "$(ccd)",
    "$HEAD{a,b}",
    "$HEAD{${ccd},K}",
    "list.corr.img:",
]


def _command(cmdline: dict[str, Any], late: str = "", wrapper: dict[str, Any] | None = None, **more: Any) -> Command:
    exec_keys = {key: more.pop(key) for key in ("execname", "cmd_hyphen", "args_file") if key in more}
    style = more.pop("patch_style", None)
    tree = Pipeline.of({"execname": "p", **exec_keys, "cmdline": cmdline}).tree
    scope = Scope(Pipeline.of(more).tree, late={name: Hole(name) for name in late.split()})
    return compile_command(tree, scope, Pipeline.of(wrapper or {}).tree, patch_style=style)


def _argv(cmdline: dict[str, Any], values: dict[str, str] | None = None, **more: Any) -> list[Any]:
    values = values or {}
    return _command(cmdline, " ".join(values), **more).argv(values, {"corr": CORR})


def test_options_come_in_the_order_written() -> None:
    assert _argv({"z": "1", "a": "2", "m": "3"}) == ["p", "-z", "1", "-a", "2", "-m", "3"]


@pytest.mark.parametrize(
    ("hyphen", "expected"),
    [
        (None, ["-v", "-long"]),
        ("allsingle", ["-v", "-long"]),
        ("alldouble", ["--v", "--long"]),
        ("mixed_gnu", ["-v", "--long"]),
    ],
)
def test_hyphens_are_as_the_exec_says(hyphen: str | None, expected: list[str]) -> None:
    more = {} if hyphen is None else {"cmd_hyphen": hyphen}
    assert _argv({"v": "_flag", "long": "_flag"}, **more)[1:] == expected


def test_another_kind_of_hyphens_is_an_error_that_lists_the_kinds() -> None:
    with pytest.raises(PipelineError, match="exec_1, cmd_hyphen: 'single': expected allsingle, alldouble or mixed_gnu"):
        _command({}, cmd_hyphen="single")


def test_a_variable_can_turn_out_to_be_a_flag() -> None:
    assert _argv({"v": "${verbose}", "x": "1"}, verbose="_flag") == ["p", "-v", "-x", "1"]


def test_a_loop_value_is_never_a_flag() -> None:
    assert _argv({"v": "${mode}"}, {"mode": "_flag"}) == ["p", "-v", "_flag"]


def test_variables_in_the_name_of_the_program_are_replaced() -> None:
    assert _argv({}, {"band": "g"}, execname="${tool}_${band}.py -u", tool="warp") == ["warp_g.py", "-u"]


def test_an_exec_without_a_program_is_an_error() -> None:
    with pytest.raises(PipelineError, match="exec_1, execname: there is none"):
        compile_command({}, Scope({}), {})


def test_an_exec_without_options_is_just_the_program() -> None:
    assert compile_command({"execname": "/bin/hostname"}, Scope({}), {}).argv({}, {}) == ["/bin/hostname"]


def test_positional_arguments_stand_at_their_number_counting_program_and_options() -> None:
    assert _argv({"_2_b": "two", "x": "1", "_1": "one", "y": "2"}) == ["p", "one", "two", "-x", "1", "-y", "2"]
    assert _argv({"_2": "two", "x": "1", "y": "2"}) == ["p", "-x", "1", "two", "-y", "2"]


def test_positional_arguments_are_in_order_of_their_numbers_not_of_their_text() -> None:
    numbers = {f"_{number}": f"v{number}" for number in (10, 2, 1, 9, 3, 4, 5, 6, 7, 8)}
    assert _argv(numbers) == ["p", *[f"v{number}" for number in range(1, 11)]]


def test_positional_numbers_past_the_end_come_last() -> None:
    assert _argv({"_5": "far", "_1": "near", "x": "1"}) == ["p", "near", "-x", "1", "far"]


@pytest.mark.parametrize("key", ["_x", "_", "_0", "_00_in"])
def test_a_positional_argument_without_a_number_is_an_error(key: str) -> None:
    with pytest.raises(PipelineError, match=f"exec_1, cmdline, {key}: expected _N or _N_NAME"):
        _command({key: "1"})


def test_two_positional_arguments_with_one_number_are_an_error() -> None:
    with pytest.raises(PipelineError, match="cmdline, _1_b: there is another positional argument number 1"):
        _command({"_01_a": "1", "_1_b": "2"})


def test_an_option_whose_optional_value_is_missing_stands_alone() -> None:
    assert _argv({"d": "$opt{nothing}", "e": "1"}) == ["p", "-d", "-e", "1"]


def test_an_optional_value_that_is_there_is_used() -> None:
    assert _argv({"a": "$opt{have}", "c": "$opt{have}${have}"}, have="one") == ["p", "-a", "one", "-c", "oneone"]


def test_the_text_of_the_operator_is_split_and_values_are_not() -> None:
    values = {"target": "NGC 1, 'A'", "patch": "8,6"}
    argv = _argv({"id": 'patch=${patch} "two words" ${text} obj=${target}'}, values, text="three more words")
    assert argv == ["p", "-id", "patch=8,6", "two words", "three", "more", "words", "obj=NGC 1, 'A'"]


def test_a_list_given_by_a_program_is_one_word() -> None:
    assert _argv({"a": ["x y", "z"], "b": Data("u v ${w}")}) == ["p", "-a", "x y,z", "-b", "u v ${w}"]


@given(st.text(st.characters(exclude_characters="\0"), min_size=1))
def test_no_loop_value_changes_the_number_of_arguments(value: str) -> None:
    argv = _argv({"id": "tract=${t} x", "o": "'${t}'", "_1": "${t}"}, {"t": value})
    assert argv == ["p", value, "-id", f"tract={value}", "x", "-o", value]


def test_dotted_names_are_filled_by_the_quantum() -> None:
    values = {"file.red.fullname": "red/a b.fits", "list.corr.fullname": "list/c.list"}
    argv = _argv({"_1": "${file.red.fullname}[0]", "l": "@${list.corr.fullname}"}, values)
    assert argv == ["p", "red/a b.fits[0]", "-l", "@list/c.list"]


def test_a_header_value_stays_for_the_running_step() -> None:
    argv = _argv({"g": "$HEAD{${file.a.fullname},GAIN}"}, {"file.a.fullname": "a.fits"})
    assert argv == ["p", "-g", {"head": {"file": "a.fits", "keys": ["GAIN"]}}]


def test_a_padded_number_is_padded() -> None:
    assert _argv({"n": "${num:4}_${ccd:2}"}, {"ccd": "7"}, num="12") == ["p", "-n", "0012_07"]


def test_a_missing_variable_is_named_with_its_key() -> None:
    with pytest.raises(MissingVariableError, match=r"exec_1, cmdline, a: \$\{nope\} has no value"):
        _command({"a": "${nope}"})


def test_a_loop_value_that_cannot_be_padded_names_the_exec() -> None:
    with pytest.raises(VariableError, match=r"exec_1: \$\{ccd:2\} needs an integer"):
        _argv({"a": "${ccd:2}"}, {"ccd": "x"})


def test_the_name_of_a_variable_may_depend_on_a_loop_value() -> None:
    command = _command({"t": "${time_${band}}"}, "band", time_g="10 s", time_r="20")
    assert command.argv({"band": "g"}, {}) == ["p", "-t", "10", "s"]
    assert command.argv({"band": "r"}, {}) == ["p", "-t", "20"]


def test_the_name_of_a_variable_cannot_depend_on_a_file() -> None:
    values = {"file.a.fullname": "x"}
    with pytest.raises(PipelineError, match="the name of a variable may depend on loop values"):
        _argv({"t": "${time_${file.a.fullname}}"}, values)


@pytest.mark.parametrize("value", ["${band}", "${x_${band}}"])
def test_what_holds_for_the_module_cannot_depend_on_a_loop_value(value: str) -> None:
    for more in ({"cmd_hyphen": value}, {"args_file": value}, {"wrapper": {"add_cmdline": value}}):
        with pytest.raises(PipelineError, match="it has to be the same for the whole module"):
            _command({}, "band", **more)


SHAPES = st.lists(st.sampled_from([*"ab${}():._,'\"\\=% 1", *PIECES]), max_size=8).map("".join)


@given(SHAPES, SHAPES, SHAPES, SHAPES, st.sampled_from([None, "comma"]))
def test_whatever_is_written_gives_arguments_or_an_error_of_ours(
    key: str, text: str, per_file: str, add: str, style: str | None
) -> None:
    wrapper = {"per_file_cmdline": f"list.corr.img:{per_file}", "add_cmdline": f"'{add}'.join(list.corr.img.{text})"}
    values = {"ccd": "7"}
    for given_wrapper in (wrapper, {"per_file_cmdline": add}, {"add_cmdline": per_file}):
        with contextlib.suppress(PipelineError):
            assert _argv({key: text}, values, wrapper=given_wrapper, execname=add, patch_style=style, a="1", b="2,3")


def test_an_error_has_the_place_of_its_key() -> None:
    def place(*path: str) -> Place:
        return Place("/".join(path), 3)

    with pytest.raises(PipelineError) as caught:
        compile_command({"execname": "p", "cmdline": {"a": "'"}}, Scope({}), {}, name="exec_2", place=place)
    assert str(caught.value).startswith("exec_2/cmdline/a:3: exec_2, cmdline, a: ")
    with pytest.raises(PipelineError) as caught:
        compile_command({"execname": "p"}, Scope({}), {"per_file_cmdline": "x"}, place=place)
    assert str(caught.value).startswith("wrapper/per_file_cmdline:3: exec_1, wrapper, per_file_cmdline: ")


def test_whether_arguments_may_go_to_a_file_is_said_by_the_exec() -> None:
    assert [_command({}, args_file=value).args_file for value in ("True", "false")] == [True, False]
    assert not _command({}).args_file
    with pytest.raises(PipelineError, match="args_file: 'maybe': expected True or False"):
        _command({}, args_file="maybe")


@pytest.mark.parametrize(("style", "expected"), [("comma", "8,6"), ("x", "8x6"), (None, "8x6")])
def test_patches_of_loops_are_spelled_as_the_pipeline_says(style: str | None, expected: str) -> None:
    argv = _argv(
        {"id": "patch=${patch}", "f": "${a_${patch}}"}, {"patch": "8x6"}, patch_style=style, **{f"a_{expected}": "1"}
    )
    assert argv == ["p", "-id", f"patch={expected}", "-f", "1"]


@pytest.mark.parametrize(("style", "expected"), [("comma", "8,6"), ("x", "8x6"), (None, "8,6")])
def test_a_patch_that_the_operator_wrote_is_spelled_as_the_pipeline_says(style: str | None, expected: str) -> None:
    assert _argv({"id": "patch=${patch}"}, patch="8,6", patch_style=style) == ["p", "-id", f"patch={expected}"]


def test_several_patches_and_what_is_no_patch() -> None:
    assert _argv({"p": "${patch}"}, {"patch": "8x6^8x7"}, patch_style="comma") == ["p", "-p", "8,6^8,7"]
    assert _argv({"p": "${patch}"}, {"patch": "all"}, patch_style="comma") == ["p", "-p", "all"]


def test_a_patch_made_of_loop_values_cannot_be_spelled() -> None:
    with pytest.raises(PipelineError, match=r"exec_1, patch_style: '\$\{patch\}': it has to be the same"):
        _command({}, "px", patch="${px},6", patch_style="x")


def test_another_style_of_patches_is_an_error() -> None:
    with pytest.raises(PipelineError, match="patch_style = dots: expected comma or x"):
        _command({}, patch_style="dots")


def _per_file(text: str) -> dict[str, str]:
    return {"per_file_cmdline": text}


@pytest.mark.parametrize("column", ["$(ccd)", "${ccd}", "$(img.ccd)", "${img.ccd}", "$(CCD)"])
def test_each_line_of_a_list_adds_its_words(column: str) -> None:
    argv = _argv({"_1": "repo"}, wrapper=_per_file(f"list.corr.img:--selectId v=${{visit}} ccd={column}"), visit="9")
    added = [["--selectId", "v=9", f"ccd={row[2]}"] for row in CORR.rows]
    assert argv == ["p", "repo", *[word for words in added for word in words]]


def test_the_text_for_a_line_may_hold_colons() -> None:
    assert _argv({}, wrapper=_per_file("list.corr.img:a:$(ccd):b")) == ["p", "a:10:b", "a:4:b", "a:4:b"]


def test_columns_win_over_loop_values_which_fill_in() -> None:
    argv = _argv({}, {"ccd": "99", "visit": "7"}, wrapper=_per_file("list.corr.img:$(visit)-$(ccd:3)"))
    assert argv == ["p", "7-010", "7-004", "7-004"]


def test_values_of_columns_are_never_split() -> None:
    rows = ListText(("img.fullname", "obj"), [("a b.fits", "x, 'y")], "", ("img",))
    command = _command({}, wrapper=_per_file("list.corr.img:$(fullname) obj=$(obj) '$(obj)'"))
    assert command.argv({}, {"corr": rows}) == ["p", "a b.fits", "obj=x, 'y", "x, 'y"]


def test_patches_of_columns_are_spelled_too() -> None:
    argv = _argv({}, wrapper=_per_file("list.corr.img:$(patch)"), patch_style="x")
    assert argv == ["p", "8x6", "8x6", "8x7"]


def test_the_one_file_of_a_list_serves_under_any_nick() -> None:
    assert _argv({}, wrapper=_per_file("list.corr.other:$(other.fullname)")) == [
        "p",
        "c/1.fits",
        "c/2.fits",
        "c/3.fits",
    ]


def test_of_several_files_the_nick_must_be_one() -> None:
    several = ListText(("a.ccd", "b.ccd"), [("1", "2")], "", ("a", "b"))
    assert _command({}, wrapper=_per_file("list.l.b:$(ccd)$(a.ccd)")).argv({}, {"l": several}) == ["p", "21"]
    with pytest.raises(PipelineError, match="the list has no file 'c'; known: a, b"):
        _command({}, wrapper=_per_file("list.l.c:$(ccd)")).argv({}, {"l": several})


def test_names_of_variables_for_a_line_may_depend_on_loop_values() -> None:
    argv = _argv({}, {"band": "g"}, wrapper=_per_file("list.corr.img:${k_${band}}$(ccd)"), k_g="x")
    assert argv == ["p", "x10", "x4", "x4"]


def test_names_of_variables_for_a_line_cannot_depend_on_columns() -> None:
    with pytest.raises(PipelineError, match="per_file_cmdline: the name of a variable may depend on loop values"):
        _argv({}, wrapper=_per_file("list.corr.img:${k_$(ccd)}"))


@pytest.mark.parametrize("text", ["list.corr:$(ccd)", "list.corr.img", "list.corr.img:", "file.img:--id", "x"])
def test_a_malformed_per_file_cmdline_says_what_was_expected(text: str) -> None:
    with pytest.raises(PipelineError, match=r"per_file_cmdline: .*expected list\.NAME\.FILE:TEXT"):
        _command({}, wrapper=_per_file(text))


def test_a_list_or_column_that_is_not_there_is_named() -> None:
    with pytest.raises(PipelineError, match="per_file_cmdline: there is no list 'cor'; known: corr"):
        _argv({}, wrapper=_per_file("list.cor.img:$(ccd)"))
    with pytest.raises(MissingVariableError, match=r"per_file_cmdline: \$\{detector\} has no value"):
        _argv({}, wrapper=_per_file("list.corr.img:$(detector)"))
    with pytest.raises(PipelineError, match="add_cmdline: list corr has no column 'fliter'; known: filter"):
        _argv({}, wrapper={"add_cmdline": "'^'.join(list.corr.img.fliter)"})


def test_different_values_of_a_column_are_joined_and_glued_to_the_last_argument() -> None:
    argv = _argv({"id": "tract=0 filter="}, wrapper={"add_cmdline": "'^'.join(list.corr.img.filter)"})
    assert argv == ["p", "-id", "tract=0", "filter=HSC-R^HSC-I"]


def test_joined_patches_are_spelled_as_the_pipeline_says() -> None:
    wrapper = {"add_cmdline": '"^".join(list.corr.img.patch)'}
    assert _argv({"id": "patch="}, wrapper=wrapper, patch_style="x") == ["p", "-id", "patch=8x6^8x7"]


def test_a_blank_as_separator_makes_words_but_never_of_one_value() -> None:
    rows = ListText(("img.fullname",), [("a b.fits",), ("c.fits",)], "", ("img",))
    command = _command({"in": "@"}, wrapper={"add_cmdline": "' '.join(list.l.img.fullname)"})
    assert command.argv({}, {"l": rows}) == ["p", "-in", "@a b.fits", "c.fits"]


def test_joined_values_are_the_value_of_an_option_that_has_none() -> None:
    argv = _argv({"filter": "$opt{nothing}"}, wrapper={"add_cmdline": "'^'.join(list.corr.img.filter)"})
    assert argv == ["p", "-filter", "HSC-R^HSC-I"]


def test_the_words_of_each_line_come_before_the_joined_values() -> None:
    wrapper = {**_per_file("list.corr.img:c=$(ccd)"), "add_cmdline": "'+'.join(list.corr.img.ccd)"}
    assert _argv({}, wrapper=wrapper) == ["p", "c=10", "c=4", "c=410+4"]


@pytest.mark.parametrize("text", ["^.join(list.corr.img.filter)", "'^'.join(list.corr.filter)", "'^' + list.corr", "x"])
def test_a_malformed_add_cmdline_says_what_was_expected(text: str) -> None:
    with pytest.raises(PipelineError, match=r"add_cmdline: .*expected 'SEPARATOR'\.join"):
        _command({}, wrapper={"add_cmdline": text})
