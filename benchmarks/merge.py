"""Measure merging the events of jobs into a registry, and showing how a large run stands.

    python benchmarks/merge.py [--size small|normal|large] [--events N] [--tasks N] [--rounds N] [--work DIR]

The floor of the merge is reading the same lines as JSON in one process. All else are commands, from start to exit.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import run
from part import conclude, options
from report import Bar, Target, table

from dbb import Registry
from dbb.pipeline.workflow import InputFile, Instance, Job, OutputFile, Workflow
from dbb.runs.begin import begin_run

STEPS = 50
EVENTS = 11  # of a step, beside two of each job
RUSAGE = "idrss inblock isrss ixrss majflt maxrss minflt msgrcv msgsnd nivcsw nsignals nswap nvcsw oublock stime utime"


def plan(attnum: int, jobs: int) -> Workflow:
    """Plan jobs of fifty steps, each of which makes a calexp of a raw."""
    instances = []
    for number in range(jobs * STEPS):
        visit, ccd = 900_000 + number // 100, number % 100
        name = f"CORR-{visit:07d}-{ccd:03d}-r11p{attnum}.fits"
        raw = f"raw-{visit}-{ccd}.fits"
        argv = ["processCcd.py", "jobrepo", "--output", "jobrepo", "--id", f"visit={visit}", f"ccd={ccd}"]
        output = OutputFile("calexp", name, name, f"r11/p{attnum}/corr", "calexp", True, False, False, {})
        keys = {"visit": str(visit), "ccd": str(ccd)}
        instances.append(
            Instance(
                "process", "single", number + 1, keys, [argv], [InputFile("raw", raw, raw)], [output], [],
                f"log/process_{number + 1}.log",
            )
        )  # fmt: skip
    planned = [
        Job(f"Ht0_r11p{attnum}_j{n + 1:05d}", "single", n + 1, {}, range(n * STEPS + 1, (n + 1) * STEPS + 1))
        for n in range(jobs)
    ]
    return Workflow({"reqnum": 11, "unitname": "Ht0", "attnum": attnum}, instances, planned)


def events(workflow: Workflow, job: Job) -> Iterator[dict[str, Any]]:
    """Give what a job writes that goes well, as dbb run-job does."""
    where = {"host": "node1", "pid": 4711, "user": "op", "dbb": "0.1", "python": "3.11", "platform": "Linux"}
    yield {"step": None, "state": "running", "log": f"{job.name}-1", "run": dict(workflow.run), "try": 1, **where}
    rusage = {f"ru_{name}": 1234 for name in RUSAGE.split()}
    for one in workflow.instances_of(job):
        step, (output,), (raw,) = {"step": one.wrapnum}, one.outputs, one.inputs
        name, log = {"filename": output.filename, "compression": ""}, {"filename": one.log[4:], "compression": ""}
        source = {"filename": raw.filename, "compression": ""}
        metadata = {**one.loop, "filter": "HSC-R", "expTime": 30.0}
        facts = {"filesize": 17_000_000, "md5sum": f"{one.wrapnum:032x}"}
        yield {**step, "state": "running", "module": one.module}
        yield {**step, "exec": 1, "name": "processCcd.py", "state": "running", "argv": one.argv[0]}
        yield {**step, "exec": 1, "used": [{**source, "archive": "home", "relpath": f"raw/{raw.filename}"}]}
        yield {
            **step,
            "exec": 1,
            "message": {"level": 2, "pattern": 1, "text": "Warning: x", "file": "p.log", "line": 7},
        }
        ended = {"status": 0, "start": 1.4e9, "end": 1.4e9 + 60, "rusage": rusage, "version": "17.0"}
        yield {**step, "exec": 1, "name": "processCcd.py", "state": "succeeded", **ended}
        yield {
            **step,
            "exec": 1,
            "file": {**name, **facts, "filetype": "calexp", "metadata": metadata, "nick": "calexp"},
        }
        yield {**step, "exec": 1, "derived": [{"parent": source, "child": name}]}
        yield {**step, "exec": None, "file": {**log, **facts, "filetype": "log", "metadata": {}, "nick": "log"}}
        yield {**step, "saved": {**name, "archive": "home", "relpath": output.relpath}}
        yield {**step, "saved": {**log, "archive": "home", "relpath": f"r11/log/{log['filename']}"}}
        yield {**step, "state": "succeeded", "status": 0}
    yield {"step": None, "state": "succeeded", "status": 0}


def write_events(folder: Path, workflow: Workflow) -> int:
    """Write the event files of a run; return how many lines they have."""
    count = 0
    for job in workflow.jobs:
        (folder / job.name).mkdir(parents=True)
        with (folder / job.name / "events.1.jsonl").open("w") as stream:
            for event in events(workflow, job):
                stream.write(json.dumps({"t": 1.4e9 + count, "job": job.name, **event}, separators=(",", ":")) + "\n")
                count += 1
    return count


def make_registry(path: Path, workflow: Workflow) -> str:
    """Make a registry that knows the run and what it reads; return its URL."""
    url = f"sqlite:///{path}"
    with Registry.create(url, mapper="hsc") as registry:
        registry.add_archive("home", "/data/home")
        raws = [{"relpath": f"raw/{one.inputs[0].filename}", **one.loop} for one in workflow.instances]
        registry.ingest_table(raws, filetype="hsc_raw", archive="home")
        begin_run(registry, workflow, operator="op")
    return url


def floor(folder: Path) -> float:
    """Read every line as JSON; return the seconds that it took."""
    start = time.perf_counter()
    for path in sorted(folder.rglob("events.*.jsonl")):
        with path.open("rb") as stream:
            for line in stream:
                json.loads(line)
    return time.perf_counter() - start


def measure_merge(work: Path, given: argparse.Namespace) -> tuple[list[Target], list[Bar]]:
    """Merge the same events into the same registry again and again; print how long it takes."""
    workflow = plan(1, max(1, given.events // (STEPS * EVENTS + 2)))
    make_registry(work / "pristine.db", workflow)
    count = write_events(work / "RUN", workflow)
    times: dict[str, list[float]] = {"floor: lines read as JSON": [], "dbb merge": [], "dbb merge, nothing new": []}
    for _ in range(given.rounds):
        shutil.copy(work / "pristine.db", work / "registry.db")
        merge = [str(Path(sys.executable).with_name("dbb")), "--registry", f"sqlite:///{work}/registry.db", "merge"]
        for side, seconds in times.items():
            seconds.append(floor(work / "RUN") if side.startswith("floor") else run([*merge, str(work / "RUN")]).wall)
        (work / "registry.db").unlink()
    medians = {side: statistics.median(seconds) for side, seconds in times.items()}
    rows = [[side, f"{seconds:.2f}", f"{count / seconds:.0f}"] for side, seconds in medians.items()]
    print(f"{count} events of {len(workflow.jobs)} jobs (medians).\n\n{table(['', 's', 'events/s'], rows)}")
    rate = count / medians["dbb merge"]
    held = [Target("events merged per second, with the start of the command", rate, 20_000, True, "/s")]
    base = medians["floor: lines read as JSON"]
    return held, [Bar(f"{count} events of jobs merged", side, t / base, "dbb" in side) for side, t in medians.items()]


def measure_status(work: Path, given: argparse.Namespace) -> list[Target]:
    """Show a run of so many tasks, half of which is done; print how long it takes."""
    workflow = plan(2, max(1, given.tasks // (2 * STEPS + 1)))
    start = time.perf_counter()
    url = make_registry(work / "large.db", workflow)
    print(f"\nA run of {given.tasks} tasks, registered in {time.perf_counter() - start:.0f} s (medians).\n")
    with Registry(url) as registry:
        for statement in (
            "update task set state = 'succeeded', status = 0, start_time = id, end_time = id + 1 where id % 20 < 10",
            "update task set state = 'running' where name in ('attempt', 'block')",
        ):
            registry.write(lambda conn, statement=statement: conn.exec_driver_sql(statement))
    medians = {}
    for words in ("status", "status Ht0_r11p02", "job Ht0_r11p02", "report Ht0_r11p02", "messages Ht0_r11p02"):
        command = [str(Path(sys.executable).with_name("dbb")), "--registry", url, *words.split()]
        medians[f"dbb {words}"] = statistics.median(run(command).wall for _ in range(given.rounds))
    print(table(["", "s"], [[side, f"{seconds:.2f}"] for side, seconds in medians.items()]))
    return [Target("`dbb status`", medians["dbb status"], 1, unit="s")]


def main() -> None:
    """Measure and print."""
    given = options(__doc__, events=(20_000, 200_000, 200_000), tasks=(50_000, 1_000_000, 10_000_000), rounds=(1, 3, 3))
    work = Path(tempfile.mkdtemp(prefix="merge-", dir=given.work))
    try:
        held, bars = measure_merge(work, given)
        held += measure_status(work, given)
    finally:
        shutil.rmtree(work)
    conclude(given, held, bars)


if __name__ == "__main__":
    main()
