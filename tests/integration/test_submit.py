"""A submitted run ends, and when it is broken off, another attempt goes on where it was."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from registries import statements
from submitted_runs import PARTS, SubmittedRuns, is_alive, kill_all, wait_for, write_image

from dbb import Registry
from dbb.engine import Engine, EngineWork
from dbb.pipeline import read_pipeline
from dbb.runs.alive import live_jobs
from dbb.runs.submit import Submission, submit

STEPS = ("seed", *PARTS, "total")
TOTAL = [word for part in PARTS for word in ("raw", "seed", part)] + ["total"]


@pytest.fixture
def runs(registry_url: str, tmp_path: Path) -> SubmittedRuns:
    return SubmittedRuns(registry_url, tmp_path)


@pytest.fixture
def small(sqlite_url: str, tmp_path: Path) -> SubmittedRuns:
    return SubmittedRuns(sqlite_url, tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[object, ...]]:
    """What the pipeline makes when nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed")
    runs = SubmittedRuns(f"sqlite:///{folder}/registry.db", folder)
    runs.submit()
    return runs.made()


def test_a_pipeline_runs_to_its_end(runs: SubmittedRuns, undisturbed: set[tuple[object, ...]]) -> None:
    out = runs.submit("--jobs", "2")
    assert "U_r1p01: 4 of 4 jobs succeeded" in out
    assert (runs.folder / "home/U_r1p01/made/total.txt").read_text().split() == TOTAL
    assert set(runs.states().values()) == {"succeeded"}
    assert runs.made() == undisturbed
    assert len(undisturbed) == 1 + 4 + 4


def test_the_queries_of_operators_tell_of_a_submitted_run(runs: SubmittedRuns) -> None:
    runs.submit()
    counted = runs.ask(
        "select modname, count(*) from pfw_wrapper w, pfw_attempt a where w.pfw_attempt_id=a.id and a.reqnum=1"
        " and a.attnum=1 group by modname order by min(w.wrapnum)"
    )
    assert counted == [("seed", 1), ("part", 4), ("total", 1)]
    ((took,),) = runs.ask(
        "select end_time - start_time from task t, pfw_attempt a where t.id=a.task_id and a.reqnum=1 and a.attnum=1"
    )
    seconds = took if isinstance(took, float) else took.total_seconds()
    assert 0 < seconds < 60


def test_an_attempt_tells_what_its_pipeline_says_of_it(small: SubmittedRuns) -> None:
    small.change(("reqnum = 1", "reqnum = 1\npipeprod = coadd\npipever = 1.2\nbasket = Y6A1\ngroup_submit_id = g7"))
    small.submit("--jobs", "2")
    columns = "basket, group_submit_id, subpipeprod, subpipever, fullsubmitwcl"
    assert small.ask(f"select {columns} from pfw_attempt") == [
        ("Y6A1", "g7", "coadd", "1.2", str(small.folder / "U_r1p01/pipeline.json"))
    ]


@pytest.mark.parametrize("step", ["seed", "part-2-1", "total"])
def test_a_run_that_was_killed_is_resumed_to_the_same_end(
    runs: SubmittedRuns, step: str, undisturbed: set[tuple[object, ...]]
) -> None:
    runs.order(step, "sleep 60")
    submit = runs.start("submit.des", "--jobs", "2")
    wait_for(lambda: f"begin {step}" in runs.told)
    kill_all(submit)
    runs.order(step, "")
    done_before = {line.split()[1] for line in runs.told if line.startswith("end")}
    runs.dbb("merge", "U_r1p01")
    out = runs.dbb("submit", "--resume", "U_r1p01")
    assert "U_r1p02: 4 of 4 jobs succeeded" in out
    assert runs.made() == undisturbed
    assert set(runs.states(2).values()) == {"succeeded"}
    again = [line for line in runs.told if line.startswith("begin")]
    assert len(again) <= len(STEPS) + 3 - (step == "seed") * 2 - (step == "total") * 2
    assert all(again.count(f"begin {name}") == 1 for name in done_before - {"part-1-2", "part-1-1"})
    # nothing of the old run is left open
    assert runs.ask("select count(*) from task where state in ('ready', 'unready', 'running')") == [(0,)]


def test_a_run_that_was_killed_at_any_moment_is_resumed_to_the_same_end(
    small: SubmittedRuns, undisturbed: set[tuple[object, ...]]
) -> None:
    seed = random.Random(55)
    submit = small.start("submit.des", "--jobs", "2")
    for number in range(1, 6):
        wait_for(lambda number=number: (small.folder / f"U_r1p{number:02d}").exists())
        time.sleep(seed.uniform(0, 0.6))
        kill_all(submit)
        submit = small.start("--resume", f"U_r1p{number:02d}", "--jobs", "2")
    submit.communicate()
    assert submit.returncode == 0
    assert small.made() == undisturbed
    assert set(small.states(6).values()) == {"succeeded"}
    assert small.ask("select count(*) from task where state in ('ready', 'unready', 'running')") == [(0,)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_ends_its_jobs_and_is_resumed(
    small: SubmittedRuns, number: int, undisturbed: set[tuple[object, ...]]
) -> None:
    small.order("part-1-2", "echo $$ > ../../../../pid; sleep 60")
    submit = small.start("submit.des", "--jobs", "1")
    wait_for(lambda: (small.folder / "pid").exists() and (small.folder / "pid").read_text())
    submit.send_signal(number)
    submit.communicate(timeout=30)
    assert submit.returncode == 130
    assert not is_alive(int((small.folder / "pid").read_text()))
    assert small.states() == {
        "seed": "succeeded",
        "part-1-1": "succeeded",
        "part-1-2": "killed",
        "part-2-1": "blocked",
        "part-2-2": "blocked",
        "total": "blocked",
    }
    assert "KILL" in small.dbb("status")
    small.order("part-1-2", "")
    small.dbb("submit", "--resume", "U_r1p01")
    assert small.made() == undisturbed
    assert small.told.count("begin part-1-1") == 1


def test_jobs_that_outlive_their_submit_are_not_run_a_second_time(small: SubmittedRuns) -> None:
    small.order("seed", "sleep 60")
    submit = small.start("submit.des")
    wait_for(lambda: "begin seed" in small.told)
    assert "'dbb submit' still runs U_r1p01" in small.dbb("submit", "--resume", "U_r1p01", code=4)
    submit.kill()
    submit.communicate()
    refused = small.dbb("submit", "--resume", "U_r1p01", code=4)
    assert "U_r1p01_first_j0001" in refused
    assert "dbb cancel" in refused
    small.dbb("cancel", "U_r1p01")
    small.order("seed", "")
    wait_for(lambda: not live_jobs(small.folder / "U_r1p01"))
    job = small.folder / "U_r1p01/jobs/U_r1p01_first_j0001/events.1.jsonl"
    assert '"state":"killed","status":143' in job.read_text()
    assert "4 of 4 jobs succeeded" in small.dbb("submit", "--resume", "U_r1p01")
    assert small.ask("select count(*) from pfw_attempt") == [(2,)]


def test_two_submits_at_once_get_two_attempts(runs: SubmittedRuns) -> None:
    both = [runs.start("submit.des") for _ in range(2)]
    outs = ["".join(one.communicate(timeout=60)) for one in both]
    assert [one.returncode for one in both] == [0, 0], outs
    assert runs.ask("select attnum from pfw_attempt order by attnum") == [(1,), (2,)]
    assert all((runs.folder / f"U_r1p0{number}/workflow.json").exists() for number in (1, 2))


def test_an_image_is_kept_compressed_if_the_submit_file_says_so(runs: SubmittedRuns) -> None:
    runs.change(
        ("total = total.txt", "total = total.fits"), ("filepat = total", "filepat = total\n        compress_files = 1")
    )
    write_image(runs.folder / "image.fits")
    runs.order("total.fits", f'cp {runs.folder}/image.fits "$out"; exit 0')
    runs.submit()
    made = runs.folder / "home/U_r1p01/made"
    assert [path.name for path in made.glob("total*")] == ["total.fits.fz"]
    assert runs.ask(
        "select d.compression, d.filesize, t.name, f.path from desfile d join task t on t.id = d.wgb_task_id"
        " left join file_archive_info f on f.desfile_id = d.id where d.filename = 'total.fits' order by d.id"
    ) == [
        ("", (runs.folder / "image.fits").stat().st_size, "exec_1", None),
        (".fz", (made / "total.fits.fz").stat().st_size, "compress_files", "U_r1p01/made"),
    ]
    assert runs.ask("select num_requested, num_failed from compress_task") == [(1, 0)]


def test_a_second_interruption_hurries_programs_that_do_not_heed_the_first(small: SubmittedRuns) -> None:
    small.order(
        "seed",
        f"trap 'echo asked >> {small.folder}/told' TERM; echo $$ > {small.folder}/pid; while :; do sleep 0.1; done",
    )
    submit = small.start("submit.des")
    wait_for(lambda: (small.folder / "pid").exists() and (small.folder / "pid").read_text())
    submit.send_signal(signal.SIGINT)
    wait_for(lambda: "asked" in small.told)
    submit.send_signal(signal.SIGINT)
    submit.communicate(timeout=60)
    assert submit.returncode == 130
    assert not is_alive(int((small.folder / "pid").read_text()))
    assert set(small.states().values()) == {"killed", "blocked"}
    assert small.ask("select count(*) from task where state in ('ready', 'unready', 'running')") == [(0,)]


class Writer(Engine):
    """Has the file of each job written, and counts what the registry is asked for that."""

    name = "writer"

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.sent: list[int] = []

    def run(self, work: EngineWork) -> None:
        for job in work.jobs:
            if "_middle_" in job.name:
                with statements(self._registry) as sent:
                    work.prepare(job.name)
                self.sent.append(len(sent))


def test_the_file_of_a_job_costs_three_statements(small: SubmittedRuns) -> None:
    small.change(
        ("ccd = 1, 2", "ccd = 1:9"),
        ("divide_jobs_by = visit", "divide_jobs_by = visit, ccd"),
        ("depends = seed.file.made\n        dirpat = made", "filename = raw.txt\n        dirpat = raw"),
    )
    with Registry(small.url) as registry:
        engine = Writer(registry)
        submit(registry, read_pipeline(small.folder / "submit.des"), Submission(engine, small.folder / "run"))
    assert engine.sent[0] <= 6  # the first learns the filetypes
    assert engine.sent[1:] == [3] * 17
