"""A personal HTCondor pool on this machine: all daemons and a schedd with DAGMan, listening on 127.0.0.1 only.

    python examples/engines/condor_pool.py start|stop|crash DIR

``stop`` leaves the queue in DIR, and ``start`` goes on with it; ``crash`` is ``stop`` as a power failure does it.
"""

from __future__ import annotations

import argparse
import os
import pwd
import secrets
import shlex
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from condor_programs import CondorPrograms, find_condor
from kept import EngineError, Kept, free_port, run

_DOMAIN = "pool.test"
_UP_SECONDS = 60.0
_GENTLE_SECONDS = 15.0
_STOP_SECONDS = 15.0
_FOLDERS = ("log", "lock", "spool", "execute", "run", "tokens", "passwords", "credentials")
_CONFIG = """\
RELEASE_DIR = {release}
BIN = {bin}
SBIN = {sbin}
LIBEXEC = {libexec}
LOCAL_DIR = {folder}
LOG = $(LOCAL_DIR)/log
LOCK = $(LOCAL_DIR)/lock
SPOOL = $(LOCAL_DIR)/spool
EXECUTE = $(LOCAL_DIR)/execute
RUN = $(LOCAL_DIR)/run
LOCAL_CONFIG_FILE =
LOCAL_CONFIG_DIR =

DAEMON_LIST = MASTER, COLLECTOR, NEGOTIATOR, SCHEDD, STARTD
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:{port}
SHARED_PORT_PORT = {port}
USE_SHARED_PORT = True
# by number in the abstract name space: a path below a long folder would pass the 107 characters that a socket may have
DAEMON_SOCKET_DIR = auto
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
ENABLE_IPV6 = False
NO_DNS = True
DEFAULT_DOMAIN_NAME = {domain}
UID_DOMAIN = {domain}
FILESYSTEM_DOMAIN = {domain}
TRUST_UID_DOMAIN = True
SCHEDD_NAME = personal
CONDOR_ADMIN =

# who may enter shows a token: clients newer than the pool know no other way that needs no setting up
SEC_DEFAULT_AUTHENTICATION = REQUIRED
SEC_DEFAULT_AUTHENTICATION_METHODS = IDTOKENS, FS
SEC_CLIENT_AUTHENTICATION_METHODS = IDTOKENS, FS
SEC_PASSWORD_DIRECTORY = $(LOCAL_DIR)/passwords
SEC_TOKEN_POOL_SIGNING_KEY_FILE = $(LOCAL_DIR)/passwords/POOL
SEC_TOKEN_DIRECTORY = $(LOCAL_DIR)/tokens
SEC_TOKEN_SYSTEM_DIRECTORY = $(LOCAL_DIR)/tokens
SEC_CREDENTIAL_DIRECTORY_OAUTH = $(LOCAL_DIR)/credentials
ALLOW_READ = *@{domain}
ALLOW_WRITE = *@{domain}
ALLOW_DAEMON = *@{domain}
ALLOW_NEGOTIATOR = *@{domain}
ALLOW_ADMINISTRATOR = *@{domain}

# the machine is for jobs, whoever sits at it
START = True
SUSPEND = False
PREEMPT = False
KILL = False
NUM_CPUS = {cpus}
MEMORY = 8192
JOB_DEFAULT_REQUESTMEMORY = 64
JOB_DEFAULT_REQUESTDISK = 1024
RUNBENCHMARKS = 0
ENABLE_KBDD = False
# no root, no cgroups: processes are followed from parent to child
USE_PROCD = False
BASE_CGROUP =
STARTD_ENFORCE_DISK_LIMITS = False

# quick answers, of a pool that has little to do
SCHEDD_INTERVAL = 2
SCHEDD_MIN_INTERVAL = 1
NEGOTIATOR_INTERVAL = 2
NEGOTIATOR_CYCLE_DELAY = 1
NEGOTIATOR_MIN_INTERVAL = 1
UPDATE_INTERVAL = 5
STARTER_UPDATE_INTERVAL = 5
SHADOW_QUEUE_UPDATE_INTERVAL = 5
DAGMAN_USER_LOG_SCAN_INTERVAL = 1
DAGMAN_SUBMIT_DELAY = 0
# how long a slot is kept for a next job of the same shape
DAGMAN_HOLD_CLAIM_TIME = 1
# how long after a crash jobs are looked for that may still run
JOB_DEFAULT_LEASE_DURATION = 20
# a DAG below /tmp is a warning, and 1 makes that an error
DAGMAN_USE_STRICT = 0
"""


class CondorPool:
    """A pool whose configuration, logs and queue lie in one folder.

    Parameters
    ----------
    folder
        Made when it is missing; one of an earlier pool goes on with its queue.
    cache
        Where HTCondor itself is kept if it must be fetched; see `condor_programs.find_condor`.
    """

    def __init__(self, folder: Path, cache: Path | None = None) -> None:
        self.folder = folder.resolve()
        self.config = self.folder / "condor_config"
        self.daemons = Kept(self.folder)
        self._cache = cache

    @cached_property
    def programs(self) -> CondorPrograms:
        """The HTCondor that is used, fetched if need be."""
        return find_condor(self._cache)

    @property
    def environ(self) -> Mapping[str, str]:
        """What a process needs in its environment to use the pool."""
        before = [str(self.programs.bin), str(self.programs.sbin)]
        path = [entry for entry in os.environ.get("PATH", os.defpath).split(os.pathsep) if entry not in before]
        return {"CONDOR_CONFIG": str(self.config), "PATH": os.pathsep.join([*before, *path])}

    def start(self, cpus: int = 4, *, lifeline: bool = False) -> None:
        """Start the daemons, and return when jobs can run; with ``lifeline`` they end with this process."""
        if self.daemons.pid is not None:
            raise EngineError(f"a pool is running at {self.folder}")
        self._configure(cpus)
        self._make_token()
        master = [*_as_plain_user(), str(self.programs.sbin / "condor_master"), "-f"]
        self.daemons.start(master, self._whole_environ(), lifeline=lifeline)
        self.daemons.wait_until(self._is_up, _UP_SECONDS)

    def stop(self) -> None:
        """End the daemons and what they run; the queue is kept."""
        self.daemons.ask("condor_master", "TERM")  # jobs are told to end, and go back into the queue
        if not self.daemons.wait(_GENTLE_SECONDS):
            self.daemons.ask("condor_master", "QUIT")
        if not self.daemons.wait(_STOP_SECONDS):
            self.crash()

    def crash(self) -> None:
        """Kill the daemons, DAGMan, all jobs and whatever else the pool started, all at once."""
        self.daemons.kill()

    def run(self, *command: str) -> str:
        """Run one of HTCondor's commands and return what it prints."""
        return run(command, self._whole_environ())

    def _whole_environ(self) -> dict[str, str]:
        return {**os.environ, **self.environ}

    def _is_up(self) -> bool:
        try:
            known = self.run("condor_status", "-any", "-af", "MyType").split()
            return {"Machine", "Scheduler"} <= set(known)
        except EngineError:
            return False  # no collector yet

    def _configure(self, cpus: int) -> None:
        """Write the configuration, with the port of last time if that is still free."""
        for name in _FOLDERS:
            (self.folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        noted = self.folder / "port"
        port = free_port(int(noted.read_text()) if noted.exists() else None)
        noted.write_text(str(port))
        names = {name: getattr(self.programs, name) for name in ("release", "bin", "sbin", "libexec")}
        self.config.write_text(_CONFIG.format(folder=self.folder, port=port, domain=_DOMAIN, cpus=cpus, **names))
        programs = shlex.quote(f"{self.programs.bin}{os.pathsep}{self.programs.sbin}")
        (self.folder / "env.sh").write_text(
            f"export CONDOR_CONFIG={shlex.quote(str(self.config))}\nexport PATH={programs}:$PATH\n"
        )

    def _make_token(self) -> None:
        """Make the key that the pool signs with, and a token for whom it runs as."""
        key, token = self.folder / "passwords/POOL", self.folder / "tokens/owner"
        if not key.exists():
            self.run("condor_store_cred", "add", "-c", "-f", str(key), "-p", secrets.token_urlsafe(40))
        if not token.exists():
            self.run("condor_token_create", "-identity", f"{_owner()}@{_DOMAIN}", "-file", str(token))


def _plain_user() -> pwd.struct_passwd:
    """Return who root becomes: some account that is not root's, since HTCondor looks the name up."""
    accounts = [account for account in pwd.getpwall() if account.pw_uid]
    if not accounts:
        raise EngineError("HTCondor as root needs an account beside root's, and this machine has none: useradd one")
    return min(accounts, key=lambda account: (account.pw_uid < 1000, account.pw_uid))  # rather no system account


def _owner() -> str:
    return (_plain_user() if os.getuid() == 0 else pwd.getpwuid(os.getuid())).pw_name


def _as_plain_user() -> list[str]:
    """Begin a command that, run by root, is to take itself for a plain user's: then no daemon switches users.

    On disk all stays root's: only inside the name space has root another number.
    """
    if os.getuid():
        return []
    user = _plain_user()
    return ["unshare", "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}", "--"]


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=["start", "stop", "crash"])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--cache", type=Path, help="where HTCondor is kept if none is installed")
    given = parser.parse_args()
    try:
        pool = CondorPool(given.folder, given.cache)
        getattr(pool, given.action)()
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1
    if given.action == "start":
        print(f"the pool is up: . {pool.folder}/env.sh")
    return 0


if __name__ == "__main__":
    sys.exit(main())
