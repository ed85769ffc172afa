"""Measure what an engine and the registry add to jobs that do next to nothing.

    python benchmarks/engines.py [--size small|normal|large] [--jobs N] [--work DIR]

Each engine runs the same jobs of one step, two at a time. What counts is the processor time of ``dbb submit`` itself,
from reading the pipeline to the end of the run: planning, registering, job files, handing over, merging, marking. The
jobs are processes of their own and do not count, nor do the workers and the interchange of Parsl.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from part import conclude, options
from report import Target, table

ENGINES = ("local", "parsl")
LIMIT = 10.0
"""Milliseconds for each job."""
_ONE = """
import json, sys, time
from pathlib import Path
from dbb import Registry
from dbb.pipeline import Pipeline
from dbb.runs.submit import Submission, submit

settings, engine, folder = json.loads(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
with Registry.create(f"sqlite:///{folder / 'registry.db'}") as registry:
    registry.add_archive("home", str(folder / "home"))
    begun, cpu = time.perf_counter(), time.process_time()
    done = submit(registry, Pipeline.of(settings), Submission(engine, folder / "run", at_once=2))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - begun
    assert not done.problems, done.problems
print(json.dumps([cpu, wall]))
"""


def pipeline(jobs: int) -> dict[str, object]:
    """Return a pipeline of jobs of one step, each of which makes an empty file."""
    made = {"filetype": "genfile", "filepat": "made", "dirpat": "made"}
    cmdline = {"_1": "${file.made.fullname}"}
    return {
        "reqnum": 1,
        "unitname": "Bench",
        "home_archive": "home",
        "blocklist": "all",
        "block": {"all": {"modulelist": "touch", "divide_jobs_by": "n"}},
        "filename_pattern": {"made": "made-${n}.txt"},
        "directory_pattern": {"made": {"runtime": "made", "ops": "${submit_run}"}},
        "module": {
            "touch": {
                "wrapperloop": "n",
                "n": f"1:{jobs}",
                "modnamepat": "touch_${n}",
                "file": {"made": made},
                "exec_1": {"execname": "touch", "was_generated_by": "file.made", "cmdline": cmdline},
            }
        },
    }


class Took(NamedTuple):
    """Seconds of a run: of ``dbb submit``'s processor time, and from begin to end."""

    cpu: float
    wall: float


def measure(engine: str, jobs: int, folder: Path) -> Took:
    """Run jobs with an engine."""
    folder.mkdir()
    (folder / "home").mkdir()
    program = [sys.executable, "-c", _ONE, json.dumps(pipeline(jobs)), engine, str(folder)]
    done = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True)
    return Took(*json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure, and print."""
    given = options(__doc__, jobs=(40, 200, 1000))
    folder = Path(tempfile.mkdtemp(prefix="engines-", dir=given.work))
    first = max(10, given.jobs // 10)
    rows, held = [], []
    try:
        for engine in ENGINES:
            few, many = (measure(engine, jobs, folder / f"{engine}-{jobs}") for jobs in (first, given.jobs))
            each = (many.cpu - few.cpu) / (given.jobs - first) * 1000
            rows.append([engine, f"{each:.1f}", f"{few.cpu - first * each / 1000:.2f}", f"{many.wall:.0f}"])
            held.append(Target(f"{engine}: dbb submit, for each job", each, LIMIT, unit="ms"))
    finally:
        shutil.rmtree(folder)
    print(f"{given.jobs} jobs of one step; one more job is the difference to a run of {first}.\n")
    print(table(["engine", "one more job, ms", "the run itself, s", "wall clock, s"], rows), end="")
    conclude(given, held)


if __name__ == "__main__":
    main()
