"""Whatever goes wrong with a submitted run, it is told, and what cannot run is refused before anything is written."""

from __future__ import annotations

import resource
import sqlite3
import threading
from pathlib import Path

import pytest
from submitted_runs import PARTS, SubmittedRuns, wait_for, write_image

STEPS = ("seed", *PARTS, "total")


@pytest.fixture
def runs(sqlite_url: str, tmp_path: Path) -> SubmittedRuns:
    return SubmittedRuns(sqlite_url, tmp_path)


def test_a_job_killed_by_signal_9_is_started_again(runs: SubmittedRuns) -> None:
    runs.order("part-1-1", f'[ $(grep -c "begin part-1-1" {runs.folder}/told) -gt 1 ] || {{ kill -9 $PPID; exit; }}')
    runs.submit("--retries", "1")
    assert runs.told.count("begin part-1-1") == 2
    assert set(runs.states().values()) == {"succeeded"}
    assert len(runs.made()) == 9


def test_a_step_killed_by_signal_9_is_told_from_one_that_failed(runs: SubmittedRuns) -> None:
    runs.order("part-1-1", "kill -9 $$")
    runs.order("part-2-1", "exit 4")
    out = runs.submit(code=3)
    assert "U_r1p01_middle_j0002: step 2: " in out
    assert "exit status 4" in out
    states = ["succeeded", "killed", "blocked", "failed", "blocked", "blocked"]
    assert list(runs.states().values()) == states


def test_a_full_disk_while_saving_makes_the_run_incomplete_and_a_resumed_one_ends_well(runs: SubmittedRuns) -> None:
    def small() -> None:  # the largest file that dbb itself can write; its programs' may be larger
        resource.setrlimit(resource.RLIMIT_FSIZE, (6_000_000, resource.RLIM_INFINITY))

    runs.order("part-1-1", 'ulimit -f unlimited; head -c 7000000 /dev/zero > "$out"; exit 0')
    submit = runs.start("submit.des", preexec_fn=small)
    out = "".join(submit.communicate(timeout=60))
    assert submit.returncode == 3
    assert "part-1-1.txt" in out
    assert "too large" in out
    assert runs.states()["part-1-1"] == "incomplete"
    assert not list((runs.folder / "home").rglob("*part-1-1*"))
    runs.dbb("submit", "--resume", "U_r1p01")
    assert (runs.folder / "home/U_r1p02/made/part-1-1.txt").stat().st_size == 7_000_000


def test_an_archive_that_takes_nothing_makes_the_run_incomplete(runs: SubmittedRuns) -> None:
    (runs.folder / "home/U_r1p01").write_text("no folder")
    out = runs.submit(code=3)
    assert "could not be saved" in out
    assert runs.states()["seed"] == "incomplete"
    assert runs.told == ["begin seed", "end seed"]


def test_a_missing_output_makes_the_step_incomplete_and_is_named(runs: SubmittedRuns) -> None:
    runs.order("seed", "exit 0")
    out = runs.submit(code=3)
    assert "seed.txt" in out
    assert runs.states()["seed"] == "incomplete"


def test_an_optional_output_may_lack(runs: SubmittedRuns) -> None:
    runs.change(("filepat = total", "filepat = total\n        optional = True"))
    runs.order("total", "exit 0")
    runs.submit()
    assert runs.states()["total"] == "succeeded"


def test_a_registered_input_that_is_gone_fails_its_step(runs: SubmittedRuns) -> None:
    (runs.folder / "home/raw/raw.txt").unlink()
    out = runs.submit(code=3)
    assert "raw.txt" in out
    assert runs.told == []


def test_a_job_that_wants_a_file_which_is_kept_compressed_only_is_told_so(runs: SubmittedRuns) -> None:
    runs.change(
        ("seed = seed.txt", "seed = seed.fits"), ("filepat = seed", "filepat = seed\n        compress_files = 1")
    )
    write_image(runs.folder / "image.fits")
    runs.order("seed.fits", f'cp {runs.folder}/image.fits "$out"; exit 0')
    said = "seed.fits (kept as seed.fits.fz only: compress_files says so)"
    assert said in runs.submit(code=3)


QCF = ("reqnum = 1", "reqnum = 1\n<qcf>\n<patterns>\n<one>\npattern = (a+)+b\n</one>\n</patterns>\n</qcf>")


@pytest.mark.parametrize(
    ("changes", "arguments", "code", "said"),
    [
        ([("filename = raw.txt", "filename = other.txt")], [], 5, "other.txt"),
        ([("part-${visit}-${ccd}.txt", "part-${visit}.txt")], [], 4, "part-1.txt"),
        ([("home_archive = home", "home_archive = away")], [], 2, "away"),
        ([("home_archive = home", "")], [], 2, "reads seed.txt, which seed"),
        ([("filepat = seed", "filepat = seed\n        savefiles = False")], [], 2, "savefiles = False"),
        ([], ["--engine", "steam"], 5, "steam"),
        ([], ["--workdir", "home"], 4, "home exists"),
        ([], ["--workdir", "submit.des/run"], 1, "submit.des/run cannot be made: "),
        ([], ["--set", "step_seconds=soon"], 2, "step_seconds = soon"),
        ([], ["--set", "stop_on_fail=perhaps"], 2, "stop_on_fail = perhaps"),
        ([], ["--set", "purge_job_dir=perhaps"], 2, "purge_job_dir"),
        ([QCF], [], 2, "(a+)+b"),
        ([], ["--resume", "U_r1p07"], 5, "U_r1p07"),
        ([], ["--dry-run"], 0, "4 jobs would run"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(
    runs: SubmittedRuns, changes: list[tuple[str, str]], arguments: list[str], code: int, said: str
) -> None:
    runs.change(*changes)
    before = sorted(runs.folder.iterdir())
    assert said in runs.submit(*arguments, code=code)
    assert sorted(one for one in runs.folder.iterdir() if not one.name.startswith("registry.db-")) == before
    for table in ("pfw_attempt", "pfw_request", "task"):
        assert runs.ask(f"select count(*) from {table}") == [(0,)]


def test_an_attempt_that_exists_is_refused(runs: SubmittedRuns) -> None:
    runs.submit("--set", "attnum=3")
    assert "U_r1p03" in runs.submit("--set", "attnum=3", "--workdir", "other", code=4)
    assert not (runs.folder / "other").exists()
    assert "U_r1p04: 4 of 4" in runs.submit()


def test_a_run_whose_plan_was_spoilt_is_not_resumed(runs: SubmittedRuns) -> None:
    runs.order("seed", "exit 4")
    runs.submit(code=3)
    for name in ("workflow.json", "pipeline.json"):
        path = runs.folder / "U_r1p01" / name
        plan = path.read_bytes()
        for content in ('{"run": 7, "tree": [], "folder": 1}', "[" * 100_000):
            path.write_text(content)
            assert f"{name} is not what 'dbb submit' wrote there" in runs.dbb("submit", "--resume", "U_r1p01", code=2)
        path.write_bytes(plan)
    assert runs.ask("select count(*) from pfw_attempt") == [(1,)]


def one_job(runs: SubmittedRuns, *changes: tuple[str, str]) -> None:
    """Put all modules into one job."""
    block = "<block first>\n    modulelist = seed, part, total\n</block>\n"
    text = (runs.folder / "submit.des").read_text()
    start, end = text.index("<block first>"), text.index("<filename_pattern>")
    runs.write(text[:start] + block + text[end:])
    runs.change(("blocklist = first, middle, last", "blocklist = first"), *changes)


def test_what_was_not_kept_is_made_again_when_a_resumed_step_wants_it(runs: SubmittedRuns) -> None:
    one_job(runs, ("filepat = part\n", "filepat = part\n        savefiles = False\n"))
    runs.order("total", "exit 4")
    runs.submit(code=3)
    runs.order("total", "")
    assert "1 quanta taken over" in runs.dbb("submit", "--resume", "U_r1p01")
    assert [runs.told.count(f"begin {name}") for name in STEPS] == [1, 2, 2, 2, 2, 2]


def test_steps_that_need_nothing_of_a_failed_one_run_where_that_is_wanted(runs: SubmittedRuns) -> None:
    one_job(runs)
    runs.order("part-1-1", "exit 4")
    runs.submit("--set", "stop_on_fail=False", code=3)
    assert list(runs.states().values()) == [
        *("succeeded", "failed", "succeeded", "succeeded", "succeeded"),
        "blocked",
    ]


def test_quanta_of_a_module_run_at_the_same_time_where_that_is_wanted(runs: SubmittedRuns) -> None:
    one_job(runs)
    for one, other in (("part-1-1", "part-1-2"), ("part-1-2", "part-1-1")):
        wait = f'for i in $(seq 400); do grep -q "begin {other}" "{runs.folder}/told" && break; sleep 0.05; done'
        runs.order(one, f"{wait}; [ $i -lt 400 ] || exit 4")
    runs.submit("--set", "master_use_fwthreads=True", "--set", "max_fwthreads=2")
    assert set(runs.states().values()) == {"succeeded"}


def test_files_of_steps_that_fail_are_kept_where_that_is_wanted(runs: SubmittedRuns) -> None:
    runs.order("seed", 'echo half > "$out"; exit 4')
    runs.submit("--set", "master_savefiles=always", code=3)
    assert (runs.folder / "home/U_r1p01/made/seed.txt").read_text() == "half\n"


def test_a_set_up_script_and_limits_hold_for_all_steps(runs: SubmittedRuns) -> None:
    (runs.folder / "setup.sh").write_text("export GREETING=hello\n")
    runs.order("seed", "echo $GREETING > $out.greeting; cp $out.greeting ../../../../greeting")
    runs.order("part-1-1", "sleep 30")
    out = runs.submit("--set", f"setup_script={runs.folder}/setup.sh", "--set", "step_seconds=1", code=3)
    assert (runs.folder / "greeting").read_text() == "hello\n"
    assert runs.states()["part-1-1"] == "killed"
    assert "U_r1p01_middle_j0002: step 2" in out


def test_an_input_gets_the_fixed_name_that_its_program_demands(runs: SubmittedRuns) -> None:
    runs.change(
        (
            "filename = raw.txt\n        dirpat = raw",
            "filename = raw.txt\n        rename_file = fixed.txt\n        dirpat = raw",
        )
    )
    runs.order("seed", "set -- raw/fixed.txt")
    runs.submit()
    assert (runs.folder / "home/U_r1p01/made/seed.txt").read_text() == "raw\nseed\n"


QCF = """
<qcf>
    override = True
    <patterns>
        <1>
            lvl = 2
            pattern = stars are few
        </1>
        <2>
            lvl = 1
            pattern = no stars
            execname = other
        </2>
    </patterns>
    <excludes>
        <1>
            pattern = few in number
        </1>
    </excludes>
    <filter>
        <1>
            replace_pattern = twelve
            with_pattern = 12
        </1>
    </filter>
</qcf>
"""


def test_messages_are_found_as_a_submit_file_says_and_belong_to_their_step(runs: SubmittedRuns) -> None:
    text = (runs.folder / "submit.des").read_text()
    runs.write(text + QCF)
    runs.order("part-2-1", "echo stars are few: twelve; echo stars are few in number; echo no stars; echo FATAL: x")
    runs.submit()
    found = runs.ask(
        "select w.wrapkeys, m.message, m.message_lvl from task_message m, task t, pfw_wrapper w, pfw_attempt a"
        " where t.id = m.task_id and w.task_id in (t.id, t.parent_task_id) and a.id = m.pfw_attempt_id and a.attnum = 1"
    )
    assert found == [("visit=2,ccd=1", "stars are few: 12", 2)]


def test_a_registry_that_is_locked_for_a_while_delays_a_run_only(runs: SubmittedRuns) -> None:
    runs.order("seed", "sleep 1")
    submit = runs.start("submit.des")
    wait_for(lambda: "begin seed" in runs.told)
    locked = sqlite3.connect(runs.folder / "registry.db", isolation_level=None, check_same_thread=False)
    locked.execute("begin immediate")
    release = threading.Timer(3, locked.execute, ["rollback"])
    release.start()
    out = "".join(submit.communicate(timeout=60))
    release.join()
    locked.close()
    assert submit.returncode == 0, out
    assert len(runs.made()) == 9
