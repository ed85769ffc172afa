"""Runs for tests of what the registry remembers: workflows, and event files as jobs write them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from dbb import Registry
from dbb.pipeline.workflow import InputFile, Instance, Job, OutputFile, Workflow

RUN = {"reqnum": 11, "unitname": "Ht0", "attnum": 95}
BEGAN = 1_400_000_000.0
RUSAGE = {
    **dict.fromkeys(("ru_idrss", "ru_isrss", "ru_ixrss", "ru_msgrcv", "ru_msgsnd", "ru_nsignals", "ru_nswap"), 0),
    "ru_inblock": 8,
    "ru_majflt": 1,
    "ru_maxrss": 250_000,
    "ru_minflt": 4_000,
    "ru_nivcsw": 20,
    "ru_nvcsw": 40,
    "ru_oublock": 16,
    "ru_stime": 0.25,
    "ru_utime": 3.5,
}


def md5(text: str) -> str:
    return hashlib.md5(text.encode(errors="surrogateescape")).hexdigest()


def make_workflow(jobs: int = 2, ccds: int = 2, *, attnum: int = 95, gather: bool = True) -> Workflow:
    """Plan `jobs` jobs that make a calexp of each of `ccds` ccds, and one after them that makes a coadd of all."""
    run = {**RUN, "attnum": attnum}
    instances, planned = [], []
    for visit in range(1, jobs + 1):
        wrapnums = []
        for ccd in range(ccds):
            wrapnum = len(instances) + 1
            wrapnums.append(wrapnum)
            instances.append(_process(wrapnum, visit, ccd, attnum))
        planned.append(Job(job_name(visit, attnum), "single", visit, {"visit": str(visit)}, wrapnums))
    if gather:
        calexps = [one.outputs[0] for one in instances]
        coadd = f"calexp-HSC-R-0-8x6-r11p{attnum}.fits"
        instances.append(
            Instance(
                "coadd",
                "together",
                len(instances) + 1,
                {"patch": "8x6"},
                [["assembleCoadd.py", "jobrepo", "--id", "patch=8,6"]],
                [InputFile("calexp", one.filename, one.filename) for one in calexps],
                [_output("coadd", coadd, "deepcoadd_calexp", f"r11/p{attnum}/coadd")],
                [],
                "log/coadd.log",
            )
        )
        after = [job.name for job in planned]
        planned.append(Job(job_name(jobs + 1, attnum), "together", jobs + 1, {}, [len(instances)], after))
    return Workflow(run, instances, planned)


def job_name(number: int, attnum: int = 95) -> str:
    return f"Ht0_r11p{attnum}_j{number:04d}"


def _process(wrapnum: int, visit: int, ccd: int, attnum: int) -> Instance:
    calexp = f"CORR-{visit:07d}-{ccd:03d}-r11p{attnum}.fits"
    return Instance(
        "process",
        "single",
        wrapnum,
        {"visit": str(visit), "ccd": str(ccd)},
        [["processCcd.py", "jobrepo", "--id", f"visit={visit}", f"ccd={ccd}"]],
        [InputFile("raw", f"raw-{visit}-{ccd}.fits", f"raw-{visit}-{ccd}.fits")],
        [_output("calexp", calexp, "calexp", f"r11/p{attnum}/corr")],
        [],
        f"log/process-{wrapnum}.log",
    )


def _output(nick: str, filename: str, filetype: str, folder: str) -> OutputFile:
    return OutputFile(nick, filename, filename, folder, filetype, True, False, False, {})


def register_raws(registry: Registry, jobs: int, ccds: int) -> None:
    """Register what `make_workflow` reads, in the archive home."""
    rows = [
        {"relpath": f"raw/raw-{visit}-{ccd}.fits", "visit": visit, "ccd": ccd, "filter": "HSC-R"}
        for visit in range(1, jobs + 1)
        for ccd in range(ccds)
    ]
    registry.ingest_table(rows, filetype="hsc_raw", archive="home")


class EventFile:
    """Writes events by hand."""

    def __init__(self, path: Path, job: Job, run: Any, *, number: int = 1, log: str | None = None) -> None:
        self.path, self._job, self._time = path, job.name, BEGAN + 1000 * number
        self.log = log or md5(f"{run} {job.name} {number}")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.lines: list[str] = []
        where = {"host": "node1", "pid": 100, "user": "op", "dbb": "0.1", "python": "3.11.2", "platform": "Linux"}
        where |= {"environment": {"SETUP": "x"}, "software": {"afw": "17"}}
        self.add(None, state="running", log=self.log, run=run, **{"try": number}, **where)

    def add(self, step: int | None, **said: Any) -> EventFile:
        self._time += 1
        self.lines.append(json.dumps({"t": self._time, "job": self._job, "step": step, **said}) + "\n")
        return self

    def write(self, lines: int | None = None) -> Path:
        self.path.write_text("".join(self.lines[:lines]), encoding="utf-8")
        return self.path

    def begin_step(self, one: Instance) -> EventFile:
        self.add(one.wrapnum, state="running", module=one.module)
        for number, argv in enumerate(one.argv, 1):
            self.add(one.wrapnum, exec=number, name=argv[0], state="running", argv=argv)
        return self

    def end_exec(self, one: Instance, number: int = 1, status: int = 0) -> EventFile:
        state = "failed" if status else "succeeded"
        times = {"start": self._time, "end": self._time + 3.75}
        return self.add(
            one.wrapnum, exec=number, state=state, status=status, **times, rusage=RUSAGE, version="17.0",
        )  # fmt: skip

    def make_files(self, one: Instance, words: str = "") -> EventFile:
        """Report the step's outputs, its log, where they were saved, what was read and what came from it."""
        for output in one.outputs:
            self.add(one.wrapnum, exec=1, file=made(output.filename, output.filetype, words, nick=output.nick))
        log = one.log.rpartition("/")[2]
        self.add(one.wrapnum, exec=None, file=made(log, "log", words))
        for output in one.outputs:
            self.add(one.wrapnum, saved=saved(output.filename, output.relpath))
        self.add(one.wrapnum, saved=saved(log, f"r11/log/{log}"))
        used = [self._used(file) for file in one.inputs]
        self.add(one.wrapnum, exec=1, used=used)
        pairs = [
            {"parent": name(file.filename), "child": name(output.filename)}
            for file in one.inputs
            for output in one.outputs
        ]
        return self.add(one.wrapnum, exec=1, derived=pairs)

    @staticmethod
    def _used(file: InputFile) -> dict[str, str]:
        place = {"archive": "home", "relpath": f"raw/{file.filename}"} if file.nick == "raw" else {}
        return {**name(file.filename), **place}

    def run_step(self, one: Instance, words: str = "") -> EventFile:
        """Report a step that went well, with a warning on the way."""
        self.begin_step(one)
        text = {"level": 2, "pattern": 7, "text": f"Warning: step {one.wrapnum}", "file": "process.log", "line": 12}
        self.add(one.wrapnum, exec=1, message=text)
        self.end_exec(one).make_files(one, words)
        return self.add(one.wrapnum, state="succeeded", status=0)

    def end(self, state: str = "succeeded", status: int = 0) -> EventFile:
        return self.add(None, state=state, status=status)


def name(filename: str, compression: str = "") -> dict[str, str]:
    return {"filename": filename, "compression": compression}


def made(filename: str, filetype: str | None, words: str = "", compression: str = "", **more: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    if filetype == "calexp":
        metadata = {"visit": filename[5:12], "ccd": filename[13:16], "filter": "HSC-R", "expTime": 30.0}
    elif filetype == "deepcoadd_calexp":
        metadata = {"tract": 0, "patch": "8,6", "filter": "HSC-R"}
    facts = {"filetype": filetype, "filesize": 1000 + len(words), "md5sum": md5(filename + words + compression)}
    return {**name(filename, compression), **facts, "metadata": metadata, **more}


def saved(filename: str, relpath: str, compression: str = "", archive: str = "home") -> dict[str, str]:
    return {**name(filename, compression), "archive": archive, "relpath": relpath}


def event_file(folder: Path, job: Job, workflow: Workflow, number: int = 1) -> EventFile:
    """Begin the event file of a try at a job, where a run keeps it."""
    return EventFile(folder / "jobs" / job.name / f"events.{number}.jsonl", job, workflow.run, number=number)


def write_run(folder: Path, workflow: Workflow) -> list[Path]:
    """Write the event files of a run in which all went well."""
    paths = []
    for job in workflow.jobs:
        file = event_file(folder, job, workflow)
        for one in workflow.instances_of(job):
            file.run_step(one)
        paths.append(file.end().write())
    return paths
