"""Whatever happens to a job, its record is true as far as it goes, and nothing half is in the archive."""

from __future__ import annotations

import ctypes
import json
import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from job_files import events_of, output, shell, start_dbb, states_of, texts_of, write_job

from dbb.jobs import run_job

_DROP_CAPABILITY, _OVERRIDE_PERMISSIONS = 24, 1  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE of Linux


def wait_for(what: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


def archive_files(folder: Path) -> dict[str, bytes]:
    archive = folder / "archive"
    return {str(path.relative_to(archive)): path.read_bytes() for path in archive.rglob("*") if path.is_file()}


def test_a_step_killed_by_signal_9_is_killed_and_the_job_goes_on_as_told(tmp_path: Path) -> None:
    steps = [shell(1, "kill -9 $$", "out/a"), shell(2, "echo > out/b", "out/b")]
    path = write_job(tmp_path, steps, options={"stop_on_fail": False})
    assert run_job(path).result.state == "failed"
    events = events_of(path)
    assert states_of(events) == {1: "killed", 2: "succeeded", None: "failed"}
    assert [event["signal"] for event in events if "signal" in event] == [9]
    assert set(archive_files(tmp_path)) == {"r11p95/b"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_programs_and_the_last_event_is_written(tmp_path: Path, number: int, code: int) -> None:
    script = "echo $$ > pid; echo ready; sleep 60 & echo $! > child; wait"
    path = write_job(tmp_path, [shell(1, script), shell(2, "true")])
    work = path.parent / "work.1"
    with start_dbb("run-job", path) as job:
        wait_for(lambda: (work / "child").exists() and (work / "child").read_text().endswith("\n"))
        job.send_signal(number)
        assert job.wait(30) == code
    for name in ("pid", "child"):
        assert not is_running(int((work / name).read_text()))
    events = events_of(path)
    assert states_of(events) == {1: "killed", None: "killed"}
    assert (events[-1]["step"], events[-1]["status"]) == (None, code)
    assert events[-1]["reason"] == f"ended by signal {signal.Signals(number).name}"


def test_a_signal_ends_all_quanta_that_run_at_once(tmp_path: Path) -> None:
    steps = [shell(number, f"touch up{number}; sleep 60", module="warp") for number in (1, 2, 3)]
    path = write_job(tmp_path, steps, parallel={"warp": 2})
    work = path.parent / "work.1"
    with start_dbb("run-job", path) as job:
        wait_for(lambda: (work / "up1").exists() and (work / "up2").exists())
        job.terminate()
        assert job.wait(30) == 143
    assert states_of(events_of(path)) == {1: "killed", 2: "killed", None: "killed"}


def test_a_job_killed_by_signal_9_leaves_no_program_running(tmp_path: Path) -> None:
    script = "trap 'echo asked > asked' TERM; sleep 600 & echo $! > child.$; mv child.$ child; wait"
    path = write_job(tmp_path, [shell(1, "true"), shell(2, script)])
    work = path.parent / "work.1"
    with start_dbb("run-job", path) as job:
        wait_for((work / "child").exists)
        job.kill()
        job.wait(30)
    child = int((work / "child").read_text())
    wait_for(lambda: not is_running(child))
    wait_for((work / "asked").exists)


def test_a_job_killed_at_any_moment_leaves_a_true_record_and_runs_again(tmp_path: Path) -> None:
    seed = random.Random(5)
    steps = [
        shell(number, f"head -c 3000000 /dev/zero | tr '\\0' {number} > out/{number}", f"out/{number}")
        for number in (1, 2, 3, 4)
    ]
    path = write_job(tmp_path, steps)
    whole = {f"r11p95/{number}": str(number).encode() * 3_000_000 for number in (1, 2, 3, 4)}
    for number in range(1, 21):
        job = start_dbb("run-job", path, "--try", number)
        wait_for(lambda number=number: path.with_name(f"events.{number}.jsonl").exists())
        time.sleep(seed.uniform(0, 0.35))
        job.kill()
        job.communicate()
        events = events_of(path, number)
        saved = {f"r11p95/{event['saved']['filename']}" for event in events if "saved" in event}
        there = {name: data for name, data in archive_files(tmp_path).items() if not name.startswith(".save-")}
        assert saved <= there.keys()
        assert there.items() <= whole.items()
        assert [event["t"] for event in events] == sorted(event["t"] for event in events)
    assert run_job(path).result.state == "succeeded"
    assert archive_files(tmp_path) == whole  # what the killed ones had in the making is swept away


def test_a_full_disk_while_saving_makes_the_step_incomplete(tmp_path: Path) -> None:
    steps = [shell(1, "head -c 100000 /dev/zero > out/a; echo > out/b", "out/a", "out/b")]
    path = write_job(tmp_path, steps)

    def small() -> (
        None
    ):  # files of this size are the largest that the job itself can write; its programs' may be larger
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))

    steps[0]["argv"] = [["sh", "-c", "ulimit -f unlimited; " + steps[0]["argv"][0][2]]]
    path = write_job(tmp_path, steps)
    with start_dbb("run-job", path, preexec_fn=small) as job:
        assert job.wait(30) == 3
    events = events_of(path)
    assert states_of(events) == {1: "incomplete", None: "incomplete"}
    assert "a: File too large" in "".join(texts_of(events))
    assert archive_files(tmp_path) == {"r11p95/b": b"\n"}
    assert (path.parent / "work.1" / "out" / "a").stat().st_size == 100_000  # nothing is lost


def test_an_archive_that_cannot_be_written_makes_the_step_incomplete(tmp_path: Path) -> None:
    path = write_job(tmp_path, [shell(1, "echo > out/a", "out/a")])
    (tmp_path / "archive").rmdir()
    (tmp_path / "archive").write_text("a file, which not even root can write files into")
    assert run_job(path).result.state == "incomplete"
    events = events_of(path)
    assert "nothing can be written to the archive" in "".join(texts_of(events))
    assert (path.parent / "work.1" / "out" / "a").exists()


def test_a_read_only_archive_makes_the_step_incomplete(tmp_path: Path) -> None:
    path = write_job(tmp_path, [shell(1, "echo > out/a", "out/a")])
    (tmp_path / "archive").chmod(0o555)

    def humble() -> None:  # root may write everywhere, unless a program is started without the capability for it
        ctypes.CDLL(None).prctl(_DROP_CAPABILITY, _OVERRIDE_PERMISSIONS)

    with start_dbb("run-job", path, preexec_fn=humble) as process:
        assert process.wait(30) == 3
    assert "nothing can be written to the archive" in "".join(texts_of(events_of(path)))
    assert states_of(events_of(path)) == {1: "incomplete", None: "incomplete"}


def test_a_name_that_the_archive_has_with_other_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "archive" / "r11p95").mkdir(parents=True)
    (tmp_path / "archive" / "r11p95" / "a").write_bytes(b"somebody else's")
    path = write_job(tmp_path, [shell(1, "echo > out/a; echo > out/b", "out/a", "out/b")])
    assert run_job(path).result.state == "incomplete"
    assert "with other bytes" in "".join(texts_of(events_of(path)))
    assert archive_files(tmp_path) == {"r11p95/a": b"somebody else's", "r11p95/b": b"\n"}


def test_a_name_that_the_archive_has_with_the_same_content_is_fine(tmp_path: Path) -> None:
    (tmp_path / "archive" / "r11p95").mkdir(parents=True)
    (tmp_path / "archive" / "r11p95" / "a").write_bytes(b"\n")
    path = write_job(tmp_path, [shell(1, "echo > out/a", "out/a")])
    assert run_job(path).result.state == "succeeded"


def test_of_two_jobs_that_write_one_name_one_wins_and_the_other_says_so(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    paths = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        path = write_job(tmp_path / name, [shell(1, f"echo {name} > out/a", "out/a")])
        job = json.loads(path.read_text()) | {"archives": {"home": f"file://{tmp_path}/archive"}}
        path.write_text(json.dumps(job), encoding="utf-8")
        paths.append(path)
    jobs = [start_dbb("run-job", path) for path in paths]
    codes = sorted(job.wait(30) for job in jobs)
    for job in jobs:
        job.communicate()
    assert codes == [0, 3]
    (winner,) = archive_files(tmp_path).values()
    assert winner in {b"one\n", b"two\n"}


def test_a_full_disk_for_events_ends_the_job_and_its_programs(tmp_path: Path) -> None:
    path = write_job(tmp_path, [shell(1, "echo $$ > pid; ulimit -f unlimited; while :; do echo error; done")])
    job = json.loads(path.read_text()) | {"messages": {"patterns": [{"pattern": "error"}]}}
    path.write_text(json.dumps(job), encoding="utf-8")

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    with start_dbb("run-job", path, preexec_fn=small) as process:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
    assert "events.1.jsonl cannot be written: File too large" in errors
    assert not is_running(int((path.parent / "work.1" / "pid").read_text()))
    assert events_of(path)[0]["state"] == "running"  # a prefix, which reads


def test_a_log_that_cannot_be_written_does_not_harm_the_step(tmp_path: Path) -> None:
    script = "ulimit -f unlimited; head -c 400000 /dev/zero; echo > out/a"
    path = write_job(tmp_path, [shell(1, script, output("out/a"))])

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    with start_dbb("run-job", path, preexec_fn=small) as process:
        assert process.wait(30) == 0
    assert "the log m1_1.log cannot be written on: File too large" in texts_of(events_of(path))


def test_a_step_that_hangs_is_ended_at_its_limit(tmp_path: Path) -> None:
    path = write_job(tmp_path, [shell(1, "sleep 60", "out/a")], limits={"seconds": 0.3})
    assert run_job(path).result.state == "failed"
    events = events_of(path)
    assert states_of(events)[1] == "killed"
    assert "it ran longer than 0.3 seconds" in texts_of(events)[0]


def test_the_command_says_what_went_wrong_and_exits_so(tmp_path: Path) -> None:
    for script, code, said in (("true", 0, "succeeded"), ("exit 7", 1, "step 1: failed: sh ended with exit status 7")):
        path = write_job(tmp_path, [shell(1, script)])
        with start_dbb("run-job", path) as process:
            out, errors = process.communicate(timeout=30)
        assert (process.returncode, out) == (code, "")
        assert said in errors


def test_a_dry_run_shows_what_would_run_and_does_nothing(tmp_path: Path) -> None:
    path = write_job(tmp_path, [shell(1, "echo 'a b' > out/a", module="warp"), shell(2, "true", module="coadd")])
    with start_dbb("run-job", "--dry-run", path) as process:
        out, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert out.splitlines() == ["1 warp: sh -c 'echo '\"'\"'a b'\"'\"' > out/a'", "2 coadd: sh -c true"]
    assert [one.name for one in path.parent.iterdir()] == ["job.json"]


def test_a_broken_job_file_gives_a_message_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("{")
    with start_dbb("run-job", tmp_path / "job.json", stdin=subprocess.DEVNULL) as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert errors.startswith("dbb: error: job file")
