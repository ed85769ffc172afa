"""Where a job runs and with what: host, environment, set-up script, versions of software."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dbb.errors import DbbError
from dbb.jobs.context import Context
from dbb.jobs.process import run_process
from dbb.jobs.steplog import StepLog
from dbb.storage import digest_file

_KEPT = re.compile(
    r"PATH|PYTHONPATH|LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|LANG|LC_\w+|TZ|TMPDIR|HOSTNAME|OMP_\w+|MKL_\w+|OPENBLAS_\w+"
    r"|EUPS_\w+|SETUP_\w+|\w+_DIR|CONDA_\w+|VIRTUAL_ENV|MODULEPATH|LOADEDMODULES|SLURM_\w+|_CONDOR_\w+|PBS_\w+|DBB_\w+"
)
_SECRET = re.compile(r"TOKEN|SECRET|PASS|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_?KEY|DBB_REGISTRY", re.IGNORECASE)
_OF_BASH = {"_", "SHLVL", "PWD", "OLDPWD"}
# EUPS leaves in SETUP_AFW what it has set up: "afw 15.0 -f Linux64 -Z /stack"
_PRODUCT = re.compile(r"(\S+) (\S+)")
_SCRIPT = '. "$1" && exec "$2" -0 > "$3"'


@dataclass(frozen=True, slots=True)
class SetUp:
    """What a set-up script did: the environment after it, and what it changed (None: removed)."""

    environment: Mapping[str, str]
    changes: Mapping[str, str | None] = field(default_factory=dict)
    record: Mapping[str, object] = field(default_factory=dict)


def set_up(context: Context, script: str) -> SetUp:
    """Run an operator's script in bash, in the work folder, and return the environment that it leaves.

    Raises
    ------
    DbbError
        If there is no bash or no such script, or it fails; its output is in ``log/setup.log``.
    """
    path, bash, env = Path(script).absolute(), shutil.which("bash"), shutil.which("env")
    if bash is None or env is None:
        raise DbbError("a set-up script needs bash and env, which are not on the PATH")
    if not path.is_file():
        raise DbbError(f"the set-up script {path} is not there")
    log = StepLog(context, None, context.work / "log" / "setup.log")
    result = context.work / "log" / "setup.env"
    try:
        log.begin(None, {"setup"})
        argv = [bash, "-c", _SCRIPT, "setup", str(path), env, str(result)]
        ended = run_process(
            argv, log.take, folder=context.work, environment=context.environment, stopper=context.stopper
        )
        log.end()
    finally:
        log.close()
    if not ended.is_good or not result.is_file():
        why = ended.reason or f"exit status {ended.status}"
        raise DbbError(f"the set-up script {path} failed ({why}): see log/setup.log in the work folder")
    after = _read(result.read_bytes())
    result.unlink()
    before = context.environment
    changes: dict[str, str | None] = {name: value for name, value in after.items() if before.get(name) != value}
    changes |= {name: None for name in before if name not in after}
    changes = {name: value for name, value in changes.items() if name not in _OF_BASH}
    kept = {name: value for name, value in changes.items() if not _SECRET.search(name)}
    record = {"script": str(path), "md5sum": digest_file(path).md5sum, "changes": kept}
    return SetUp({name: value for name, value in after.items() if name not in _OF_BASH}, changes, record)


def _read(data: bytes) -> dict[str, str]:
    pairs = (os.fsdecode(entry).partition("=") for entry in data.split(b"\0") if entry)
    return {name: value for name, _, value in pairs}


def describe(environment: Mapping[str, str]) -> dict[str, object]:
    """Return what the first event of a job says of its surroundings; nothing that looks like a secret is in it."""
    from dbb import __version__

    kept = {
        name: value for name, value in sorted(environment.items()) if _KEPT.fullmatch(name) and not _SECRET.search(name)
    }
    products = {
        match[1]: match[2]
        for name, value in environment.items()
        if name.startswith("SETUP_") and (match := _PRODUCT.match(value))
    }
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user without an entry, as containers have them
        user = str(os.getuid())
    system = os.uname()
    python = ".".join(map(str, sys.version_info[:3]))
    return {
        "host": system.nodename,
        "pid": os.getpid(),
        "user": user,
        "dbb": __version__,
        "python": python,
        "platform": f"{system.sysname}-{system.release}-{system.machine}",
        "environment": kept,
        "software": {"dbb": __version__, "python": python, **products},
    }
