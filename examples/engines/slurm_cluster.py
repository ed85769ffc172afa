"""A Slurm of one node on this machine, listening on 127.0.0.1 only, with a munge of its own.

    python examples/engines/slurm_cluster.py start|stop DIR

It needs Slurm's programs and munge on the machine. Nothing of an installed cluster's configuration is read or changed.
"""

from __future__ import annotations

import argparse
import os
import pwd
import secrets
import shlex
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from kept import EngineError, Kept, free_port, run

_UP_SECONDS = 30.0
_STOP_SECONDS = 20.0
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "sinfo")
_CONFIG = """\
ClusterName=personal
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# a job that is queued again waits until what it was started with has expired
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/controller
SlurmdSpoolDir={folder}/node
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log

# neither cgroups nor a database of accounts: `sacct` does not work, `scontrol show job` does for an hour
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/none
MpiDefault=none
MinJobAge=3600

# what no node can give is refused at once, rather than waiting for ever
EnforcePartLimits=ALL
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
KillWait=5
ReturnToService=2
# the node may claim more processors than the machine has
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class SlurmCluster:
    """A cluster whose configuration, logs and state lie in one folder.

    Parameters
    ----------
    folder
        Made when it is missing.

    Raises
    ------
    EngineError
        If Slurm is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])  # where daemons lie
        if missing := [name for name in _PROGRAMS if not shutil.which(name, path=self._path)]:
            raise EngineError(
                f"no {', '.join(missing)} here: install Slurm and munge, "
                "on Debian by `apt install slurmctld slurmd slurm-client munge`"
            )
        for name in ("munge", "controller", "node", "log"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.config = self.folder / "slurm.conf"
        self.daemons = Kept(self.folder)

    @property
    def environ(self) -> Mapping[str, str]:
        """What a process needs in its environment to use the cluster."""
        return {"SLURM_CONF": str(self.config)}

    def start(self, cpus: int = 4, *, lifeline: bool = False) -> None:
        """Start the daemons, and return when jobs can run; with ``lifeline`` they end with this process."""
        if self.daemons.pid is not None:
            raise EngineError(f"a Slurm is running at {self.folder}")
        self._configure(cpus)
        self.daemons.start(["sh", "-c", self._script()], self._whole_environ(), lifeline=lifeline)
        self.daemons.wait_until(self._is_up, _UP_SECONDS)

    def stop(self) -> None:
        """End the daemons and what they run."""
        self.daemons.ask("slurmctld", "TERM")
        self.daemons.ask("slurmd", "TERM")
        if not self.daemons.wait(_STOP_SECONDS):
            self.crash()

    def crash(self) -> None:
        """Kill the daemons and all jobs, all at once."""
        self.daemons.kill()

    def run(self, *command: str) -> str:
        """Run one of Slurm's commands and return what it prints."""
        return run(command, self._whole_environ())

    def _whole_environ(self) -> dict[str, str]:
        return {**os.environ, "PATH": self._path, **self.environ}

    def _is_up(self) -> bool:
        try:
            return self.run("sinfo", "--noheader", "--format=%t").strip() in ("idle", "mix", "alloc")
        except EngineError:
            return False  # no controller yet

    def _configure(self, cpus: int) -> None:
        user, host = pwd.getpwuid(os.getuid()).pw_name, socket.gethostname().partition(".")[0]
        ports = {"controller_port": free_port(), "node_port": free_port()}
        self.config.write_text(_CONFIG.format(folder=self.folder, user=user, host=host, cpus=cpus, **ports))
        (self.folder / "env.sh").write_text(f"export SLURM_CONF={shlex.quote(str(self.config))}\n")
        key = self.folder / "munge/key"
        key.unlink(missing_ok=True)
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))

    def _script(self) -> str:
        """Return the shell's way to start all: two go into the background when they are ready, the last stays."""
        munge = self.folder / "munge"
        files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = " ".join(f"--{option}={shlex.quote(str(munge / name))}" for option, name in files.items())
        # by force: munged dislikes a folder that lies below one that all may write to
        return f"munged --force {options} && slurmctld -i && exec slurmd -D"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=["start", "stop"])
    parser.add_argument("folder", type=Path, metavar="DIR")
    given = parser.parse_args()
    try:
        cluster = SlurmCluster(given.folder)
        getattr(cluster, given.action)()
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1
    if given.action == "start":
        print(f"Slurm is up: . {cluster.folder}/env.sh")
    return 0


if __name__ == "__main__":
    sys.exit(main())
