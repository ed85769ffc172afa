"""Run a command as a process of its own and say what it cost."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process cost.

    Parameters
    ----------
    wall
        Seconds from start to exit.
    cpu
        Seconds of user and system time.
    peak
        Largest resident memory in MB (10**6 bytes).
    seconds
        What the process itself measured, its imports left out; None if it measured nothing.
    """

    wall: float
    cpu: float
    peak: float
    seconds: float | None


class CommandError(RuntimeError):
    """A measured command failed."""

    def __init__(self, argv: Sequence[str], code: int, text: str) -> None:
        super().__init__(f"exit code {code} from\n    {' '.join(argv)}\n{text}")


def run(argv: Sequence[str], extra: Mapping[str, str] | None = None) -> Cost:
    """Run ``argv`` and wait; a last line ``{"seconds": x}`` on its stdout is taken as its own measure."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env={**os.environ, **(extra or {})}
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        lines = output.read().decode(errors="replace").splitlines()
        if process.returncode:
            raise CommandError(argv, process.returncode, "\n".join(lines) + errors.read().decode(errors="replace"))
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6, _own_measure(lines))


def _own_measure(lines: Sequence[str]) -> float | None:
    try:
        return float(json.loads(lines[-1])["seconds"])
    except (IndexError, KeyError, TypeError, ValueError):
        return None
