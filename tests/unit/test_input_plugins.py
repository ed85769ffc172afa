"""Inputs that plug-ins find or group: tables of files, patches with their neighbours, and plug-ins that go wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import date, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sections import section, unknown

from dbb.errors import PipelineError, UsageError
from dbb.hookspecs import hookimpl
from dbb.pipeline.inputs import group_lines, query_lines
from dbb.pipeline.section import Line, Section
from dbb.plugins import plugins

Answer = Callable[..., Any]


@pytest.fixture
def answering() -> Iterator[Callable[[str, Answer], None]]:
    """Make a hook answer something for the time of the test."""
    modules: list[ModuleType] = []

    def answer(hook: str, function: Answer) -> None:
        module = ModuleType(f"answers_{len(modules)}")
        function.__name__ = hook
        setattr(module, hook, hookimpl(function))
        modules.append(module)
        plugins().manager.register(module)

    yield answer
    for module in modules:
        plugins().manager.unregister(module)


def lines_of(one: Section) -> list[Line]:
    lines = query_lines(one, None, Path("/nonexistent"), unknown)
    assert lines is not None
    return list(lines)


def failure(one: Section) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        lines_of(one)
    return caught.value


def test_a_table_beside_the_submit_file_names_the_inputs(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("relpath,Visit,filter\nc/1.fits.fz,1,\nc/2.fits,2,HSC-R\n")
    lines = lines_of(
        section(query="table", table="${name}.csv", columns="img.fullname", folder=tmp_path, top={"name": "t"})
    )
    assert lines == [
        {"img": {"relpath": "c/1.fits.fz", "visit": "1", "filename": "1.fits", "compression": ".fz"}},
        {"img": {"relpath": "c/2.fits", "visit": "2", "filter": "HSC-R", "filename": "2.fits", "compression": ""}},
    ]


@pytest.mark.parametrize(
    ("keys", "says", "code"),
    [
        ({"query": "table"}, "query: it needs table = PATH: which table?", 2),
        ({"query": "table", "table": "x.csv"}, "There is no such file", 5),
        ({"query": "table", "table": "t.csv"}, "query = table: row 1: imgs has no filename", 2),
        ({"query": "table", "table": "empty.csv"}, "no lines: query = table found nothing", 5),
        ({"query": "nobody"}, "unknown query 'nobody'. Asked were the plug-ins inputs; see 'dbb plugins'", 5),
    ],
)
def test_a_question_without_an_answer_is_said(tmp_path: Path, keys: dict[str, str], says: str, code: int) -> None:
    (tmp_path / "t.csv").write_text("visit\n1\n")
    (tmp_path / "empty.csv").write_text("filename\n")
    error = failure(section(folder=tmp_path, **keys))
    assert says in str(error)
    assert str(error).startswith("module warp, list imgs: ")
    assert error.exit_code == code


def test_values_of_programs_become_texts(answering: Callable[[str, Answer], None]) -> None:
    row = {
        "filename": "a", "n": np.int64(7), "f": np.float32(0.5), "day": date(2013, 6, 17), "b": True, "none": None,
        "time": datetime(2013, 6, 17, 12, 30),  # noqa: DTZ001  # times of observations have no zone here
    }  # fmt: skip
    answering("dbb_query_inputs", lambda name: [row] if name == "mine" else None)
    assert lines_of(section("file", query="mine")) == [
        {
            "imgs": {
                "filename": "a", "n": "7", "f": "0.5", "day": "2013-06-17", "b": "True", "time": "2013-06-17T12:30:00",
                "compression": "",
            }
        }
    ]  # fmt: skip


def test_a_query_knows_the_keys_of_its_section(answering: Callable[[str, Answer], None], tmp_path: Path) -> None:
    asked: list[object] = []

    def answer(name: str, args: dict[str, str], registry: object) -> list[dict[str, str]]:
        asked.append((name, args, registry))
        return [{"filename": "a"}]

    answering("dbb_query_inputs", answer)
    lines_of(section(query="mine", x="${y}", folder=tmp_path, top={"y": "1,2"}))
    assert asked == [("mine", {"folder": str(tmp_path), "x": "1,2"}, None)]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda: 1 / 0, "a plug-in failed on 'mine' (dbb_query_inputs): ZeroDivisionError"),
        (lambda: 7, "query: query = mine: a plug-in gave 7: expected a sequence of rows"),
        (lambda: [7], "query = mine: row 1: expected files by nickname"),
        (lambda: [{"a": {"filename": "x"}, "b": 1}], "row 1: b stands beside files"),
        (lambda: [{"filename": "x", "y": {1}}], "row 1: imgs, y: expected a text or a number, not {1}"),
    ],
)
def test_a_plugin_that_breaks_its_promise_is_reported(
    answering: Callable[[str, Answer], None], answer: Callable[[], object], says: str
) -> None:
    answering("dbb_query_inputs", lambda name: answer())
    assert says in str(failure(section(query="mine")))


def coadds(*patches: str, **more: str) -> list[Line]:
    return [{"coadd": {"filename": patch, "patch": patch, "tract": "0", **more}} for patch in patches]


def test_neighbours_are_each_patch_with_those_around_it() -> None:
    lines = [*coadds("1x1", "1x2", "2x3", "8,6", filter="R"), *coadds("1x1", filter="I")]
    assert group_lines(section(), "neighbours", lines, ["tract", "patch", "filter"]) == {
        "0_1x1_R": [0, 1],
        "0_1x2_R": [0, 1, 2],
        "0_2x3_R": [1, 2],
        "0_8,6_R": [3],
        "0_1x1_I": [4],
    }


@pytest.mark.parametrize(
    ("lines", "keys", "says"),
    [
        (coadds("1x1"), ["tract"], "group_by: it needs patch among the keys of divide_by, which are tract"),
        (coadds("a"), ["patch"], "line 1: 'a' is no patch"),
        (coadds("1x1"), ["patch", "filter"], "line 1 has 0 values for filter"),
    ],
)
def test_lines_without_patches_have_no_neighbours(lines: list[Line], keys: list[str], says: str) -> None:
    with pytest.raises(PipelineError) as caught:
        group_lines(section(), "neighbours", lines, keys)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (dict, "expected at least one group"),
        (lambda: [[0]], "expected at least one group"),
        (lambda: {"a": []}, "gave group 'a' the lines []: expected some of 0..1"),
        (lambda: {"a": [0, 2]}, "gave group 'a' the lines [0, 2]"),
        (lambda: {"a": [-1]}, "gave group 'a' the lines [-1]"),
        (lambda: {"a": [True]}, "gave group 'a' the lines [True]"),
        (lambda: {"a": "01"}, "gave group 'a' the lines 01"),
        (lambda: sys.intern(7), "a plug-in failed on 'mine' (dbb_group_inputs): TypeError"),
    ],
)
def test_groups_of_lines_that_are_not_there_are_reported(
    answering: Callable[[str, Answer], None], answer: Callable[[], object], says: str
) -> None:
    answering("dbb_group_inputs", lambda name: answer())
    with pytest.raises(PipelineError) as caught:
        group_lines(section(), "mine", coadds("1x1", "1x2"), ["patch"])
    assert says in str(caught.value)
    assert str(caught.value).startswith("module warp, list imgs: group_by: ")


def test_an_unknown_grouping_is_named() -> None:
    with pytest.raises(PipelineError, match=r"unknown grouping 'nobody'\. Asked were the plug-ins inputs") as caught:
        group_lines(section(), "nobody", coadds("1x1"), ["patch"])
    assert caught.value.exit_code == 5


def test_an_error_of_a_plugin_of_our_own_kind_is_told_as_it_is(answering: Callable[[str, Answer], None]) -> None:
    def refuse(name: str) -> None:
        raise UsageError("no sky tonight")

    answering("dbb_query_inputs", refuse)
    assert str(failure(section(query="mine"))) == "module warp, list imgs: query: no sky tonight"
