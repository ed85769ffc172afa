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


def wanted_outputs(expected: dict[str, Any]) -> list[str]:
    """Return the names that a quantum writes; the real code leaves variables in ``fullname`` to its wrapper."""
    made = {"astr_pixerror1d", "astr_referror1d", "fgroups", "astr_referror2d", "astr_refsysmap", "distortion"}
    real = {f"${{{name}}}_1.ps": f"D00712345_r3380p01_{name}_1.ps" for name in made}
    return sorted({real.get(name, name) for name in expected["outfiles"]})


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
        "outfiles": wanted_outputs(expected),
        "log": expected["log"],
        "lists": {name: (one["fullname"], one["content"]) for name, one in expected["lists"].items()},
        "argv": [one["argv"] for one in expected["commands"].values() if "argv" in one],
    }
    return [f"{key}: {found[key]} instead of {wanted[key]}" for key in wanted if found[key] != wanted[key]]


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
                numbers = [[int(task.partition(",")[0]) for task in job["tasks"]] for job in expected["jobs"]]
                assert [list(job.wrapnums) for job in workflow.jobs] == numbers
            elif name not in BETTER:
                with pytest.raises(DbbError):
                    planned(submit, case)


def test_the_example_of_the_note_gives_its_command_line(shared: Path, tmp_path: Path) -> None:
    submit, case, _ = laid_out(shared, "seed_coaddtempexp", tmp_path)
    commands = [" ".join(map(str, one.argv[0])) for one in planned(submit, case).instances]
    assert (
        "makeCoaddTempExp.py jobrepo --output jobrepo --id tract=0 patch=8x7 filter=HSC-I --doraise "
        "-c doApplyUberCal=False --selectId visit=904010 ccd=10 --selectId visit=904010 ccd=4"
    ) in commands


def test_a_query_program_sees_the_keys_of_its_module(shared: Path, tmp_path: Path) -> None:
    submit, case, _ = laid_out(shared, "26_args_module_key", tmp_path)
    assert len(planned(submit, case).instances) == 2


def test_optional_variables_keep_their_values_in_a_command_line(shared: Path, tmp_path: Path) -> None:
    submit, case, _ = laid_out(shared, "54_optional_in_cmdline", tmp_path)
    words = planned(submit, case).instances[0].argv[0]
    assert words == ["prog", "-a", "one", "-b", "two", "-c", "threethree", "-d"]


def test_a_variable_in_execname_is_replaced(shared: Path, tmp_path: Path) -> None:
    submit, _, _ = laid_out(shared, "50_exec_var_in_used", tmp_path)
    settings = {"attnum": "1", "myexec": "prog"}
    assert plan(read_pipeline(submit, settings)).instances[0].argv == [["prog", "-a", "1"]]
