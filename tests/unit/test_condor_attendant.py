"""Whoever attends a run may be killed anywhere: the next one gets ready what is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from dbb.engine import EngineJob
from dbb.errors import DbbError
from dbb_plugins.htcondor.attendant import Attendant
from dbb_plugins.htcondor.places import Note, Places

JOBS = (EngineJob("a"), EngineJob("b", ("a",)), EngineJob("c", ("b",)), EngineJob("d", ("c",)))


class Killed(BaseException):
    """The attendant is no more."""


class Run:
    """A chain of four jobs: b and c have nothing to run. What was reported of them is kept."""

    run, registry, at_once, retries, is_cancelled = "U_r1p01", "sqlite://", 1, 0, False
    jobs: Sequence[EngineJob] = JOBS
    settings: Mapping[str, str] = {}

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reported: dict[str, str] = {}
        self.prepared: list[str] = []
        self.before: Callable[[str, str], None] = lambda _, __: None
        self.after: Callable[[str, str], None] = lambda _, __: None

    def prepare(self, name: str) -> Path | None:
        self.before("prepare", name)
        self.prepared.append(name)
        return None if name in {"b", "c"} else self.folder / "job.json"

    def command(self, job: Path) -> Sequence[str]:
        return ["dbb", "run-job", str(job)]

    def attendant(self) -> Sequence[str]:
        return ["dbb", "attend", self.run]

    def collect(self, names: Sequence[str]) -> None:
        """Have nothing to merge."""

    def ended(self, name: str, problem: str = "") -> None:
        self.ended_together({name: problem})

    def ended_together(self, problems: Mapping[str, str]) -> None:
        for name in problems:
            self.before("ended", name)
        self.reported |= problems
        for name in problems:
            self.after("ended", name)

    def is_over(self, name: str) -> bool:
        return name in self.reported


@pytest.fixture
def run(tmp_path: Path) -> Run:
    Places(tmp_path).make()
    return Run(tmp_path)


def told(run: Run) -> list[str]:
    return [Places(run.folder).told(job.name) for job in JOBS]


def test_jobs_with_nothing_to_run_are_passed_over(run: Run) -> None:
    attendant = Attendant(run)
    attendant.prepare(["a"])
    run.ended("a")
    attendant.prepare(["b"])
    assert told(run) == ["run", "skip", "skip", "run"]
    assert run.reported == {"a": "", "b": "", "c": ""}


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    ("what", "name"), [("ended", "b"), ("ended", "c"), ("prepare", "b"), ("prepare", "c"), ("prepare", "d")]
)
def test_another_goes_on_where_one_was_killed(run: Run, moment: str, what: str, name: str) -> None:
    def kill(now: str, whose: str) -> None:
        if (now, whose) == (what, name):
            raise Killed

    run.ended("a")
    setattr(run, moment, kill)
    if (moment, what) != ("after", "prepare"):
        with pytest.raises(Killed):
            Attendant(run).prepare(run_names())
    run.before = run.after = lambda _, __: None
    Attendant(run).prepare(run_names())
    assert told(run)[1:] == ["skip", "skip", "run"]
    assert run.reported == {"a": "", "b": "", "c": ""}


def run_names() -> list[str]:
    return [job.name for job in JOBS]


def test_a_job_that_cannot_be_prepared_has_ended(run: Run) -> None:
    def refuse(now: str, whose: str) -> None:
        if now == "prepare":
            raise DbbError("no input")

    run.before = refuse
    Attendant(run).prepare(["a"])
    assert run.reported == {"a": "no input"}
    assert told(run) == [""] * 4


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("0 0\n", Note(0, 0)),
        ("-9 2\n", Note(-9, 2)),
        ("", None),
        ("0", None),
        ("0 0", None),
        ("what\n", None),
    ],
)
def test_notes_that_are_in_the_making_are_left_alone(tmp_path: Path, text: str, note: Note | None) -> None:
    places = Places(tmp_path)
    places.make()
    (places.folder / "notes/a").write_text(text)
    assert places.notes() == ({} if note is None else {"a": note})
    places.acknowledge("a")
    assert places.notes() == {}


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (0, ""),
        (3, "exit code 3"),
        (-9, "ended by signal SIGKILL"),
        (-1001, "HTCondor did not take it"),
        (-1002, "it was removed from the queue of HTCondor"),
        (-5000, "exit code -5000"),
    ],
)
def test_a_note_says_why_a_job_is_not_done(code: int, problem: str) -> None:
    assert Note(code, 0).problem == problem
