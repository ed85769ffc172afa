"""A process that is killed while it makes a repository leaves all of it or nothing, and the next one cleans up."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from demo_survey import RUN_A, Survey, tree

from dbb_cli.main import run as run_dbb

DBB = Path(sys.executable).parent / "dbb"
INPUTS = 2500
KILLS = 12  # for each of the two ways


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registry with so many inputs that there is time to be killed in."""
    survey = Survey(tmp_path_factory.mktemp("many"))
    rows = []
    for visit in range(INPUTS // 100):
        for ccd in range(100):
            relpath = f"{visit}/c{ccd}.fits"
            path = survey.roots["home"] / relpath
            path.parent.mkdir(exist_ok=True)
            path.write_text("x", encoding="utf-8")
            rows.append(
                {"relpath": relpath, "filesize": 1, "visit": visit, "ccd": ccd, "filter": "HSC-R", "pointing": 5}
            )
    assert survey.registry.ingest_table(rows, filetype="calexp", archive="home", run=RUN_A).added == INPUTS
    survey.registry.close()
    return survey.url


@pytest.fixture(scope="module")
def manifest(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    job = tmp_path_factory.mktemp("whole") / "JOB"
    assert run_dbb(["materialize-repo", str(job), *from_registry(url)]) == 0
    return job / "manifest.json"


def from_registry(url: str) -> list[str]:
    return ["--mapper", "hsc", "--dataset", "calexp", "--registry", url]


def kill_after(arguments: list[str], folder: Path, delay: float) -> int:
    """Start dbb, kill it `delay` seconds after it began to write, and return how it ended."""
    process = subprocess.Popen([DBB, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not abandoned(folder):
        time.sleep(0.0005)
    time.sleep(delay)
    process.kill()
    _, err = process.communicate()  # ends when its helpers have ended, too
    assert "Traceback" not in err
    return process.returncode


def abandoned(folder: Path) -> list[Path]:
    return list(folder.glob(".JOB.dbb-*"))


@pytest.mark.parametrize("way", ["registry", "manifest"])
def test_a_killed_process_leaves_all_or_nothing_and_the_next_one_sweeps(
    url: str, manifest: Path, tmp_path: Path, way: str
) -> None:
    source = from_registry(url) if way == "registry" else ["--from", str(manifest)]
    arguments = ["materialize-repo", str(tmp_path / "JOB"), *source]
    expected = {path: what for path, what in tree(manifest.parent).items() if path != "manifest.json"}
    dice = random.Random(way)
    left = 0
    for number in range(KILLS):
        # from the moment of the first folder to about when all is done
        code = kill_after(arguments, tmp_path, number / KILLS * 0.12 * dice.random())
        remains = abandoned(tmp_path)
        left += len(remains)
        assert code in {0, -signal.SIGKILL}
        if (tmp_path / "JOB").exists():
            found = tree(tmp_path / "JOB")
            assert found.pop("manifest.json")
            assert found == expected
            assert remains == []
            shutil.rmtree(tmp_path / "JOB")
        else:
            assert code == -signal.SIGKILL
        if number % 4 == 3:  # several abandoned folders are swept together
            assert run_dbb(arguments) == 0
            assert [path.name for path in tmp_path.iterdir()] == ["JOB"]
            assert {path: what for path, what in tree(tmp_path / "JOB").items() if path != "manifest.json"} == expected
            shutil.rmtree(tmp_path / "JOB")
    assert left > 0


def test_a_process_that_is_killed_before_it_writes_leaves_nothing(url: str, tmp_path: Path) -> None:
    dice = random.Random(7)
    for _ in range(4):
        arguments = ["materialize-repo", tmp_path / "JOB", *from_registry(url)]
        process = subprocess.Popen([DBB, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(dice.random() * 0.2)
        process.kill()
        process.wait()
        assert not (tmp_path / "JOB").exists() or (tmp_path / "JOB/manifest.json").is_file()
        shutil.rmtree(tmp_path / "JOB", ignore_errors=True)


def test_the_folder_of_a_process_at_work_is_not_swept(url: str, manifest: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [DBB, "materialize-repo", tmp_path / "JOB", *from_registry(url)], stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not list(tmp_path.glob(".JOB.dbb-*/manifest.json")):
        time.sleep(0.0005)
    process.send_signal(signal.SIGSTOP)
    try:
        if (tmp_path / "JOB").exists():
            pytest.fail("the first process was done before it could be stopped: give it more inputs")
        at_work = abandoned(tmp_path)
        assert run_dbb(["materialize-repo", str(tmp_path / "JOB"), "--from", str(manifest)]) == 0
        assert abandoned(tmp_path) == at_work != []
    finally:
        process.send_signal(signal.SIGCONT)
    assert process.wait() == 4
    assert [path.name for path in tmp_path.iterdir()] == ["JOB"]


def test_an_interrupted_process_cleans_up_itself(url: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [DBB, "materialize-repo", tmp_path / "JOB", *from_registry(url)], stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not list(tmp_path.glob(".JOB.dbb-*/manifest.json")):
        time.sleep(0.0005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert (process.returncode, err.strip()) == (130, "dbb: interrupted")
    assert list(tmp_path.iterdir()) == []
