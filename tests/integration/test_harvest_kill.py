"""A harvest that is killed leaves no half file in the archive, and one more harvest completes it."""

from __future__ import annotations

import hashlib
import random
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
VISITS, CCDS = 10, 20
KILLS = 5


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


def test_after_a_kill_a_repeat_completes(made: tuple[Survey, Path, dict[str, str]], tmp_path: Path) -> None:
    survey, job, expected = made
    root, registry = survey.roots["home"], survey.folder / "survey.db"
    dice, partly = random.Random(5), 0
    for number in range(KILLS):
        shutil.rmtree(root / "r20", ignore_errors=True)
        shutil.copy(registry, tmp_path / f"{number}.db")
        url = f"sqlite:///{tmp_path / f'{number}.db'}"
        process = subprocess.Popen(
            [DBB, "harvest-repo", job, "--run", RUN, "--registry", url], stderr=subprocess.PIPE, text=True
        )
        while process.poll() is None and not (root / "r20").exists():
            time.sleep(0.001)
        time.sleep(dice.random() * 0.3)
        process.kill()
        _, err = process.communicate()
        assert process.returncode in {0, -signal.SIGKILL}, err
        there = saved(root)
        partly += 0 < len(there) < len(expected)
        assert there.items() <= expected.items()
        with Registry(url) as opened:
            harvest_repo(opened, job, run=RUN)
            ((count,),) = rows(opened, "select count(*) from desfile where filetype = 'calexp' and wgb_task_id = 1")
            assert count == len(expected)
            assert harvest_repo(opened, job, run=RUN).files.added == 0
        assert saved(root) == expected
    assert partly > 0
    time.sleep(1)  # what a killed harvest had started ends with the file that it has in hand
    next(root.rglob("CORR-*")).unlink()
    with Registry(url) as opened:
        harvest_repo(opened, job, run=RUN)  # has something to copy, and so sweeps
    assert saved(root) == expected
    assert not list(root.glob(".harvest.dbb-*"))
