"""Programs are run with their output taken as it comes, and nothing of them is left behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dbb.jobs.process import Ended, Limits, Stopper, run_process


def run_sh(folder: Path, script: str, limits: Limits | None = None, **more: object) -> tuple[Ended, bytes]:
    taken: list[bytes] = []
    ended = run_process(["sh", "-c", script], taken.append, folder=folder, limits=limits, **more)
    return ended, b"".join(taken)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


def pid_in(path: Path) -> int:
    deadline = time.monotonic() + 20
    while not path.exists() or not path.read_text().endswith("\n"):
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)
    return int(path.read_text())


def test_both_streams_come_in_one(tmp_path: Path) -> None:
    ended, output = run_sh(tmp_path, "echo out; echo err >&2")
    assert (ended.status, ended.state, sorted(output.split())) == (0, "succeeded", [b"err", b"out"])


def test_the_exit_status_is_kept(tmp_path: Path) -> None:
    ended, _ = run_sh(tmp_path, "exit 7")
    assert (ended.status, ended.signal, ended.state) == (7, None, "failed")


def test_a_signal_is_told_from_an_exit(tmp_path: Path) -> None:
    ended, _ = run_sh(tmp_path, "kill -9 $$")
    assert (ended.status, ended.signal, ended.state) == (137, 9, "killed")


def test_resources_are_those_of_this_program(tmp_path: Path) -> None:
    ended, _ = run_sh(tmp_path, "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
    assert len(ended.rusage) == 16
    assert ended.rusage["ru_utime"] > 0
    assert ended.end > ended.start


@pytest.mark.parametrize(("argv", "status"), [(["no-such-program"], 127), (["/"], 126), (["./not-executable"], 126)])
def test_a_program_that_cannot_be_started_says_why(tmp_path: Path, argv: list[str], status: int) -> None:
    (tmp_path / "not-executable").write_text("#!/bin/sh\n")
    ended = run_process(argv, lambda data: None, folder=tmp_path)
    assert (ended.status, ended.state) == (status, "failed")
    assert ended.reason.startswith(f"{argv[0]} cannot be started: ")


def test_the_program_is_looked_for_on_its_own_path(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("#!/bin/sh\nexit 5\n")
    (tmp_path / "mine").chmod(0o755)
    ended = run_process(["mine"], lambda data: None, folder=tmp_path, environment={"PATH": str(tmp_path)})
    assert ended.status == 5


def test_ten_megabytes_of_output_all_come(tmp_path: Path) -> None:
    ended, output = run_sh(tmp_path, "head -c 10000000 /dev/zero")
    assert (ended.status, len(output)) == (0, 10_000_000)


def test_output_comes_while_the_program_runs(tmp_path: Path) -> None:
    seen: list[float] = []
    run_process(["sh", "-c", "echo a; sleep 0.5"], lambda data: seen.append(time.time()), folder=tmp_path)
    assert len(seen) == 1
    ended, _ = run_sh(tmp_path, "true")
    assert seen[0] < ended.start


def test_a_child_in_the_background_does_not_outlive_its_step(tmp_path: Path) -> None:
    ended, _ = run_sh(tmp_path, "sleep 60 & echo $! > pid")
    assert ended.status == 0
    assert not is_running(pid_in(tmp_path / "pid"))


def test_a_child_that_closes_its_output_does_not_outlive_its_step_either(tmp_path: Path) -> None:
    run_sh(tmp_path, "sleep 60 >/dev/null 2>&1 & echo $! > pid")
    assert not is_running(pid_in(tmp_path / "pid"))


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    code = "import os, signal, time; signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(60)"
    run_sh(tmp_path, f"'{sys.executable}' -c '{code}' > pid & while ! grep -q . pid; do sleep 0.05; done")
    time.sleep(0.1)
    assert not is_running(pid_in(tmp_path / "pid"))


def test_the_time_limit_ends_program_and_children(tmp_path: Path) -> None:
    ended, _ = run_sh(tmp_path, "sleep 60 & echo $! > pid; wait", Limits(seconds=0.3))
    assert (ended.state, ended.signal) == ("killed", 15)
    assert ended.reason == "ended: it ran longer than 0.3 seconds"
    assert not is_running(pid_in(tmp_path / "pid"))


def test_a_program_that_takes_its_end_well_has_not_succeeded(tmp_path: Path) -> None:
    ended, _ = run_sh(tmp_path, "trap 'exit 0' TERM; sleep 60 & wait", Limits(seconds=0.3))
    assert (ended.state, ended.status, ended.signal) == ("killed", 1, None)


def test_the_memory_limit_counts_the_whole_group(tmp_path: Path) -> None:
    code = "x = bytearray(60_000_000); import time; time.sleep(60)"
    script = f"'{sys.executable}' -c '{code}' & '{sys.executable}' -c '{code}' & wait"
    ended, _ = run_sh(tmp_path, script, Limits(memory_mb=100))
    assert ended.state == "killed"
    assert "more than 100" in ended.reason


def test_a_flood_of_output_does_not_hide_the_time_limit(tmp_path: Path) -> None:
    ended, _ = run_sh(tmp_path, "yes", Limits(seconds=0.3))
    assert ended.state == "killed"


def test_a_stopper_ends_what_runs(tmp_path: Path) -> None:
    stopper = Stopper()
    threading.Timer(0.3, lambda: stopper.stop(signal.SIGTERM)).start()
    ended, _ = run_sh(tmp_path, "sleep 60", stopper=stopper)
    assert (ended.state, ended.reason) == ("killed", "ended: by signal SIGTERM")


def test_a_second_signal_does_not_wait_for_a_program_that_ignores_the_first(tmp_path: Path) -> None:
    stopper = Stopper()

    def insist(data: bytes) -> None:
        stopper.stop(signal.SIGINT)
        stopper.stop(signal.SIGINT)

    ended = run_process(["sh", "-c", "trap '' TERM; echo ready; sleep 60"], insist, folder=tmp_path, stopper=stopper)
    assert (ended.signal, ended.reason) == (9, "ended: by signal SIGINT")


def test_the_clock_may_go_back_while_a_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 50.0])
    monkeypatch.setattr(time, "time", lambda: next(clock))
    ended, _ = run_sh(tmp_path, "true")
    assert (ended.start, ended.end) == (100.0, 100.0)


def test_an_error_in_whoever_takes_the_output_kills_the_program(tmp_path: Path) -> None:
    def refuse(data: bytes) -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        run_process(["sh", "-c", "echo $$ > pid; echo x; sleep 60"], refuse, folder=tmp_path)
    assert not is_running(pid_in(tmp_path / "pid"))


@pytest.mark.parametrize("blind", [False, True])
def test_it_works_where_the_system_does_not_tell_of_ends(
    tmp_path: Path, blind: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if blind:
        monkeypatch.delattr(os, "pidfd_open")
    ended, output = run_sh(tmp_path, "echo a; exec >&- 2>&-; sleep 0.1; exit 3")
    assert (ended.status, output) == (3, b"a\n")


def test_many_threads_run_programs_at_once(tmp_path: Path) -> None:
    done: list[int] = []

    def work(number: int) -> Callable[[], None]:
        return lambda: done.append(run_sh(tmp_path, f"exit {number}")[0].status)

    threads = [threading.Thread(target=work(number)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(20))
