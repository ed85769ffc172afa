"""Whichever engine starts its jobs, a run leaves the same in the registry: times, hosts and ids aside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from demo_survey import Demo, make_demo
from note_steps import pipeline, raws_to_warps
from run_story import content
from submitted_runs import SubmittedRuns

from dbb import Registry
from dbb.runs.submit import Submission, submit

pytestmark = pytest.mark.timeout(300)

SETTINGS: Mapping[str, Mapping[str, str]] = {
    "parsl": {},
    "slurm": {"parsl_site": "slurm", "parsl_walltime": "00:10:00"},
    "htcondor": {},
}


@pytest.fixture(params=["parsl", "slurm", "htcondor"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Mapping[str, str]]:
    """An engine and what a submit file says for it; the batch system that it needs runs."""
    if request.param == "htcondor":
        request.getfixturevalue("in_pool")
    elif request.param == "slurm":
        for name, value in request.getfixturevalue("slurm").environ.items():
            monkeypatch.setenv(name, value)
    return {"slurm": "parsl"}.get(request.param, request.param), SETTINGS[request.param]


def three_modules(folder: Path, engine: str, settings: Mapping[str, str]) -> dict[str, list[str]]:
    """Run three modules as four jobs, of which one fails at its first try; return what is registered."""
    runs = SubmittedRuns(f"sqlite:///{folder}/registry.db", folder / "runs")
    runs.order("part-2-1", f'[ $(grep -c "begin part-2-1" {runs.folder}/told) -gt 1 ] || exit 4')
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    submit = runs.start("submit.des", "--engine", engine, "--retries", "1", *words)
    out = "".join(submit.communicate(timeout=200))
    assert submit.returncode == 0, out
    with Registry(runs.url) as registry:
        return content(registry, runs.folder)


def the_notes(demo: Demo, folder: Path, engine: str, settings: Mapping[str, str]) -> dict[str, list[str]]:
    """Run a part of the note's pipeline as one job; return what is registered."""
    with Registry(demo.copy(folder / "registry")) as registry:
        registry.add_archive("runs", str(folder / "runs"))
        planned = pipeline(folder, raws_to_warps(), **settings)
        assert submit(registry, planned, Submission(engine, folder / "run")).problems == {}
        return content(registry, folder)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return make_demo(tmp_path_factory)


@pytest.fixture(scope="module")
def three_modules_here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return three_modules(tmp_path_factory.mktemp("three"), "local", {})


@pytest.fixture(scope="module")
def the_notes_here(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return the_notes(demo, tmp_path_factory.mktemp("note"), "local", {})


def test_three_modules_leave_the_same_behind(
    engine: tuple[str, Mapping[str, str]], three_modules_here: dict[str, list[str]], tmp_path: Path
) -> None:
    assert three_modules(tmp_path, *engine) == three_modules_here
    assert len(three_modules_here["event_log"]) == 5


def test_the_notes_steps_leave_the_same_behind(
    engine: tuple[str, Mapping[str, str]], demo: Demo, the_notes_here: dict[str, list[str]], tmp_path: Path
) -> None:
    assert the_notes(demo, tmp_path, *engine) == the_notes_here
    assert sum("r20p01.fits" in row for row in the_notes_here["deepcoadd_tempexp"]) == 5
