"""Measure everything, and bring ``docs/benchmarks.md`` up to date: its tables, its summary and its charts.

    python benchmarks/run.py [--size small|normal|large] [--parts repository,overlaps,…]
    python benchmarks/run.py --check

Each part is a program of this folder. With ``--check`` all are run small, nothing is written, and the exit code tells
whether a ratio is off its limit by more than a factor of two.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from chart import draw_comparison
from page import put
from part import BUILD, SIZES
from report import Bar, Target, table

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
PAGE, RESULTS = DOCS / "benchmarks.md", DOCS / "benchmarks"
CONCLUSIONS = RESULTS / "conclusions.json"
PARTS = (
    "repository",
    "bulkload",
    "selection",
    "overlaps",
    "refcats",
    "harvest",
    "transfers",
    "plan",
    "merge",
    "writers",
    "snapshot",
    "engines",
    "scaling",
)
PAGES = {"scaling": DOCS / "scaling.md"}
"""Where the tables of a part stand, if not in the page of benchmarks."""
TRIES = 3
NO_RATIOS = {"engines", "merge"}
"""Parts of which only seconds are held against a limit: nothing that a small run on another machine could check."""
LIBRARIES = ("sqlalchemy", "psycopg", "pyarrow", "numpy", "astropy")


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="what to measure; all if not given")
    parser.add_argument("--size", choices=SIZES, default="normal")
    parser.add_argument("--check", action="store_true", help="measure all small, write nothing, fail if far off")
    parser.add_argument("--work", type=Path, default=BUILD, help="kept between runs; remove it to start anew")
    parser.add_argument("--gen3", default=".venv-gen3", help="environment with lsst-daf-butler, or 'skip'")
    return parser.parse_args()


def machine() -> str:
    """Describe the machine and what runs on it, in a line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()},"
        f" SQLite {sqlite3.sqlite_version}, {libraries}"
    )


def measure(part: str, given: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Run the program of a part; return what it prints, and what it concludes."""
    sys.stderr.write(f"{part}\n")
    size = "small" if given.check else given.size
    program = [sys.executable, str(HERE / f"{part}.py"), "--size", size, "--work", str(given.work.absolute())]
    if part == "repository":
        program += ["--gen3", "skip"] if given.check else ["--gen3", given.gen3, "--output", str(RESULTS)]
    with tempfile.NamedTemporaryFile("r", suffix=".json") as conclusion:
        program += ["--conclusion", conclusion.name]
        printed = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True).stdout
        return printed, json.load(conclusion)


def summary(conclusions: dict[str, Any]) -> str:
    """Lay out everything that is held against a limit as one table."""
    rows = [
        [part if number == 0 else "", *Target(**one).cells()]
        for part in PARTS
        for number, one in enumerate(conclusions.get(part, {}).get("targets", ()))
    ]
    return table(["part", "", "measured", "limit", ""], rows)


def check(parts: Sequence[str], given: argparse.Namespace) -> int:
    """Measure parts and print what was measured; return 1 if a ratio is far off each time that it is measured."""
    conclusions, waiting = {}, [part for part in parts if part not in NO_RATIOS]
    for _ in range(TRIES):  # a neighbour on the same machine is soon forgiven, a slow program never
        conclusions |= {part: measure(part, given)[1] for part in waiting}
        waiting = [part for part in waiting if far_off(conclusions[part])]
    print(summary(conclusions), end="")
    for part in waiting:
        print(f"{part}: off by more than a factor of two: {'; '.join(far_off(conclusions[part]))}", file=sys.stderr)
    return 1 if waiting else 0


def far_off(conclusion: dict[str, Any]) -> list[str]:
    """Return the ratios of a part that are off by more than a factor of two."""
    return [one.text for target in conclusion["targets"] if (one := Target(**target)).is_far_off]


def main() -> int:
    """Measure, and write or check."""
    given = options()
    parts = given.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"no such part: {', '.join(sorted(unknown))}; known are {', '.join(PARTS)}")
    if given.check:
        return check(parts, given)
    measured = {part: measure(part, given) for part in parts}
    RESULTS.mkdir(exist_ok=True)
    conclusions = json.loads(CONCLUSIONS.read_text()) if CONCLUSIONS.exists() else {}
    for part, (printed, conclusion) in measured.items():
        conclusions[part] = conclusion
        put(PAGES.get(part, PAGE), part, f"Size {given.size}. {machine()}.\n\n{printed}")
    CONCLUSIONS.write_text(json.dumps(conclusions, indent=1) + "\n")
    put(PAGE, "summary", summary(conclusions))
    bars = [Bar(**one) for part in PARTS for one in conclusions.get(part, {}).get("bars", ())]
    draw_comparison(bars, RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
