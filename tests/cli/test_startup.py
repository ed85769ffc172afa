"""The command and the library start without what only some of their uses need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import dbb

HEAVY = {"astropy", "fsspec", "numpy", "pyarrow", "sqlalchemy"}
REPORT = "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"


def modules_after(code: str, *arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", code + REPORT, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


RUN_DBB = """
from dbb_cli.main import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""


def test_help_loads_no_heavy_library() -> None:
    assert modules_after(RUN_DBB, "--help") & HEAVY == set()


def test_help_of_a_command_loads_no_heavy_library() -> None:
    assert modules_after(RUN_DBB, "materialize-repo", "--help") & HEAVY == set()


def test_import_dbb_loads_nothing_but_the_standard_library() -> None:
    foreign = HEAVY | {"click", "pluggy"}
    assert modules_after("import dbb") & foreign == set()


def test_a_job_whose_files_are_all_here_loads_no_heavy_library_and_no_plug_in(tmp_path: Path) -> None:
    job = {"schema": 1, "job": {"name": "one"}, "steps": [{"argv": [["touch", "a"]], "outputs": [{"fullname": "a"}]}]}
    (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
    foreign = HEAVY | {"dbb.plugins", "tarfile", "tomllib"}
    assert modules_after(RUN_DBB, "run-job", str(tmp_path / "job.json")) & foreign == set()


@pytest.mark.parametrize("name", dbb.__all__)
def test_every_public_name_is_given_out_and_listed(name: str) -> None:
    assert getattr(dbb, name) is not None
    assert name in dir(dbb)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'registri'"):
        dbb.registri  # noqa: B018  # the access is what is tested
