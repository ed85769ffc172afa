"""The engine parsl with what happens on real machines: workers die, Slurm jobs end, settings are of no use."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from batch_systems import SlurmCluster, wait_for
from submitted_runs import SubmittedRuns, descendants, is_alive

from dbb.errors import DbbError
from dbb_plugins.parsl import ParslEngine

# What the first try of a step does: it waits, and tells when it is ended; the second does nothing of the kind.
_WAIT = (
    '[ $(grep -c "begin $name" {folder}/told) -gt 1 ] || '
    "{{ trap 'echo \"over $name\" >> {folder}/told; exit 1' TERM; {before} sleep 60 & wait; }}"
)
_PARENT = "$(cut -d' ' -f4 /proc/{}/stat)"
_WORKER = _PARENT.format("$PPID")
_MANAGER = _PARENT.format(_WORKER)
_ENOUGH = 150
"""Seconds until Parsl has noticed whatever it does."""


@pytest.fixture
def runs(sqlite_url: str, tmp_path: Path) -> SubmittedRuns:
    return SubmittedRuns(sqlite_url, tmp_path)


@pytest.fixture
def cluster(slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    for name, value in slurm.environ.items():
        monkeypatch.setenv(name, value)
    yield slurm
    slurm.run("scancel", "--user=root")


def wait_in(runs: SubmittedRuns, name: str, before: str = "") -> None:
    """Let the first try of a step do something and wait."""
    runs.order(name, _WAIT.format(folder=runs.folder, before=before))


def start(runs: SubmittedRuns, *arguments: str) -> subprocess.Popen[str]:
    """Begin ``dbb submit``, as a shell does: in a process group of its own."""
    return runs.start("submit.des", "--engine", "parsl", "--jobs", "2", *arguments, process_group=0)


def finish(submit: subprocess.Popen[str], code: int = 0) -> str:
    """Return what it printed when it has ended."""
    out = "".join(submit.communicate(timeout=_ENOUGH))
    assert submit.returncode == code, out
    return out


def of_run(runs: SubmittedRuns) -> list[int]:
    """Return the processes that have to do with a run: all of them name its folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "pid", "environ"]):
        words = [*(process.info["cmdline"] or ()), (process.info["environ"] or {}).get("PARSL_TEST_RUN", "")]
        if any(str(runs.folder) in word for word in words) and process.pid != os.getpid():
            found.append(process.pid)
    return found


@pytest.fixture(autouse=True)
def _all_gone(runs: SubmittedRuns, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test leaves a process."""
    monkeypatch.setenv("PARSL_TEST_RUN", str(runs.folder))
    yield
    wait_for(lambda: not of_run(runs), "nothing is left", 60)


def test_a_worker_that_is_killed_is_a_failed_try_and_takes_its_job_along(runs: SubmittedRuns) -> None:
    wait_in(runs, "seed", f"kill -9 {_WORKER};")
    finish(start(runs, "--retries", "1"))
    assert runs.told[:4] == ["begin seed", "over seed", "begin seed", "end seed"]
    assert set(runs.states().values()) == {"succeeded"}
    assert len(runs.made()) == 9


@pytest.mark.long
def test_a_worker_that_is_lost_for_good_fails_the_job_and_says_so(runs: SubmittedRuns) -> None:
    runs.order("part-1-1", f"kill -9 {_WORKER}; sleep 5")
    out = finish(start(runs), code=3)
    assert "U_r1p01_middle_j0002" in out
    assert runs.states()["part-1-1"] == "killed"
    assert runs.states()["part-2-2"] == "succeeded"
    assert runs.states()["total"] == "blocked"


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_pool_of_workers_that_is_killed_is_a_failed_try_and_there_is_a_new_one(runs: SubmittedRuns) -> None:
    wait_in(runs, "seed", f"kill -9 {_MANAGER};")
    finish(start(runs, "--retries", "1"))
    assert runs.told[:4] == ["begin seed", "over seed", "begin seed", "end seed"]
    assert set(runs.states().values()) == {"succeeded"}


@pytest.mark.long
@pytest.mark.timeout(240)
def test_when_the_interchange_is_killed_the_run_ends_and_is_resumed(runs: SubmittedRuns) -> None:
    wait_in(runs, "part-1-1")
    submit = start(runs)
    wait_for(lambda: "begin part-1-1" in runs.told, "the step begins")
    words = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in descendants(submit.pid)}
    (interchange,) = (pid for pid, text in words.items() if "interchange" in text)
    os.kill(interchange, signal.SIGKILL)
    assert "Parsl has no workers any more" in finish(submit, code=1)
    assert runs.states()["part-1-1"] == "killed"
    runs.dbb("submit", "--resume", "U_r1p01", "--engine", "parsl")
    assert runs.told.count("begin seed") == 1
    assert len(runs.made()) == 9


@pytest.mark.timeout(240)
def test_when_dbb_submit_is_killed_its_jobs_end_and_the_run_is_resumed(runs: SubmittedRuns) -> None:
    wait_in(runs, "part-1-1")
    submit = start(runs)
    wait_for(lambda: "begin part-1-1" in runs.told, "the step begins")
    submit.kill()
    submit.communicate()
    wait_for(lambda: not of_run(runs), "nothing is left", 90)
    assert "over part-1-1" in runs.told
    runs.dbb("submit", "--resume", "U_r1p01", "--engine", "local")
    assert runs.told.count("begin seed") == 1
    assert len(runs.made()) == 9


def test_jobs_of_a_killed_dbb_submit_are_ended_by_dbb_cancel(runs: SubmittedRuns) -> None:
    wait_in(runs, "seed")
    submit = start(runs)
    wait_for(lambda: "begin seed" in runs.told, "the step begins")
    submit.kill()
    submit.communicate()
    runs.dbb("cancel", "U_r1p01")
    wait_for(lambda: "over seed" in runs.told, "the step ends", 10)


def test_ctrl_c_at_the_terminal_ends_jobs_in_good_order(runs: SubmittedRuns) -> None:
    wait_in(runs, "part-1-1")
    submit = start(runs)
    wait_for(lambda: "begin part-1-1" in runs.told, "the step begins")
    os.killpg(submit.pid, signal.SIGINT)  # which reaches all that is in the group, as from a terminal
    finish(submit, code=130)
    assert of_run(runs) == []
    assert "over part-1-1" in runs.told
    assert runs.states()["part-1-1"] == "killed"
    (log,) = runs.folder.glob("U_r1p01/jobs/U_r1p01_middle_j0002/events.*.jsonl")
    assert '"state": "killed"' in log.read_text().splitlines()[-1].replace('":"', '": "')


def test_nothing_listens_beyond_loopback(runs: SubmittedRuns) -> None:
    wait_in(runs, "seed")
    submit = start(runs)
    wait_for(lambda: "begin seed" in runs.told, "the step begins")
    found = set()
    for pid in [submit.pid, *of_run(runs)]:
        for one in psutil.Process(pid).net_connections("inet"):
            if one.status == psutil.CONN_LISTEN or one.type == socket.SOCK_DGRAM:
                found.add(one.laddr.ip.removeprefix("::ffff:"))
    os.kill(submit.pid, signal.SIGINT)
    finish(submit, code=130)
    assert found == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("settings", "said", "code"),
    [
        (["parsl_sight=local"], "unknown setting 'parsl_sight'", 5),
        (["parsl_site=nowhere.py"], "no such file", 2),
        (["parsl_partition=main"], "parsl_partition means nothing with parsl_site = local", 2),
        (["parsl_site=broken.py"], "ZeroDivisionError", 2),
        (["parsl_site=nothing.py"], "does not give a parsl.Config named config", 2),
        (["parsl_site=wide.py"], "address", 2),
        (["parsl_site=mine.py", "parsl_worker_init=true"], "parsl_worker_init means nothing", 2),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    runs: SubmittedRuns, settings: list[str], said: str, code: int
) -> None:
    write_configs(runs.folder)
    before = {path.name for path in runs.folder.iterdir()}
    words = [word for setting in settings for word in ("--set", setting)]
    for more in ((), ("--dry-run",)):
        assert said in finish(start(runs, *words, *more), code)
    assert {path.name for path in runs.folder.iterdir()} == before
    assert runs.ask("select count(*) from pfw_attempt") == [(0,)]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"parsl_nodes": "0"}, "parsl_nodes = 0: expected a number of nodes"),
        ({"parsl_walltime": "1 day"}, "expected hours, minutes and seconds"),
        ({"parsl_options": "account"}, "no option of sbatch"),
    ],
)
def test_settings_of_slurm_that_make_no_sense_are_refused(
    settings: dict[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(DbbError, match=said):
        ParslEngine().check({"parsl_site": "slurm", **settings}, tmp_path)


def test_without_slurm_it_says_where_to_submit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DbbError, match="submit where Slurm's commands are"):
        ParslEngine().check({"parsl_site": "slurm"}, tmp_path)


def test_without_parsl_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "parsl", None)
    with pytest.raises(DbbError, match=r"pip install 'mini-dbb\[parsl\]'"):
        ParslEngine().check({}, tmp_path)


def write_configs(folder: Path) -> None:
    imports = "from parsl import Config\nfrom parsl.executors import HighThroughputExecutor, ThreadPoolExecutor\n"
    for name, text in {
        "broken": "1 / 0",
        "nothing": "",
        "wide": "config = Config(executors=[HighThroughputExecutor(label='wide')])",
        "threads": "config = Config(executors=[ThreadPoolExecutor(max_threads=2)])",
        "mine": "config = Config(executors=[HighThroughputExecutor(address='127.0.0.1', max_workers_per_node=2)],"
        " retries=3, strategy_period=0.5)",
    }.items():
        (folder / f"{name}.py").write_text(imports + text)


@pytest.mark.parametrize("name", ["mine", "threads"])
def test_a_config_of_the_users_own_runs_the_jobs(runs: SubmittedRuns, name: str) -> None:
    write_configs(runs.folder)
    runs.order("part-2-1", "exit 4")
    out = finish(start(runs, "--set", f"parsl_site={name}.py"), code=3)
    assert "2 of 4 jobs succeeded" in out
    assert runs.told.count("begin part-2-1") == 1  # who retries is dbb, not Parsl
    assert (runs.folder / "U_r1p01/engine/000/parsl.log").exists()
    assert not (runs.folder / "runinfo").exists()


def test_a_config_of_threads_is_interrupted_in_good_order(runs: SubmittedRuns) -> None:
    write_configs(runs.folder)
    wait_in(runs, "seed")
    submit = start(runs, "--set", "parsl_site=threads.py")
    wait_for(lambda: "begin seed" in runs.told, "the step begins")
    os.killpg(submit.pid, signal.SIGINT)
    finish(submit, code=130)
    assert "over seed" in runs.told


def test_parsl_refuses_a_folder_whose_name_its_scripts_cannot_hold(runs: SubmittedRuns) -> None:
    out = finish(start(runs, "--workdir", str(runs.folder / "my run")), code=2)
    assert "--workdir" in out


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_slurm_job_that_is_cancelled_on_a_drained_node_is_a_failed_try(
    runs: SubmittedRuns, cluster: SlurmCluster
) -> None:
    wait_in(runs, "seed")
    submit = start(runs, "--retries", "1", "--set", "parsl_site=slurm", "--set", "parsl_walltime=00:10:00")
    wait_for(lambda: "begin seed" in runs.told, "the step begins")
    node = socket.gethostname().partition(".")[0]
    cluster.run("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    cluster.run("scancel", "--user=root")
    wait_for(lambda: "over seed" in runs.told, "the step ends")
    wait_for(lambda: "PENDING" in cluster.run("squeue", "--noheader", "--format=%T"), "Parsl asks again", 150)
    cluster.run("scontrol", "update", f"nodename={node}", "state=resume")
    finish(submit)
    assert runs.told[:4] == ["begin seed", "over seed", "begin seed", "end seed"]
    assert set(runs.states().values()) == {"succeeded"}
    assert cluster.run("squeue", "--noheader") == ""


@pytest.mark.timeout(240)
def test_what_slurm_refuses_ends_the_run_with_its_words(runs: SubmittedRuns, cluster: SlurmCluster) -> None:
    submit = start(runs, "--set", "parsl_site=slurm", "--set", "parsl_partition=none")
    assert "invalid partition specified: none" in finish(submit, code=1)
    assert not is_alive(submit.pid)
    runs.dbb("submit", "--resume", "U_r1p01")
    assert len(runs.made()) == 9
