"""What is written as WCL is read as it was, or refused with the key that WCL cannot hold."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbb.errors import PipelineError
from dbb.pipeline.model import Data, Items, Tree
from dbb_plugins.wcl import read_wcl, write_wcl

ODD = " \t=#<>/\\\n\r\u00e9\u0130A$_1\x0b\x85"
KEYS = st.one_of(
    st.sampled_from(["a", "b", "cmdline", "replace", "exec_1", "C", "_01"]),
    st.text(alphabet=ODD + "ab", min_size=1, max_size=4),
)
VALUES = st.one_of(
    st.text(alphabet=ODD + "xy,:(){}", max_size=8),
    st.text(max_size=6),
    st.sampled_from(["", "<<include x>>", "<a>", "a\\", "k = v", "${x}", "x # y"]),
)
TREES: st.SearchStrategy[Any] = st.recursive(
    st.dictionaries(KEYS, VALUES, max_size=4),
    lambda inner: st.dictionaries(KEYS, st.one_of(VALUES, inner), max_size=4),
    max_leaves=8,
)


def read(text: str) -> Tree:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.wcl"
        path.write_text(text, encoding="utf-8", newline="")
        pipeline = read_wcl(path)
    assert pipeline.problems == ()
    return pipeline.tree


def in_order(tree: Any) -> Any:
    return [(key, in_order(value)) for key, value in tree.items()] if isinstance(tree, dict) else tree


@settings(deadline=None)
@given(TREES)
def test_reading_what_was_written_gives_the_same_in_the_same_order(tree: Tree) -> None:
    with contextlib.suppress(PipelineError):
        assert in_order(read(write_wcl(tree))) == in_order(tree)


PLAIN_KEYS = st.text(alphabet="abc_12.-", min_size=1, max_size=4)
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.dictionaries(
        PLAIN_KEYS, st.text(alphabet="aB,= ${}()\\:'\"<>é", max_size=8).map(lambda text: text.strip(" \\"))
    ),
    lambda inner: st.dictionaries(PLAIN_KEYS.map("s".__add__), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(PLAIN, st.integers(0, 1))
def test_every_plain_tree_can_be_written(tree: Tree, sort: int) -> None:
    tree = {"top": tree}
    with contextlib.suppress(PipelineError):
        assert read(write_wcl(tree, sort=bool(sort))) == tree
        return
    with pytest.raises(PipelineError, match=r"directly inside one of its own name|as an include"):
        write_wcl(tree)


def test_sections_are_indented_by_four_blanks() -> None:
    assert write_wcl({"a": {"b": {"c": "1"}, "empty": {}}, "d": ""}) == (
        "<a>\n    <b>\n        c = 1\n    </b>\n    <empty>\n    </empty>\n</a>\nd = #\n"
    )


def test_sorting_leaves_the_order_in_cmdline() -> None:
    assert write_wcl({"b": "1", "a": {"cmdline": {"z": "1", "s": {"y": "1", "x": "1"}, "A": "2"}}}, sort=True) == (
        "<a>\n    <cmdline>\n        z = 1\n        <s>\n            y = 1\n            x = 1\n        </s>\n"
        "        A = 2\n    </cmdline>\n</a>\nb = 1\n"
    )


@pytest.mark.parametrize(
    "value", ["a#b", "a\nb", "a\rb", " a", "a\t", "a\\", "<<include b>>", "x <<inclfunc f()>>", Data("8,6"), Items(())]
)
def test_a_value_that_wcl_cannot_hold_is_refused_with_its_key(value: Any) -> None:
    with pytest.raises(PipelineError, match=r"^m\.x cannot be written as WCL: "):
        write_wcl({"m": {"x": value}})


@pytest.mark.parametrize("key", ["", "a b", "a=b", "a#", "<a", "a>", "A", "a\u00a0b", "\ufeffa"])
def test_a_key_that_wcl_cannot_hold_is_refused(key: str) -> None:
    with pytest.raises(PipelineError, match="cannot be written as WCL: "):
        write_wcl({"m": {key: "x"}})


@pytest.mark.parametrize("tree", [{"m": {"m": {}}}, {"M": {}}, {"/m": {}}, {"cmdline": {"A": {}}}])
def test_a_section_that_wcl_cannot_hold_is_refused(tree: Tree) -> None:
    with pytest.raises(PipelineError, match="cannot be written as WCL: "):
        write_wcl(tree)


def test_sections_that_are_too_deep_to_be_read_are_refused() -> None:
    tree: Tree = {}
    for depth in range(60):
        tree = {f"s{depth}": tree}
    with pytest.raises(PipelineError, match="more than 50 deep"):
        write_wcl(tree)
