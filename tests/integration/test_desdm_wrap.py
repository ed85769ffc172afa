"""A step does what DESDM's wrapper does with the same input, except for what that gets wrong."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from dbb.jobs import StepResult, run_step
from dbb.jobs.messages import MessageRules

CASES = ("01_ok", "03_exit_code", "05_missing_list", "07_fail_and_missing", "09_version", "11_no_provenance")
Tree = dict[str, Any]


def read_wcl(text: str) -> Tree:
    """Read the plain WCL of these cases: sections, and keys with values."""
    top: Tree = {}
    stack = [top]
    for line in map(str.strip, text.splitlines()):
        if line.startswith("</"):
            stack.pop()
        elif line.startswith("<"):
            stack.append(stack[-1].setdefault(line.strip("<>"), {}))
        elif line:
            key, _, value = line.partition("=")
            stack[-1][key.strip()] = value.strip()
    return top


def step_of(folder: Path) -> Tree:
    """Turn an input WCL into a step, as a planner would."""
    tree = read_wcl((folder / "input.wcl").read_text(encoding="utf-8"))
    one, specs = tree["exec_1"], tree.get("filespecs", {})
    lists = tree.get("list", {})
    words = [one["execname"]]
    for key in sorted(one["cmdline"]):
        value = one["cmdline"][key]
        for nick, spec in specs.items():
            value = value.replace(f"${{filespecs.{nick}.fullname}}", spec["fullname"])
        words.append(value)

    def files(reference: str) -> list[str]:
        section, name, *_ = reference.strip().split(".")
        if section == "filespecs":
            return [specs[name]["fullname"]]
        path = folder / lists[name]["fullname"]
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    def all_files(text: str) -> list[str]:
        return [file for reference in text.split(",") if reference.strip() for file in files(reference)]

    used, made = all_files(one.get("used", "")), all_files(one.get("was_generated_by", ""))
    nicks = {spec["fullname"]: (nick, spec) for nick, spec in specs.items()}
    pairs = [pair.split(":") for pair in one.get("was_derived_from", "").split(",") if ":" in pair]
    exec_ = {"execname": one["execname"], "used": [Path(name).name for name in used]}
    exec_ |= {"generated": [Path(name).name for name in made]}
    exec_ |= {key: one[key] for key in ("version_flag", "version_pattern") if key in one}
    exec_["ancestry"] = [[[Path(name).name for name in all_files(side)] for side in pair] for pair in pairs]
    return {
        "module": "case",
        "argv": [words],
        "execs": [exec_],
        "inputs": [{"fullname": name} for name in used],
        "outputs": [
            {"fullname": name, "nick": nicks[name][0], "optional": nicks[name][1].get("optional") == "True"}
            for name in made
        ],
        "lists": [{"name": name, "fullname": section["fullname"]} for name, section in lists.items()],
    }


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, shared: Path, tmp_path: Path) -> tuple[str, Path, Tree]:
    source = shared / "desdm_cases" / "wrap" / request.param
    shutil.copytree(source, tmp_path / "case", ignore=shutil.ignore_patterns("expected.json"))
    for path in [tmp_path / "case", *(tmp_path / "case").rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)
    return request.param, tmp_path / "case", json.loads((source / "expected.json").read_text())["result"]


def run_case(folder: Path) -> StepResult:
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"}
    return run_step(step_of(folder), folder, environment=environment, messages=MessageRules())


def names(files: list[Tree]) -> list[str]:
    return [f"{file['filename']}{file['compression']}" for file in files]


def test_the_outcome_is_that_of_desdm(case: tuple[str, Path, Tree]) -> None:
    _, folder, expected = case
    wcl = expected["outputwcl"]
    result = run_case(folder)
    assert result.status == expected["status"]
    assert {nick: str(path.relative_to(folder)) for nick, path in result.files.items()} == {
        section.removeprefix("filespecs."): made["exec_1"] for section, made in wcl["outputs_by_sect"].items()
    }
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert present - {"log/case.log"} == set(expected["files_after"]) - {
        "outputwcl/x_output.wcl"
    }  # which is for wrappers


def test_provenance_is_that_of_desdm(case: tuple[str, Path, Tree]) -> None:
    _, folder, expected = case
    provenance = expected["outputwcl"]["provenance"]
    result = run_case(folder)
    used = [",".join(names(event["used"])) for event in result.events if event.get("used")]
    assert used == list(provenance["used"].values())
    pairs = [
        (parent, child)
        for derived in provenance.get("was_derived_from", {}).values()
        for parent in derived["parents"].split(",")
        for child in derived["children"].split(",")
    ]
    found = [pair for event in result.events for pair in event.get("derived", [])]
    assert [(*names([pair["parent"]]), *names([pair["child"]])) for pair in found] == pairs


def test_the_true_status_of_the_program_is_kept(case: tuple[str, Path, Tree]) -> None:
    # DESDM writes 0 into the section of the exec, whatever it was; the truth is in its task_info
    _, folder, expected = case
    steps = expected["outputwcl"]["exec_1"]["task_info"]
    result = run_case(folder)
    ended = [event for event in result.events if "rusage" in event]
    assert [str(event["status"]) for event in ended] == [
        one["status"] for name, one in steps.items() if name == "run_exec"
    ]
    assert [event.get("version") for event in ended] == [expected["outputwcl"]["exec_1"].get("version")] * len(ended)
    for event in ended:
        assert sorted(event["rusage"]) == sorted(expected["outputwcl"]["exec_1"]["procinfo"])
