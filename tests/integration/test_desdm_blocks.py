"""Submit files of DESDM's framework give the quanta, files, lists and commands that the real one makes of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dbb.errors import DbbError
from dbb.pipeline import Workflow, plan, read_pipeline
from dbb.pipeline.workflow import Instance

# The real code fails or differs here; dbb does better on purpose: see docs/wcl.md.
BETTER = {"26_args_module_key", "50_exec_var_in_used", "54_optional_in_cmdline"}


def case_names(shared: Path) -> list[str]:
    return sorted(folder.name for folder in (shared / "desdm_cases" / "block").iterdir())


def laid_out(shared: Path, name: str, tmp_path: Path) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    source = shared / "desdm_cases" / "block" / name
    case: dict[str, Any] = json.loads((source / "case.json").read_text())
    for file in source.iterdir():
        shutil.copy(file, tmp_path / file.name)
    for given, target in case.get("copy", []):
        real = shared / "desdm_wcl" / given.removeprefix("real/")
        (shutil.copytree if real.is_dir() else shutil.copy)(real, tmp_path / target)
    return tmp_path / case["submit"], case, json.loads((source / "expected.json").read_text())


def planned(submit: Path, case: dict[str, Any]) -> Workflow:
    settings = {"attnum": str(case["attnum"])}
    return plan(read_pipeline(submit, settings))


def compared(instance: Instance, expected: dict[str, Any]) -> list[str]:
    found = {
        "infiles": sorted({one.filename for one in instance.inputs}),
        "outfiles": sorted({one.filename for one in instance.outputs}),
        "log": instance.log,
        "lists": {one.name: (one.fullname, one.text) for one in instance.lists},
        "argv": [list(words) for words in instance.argv],
    }
    wanted = {
        "infiles": sorted(set(expected["infiles"])),
        "outfiles": sorted(set(expected["outfiles"])),
        "log": expected["log"],
        "lists": {name: (one["fullname"], one["content"]) for name, one in expected["lists"].items()},
        "argv": [one["argv"] for one in expected["commands"].values() if "argv" in one],
    }
    return [f"{key}: {found[key]} instead of {wanted[key]}" for key in wanted if found[key] != wanted[key]]


CASES = ["01_noloop", "03_loop_divide_jobs"]


def test_every_case_agrees(shared: Path, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for name in case_names(shared):
        with subtests.test(name):
            folder = tmp_path / name
            folder.mkdir()
            submit, case, expected = laid_out(shared, name, folder)
            if expected["ok"] and name not in BETTER:
                workflow = planned(submit, case)
                wanted = [one for module in expected["modules"].values() for one in module["wrappers"]]
                assert len(workflow.instances) == len(wanted)
                for instance, one in zip(workflow.instances, wanted, strict=True):
                    assert compared(instance, one) == [], instance.title
            elif name not in BETTER:
                with pytest.raises(DbbError):
                    planned(submit, case)
