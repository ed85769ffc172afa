"""What a worker of Parsl does: it runs one try of a job, which never outlives it.

Workers find this module by its name, so it must be installed for the Python that runs them. It loads little.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from dbb.locks import hold

__all__ = ["die_with_parent", "run_try"]

_TICK = 0.2
_GRACE = 15.0
"""Seconds that a job has to end in good order: what it runs gets five of them."""
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)
_LIBC = ctypes.CDLL(None, use_errno=True)


def run_try(command: Sequence[str], log: str, stop: str, submitter: tuple[str, int]) -> int:
    """Run a job, and return its exit code, which is negative if a signal ended it.

    Parameters
    ----------
    command
        Its command line.
    log
        The file for what it prints, locked as long as the job is alive.
    stop
        A file whose appearance says that the job is to end.
    submitter
        Host and process id of ``dbb submit``.
    """
    if Path(stop).exists():
        return -signal.SIGTERM
    parent = None if submitter == (os.uname().nodename, os.getpid()) else os.getppid()
    ours = os.getpid()
    with Path(log).open("wb") as stream:
        hold(stream.fileno())
        process = subprocess.Popen(  # noqa: S603  # the command is dbb's own
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(ours),
        )
    try:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_TICK)
            if Path(stop).exists() or (parent is not None and os.getppid() != parent):
                _end(process)
    finally:
        _end(process)
    return process.returncode


def die_with_parent(parent: int) -> None:
    """Let this process get SIGTERM when the one that began it ends, however that ends."""
    if hasattr(_LIBC, "prctl"):
        _LIBC.prctl(_DIE_WITH_PARENT, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it has ended meanwhile
        os._exit(128 + signal.SIGTERM)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a job that runs, in good order if it will."""
    limit = time.monotonic() + _GRACE
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(1.0, limit - time.monotonic()))
