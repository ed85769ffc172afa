"""Measure what a step of a job costs beyond its program, beside the program started by hand.

    python benchmarks/jobs.py [--steps 200] [--rounds 5]

Both run in turn in one process; without staging, with one output that is looked at but not saved.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dbb.jobs import run_job

COMMAND = ["sh", "-c", "echo 1 > a.txt"]


def by_hand(folder: Path, steps: int) -> None:
    """Run the program so many times."""
    for _ in range(steps):
        subprocess.run(COMMAND, cwd=folder, check=True, capture_output=True)


def as_job(folder: Path, steps: int) -> None:
    """Run a job of so many steps."""
    job = {
        "schema": 1,
        "run": {"reqnum": 1, "unitname": "bench", "attnum": 1},
        "job": {"name": "bench"},
        "steps": [
            {
                "module": f"m{number % 3}",
                "wrapnum": number,
                "argv": [COMMAND],
                "outputs": [{"fullname": "a.txt", "filetype": "text"}],
                "log": f"log/{number}.log",
            }
            for number in range(1, steps + 1)
        ],
        "messages": {"patterns": [{"id": n, "pattern": f"pattern {n}"} for n in range(20)]},
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    assert run_job(path).result.state == "succeeded"


def whole_command(folder: Path, steps: int) -> None:
    """Run jobs of one step, each by the command."""
    for _ in range(steps):
        as_file = folder / "job.json"
        as_file.write_text(
            json.dumps({"schema": 1, "job": {"name": "one"}, "steps": [{"argv": [COMMAND]}]}), encoding="utf-8"
        )
        program = "from dbb_cli.main import main; main()"
        subprocess.run([sys.executable, "-c", program, "run-job", as_file], check=True, capture_output=True)


def bare_python(folder: Path, steps: int) -> None:
    """Start a Python that only knows click, so many times."""
    for _ in range(steps):
        subprocess.run([sys.executable, "-c", "import click"], cwd=folder, check=True, capture_output=True)


def milliseconds(what: Callable[[Path, int], None], steps: int) -> float:
    """Return the milliseconds that one of so many steps takes."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        what(Path(folder), steps)
        return (time.perf_counter() - start) / steps * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure what a step of a job costs beyond its program.")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    found: dict[str, list[float]] = {}
    for _ in range(given.rounds):
        for what, steps in ((by_hand, given.steps), (as_job, given.steps), (bare_python, 5), (whole_command, 5)):
            found.setdefault(what.__name__, []).append(milliseconds(what, steps))
    hand, job, bare, command = (statistics.median(values) for values in found.values())
    print(f"program by hand      {hand:7.2f} ms")
    print(f"as a step of a job   {job:7.2f} ms: {job - hand:.2f} ms more, {job / hand:.2f} times")
    print(f"Python with click    {bare:7.1f} ms")
    print(f"dbb run-job, 1 step  {command:7.1f} ms: {command - bare - hand:.1f} ms more")


if __name__ == "__main__":
    main()
