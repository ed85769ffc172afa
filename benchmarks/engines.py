"""Measure what an engine and the registry add to jobs that do next to nothing.

    python benchmarks/engines.py [--size small|normal|large] [--jobs N] [--work DIR]

Each engine runs the same jobs of one step. What counts is the processor time of ``dbb submit`` itself, from reading the
pipeline to the end of the run: planning, registering, job files, handing over, merging, marking; and with HTCondor that
of the scripts that DAGMan runs for us. The jobs are processes of their own and do not count, nor do the workers and the
interchange of Parsl, DAGMan and the daemons. An engine that this machine does not have is left out.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from part import conclude, options
from report import Target, table

from dbb.errors import DbbError
from dbb.runs.engines import find_engine
from dbb_plugins.htcondor.dag import POST_SCRIPT, PRE_SCRIPT

ENGINES = {"local": 2, "parsl": 2, "htcondor": 50}
"""Jobs at once; HTCondor looks how many fit, and DAGMan tells of ends once a second."""
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
    done = submit(registry, Pipeline.of(settings), Submission(engine, folder / "run", at_once=int(sys.argv[4])))
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


def scripts_each(folder: Path, scripts: int = 50) -> float:
    """Return the milliseconds of processor time of the scripts that DAGMan runs for a job, which wait for its merge."""
    for name in ("notes", "go"):
        (folder / name).mkdir(parents=True)
    for name, text in (("pre.sh", PRE_SCRIPT), ("post.sh", POST_SCRIPT)):
        (folder / name).write_text(text)
    before = _of_children()
    waiting = [subprocess.Popen(["sh", "post.sh", f"j{n}", "0", "0", "0"], cwd=folder) for n in range(scripts)]
    time.sleep(0.5)  # as long as a merge of many takes
    for number in range(scripts):
        (folder / "notes" / f"j{number}").unlink()
        (folder / "go" / f"j{number}").write_text("run\n")
    for number, process in enumerate(waiting):
        process.wait()
        subprocess.run(["sh", "pre.sh", f"j{number}"], cwd=folder, check=True)
    return (_of_children() - before) / scripts * 1000


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Took(NamedTuple):
    """Seconds of a run: of ``dbb submit``'s processor time, and from begin to end."""

    cpu: float
    wall: float


def measure(engine: str, jobs: int, folder: Path) -> Took:
    """Run jobs with an engine."""
    folder.mkdir()
    (folder / "home").mkdir()
    program = [sys.executable, "-c", _ONE, json.dumps(pipeline(jobs)), engine, str(folder), str(ENGINES[engine])]
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
            try:
                find_engine(engine).check({}, folder)
            except DbbError as error:
                print(f"{engine} is left out: {error}")
                continue
            few, many = (measure(engine, jobs, folder / f"{engine}-{jobs}") for jobs in (first, given.jobs))
            each = (many.cpu - few.cpu) / (given.jobs - first) * 1000
            itself = few.cpu - first * each / 1000
            each += scripts_each(folder / "scripts") if engine == "htcondor" else 0
            rows.append([engine, f"{each:.1f}", f"{itself:.2f}", f"{many.wall:.0f}"])
            held.append(Target(f"{engine}: dbb submit, for each job", each, LIMIT, unit="ms"))
    finally:
        shutil.rmtree(folder)
    print(f"{given.jobs} jobs of one step; one more job is the difference to a run of {first}.\n")
    print(table(["engine", "one more job, ms", "the run itself, s", "wall clock, s"], rows), end="")
    conclude(given, held)


if __name__ == "__main__":
    main()
