"""Measure how many files some programs register at once, and how long the unluckiest of them waits.

    python benchmarks/writers.py [--size small|normal|large] [--databases sqlite,postgresql] [--work DIR]

Each program registers twenty files at a time, again and again, with nothing else to do between: nobody who works writes
as much. The server is durable, with its default limit of a hundred connections.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from part import conclude, filled, parser_of
from postgres import run_postgres
from report import Target, table

from dbb import Registry

PROGRAMS = {"sqlite": (1, 4, 16), "postgresql": (1, 16, 64)}
FILES = 20
RUN = {"filetype": "calexp", "archive": "home", "run": "Ht0_r11p95"}
SERVER = {"fsync": "on", "synchronous_commit": "on", "shared_buffers": "512MB", "max_connections": "100"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What some programs did at once: files a second, and the median and longest wait of a write in seconds."""

    programs: int
    rate: float
    middle: float
    worst: float
    fewest: int


def rows(program: int, turn: int) -> list[dict[str, Any]]:
    """Make files that nobody else has."""
    visit = 1_000_000 * (program + 1) + turn
    return [
        {"relpath": f"corr/{visit}-{ccd:03d}.fits", "filesize": 17_000_000, "md5sum": f"{visit:024x}{ccd:08x}"}
        | {"visit": visit, "ccd": ccd, "filter": "HSC-R"}
        for ccd in range(FILES)
    ]


def write(url: str, program: int, start: float, seconds: float) -> list[float]:
    """Register files from one moment on; return how long each transaction took, the wait for its turn included."""
    waits = []
    with Registry(url) as registry:
        time.sleep(max(0.0, start - time.monotonic()))
        while time.monotonic() < start + seconds:
            made = rows(program, len(waits))
            began = time.perf_counter()
            registry.ingest_table(made, **RUN)
            waits.append(time.perf_counter() - began)
    return waits


def measure(url: str, programs: int, seconds: float) -> Outcome:
    """Let some programs write at once into a new registry."""
    with Registry.create(url, mapper="hsc") as registry:
        registry.add_archive("home", "/data/home")
        registry.ingest_table(rows(programs, 0), **RUN)
    start = time.monotonic() + 0.5 + programs / 50
    children = []
    for program in range(programs):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            with os.fdopen(writing, "w") as stream:
                json.dump(write(url, program, start, seconds), stream)
            os._exit(0)
        os.close(writing)
        children.append((child, reading))
    waits = []
    for child, reading in children:
        with os.fdopen(reading) as stream:
            waits.append(json.load(stream))
        os.waitpid(child, 0)
    took = [wait for some in waits for wait in some]
    with Registry(url) as registry, registry.read() as conn:
        found = conn.exec_driver_sql("SELECT count(*) FROM desfile").scalar()
    assert found == FILES * (len(took) + 1), "files were lost"
    return Outcome(
        programs, FILES * len(took) / seconds, statistics.median(took), max(took), min(len(some) for some in waits)
    )


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__, seconds=(2, 10, 30))
    parser.add_argument("--databases", default="sqlite,postgresql")
    given = filled(parser.parse_args())
    held = []
    for database in given.databases.split(","):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="writers-", dir=given.work)))
            folder.chmod(0o755)
            server = stack.enter_context(run_postgres(folder, SERVER)) if database == "postgresql" else None
            found = []
            for programs in PROGRAMS[database]:
                with ExitStack() as turn:
                    url = turn.enter_context(server.database()) if server else f"sqlite:///{folder}/{programs}.db"
                    found.append(measure(url, programs, given.seconds))
        lines = [
            [str(one.programs), f"{one.rate:.0f}", f"{one.middle * 1e3:.0f}", f"{one.worst * 1e3:.0f}", str(one.fewest)]
            for one in found
        ]
        head = ["programs", "files/s", "median, ms", "longest, ms", "fewest writes of one"]
        print(f"\n{database}, {FILES} files at a time, {given.seconds} s:\n\n{table(head, lines)}")
        most, alone = found[-1], found[0]
        text = f"{database}: {most.programs} programs at once against the rate of one"
        held.append(Target(text, most.rate / alone.rate, 0.25, at_least=True))
        held.append(Target(f"{database}: longest wait of {most.programs} programs", most.worst, 5, unit="s"))
    conclude(given, held)


if __name__ == "__main__":
    main()
