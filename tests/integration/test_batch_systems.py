"""What `make pool` and `make slurm` bring up works, listens on loopback only and leaves nothing behind."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest
from batch_systems import PoolForTests, SlurmCluster, wait_for
from kept import EngineError, Kept, family, free_port

_SUBMIT = """
executable = /bin/sh
arguments = "-c 'echo ran > ran.txt'"
transfer_executable = false
should_transfer_files = no
initialdir = {folder}
log = job.log
queue
"""


def test_a_pool_runs_a_job_of_a_client_newer_than_itself(condor_pool: PoolForTests, tmp_path: Path) -> None:
    program = (
        "import htcondor2, sys\njob = htcondor2.Submit(sys.argv[1])\nprint(htcondor2.Schedd().submit(job).cluster())"
    )
    submit = _SUBMIT.format(folder=tmp_path)
    subprocess.run([sys.executable, "-c", program, submit], env={**os.environ, **condor_pool.environ}, check=True)
    wait_for((tmp_path / "ran.txt").exists, "the job ran")


@pytest.mark.parametrize("end", ["stop", "crash"])
def test_a_pool_that_ended_has_left_no_process_and_keeps_its_queue(
    condor_pool: PoolForTests, tmp_path: Path, end: str
) -> None:
    (tmp_path / "job.sub").write_text(_SUBMIT.format(folder=tmp_path))
    condor_pool.run("condor_submit", str(tmp_path / "job.sub"), "-append", "hold = true")
    queued = condor_pool.queue("ClusterId")
    members = condor_pool.daemons.members()
    getattr(condor_pool, end)()
    assert not _alive(members)
    condor_pool.start(lifeline=True)
    assert condor_pool.queue("ClusterId") == queued != []


def test_a_slurm_runs_a_job(slurm: SlurmCluster, tmp_path: Path) -> None:
    slurm.run("sbatch", f"--output={tmp_path}/said", "--wrap=echo said")
    wait_for(lambda: (tmp_path / "said").exists() and (tmp_path / "said").read_text(), "the job said something")
    assert (tmp_path / "said").read_text() == "said\n"


def test_an_htcondor_listens_on_loopback_only(condor_pool: PoolForTests) -> None:
    _assert_loopback(condor_pool.daemons.members())


def test_a_slurm_listens_on_loopback_only(slurm: SlurmCluster) -> None:
    _assert_loopback(slurm.daemons.members())


def test_a_service_without_its_programs_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurm_cluster._PROGRAMS", ("no-such-program",))
    with pytest.raises(EngineError, match="apt install slurmctld slurmd slurm-client munge"):
        SlurmCluster(tmp_path)


def test_a_daemon_that_ends_takes_along_what_it_left_behind(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.start(["sh", "-c", "setsid sh -c 'trap : TERM; sleep 1000; sleep 1000' & sleep 0.3"], os.environ)
    wait_for(lambda: len(kept.members()) >= 4, "all processes are there")
    members = kept.members()
    assert kept.wait(20)
    assert not _alive(members)


def test_a_daemon_with_a_lifeline_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys, time; from kept import Kept\n"
        "Kept(pathlib.Path(sys.argv[1])).start(['sh', '-c', 'setsid sleep 1000'], os.environ, lifeline=True)\n"
        "time.sleep(1000)"
    )
    path = os.pathsep.join(sys.path)
    owner = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], env={**os.environ, "PYTHONPATH": path})
    kept = Kept(tmp_path)
    wait_for(lambda: len(kept.members()) >= 2, "the daemon runs")
    members = [one for one in family(owner.pid) if one != owner.pid]
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert kept.wait(20)
    wait_for(lambda: not _alive(members), "nothing is left")


def test_a_daemon_that_does_not_come_up_is_reported_with_its_last_words(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.start(["sh", "-c", "echo no licence"], os.environ)
    with pytest.raises(EngineError, match="no licence"):
        kept.wait_until(lambda: False, 20)


def test_a_port_is_kept_if_it_is_free_and_changed_if_not() -> None:
    port = free_port()
    assert free_port(port) == port
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        assert free_port(port) != port


def _alive(members: Iterable[int]) -> list[int]:
    return [one for one in members if psutil.pid_exists(one) and psutil.Process(one).status() != psutil.STATUS_ZOMBIE]


def _assert_loopback(members: Iterable[int]) -> None:
    listening = [
        connection.laddr.ip
        for one in members
        for connection in psutil.Process(one).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert all(ipaddress.ip_address(address).is_loopback for address in listening)
