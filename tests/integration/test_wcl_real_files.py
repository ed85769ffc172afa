"""Real submit files of DESDM are read as its own reader does, but for the differences that docs/wcl.md lists."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from dbb.errors import PipelineError
from dbb.pipeline.model import Pipeline, Tree, Value
from dbb.pipeline.values import variables
from dbb_plugins.wcl import read_wcl, write_wcl

SHARED = Path(__file__).resolve().parents[3] / "shared"
CASES = sorted(path.stem for path in SHARED.glob("desdm_cases/parse/*.wcl"))
REAL = sorted(
    str(path.relative_to(SHARED / "desdm_wcl"))
    for suffix in ("wcl", "des")
    for path in SHARED.glob(f"desdm_wcl/**/*.{suffix}")
)
BETTER: dict[str, Any] = {
    "003_equals_signs": {
        "a": "b = c",
        "a1": "b=c",
        "id": "tract=${tract} patch=${patch}",
        "nospace": "x=y",
        "c": "doApplyUberCal=False",
        "double": "=b",
        "spaced": "=b",
    },
}
"""Where the tree is another on purpose."""
REFUSED = {
    "015_section_three_words": "<x y z>: expected <name>, <name part> or </name>",
    "023_section_on_one_line": "<a> x = 1 </a>: expected <name>",
    "035_err_include_in_cmdline_text": "LIST = <<include inc_b.inc>>: expected <<include FILE>>, alone on its line",
}
"""What DESDM reads as something that nobody can mean."""
EMPTY_IS_WRITTEN_AS_COMMENT = re.compile(r"^( *\S+ =) $", re.MULTILINE)


@pytest.fixture
def case_folder(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cases, with the include file that belongs to them but is not among them."""
    folder = shutil.copytree(shared / "desdm_cases/parse", tmp_path / "parse")
    if not (folder / "inc_b.inc").exists():
        (folder / "inc_b.inc").write_text("from_b = 1\nfirst = overridden by b\n")
    monkeypatch.chdir(folder)
    return folder


def in_order(tree: Value) -> object:
    return [(key, in_order(value)) for key, value in tree.items()] if isinstance(tree, dict) else tree


def needed(tree: Tree) -> set[str]:
    """Return the names of all ``${…}`` in a tree."""
    names: set[str] = set()
    for value in tree.values():
        if isinstance(value, dict):
            names |= needed(value)
        else:
            names |= {name for kind, name in variables(str(value)) if not kind}
    return names


def expected_of(path: Path) -> Any:
    return json.loads(path.with_name(f"{path.name}.expected.json").read_text(encoding="utf-8"))


def compare(pipeline: Pipeline, expected: Any, tree: Any) -> None:
    assert in_order(pipeline.tree) == in_order(tree)
    nested = {"y_${z": "z"}  # DESDM takes the inner variable of ${y_${z}} for a part of the name
    assert needed(pipeline.tree) == {nested.get(name, name) for name in expected["variables_used"]}
    if tree == expected["tree"]:
        for sort, key in [(False, "written"), (True, "written_sorted")]:
            text = EMPTY_IS_WRITTEN_AS_COMMENT.sub(r"\1 #", expected[key])
            assert write_wcl(pipeline.tree, sort=sort) == text


@pytest.mark.parametrize("name", CASES)
def test_a_small_case_is_read_and_written_as_desdm_does(name: str, case_folder: Path) -> None:
    expected = json.loads((case_folder / f"{name}.expected.json").read_text(encoding="utf-8"))
    path = Path(f"{name}.wcl")
    if name in REFUSED or not expected["ok"]:
        with pytest.raises(PipelineError, match=re.escape(REFUSED.get(name, f"{name}.wcl:"))):
            read_wcl(path)
        return
    compare(read_wcl(path), expected, BETTER.get(name, expected["tree"]))


@pytest.mark.parametrize("name", REAL)
def test_a_real_file_is_read_and_written_as_desdm_does(name: str, shared: Path) -> None:
    path = shared / "desdm_wcl" / name
    expected = expected_of(path)
    pipeline = read_wcl(path)
    compare(pipeline, expected, expected["tree"])


@pytest.mark.parametrize("name", REAL)
def test_a_real_file_that_was_written_again_says_the_same(name: str, shared: Path, tmp_path: Path) -> None:
    tree = read_wcl(shared / "desdm_wcl" / name).tree
    (tmp_path / "again.wcl").write_text(write_wcl(tree), encoding="utf-8")
    assert in_order(read_wcl(tmp_path / "again.wcl").tree) == in_order(tree)


def test_lines_that_desdm_ignores_are_warned_of(case_folder: Path) -> None:
    for name in CASES:
        expected = json.loads((case_folder / f"{name}.expected.json").read_text(encoding="utf-8"))
        if expected["ok"] and name not in REFUSED:
            ignored = {int(number) for number in re.findall(r"line #(\d+)", " ".join(expected["warnings"]))}
            problems = read_wcl(Path(f"{name}.wcl")).problems
            assert ignored == {one.place.line for one in problems if one.place and ": ignored" in one.text}
