"""Real modules of DESDM are right, but for what they need of modules that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbb.pipeline.check import static_problems
from dbb.pipeline.model import Problem
from dbb_plugins.wcl import read_wcl

FOLDER = Path(__file__).resolve().parents[3] / "shared/desdm_wcl/pipebox"
NO_MODULES = {"modnamepat.wcl", "inputs.wcl"}
MODULES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.glob("**/*.wcl") if path.name not in NO_MODULES)


def checked(module: Path, shared: Path, submit: Path) -> list[Problem]:
    """Return the problems of a submit file that runs the modules of one file."""
    names = ", ".join(name for name in read_wcl(module).tree["module"])
    submit.write_text(
        f"reqnum = 1\nunitname = u\nccdnum = 1,2\nband = i\nexpnum = 3\nblocklist = b\n"
        f"<block b>\nmodulelist = {names}\n</block>\n"
        f"<<include {shared}/desdm_wcl/despydb/patterns.des>>\n"
        f"<<include {shared}/desdm_wcl/pipebox/db_config_excerpt.des>>\n<<include {module}>>\n"
    )
    return static_problems(read_wcl(submit))


@pytest.mark.parametrize("name", MODULES)
def test_a_real_module_lacks_at_most_the_modules_before_it(name: str, shared: Path, tmp_path: Path) -> None:
    found = checked(shared / "desdm_wcl/pipebox" / name, shared, tmp_path / "submit.wcl")
    errors = [problem.text for problem in found if problem.severity == "error"]
    assert [text for text in errors if "depends" not in text or "there is no module" not in text] == []


def test_the_slip_in_a_real_module_is_seen(shared: Path, tmp_path: Path) -> None:
    mangle = shared / "desdm_wcl/pipebox/multiepoch/Y6A1/modulewcl/mangle.wcl"
    found = checked(mangle, shared, tmp_path / "s.wcl")
    slips = [str(one.place) for one in found if one.severity == "warning" and "did you mean compress_files" in one.text]
    assert slips == [f"{mangle}:101"]


def test_the_example_of_the_note_is_right(shared: Path) -> None:
    submit = shared / "desdm_cases/block/seed_coaddtempexp/submit.des"
    assert static_problems(read_wcl(submit)) == []
