"""Measure what a job's registry and repository cost, beside the floor, the Gen2 way and the Gen3 Butler.

    python benchmarks/repository.py [--size small|normal|large] [--gen3 VENV|skip] [--inputs N,N,…] [--work DIR]

All sides take turns, each as a process of its own. ``results.json`` and a chart are written besides what is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sides
from chart import draw
from environment import make_environment
from measure import run
from part import SIZES, conclude, filled, parser_of
from report import HUNDRED, Results, markdown, repository_bars, targets
from survey import CCDS, Job

INPUTS = ("100,1000", "100,1000,10000,100000", "100,1000,10000,100000")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = parser_of(__doc__, rows=(100_000, 1_000_000, 10_000_000), repeats=(2, 3, 3))
    made.add_argument("--inputs", help=f"numbers of inputs; default: {'; '.join(INPUTS)}")
    made.add_argument("--cap", type=int, default=10_000, help="the Gen2 way and Gen3 take no part above this")
    made.add_argument("--gen3", default=".venv-gen3", help="environment with lsst-daf-butler, its Python, or 'skip'")
    made.add_argument("--dbb", choices=["run", "skip"], default="run", help="skip: the peers alone")
    made.add_argument("--jobs", type=Path, help="make the repositories there, say /dev/shm")
    made.add_argument("--output", type=Path, help="where results.json and the chart go; nowhere if not given")
    return made


def gen3_python(text: str) -> Path | None:
    """Find the Python of the Gen3 environment; None leaves Gen3 out."""
    if text == "skip":
        return None
    path = Path(text) / "bin" / "python" if Path(text).is_dir() else Path(text)
    if path.exists():
        return path.absolute()
    _say(f"{text} is not there: Gen3 is left out")
    return None


def prepare(setting: sides.Setting, sizes: list[int]) -> None:
    """Make and load the survey, unless they are there."""
    files = max(100 * CCDS, *(Job.of(size).files for size in sizes))
    _say(f"survey: {files} files, {setting.rows} rows")
    survey = [str(setting.python), str(sides.HERE / "survey.py"), str(setting.work / "survey")]
    run([*survey, "--files", str(files), "--rows", str(setting.rows)])
    if setting.dbb and not setting.registry.exists():
        _say("loading the registry")
        loading = setting.work / "loading.db"
        for rest in setting.work.glob("loading.db*"):
            rest.unlink()
        run([*survey, "--files", "0", "--rows", str(setting.rows), "--load", f"sqlite:///{loading}"])
        loading.rename(setting.registry)


def measure_bases(setting: sides.Setting) -> list[dict[str, Any]]:
    """Measure the small processes once."""
    commands = sides.base_commands(setting)
    return [{"side": side, "inputs": 0, **asdict(run(argv))} for side, argv in commands.items()]


def measure_size(setting: sides.Setting, inputs: int, rounds: int, cap: int) -> list[dict[str, Any]]:
    """Let all sides take turns at one size."""
    taking_part = sides.chosen(setting, inputs, cap)
    runs = []
    for number in range(rounds):
        _say(f"{inputs} inputs, round {number + 1} of {rounds}")
        runs += measure_bases(setting)
        for side, command in taking_part.items():
            argv = command(setting, inputs, setting.jobs / f"{side}-{inputs}-{number}")
            runs.append({"side": side, "inputs": inputs, **_run_rested(argv)})
    return runs


def measure_hundred(setting: sides.Setting, rounds: int) -> list[dict[str, Any]]:
    """Measure a hundred jobs in one process."""
    commands = [sides.dbb_hundred(setting, setting.jobs / f"hundred-{number}") for number in range(rounds)]
    return [{"side": HUNDRED, "inputs": 0, **_run_rested(argv)} for argv in commands if setting.dbb]


def _run_rested(argv: list[str]) -> dict[str, Any]:
    """Let the disk come to rest first, so that no side pays for what the one before it wrote."""
    os.sync()
    return asdict(run(argv))


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> None:
    """Measure, write and print."""
    given = filled(parser().parse_args())
    sizes = sorted(int(size) for size in (given.inputs or INPUTS[SIZES.index(given.size)]).split(","))
    python = make_environment(given.work / "env")
    jobs = Path(tempfile.mkdtemp(prefix="jobs-", dir=given.jobs or given.work)).absolute()
    setting = sides.Setting(given.work, jobs, python, gen3_python(given.gen3), given.rows, given.dbb == "run")
    try:
        prepare(setting, sizes)
        runs = measure_hundred(setting, given.repeats)
        for size in sizes:
            runs += measure_size(setting, size, given.repeats * (3 if size < 1000 else 1), given.cap)
    finally:  # not between runs: without a journal, ext4 makes links five times slower while inodes are newly freed
        shutil.rmtree(jobs)
    results = Results(runs)
    print(markdown(results), end="")
    if given.output is not None:
        (given.output / "results.json").write_text(json.dumps({"runs": runs}, indent=1) + "\n")
        draw(results, given.output)
    conclude(given, targets(results), repository_bars(results, min(10_000, max(sizes))))


if __name__ == "__main__":
    main()
