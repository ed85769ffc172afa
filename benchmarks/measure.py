"""Run a command as a process of its own and say what it cost."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LAUNCHER = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launcher.py"))]


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


def run(argv: Sequence[str]) -> Cost:
    """Run ``argv`` and wait; a last line ``{"seconds": x}`` on its stdout is taken as its own measure."""
    with tempfile.NamedTemporaryFile("r") as used:
        done = subprocess.run(
            [*LAUNCHER, used.name, *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
        )
        code, wall, cpu, peak = used.read().split()
    if int(code):
        raise CommandError(argv, int(code), done.stdout + done.stderr)
    return Cost(float(wall), float(cpu), float(peak), _own_measure(done.stdout.splitlines()))


def _own_measure(lines: Sequence[str]) -> float | None:
    try:
        return float(json.loads(lines[-1])["seconds"])
    except (IndexError, KeyError, TypeError, ValueError):
        return None
