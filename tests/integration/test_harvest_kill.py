"""A harvest that is killed leaves no half file in the archive, and one more harvest completes it."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from demo_survey import Survey
from registries import rows
from written_job import RUN, make_job, write_outputs

from dbb import Registry, harvest_repo

DBB = Path(sys.executable).parent / "dbb"
VISITS, CCDS = 10, 13  # so many that two processes share them


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Survey, Path, dict[str, str]]:
    """A survey, a job that has written, and the MD5 sum of each output by its name."""
    folder = tmp_path_factory.mktemp("killed")
    survey = Survey(folder / "survey")
    job = make_job(survey, folder / "JOB", VISITS, CCDS)
    written = write_outputs(job, VISITS, CCDS)
    for path in written:
        path.write_bytes(path.read_bytes() + bytes(200_000))
    survey.registry.close()
    return survey, job, {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in written}


def saved(root: Path) -> dict[str, str]:
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in root.rglob("CORR-*")}


def count(root: Path) -> int:
    return sum(1 for _ in root.rglob("CORR-*"))


@pytest.mark.parametrize("copies", [1, VISITS * CCDS // 2, VISITS * CCDS])
def test_after_a_kill_a_repeat_completes(
    made: tuple[Survey, Path, dict[str, str]], tmp_path: Path, copies: int
) -> None:
    survey, job, expected = made
    root = survey.roots["home"]
    shutil.rmtree(root / "r20", ignore_errors=True)
    shutil.copy(survey.folder / "survey.db", tmp_path / "killed.db")
    url = f"sqlite:///{tmp_path / 'killed.db'}"
    process = subprocess.Popen(
        [DBB, "harvest-repo", job, "--run", RUN, "--registry", url], stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and count(root) < copies:
        time.sleep(0.001)
    process.kill()
    _, err = process.communicate()  # ends when what it had started has ended, each with the file that it had in hand
    assert process.returncode in {0, -signal.SIGKILL}, err
    there = saved(root)
    assert copies <= len(there)
    assert there.items() <= expected.items()
    next(root.rglob("CORR-*")).unlink()  # so that there is something to copy, and what was left is swept
    with Registry(url) as opened:
        harvest_repo(opened, job, run=RUN)
        ((number,),) = rows(opened, "select count(*) from desfile where filetype = 'calexp' and wgb_task_id = 1")
    assert number == len(expected)
    assert saved(root) == expected
    assert not list(root.glob(".harvest.dbb-*"))
