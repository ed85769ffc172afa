"""What can be seen to be wrong in a submit file is told at once, with its place; what may be right is not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from dbb.pipeline.check import static_problems
from dbb.pipeline.model import Pipeline
from dbb_plugins.wcl import read_wcl

BASE: dict[str, Any] = {
    "reqnum": 11,
    "unitname": "Ht0",
    "visit": "1,2",
    "filename_pattern": {"visit_file": "${flabel}-${visit}.fits", "visit_list": "${flabel}-${visit}.list"},
    "directory_pattern": {"plain": {"runtime": "${rundir}", "ops": "run/${rundir}"}},
    "blocklist": "coadd",
    "block": {"coadd": {"modulelist": "first, warp"}},
    "module": {
        "first": {
            "exec_1": {"execname": "first.py", "was_generated_by": "file.raw"},
            "file": {"raw": {"filename": "raw.fits", "dirpat": "plain", "rundir": "raw"}},
        },
        "warp": {
            "wrapperloop": "visit",
            "loopobj": "list.imgs",
            "exec_1": {
                "execname": "warp.py",
                "cmd_hyphen": "alldouble",
                "cmdline": {"_01": "${list.imgs.fullname}", "out": "${file.warp.fullname}"},
                "used": "list.imgs.img, file.config",
                "was_generated_by": "file.warp",
                "ancestry": "list.imgs.img:file.warp, file.config:file.warp",
            },
            "file": {
                "img": {"listonly": "True", "dirpat": "plain", "rundir": "img"},
                "config": {"filename": "config.toml", "dirpat": "plain", "rundir": "config"},
                "warp": {
                    "filepat": "visit_file",
                    "flabel": "warp",
                    "dirpat": "plain",
                    "rundir": "warp",
                    "savefiles": "y",
                },
            },
            "list": {
                "imgs": {
                    "exec": "query.py",
                    "args": "--visit ${visit} --out ${qoutfile}",
                    "divide_by": "Visit",
                    "columns": "img.fullname, $FMT{%05d, visit} ccd",
                    "format": "textcsv",
                    "filepat": "visit_list",
                    "flabel": "imgs",
                    "dirpat": "plain",
                    "rundir": "list/${modulename}",
                }
            },
            "wrapper": {"per_file_cmdline": "list.imgs.img:--selectId ccd=$(ccd)"},
        },
    },
}


def changed(**changes: object) -> dict[str, Any]:
    """Return the base with values set, or taken out where they are None, by path with two underscores for a dot."""
    tree = copy.deepcopy(BASE)
    for name, value in changes.items():
        *path, key = name.split("__")
        section = tree
        for part in path:
            section = section.setdefault(part, {})
        if value is None:
            del section[key]
        else:
            section[key] = value
    return tree


def problems(**changes: object) -> list[str]:
    return [str(problem) for problem in static_problems(Pipeline.of(changed(**changes)))]


def warp(**changes: object) -> list[str]:
    """Return the problems when the module warp is changed, without their common beginning."""
    found = problems(**{f"module__warp__{name}": value for name, value in changes.items()})
    return [text.replace("error: module warp: ", "") for text in found]


def test_a_pipeline_that_is_right_has_no_problems() -> None:
    assert problems() == []


@pytest.mark.parametrize("key", ["reqnum", "unitname"])
def test_a_run_needs_a_name(key: str) -> None:
    assert problems(**{key: None}) == [f"error: {key} is missing: the run has no name without it"]


@pytest.mark.parametrize("key", ["reqnum", "attnum"])
def test_a_request_and_an_attempt_are_numbers(key: str) -> None:
    assert problems(**{key: "eleven"}) == [f"error: {key} = eleven: expected a number"]


def test_a_value_that_only_a_plan_knows_is_passed_over() -> None:
    assert problems(reqnum="${nobody_knows}") == []


def test_a_pipeline_has_blocks_and_modules() -> None:
    assert problems(block=None, module=None) == [
        "error: there is no section <block>, so there is nothing to plan",
        "error: there is no section <module>, so there is nothing to plan",
        "error: blocklist names 'coadd', but there is no such block",
    ]


def test_blocklist_is_needed() -> None:
    assert problems(blocklist=None) == ["error: blocklist is missing"]
    assert problems(blocklist=" ") == ["error: blocklist is empty"]


def test_a_block_that_is_not_there_is_told_with_those_that_are() -> None:
    assert problems(blocklist="coad") == ["error: blocklist names 'coad', but there is no such block; known: coadd"]


def test_a_block_needs_modules_that_are_there() -> None:
    assert problems(block__coadd__modulelist=None, block__coadd__other="1") == [
        "error: block coadd: modulelist is missing"
    ]
    assert problems(block__coadd__modulelist="first, wrap") == [
        "error: block coadd: there is no module 'wrap'; known: warp, first"
    ]


def test_a_module_that_no_block_runs_is_not_looked_at() -> None:
    assert problems(module__other={"exec_1": {"used": "nonsense"}}) == []


def test_a_module_needs_something_to_run() -> None:
    assert problems(module__first={"a": "1"}) == [
        "error: module first: it has no exec section <exec_1>, so nothing can run"
    ]


def test_a_module_that_only_asks_queries_runs_nothing() -> None:
    assert problems(module__first={"noop": "True"}) == []


def test_an_exec_section_without_number_is_not_run() -> None:
    assert warp(exec_b={"execname": "b"}) == ["warning: module warp: <exec_b> is not run: expected <exec_N>"]


def test_an_exec_needs_a_program() -> None:
    assert warp(exec_1__execname=None) == ["exec_1: execname is missing: which program is to run?"]


def test_hyphens_are_of_three_kinds() -> None:
    assert warp(exec_1__cmd_hyphen="double") == [
        "exec_1: cmd_hyphen = double: expected one of allsingle, alldouble, mixed_gnu"
    ]


@pytest.mark.parametrize("key", ["_x", "_", "_0", "_12345"])
def test_a_positional_argument_has_a_number(key: str) -> None:
    assert warp(**{f"exec_1__cmdline__{key}": "1"}) == [
        f"exec_1: {key}: expected _N or _N_NAME, N a number from 1 on, for a positional argument"
    ]


def test_two_positional_arguments_have_two_numbers() -> None:
    assert warp(exec_1__cmdline___1_b="1") == ["exec_1: _1_b and _01 are both argument number 1"]


def test_a_cmdline_is_a_section_of_options() -> None:
    assert warp(exec_1__cmdline="-v") == ["exec_1: cmdline is a value, but has to be a section"]
    assert warp(exec_1__cmdline__a={}) == ["exec_1: <a> inside cmdline: expected options only"]


@pytest.mark.parametrize("item", ["warp", "file", "file.", "list.imgs", "file.a.b.c", "lists.imgs.img"])
def test_a_reference_names_a_file_or_the_files_of_a_list(item: str) -> None:
    assert warp(exec_1__used=f"list.imgs.img, file.config, {item}") == [
        f"exec_1, used: {item!r} is neither file.NICK nor list.NAME.NICK"
    ]


def test_a_file_that_only_lists_bring_is_not_referred_to_by_itself() -> None:
    assert warp(exec_1__used="list.imgs.img, file.config, file.img") == [
        "warning: module warp: exec_1, used: file.img means no file, as that section is listonly: write list.NAME.img"
    ]


def test_a_reference_may_say_fullname_as_real_files_do() -> None:
    assert warp(exec_1__used="list.imgs.img, file.config.fullname") == []


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ("file.wrap", "there is no file section 'wrap'; known: warp, config, img"),
        ("list.img.img", "there is no list section 'img'; known: imgs"),
        ("list.imgs.imgs", "there is no file section 'imgs'; known: img, config, warp"),
    ],
)
def test_a_reference_leads_somewhere(item: str, problem: str) -> None:
    assert warp(exec_1__used=f"list.imgs.img, file.config, {item}") == [f"exec_1, used: {item}: {problem}"]
    assert warp(exec_1__was_generated_by=f"file.warp, {item}") == [f"exec_1, was_generated_by: {item}: {problem}"]


@pytest.mark.parametrize(
    ("pair", "problem"),
    [
        ("file.warp", "'file.warp': expected PARENT:CHILD, each file.NICK or list.NAME.NICK"),
        ("file.config:warp", "'warp' is neither file.NICK nor list.NAME.NICK"),
        ("file.no:file.warp", "there is no file section 'no'; known: config, img, warp"),
        ("file.spare:file.warp", "file.spare is neither input nor output of the module"),
        ("file.warp:file.config", "file.config is no output of the module"),
    ],
)
def test_ancestry_joins_inputs_and_outputs(pair: str, problem: str) -> None:
    spare = {} if "spare" not in pair else {"file__spare": {"filename": "a"}}
    assert warp(exec_1__ancestry=pair, **spare) == [f"exec_1, ancestry: {problem}"]


def test_an_output_of_an_earlier_exec_may_be_a_parent() -> None:
    second = {"execname": "b", "used": "file.warp", "was_generated_by": "file.b", "ancestry": "file.config:file.b"}
    assert warp(exec_2=second, file__b={"filename": "b"}) == []


def test_two_programs_cannot_write_one_file() -> None:
    assert warp(exec_2={"execname": "b", "was_generated_by": "file.warp"}) == [
        "exec_2: file.warp is generated by exec_1 already: two programs cannot write one file"
    ]


def test_a_file_section_says_which_file_it_is() -> None:
    (problem,) = warp(file__config__filename=None)
    assert problem.startswith("file config: nothing says which file this is: give filename, filepat, fullname, a query")


def test_a_file_that_lists_bring_needs_no_name() -> None:
    assert warp(file__img__listonly=None) == []


@pytest.mark.parametrize("source", ["exec", "query_fields", "where", "id", "query", "calibs", "fullname"])
def test_a_file_may_be_named_in_many_ways(source: str) -> None:
    assert warp(file__config__filename=None, **{f"file__config__{source}": "x"}) == []


def test_patterns_are_those_that_there_are() -> None:
    assert warp(file__warp__filepat="visit_fil", list__imgs__dirpat="plan") == [
        "file warp: there is no filename_pattern 'visit_fil'; known: visit_file, visit_list, log",
        "list imgs: there is no directory_pattern 'plan'; known: plain, list, log",
    ]


def test_a_pattern_may_be_named_by_a_variable() -> None:
    assert warp(file__warp__filepat="visit_${what}", what="file") == []
    assert warp(file__warp__filepat="visit_${what}", what="files") == [
        "file warp: there is no filename_pattern 'visit_files'; known: visit_file, visit_list, log"
    ]


@pytest.mark.parametrize("loopobj", ["list.img", "imgs", "file.no"])
def test_the_loop_goes_over_a_section_that_is_there(loopobj: str) -> None:
    assert warp(loopobj=loopobj) == [f"loopobj = {loopobj}: there is no such section; expected list.NAME or file.NICK"]


def test_loop_and_data_have_the_same_names_in_any_order() -> None:
    assert warp(wrapperloop="ccd, visit", list__imgs__divide_by="visit, ccd") == []
    assert warp(wrapperloop="ccd, visit") == [
        "wrapperloop names ccd, visit, but list.imgs has divide_by = visit: both must have the same names (ccd differ)"
    ]
    assert warp(list__imgs__divide_by=None) == [
        "wrapperloop names visit, but list.imgs has no divide_by: both must have the same names (visit differ)"
    ]


def test_the_names_of_groups_need_not_be_those_of_the_loop() -> None:
    assert warp(wrapperloop="group", list__imgs__group_by="pairs") == []


def test_a_loop_over_written_values_needs_them() -> None:
    assert warp(loopobj=None, wrapperloop="visit, ccd") == [
        "wrapperloop: ccd has no value, and no loopobj with data brings it"
    ]


def test_a_loop_object_without_data_leaves_the_loop_to_the_written_values() -> None:
    assert warp(loopobj="file.warp", wrapperloop="visit") == []


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("first", "expected MODULE.file.NICK or MODULE.list.NAME.NICK"),
        ("frist.file.raw", "there is no module 'frist'; known: first, later, warp"),
        ("later.file.raw", "module later does not run before this one"),
        ("first.file.rew", "module first has no file section 'rew'"),
        ("first.list.raw", "module first has no list section 'raw'"),
    ],
)
def test_data_come_from_a_section_of_an_earlier_module(value: str, problem: str) -> None:
    later = {"exec_1": {"execname": "x"}, "file": {"raw": {"filename": "x"}}}
    tree = changed(module__later=later, block__coadd__modulelist="first, warp, later")
    tree["module"]["warp"]["file"]["config"] = {"depends": f"first.file.raw, {value}"}
    assert [str(one) for one in static_problems(Pipeline.of(tree))] == [
        f"error: module warp: file config: depends = {value}: {problem}"
    ]


def test_new_names_may_come_from_the_module_itself() -> None:
    tree = changed(module__warp__list__new={"depends-newname": "warp.list.imgs"})
    assert static_problems(Pipeline.of(tree)) == []


def test_a_column_is_of_a_file_that_has_a_section() -> None:
    (problem,) = warp(list__imgs__columns="image.fullname visit")
    assert problem.startswith("list imgs: column image.fullname: there is no file section 'image'")


def test_a_column_of_what_the_query_brings_needs_no_section() -> None:
    assert warp(list__imgs__columns="image.mag_zero") == []


def test_the_format_of_a_list_is_a_known_one() -> None:
    assert warp(list__imgs__format="csv") == [
        "list imgs: format = csv: expected one of textsp, textcsv, texttab, wcl, config, json"
    ]


def test_a_list_is_named_by_a_pattern() -> None:
    assert warp(list__imgs__filename="a.list") == [
        "list imgs: a list is named by filepat: filename is for file sections"
    ]


@pytest.mark.parametrize("rundir", ["lists", "list/${visit}"])
def test_a_list_that_wants_a_folder_of_its_own_is_warned_of(rundir: str) -> None:
    (warning,) = warp(list__imgs__rundir=rundir)
    assert warning.startswith("warning: module warp: list imgs: lists go to list/warp, as directory_pattern list says")


@pytest.mark.parametrize("rundir", ["list/warp", "${unknown}"])
def test_a_list_that_names_the_folder_of_lists_is_right(rundir: str) -> None:
    assert warp(list__imgs__rundir=rundir) == []
    assert warp(list__imgs__dirpat=None) == []


def test_a_list_may_be_divided_by_columns() -> None:
    parts = {"one": {"columns": "img.fullname"}, "two": {"columns": "img.fullname", "filepat": "no"}}
    assert warp(list__imgs__div_list_by_col=parts, exec_1__used="list.one.img, file.config") == [
        "list two: there is no filename_pattern 'no'; known: log, visit_file, visit_list"
    ]


@pytest.mark.parametrize("value", ["--id ccd=$(ccd)", "list.imgs:x", "list.imgs.img:", "file.img:x"])
def test_arguments_per_file_have_one_form(value: str) -> None:
    assert warp(wrapper__per_file_cmdline=value) == [
        f"per_file_cmdline: {value!r}: expected list.NAME.FILE:TEXT, such as list.corr.img:--id ccd=$(ccd)"
    ]


def test_added_arguments_have_one_form() -> None:
    assert warp(wrapper__add_cmdline="join(list.imgs.img.ccd)") == [
        "add_cmdline: 'join(list.imgs.img.ccd)': expected 'SEPARATOR'.join(list.NAME.FILE.COLUMN)"
    ]


def test_arguments_come_from_a_list_that_is_there() -> None:
    added = {"add_cmdline": "'^'.join(list.b.img.ccd)", "per_file_cmdline": "list.a.img:x"}
    assert warp(wrapper=added) == [
        "per_file_cmdline: there is no list 'a'; known: imgs",
        "add_cmdline: there is no list 'b'; known: imgs",
    ]


@pytest.mark.parametrize("key", ["savefiles", "compress_files", "optional", "listonly", "ignore_multiple_error"])
def test_what_is_true_or_false_is_nothing_else(key: str) -> None:
    assert warp(**{f"file__config__{key}": "maybe"}) == [f"file config: {key} = maybe: expected True or False"]


def test_a_key_that_is_nearly_a_known_one_is_asked_about() -> None:
    assert warp(loopobject="list.imgs", loopobj=None, file__config__compressfiles="True") == [
        "warning: loopobject means nothing here, and no ${loopobject} uses it: did you mean loopobj?",
        "warning: compressfiles means nothing here, and no ${compressfiles} uses it: did you mean compress_files?",
    ]


def test_a_section_that_is_nearly_a_known_one_is_asked_about() -> None:
    assert warp(wrapper=None, wrappers={"a": "1"}) == [
        "warning: wrappers means nothing here, and no ${wrappers} uses it: did you mean wrapper?"
    ]
    assert warp(wrapper=None, wrappers={"a": "1"}, exec_1__cmdline__a="${module.warp.wrappers.a}") == []


def test_a_key_beside_the_known_one_is_not_asked_about() -> None:
    assert warp(loopobject="list.imgs") == []
    assert warp(modnamepat_tile="x") == []


@pytest.mark.parametrize("user", ["${compressfiles}", "$opt{file.config.compressfiles}", "$(compressfiles)"])
def test_a_key_that_something_uses_is_the_operators_own(user: str) -> None:
    assert warp(file__config__compressfiles="True", exec_1__cmdline__x=user) == []


def test_a_key_that_a_query_asks_for_is_the_operators_own() -> None:
    assert warp(list__imgs__filetypes="x", list__imgs__query_fields="filetypes") == []
    assert len(warp(list__imgs__filetypes="x")) == 1


def test_an_absolute_path_is_warned_of() -> None:
    (problem,) = warp(exec_1__cmdline__a="--x=/data/words", exec_1__cmdline__b="1/2", exec_1__cmdline__c="a://b")
    assert problem.startswith("warning: module warp: a has the absolute path /data/words, which may not be there")


def test_sections_are_no_values() -> None:
    assert warp(file="x", exec_1__used="list.imgs.img", exec_1__was_generated_by=None, exec_1__ancestry=None)[0] == (
        "file is a value, but has to be a section"
    )
    assert "list a is a value, but has to be a section" in warp(list__a="x")
    assert "file a is a value, but has to be a section" in warp(file__a="x")


def test_a_module_of_two_blocks_is_told_of_once() -> None:
    blocks = {"coadd": {"modulelist": "first, warp"}, "again": {"modulelist": "warp"}}
    assert problems(block=blocks, blocklist="coadd, again", module__warp__list__imgs__format="x") == [
        "error: module warp: list imgs: format = x: expected one of textsp, textcsv, texttab, wcl, config, json"
    ]


def test_every_problem_has_file_and_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.wcl").write_text(
        "reqnum = x\nblocklist = b\n<block b>\nmodulelist = m, n\n</block>\n<module m>\n<exec_1>\nused = file.a\n"
        "</exec_1>\n<file a>\nfilename = a\nsavefile = True\noptional = perhaps\n</file>\n</module>\n"
    )
    assert [str(problem) for problem in static_problems(read_wcl(Path("a.wcl")))] == [
        "a.wcl:1: error: reqnum = x: expected a number",
        "error: unitname is missing: the run has no name without it",
        "a.wcl:7: error: module m: exec_1: execname is missing: which program is to run?",
        "a.wcl:13: error: module m: file a: optional = perhaps: expected True or False",
        "a.wcl:4: error: block b: there is no module 'n'; known: m",
        "a.wcl:12: warning: savefile means nothing here, and no ${savefile} uses it: did you mean savefiles?",
    ]
