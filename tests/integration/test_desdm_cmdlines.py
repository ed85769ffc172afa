"""The command lines that the real DESDM code made of its cases, and where ours differ on purpose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dbb.errors import PipelineError
from dbb.pipeline.cmdline import compile_command
from dbb.pipeline.listfiles import ListText
from dbb.pipeline.model import Pipeline, subtree
from dbb.pipeline.scope import Scope
from dbb_plugins.wcl import read_wcl

SHARED = Path(__file__).resolve().parents[3] / "shared"
CASES = sorted(path.parent.name for path in SHARED.glob("desdm_cases/cmdline/*/case.json"))
BETTER = {
    "24_per_file_comma_patch_csv": {
        "exec_1": [
            *["makeCoaddTempExp.py", "jobrepo", "--output", "jobrepo", "--id", "tract=0", "patch=8,6", "filter=HSC-I"],
            *["--doraise", "-c", "doApplyUberCal=False"],
            *["--selectId", "visit=904010", "ccd=10", "--selectId", "visit=904010", "ccd=4"],
        ]
    }
}
"""Where a comma in a value shifts the columns for DESDM; here it is one value."""


def _lists(pipeline: Pipeline, folder: Path) -> dict[str, ListText]:
    lists = {}
    for name, section in subtree(pipeline.tree, "list").items():
        assert isinstance(section, dict)
        file = folder / str(section["fullname"])
        if file.exists():
            columns = tuple(column.strip() for column in str(section["columns"]).split(","))
            separator = ", " if section.get("format") == "textcsv" else " "
            rows = [_row(line, separator, columns) for line in file.read_text(encoding="utf-8").splitlines()]
            nicks = tuple({column.partition(".")[0] for column in columns if "." in column})
            lists[name] = ListText(columns, rows, "", nicks)
    return lists


def _row(line: str, separator: str, columns: tuple[str, ...]) -> tuple[str, ...]:
    """Undo what the real code wrote: the patch ``8,6`` is the one value with a comma."""
    values = tuple(line.replace("8,6", "8;6").split(separator))
    assert len(values) == len(columns)
    return tuple(value.replace("8;6", "8,6") for value in values)


def _command_lines(folder: Path) -> dict[str, Any]:
    pipeline = read_wcl(folder / "input.wcl")
    wrapper = subtree(pipeline.tree, "wrapper")
    lists = _lists(pipeline, folder)
    return {
        name: compile_command(tree, Scope(pipeline.tree), wrapper, name=name, place=pipeline.place).argv({}, lists)
        for name, tree in pipeline.tree.items()
        if isinstance(tree, dict) and name.startswith("exec_")
    }


@pytest.mark.parametrize("case", CASES)
def test_a_case_gives_the_command_lines_of_the_real_code_or_fails_as_it_does(shared: Path, case: str) -> None:
    folder = shared / "desdm_cases/cmdline" / case
    expected: Mapping[str, Any] = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    if not expected["ok"]:
        with pytest.raises(PipelineError):
            _command_lines(folder)
        return
    wanted = {name: line["argv"] for name, line in expected["result"].items()}
    assert _command_lines(folder) == BETTER.get(case, wanted)
