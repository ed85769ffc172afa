"""Measure what a job's registry and repository cost, beside the floor, the Gen2 way and the Gen3 Butler.

    python benchmarks/run.py [--sizes 100,1000,10000,100000] [--repeats 3] [--gen3 VENV|skip] [--work DIR]
    python benchmarks/run.py --parts overlaps,refcats

All sides take turns, each as a process of its own. Written are ``results.json``, ``table.md`` and the chart, and for
each of the other parts, which are programs of their own here, what it prints.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sides
from chart import draw
from environment import make_environment
from measure import run
from report import HUNDRED, Results, markdown
from survey import CCDS, Job

ROOT = Path(__file__).parent.parent
REPOSITORY = "repository"
PARTS = {
    "overlaps": "What it costs to find the exposures of a patch",
    "refcats": "What a job's shards of a reference catalogue cost",
    "harvest": "What it costs to register a job's outputs",
    "plan": "What it costs to plan a run",
    "merge": "What it costs to merge the events of jobs, and to show how a large run stands",
}


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure what a job's registry and repository cost.")
    parser.add_argument("--parts", default=",".join([REPOSITORY, *PARTS]), help="what to measure; all if not given")
    parser.add_argument("--sizes", default="100,1000,10000,100000", help="numbers of inputs")
    parser.add_argument("--repeats", type=int, default=3, help="rounds at each size; three times as many below 1000")
    parser.add_argument("--cap", type=int, default=10_000, help="the Gen2 way and Gen3 take no part above this size")
    parser.add_argument("--rows", type=int, default=1_000_000, help="files in the global registry")
    parser.add_argument("--gen3", default=".venv-gen3", help="environment with lsst-daf-butler, its Python, or 'skip'")
    parser.add_argument("--dbb", choices=["run", "skip"], default="run", help="skip: the peers alone")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "benchmarks", help="kept between runs; remove it to start anew"
    )
    parser.add_argument(
        "--jobs", type=Path, help="make the repositories elsewhere, say /dev/shm; else in the work folder"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks", help="where results are written")
    return parser.parse_args()


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


def machine() -> str:
    """Describe the machine in a line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def measure_repository(given: argparse.Namespace, work: Path) -> None:
    """Measure a job's repository, write and print."""
    sizes = sorted(int(size) for size in given.sizes.split(","))
    python = make_environment(work / "env")
    jobs = Path(tempfile.mkdtemp(prefix="jobs-", dir=given.jobs or work)).absolute()
    setting = sides.Setting(work, jobs, python, gen3_python(given.gen3), given.rows, given.dbb == "run")
    try:
        prepare(setting, sizes)
        runs = measure_hundred(setting, given.repeats)
        for size in sizes:
            runs += measure_size(setting, size, given.repeats * (3 if size < 1000 else 1), given.cap)
    finally:  # not between runs: without a journal, ext4 makes links five times slower while inodes are newly freed
        shutil.rmtree(jobs)
    results = Results(runs)
    (given.output / "results.json").write_text(json.dumps({"machine": machine(), "runs": runs}, indent=1) + "\n")
    text = markdown(results, machine())
    (given.output / "table.md").write_text(text)
    sys.stdout.write(text)
    draw(results, given.output)


def measure_part(name: str, work: Path, output: Path) -> None:
    """Run another program of this folder, write what it prints, and print it."""
    _say(name)
    program = [sys.executable, str(Path(__file__).with_name(f"{name}.py")), "--work", str(work)]
    printed = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True).stdout
    text = f"# {PARTS[name]}\n\nMachine: {machine()}. Compare ratios, not times.\n\n{printed}"
    (output / f"{name}.md").write_text(text)
    sys.stdout.write(text)


def main() -> None:
    """Measure, write and print."""
    given = options()
    parts = given.parts.split(",")
    if unknown := set(parts) - {REPOSITORY, *PARTS}:
        sys.exit(f"no such part: {', '.join(sorted(unknown))}; known are {', '.join([REPOSITORY, *PARTS])}")
    work = given.work.absolute()
    for folder in (work, given.output):
        folder.mkdir(parents=True, exist_ok=True)
    if REPOSITORY in parts:
        measure_repository(given, work)
    for name in parts:
        if name != REPOSITORY:
            measure_part(name, work, given.output)


if __name__ == "__main__":
    main()
