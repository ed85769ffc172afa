"""Contract test for workflow engines; `dbb.testing` gives it out."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dbb.api import Registry
from dbb.engine import Engine
from dbb.pipeline.model import Pipeline
from dbb.registry.runs import parse_run
from dbb.runs.cancel import cancel_run
from dbb.runs.submit import Submission, Submitted, submit

_LONG = 60.0
_PROGRAM = """#!/bin/sh
# make OUT IN...: puts its name below what is in its inputs, and does before what orders/NAME says
out=$1; shift
name=$(basename "$out" .txt)
echo "begin $name $$" >> "{folder}/told"
[ -f "{folder}/orders/$name" ] && . "{folder}/orders/$name"
cat /dev/null "$@" > "$out" || exit 9
echo "$name" >> "$out"
echo "end $name" >> "{folder}/told"
"""


_STATES = """
select t.state from pfw_wrapper w, task t, pfw_attempt a
where t.id = w.task_id and a.id = w.pfw_attempt_id and a.attnum = :attnum order by w.wrapnum
"""


class EngineContract:
    """What every engine must do.

    Real jobs run: for each of two sides, ``early`` and after it ``late``; then ``final``, which reads what both made.
    """

    @pytest.fixture
    def engine(self) -> Engine:
        """Return your engine."""
        raise NotImplementedError

    @pytest.fixture
    def settings(self) -> Mapping[str, str]:
        """Return what a submit file must say at top level for your engine; override it if there is anything."""
        return {}

    @pytest.fixture
    def runs(self, engine: Engine, settings: Mapping[str, str], tmp_path: Path) -> Iterator[EngineRuns]:
        """Give what submits runs to the engine; for you to use in tests of your own."""
        with Registry.create(f"sqlite:///{tmp_path / 'registry.db'}") as registry:
            yield EngineRuns(engine, registry, tmp_path, settings)

    def test_every_job_runs_once_and_after_those_it_waits_for(self, runs: EngineRuns) -> None:
        """What they made is there for it."""
        done = runs.submit()
        assert done.problems == {}
        told = runs.told
        assert sorted(told) == sorted(f"{what} {name}" for what in ("begin", "end") for name in runs.names)
        for side in ("left", "right"):
            assert told.index(f"end early-{side}") < told.index(f"begin late-{side}") < told.index("begin final-both")
        made = runs.folder / "home" / done.run / "final-both.txt"
        assert made.read_text().split() == ["early-left", "late-left", "early-right", "late-right", "final-both"]
        assert set(runs.states(done.run).values()) == {"succeeded"}

    def test_as_many_jobs_run_at_the_same_time_as_may(self, runs: EngineRuns) -> None:
        """Each of two waits for the other."""
        runs.order("early-left", runs.until("begin early-right"))
        runs.order("early-right", runs.until("begin early-left"))
        assert runs.submit(at_once=2).problems == {}

    def test_no_more_jobs_run_at_the_same_time_than_may(self, runs: EngineRuns) -> None:
        """One at a time: each ends before the next begins."""
        runs.order("early-left", "sleep 0.3")
        runs.submit(at_once=1)
        told = runs.told
        assert all(end == begin.replace("begin", "end") for begin, end in zip(told[::2], told[1::2], strict=True))

    def test_a_failed_job_holds_up_those_that_wait_for_it_and_no_others(self, runs: EngineRuns) -> None:
        """They are never started, and the registry says so."""
        runs.order("early-left", "exit 4")
        done = runs.submit()
        states = runs.states(done.run)
        assert states == {
            "early-left": "failed",
            "early-right": "succeeded",
            "late-left": "blocked",
            "late-right": "succeeded",
            "final-both": "blocked",
        }
        assert {done_name.rpartition("_")[2] for done_name in done.problems} == {"j0001", "j0003", "j0005"}
        assert "begin late-left" not in runs.told

    def test_a_failed_job_is_started_again(self, runs: EngineRuns) -> None:
        """With luck it succeeds then, and the run goes on."""
        runs.order("early-left", f'[ $(grep -c "begin early-left" "{runs.folder}/told") -gt 2 ] || exit 4')
        done = runs.submit(retries=2)
        assert done.problems == {}
        assert runs.told.count("begin early-left") == 3
        assert set(runs.states(done.run).values()) == {"succeeded"}

    def test_a_job_is_started_no_oftener_than_told(self, runs: EngineRuns) -> None:
        """Retries count beyond the first time."""
        runs.order("early-left", "exit 4")
        assert runs.submit(retries=1).problems
        assert runs.told.count("begin early-left") == 2

    def test_a_job_that_is_killed_has_failed(self, runs: EngineRuns) -> None:
        """It cannot say so itself; `EngineWork.ended` with a problem does."""
        # the parent of a program is its job
        runs.order("early-left", "kill -9 $PPID; sleep 0.5")
        done = runs.submit()
        assert runs.states(done.run)["early-left"] == "killed"
        assert runs.states(done.run)["late-left"] == "blocked"

    def test_a_job_that_cannot_be_prepared_has_failed(self, runs: EngineRuns) -> None:
        """`EngineWork.prepare` raises a DbbError: here the job before has not made what it needs."""
        runs.order("early-left", "exit 0")
        done = runs.submit(optional="True")
        states = runs.states(done.run)
        assert (states["early-left"], states["late-left"], states["final-both"]) == ("succeeded", "blocked", "blocked")
        assert "early-left.txt" in done.problems["U_r1p01_work_j0003"]

    def test_jobs_with_nothing_to_run_are_passed_over(self, runs: EngineRuns) -> None:
        """`EngineWork.prepare` gives None; those that wait for such a job are started."""
        runs.order("late-left", "exit 4")
        first = runs.submit()
        runs.order("late-left", "")
        second = runs.submit(resume=first.run)
        assert (second.problems, second.reused) == ({}, 3)
        assert runs.told.count("begin early-left") == 1
        assert set(runs.states(second.run).values()) == {"succeeded"}

    def test_a_cancelled_run_ends(self, runs: EngineRuns) -> None:
        """`EngineWork.is_cancelled` says so: what runs is ended, and nothing is started any more."""
        runs.order("early-left", f"sleep {_LONG}")
        with runs.when_told("begin early-left", lambda: runs.cancel("U_r1p01")):
            done = runs.submit(at_once=1)
        assert set(done.problems) == {f"U_r1p01_work_j{number:04d}" for number in (1, 2, 3, 4)} | {"U_r1p01_last_j0005"}
        assert runs.alive() == []
        assert runs.told == ["begin early-left"]
        assert set(runs.states(done.run).values()) == {"killed", "blocked"}

    def test_an_interrupted_engine_leaves_no_process_and_loses_nothing(self, runs: EngineRuns) -> None:
        """Ctrl-C ends what runs before the exception leaves; what was done before is done, and the run is resumed."""
        runs.order("late-left", f"sleep {_LONG}")
        with (
            runs.when_told("begin late-left", lambda: os.kill(os.getpid(), signal.SIGINT)),
            pytest.raises(KeyboardInterrupt),
        ):
            runs.submit(at_once=1)
        assert runs.alive() == []
        states = runs.states("U_r1p01")
        assert (states["early-left"], states["late-left"]) == ("succeeded", "killed")
        assert states["final-both"] == "blocked"
        runs.order("late-left", "")
        assert runs.submit(resume="U_r1p01").problems == {}
        assert runs.told.count("begin early-left") == 1


class EngineRuns:
    """Submits runs of a small pipeline to an engine, and tells what became of them."""

    names = ("early-left", "early-right", "late-left", "late-right", "final-both")

    def __init__(self, engine: Engine, registry: Registry, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder, self._engine, self._registry, self._settings = folder, engine, registry, settings
        for name in ("home", "orders"):
            (folder / name).mkdir()
        registry.add_archive("home", str(folder / "home"))
        program = folder / "make"
        program.write_text(_PROGRAM.format(folder=folder))
        program.chmod(0o755)

    def submit(
        self, *, at_once: int = 2, retries: int = 0, resume: str | None = None, optional: str = "False"
    ) -> Submitted:
        """Run the pipeline; `optional` says whether what ``early`` makes may lack."""
        number = sum(one.is_dir() for one in self.folder.glob("run*")) + 1
        pipeline = _pipeline(str(self.folder / "make"), optional, self._settings)
        submission = Submission(self._engine, self.folder / f"run{number}", at_once, retries, resume)
        return submit(self._registry, pipeline, submission)

    def order(self, name: str, script: str) -> None:
        """Let the shell do something when a step begins."""
        (self.folder / "orders" / name).write_text(script)

    def until(self, line: str) -> str:
        """Return a script that waits until a step has told a line."""
        return (
            f'for i in $(seq 600); do grep -q "{line}" "{self.folder}/told" && break; sleep 0.05; done; [ $i -lt 600 ]'
        )

    @property
    def told(self) -> list[str]:
        """What steps have told: when they began and ended."""
        return [" ".join(line.split()[:2]) for line in self._lines()]

    def alive(self) -> list[str]:
        """Return the steps whose programs are alive."""
        begun = [line.split() for line in self._lines() if line.startswith("begin")]
        return [name for _, name, pid in begun if _is_alive(int(pid))]

    def states(self, run: str) -> dict[str, str]:
        """Return what the registry says of each step."""
        with self._registry.read() as conn:
            rows = conn.execute(sa.text(_STATES), {"attnum": parse_run(run).attnum}).all()
        return dict(zip(self.names, (row.state for row in rows), strict=True))

    def cancel(self, run: str) -> None:
        """Do as ``dbb cancel`` does."""
        with Registry(self._registry.url) as registry:
            cancel_run(registry, run)

    def when_told(self, line: str, action: Callable[[], object]) -> _Watch:
        """Do something once a step has told a line, while the block runs."""
        return _Watch(lambda: line in self.told, action)

    def _lines(self) -> list[str]:
        told = self.folder / "told"
        return re.findall(r"^(.*)\n", told.read_text(), re.MULTILINE) if told.exists() else []


class _Watch:
    """Does something in another thread once a condition holds, while a block runs."""

    def __init__(self, condition: Callable[[], bool], action: Callable[[], object]) -> None:
        self._condition, self._action = condition, action
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        limit = time.monotonic() + _LONG
        while time.monotonic() < limit and not self._over.wait(0.02):
            if self._condition():
                self._action()
                return


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _pipeline(program: str, optional: str, more: Mapping[str, str]) -> Pipeline:
    made = {"filetype": "genfile", "filepat": "made", "dirpat": "made"}
    source = {"depends": "early.file.made", "match": "side", "dirpat": "made"}
    early = _module(program, "early", {"made": {**made, "optional": optional}})
    late = _module(program, "late", {"made": made, "source": source}, used="file.source")
    late["exec_1"]["cmdline"]["_2"] = "${file.source.fullname}"
    final = _module(program, "final", {"made": made, "source": {"listonly": "True", "dirpat": "made"}})
    final |= {"side": "both", "modnamepat": "final"}
    final["list"] = {"all": {"depends": "late.file.made", "filepat": "all", "columns": "source.fullname"}}
    final["exec_1"]["used"] = "list.all.source"
    final["wrapper"] = {"per_file_cmdline": "list.all.source:$(source.fullname)"}
    settings = {
        "reqnum": 1,
        "unitname": "U",
        "home_archive": "home",
        "ops_run_dir": "${submit_run}",
        "blocklist": "work, last",
        "block": {
            "work": {"modulelist": "early, late", "divide_jobs_by": "stage, side"},
            "last": {"modulelist": "final"},
        },
        "filename_pattern": {"made": "${stage}-${side}.txt", "all": "all.list"},
        "directory_pattern": {"made": {"runtime": "out", "ops": "${ops_run_dir}"}},
        "module": {"early": early, "late": late, "final": final},
    }
    return Pipeline.of(settings | dict(more))


def _module(program: str, stage: str, files: dict[str, dict[str, str]], used: str = "") -> dict[str, Any]:
    exec_1: dict[str, Any] = {
        "execname": program,
        "was_generated_by": "file.made",
        "cmdline": {"_1": "${file.made.fullname}"},
    }
    return {
        "wrapperloop": "stage, side",
        "stage": stage,
        "side": ["left", "right"],
        "modnamepat": "${stage}_${side}",
        "file": files,
        "exec_1": exec_1 | ({"used": used} if used else {}),
    }
