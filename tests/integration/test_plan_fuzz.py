"""Whatever becomes of DESDM's own submit files and modules, planning and checking give a plan or an error of dbb."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbb.errors import DbbError
from dbb.pipeline import check_file, plan, read_pipeline
from dbb_plugins.wcl import read_wcl

FRAME = """reqnum = 1
unitname = u
camsym = D
ccdnum = 1,2
band = i,r
expnum = 3
nite = 2
tilename = T1
ops_run_dir = a
<<include patterns.des>>
<<include db_config_excerpt.des>>
blocklist = b
<block b>
    modulelist = {modules}
</block>
"""
PIECES = [
    "${",
    "}",
    "$opt{",
    "$HEAD{",
    "$FUNC{",
    "$(",
    ")",
    "(",
    ",",
    "1:3",
    "(1:3)",
    "8,6",
    "0:99999999999",
    "1:100000",
    "\\",
    "'",
    '"',
    "%",
    "%s",
    "%(a)s",
    "$FMT{%05d,",
    "$FMT{%99999d,",
    "_flag",
    "_01",
    "_0",
    "exec_1",
    "exec_10",
    "file.",
    "list.",
    "#",
    "=",
    "<x>",
    "</",
    "..",
    "/",
    "*",
    "True",
    "${band}",
    "${ccdnum:2}",
    "${ccdnum:99}",
    "${wrapnum}",
    "${x_${wrapnum}}",
    "nan",
    "1e999",
]
LINES = [
    "noop = True",
    "depends = mk.file.red",
    "depends-newname = mk.file.red",
    "match = ccdnum",
    "group_by = neighbours",
    "divide_jobs_by = band",
    "where = a = ${band}",
    "sortkey = (ccdnum, True, maybe)",
    "patch_style = comma",
    "args_file = True",
    "modnamepat = ${band}",
    "filepat = ${band}",
]


def without_programs(text: str) -> str:
    """Let a table answer what programs and databases would: no program is run, whatever becomes of the text."""
    return re.sub(r"(?m)^(\s*)(?:exec|query_fields)\s*=.*$", r"\1query = table\n\1table = lines.jsonl", text)


@pytest.fixture(scope="module")
def submits(shared: Path) -> list[list[str]]:
    found = []
    for case in sorted((shared / "desdm_cases/block").iterdir()):
        text = (case / "submit.des").read_text()
        for name in re.findall(r"<<include (seed_module.wcl)>>", text):
            text = text.replace(f"<<include {name}>>", (case / name).read_text())
        found.append("attnum = 1\n" + text)
    for path in sorted((shared / "desdm_wcl").rglob("*.wcl")):
        modules = ", ".join(read_wcl(path).tree.get("module", {}))
        found.append(FRAME.format(modules=modules) + path.read_text(errors="replace"))
    return [without_programs(text).split("\n") for text in found]


@pytest.fixture
def folder(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without programs, and nothing on PATH."""
    keys = {"compression": ".fz", "tract": 0, "filter": "HSC-I", "pointing": 3}
    rows = [
        {"filename": f"a_{band}_{ccd}.fits", "band": band, "ccdnum": ccd, "ccd": ccd, "expnum": ccd, **keys}
        | {"patch": patch, "visit": ccd}
        for band in "gr"
        for ccd in (2, 10)
        for patch in ("8,6", "8x7")
    ]
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, rows)))
    shutil.copytree(shared / "desdm_wcl/pipebox/widefield/Y5A1/modulewcl", tmp_path / "wcl")
    for name in ("despydb/patterns.des", "pipebox/db_config_excerpt.des"):
        shutil.copy(shared / "desdm_wcl" / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    return tmp_path


def must_end(text: str) -> None:
    path = Path("submit.des")
    path.write_text(text, encoding="utf-8")
    try:
        plan(read_pipeline(path))
    except DbbError as error:
        assert str(error)  # noqa: PT017  # either outcome is right
    assert all(str(problem) for problem in check_file(path))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_change_of_a_real_submit_file(folder: Path, submits: list[list[str]], data: st.DataObject) -> None:
    lines = list(data.draw(st.sampled_from(submits)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        start = data.draw(st.integers(0, len(lines[at])))
        match data.draw(st.sampled_from(["piece", "piece", "value", "line", "move", "drop"])):
            case "piece":
                rest = lines[at][start + data.draw(st.sampled_from([0, 0, 1, 4])) :]
                lines[at] = lines[at][:start] + data.draw(st.sampled_from(PIECES)) + rest
            case "value":
                lines[at] = f"{lines[at].partition('=')[0]}= {data.draw(st.sampled_from(PIECES))}"
            case "line":
                lines.insert(at, data.draw(st.sampled_from(LINES)))
            case "move":
                other = data.draw(st.integers(0, len(lines) - 1))
                lines[at], lines[other] = lines[other], lines[at]
            case "drop":
                lines[at] = ""
    must_end("\n".join(lines))
