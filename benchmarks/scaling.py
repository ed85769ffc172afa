"""What a file costs as a registry grows, measured as far as this machine goes and simulated beyond.

    python benchmarks/scaling.py [--size small|normal|large] [--files N] [--work DIR]

Measured: runs of calibrated exposures are registered one after the other in one SQLite registry, and at each tenfold
size what a file takes, what a job's outputs take, and what a question takes. Simulated, with what was measured:

* an index that does not fit into memory: in the order in which a survey makes files, how many of its pages must be read
  for each, by a least-recently-used cache; sizes are scaled down together, which leaves the number per file the same
* one process that merges what jobs have recorded, all that waits at a time, while jobs end at random
"""

from __future__ import annotations

import hashlib
import heapq
import math
import random
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from part import conclude, options
from report import Target, ratio, table

from dbb import Registry

CCDS = 100
VISITS_OF_A_RUN = 1_000
OUTPUTS, FEW = 1_000, 100
AT_ONCE = 100_000  # files that a survey makes at the same time
MEMORY = 32e9
YEAR = 365.25 * 86_400
PAGE = 4096
SIMULATED = 400_000


@dataclass(frozen=True, slots=True)
class Stage:
    """A registry at one size: seconds for each file of the last run, for jobs' outputs, for a question; its bytes."""

    files: int
    load: float
    job: float
    small_job: float
    question: float
    size: int
    index_entry: float


def calexps(path: Path, first_visit: int, visits: int, run: str) -> Path:
    """Write the rows of calibrated exposures of some visits as Parquet."""
    count = visits * CCDS
    visit = np.repeat(np.arange(first_visit, first_visit + visits), CCDS)
    ccd = np.tile(np.arange(CCDS), visits)
    names = [f"{run}/CORR-{v:07d}-{c:03d}-{run}.fits" for v, c in zip(visit, ccd, strict=True)]
    sums = [hashlib.md5(name.encode(), usedforsecurity=False).hexdigest() for name in names]
    columns = {"relpath": names, "visit": visit, "ccd": ccd, "filter": ["HSC-R"] * count}
    pq.write_table(pa.table(columns | {"filesize": [17_000_000] * count, "md5sum": sums}), path)
    return path


def seconds(work: Callable[..., object], *what: object, **how: object) -> float:
    """Return what a call takes."""
    began = time.perf_counter()
    work(*what, **how)
    return time.perf_counter() - began


def grow(folder: Path, sizes: Iterable[int]) -> list[Stage]:
    """Let a registry grow, and measure at each of `sizes`."""
    url, stages, files, attempt = f"sqlite:///{folder / 'registry.db'}", [], 0, 0
    with Registry.create(url, mapper="hsc") as registry:
        registry.add_archive("home", "/data/home")
        for size in sizes:
            last = 0.0
            while files < size:
                attempt += 1
                visits = min(VISITS_OF_A_RUN, (size - files) // CCDS)
                table_file = calexps(folder / "run.parquet", 900_000, visits, f"r1p{attempt:04d}")
                run = f"U_r1p{attempt:04d}"
                last = seconds(registry.ingest_table, table_file, filetype="calexp", archive="home", run=run)
                files += visits * CCDS
            stages.append(measure(registry, folder, files, last / (visits * CCDS), attempt))
    return stages


def measure(registry: Registry, folder: Path, files: int, load: float, attempts: int) -> Stage:
    """Measure a registry as it is."""
    jobs: dict[int, list[float]] = {OUTPUTS: [], FEW: []}
    for number, outputs in enumerate([OUTPUTS, FEW] * 5, 1):
        run = f"J{files}_r2p{number:02d}"
        rows = calexps(folder / "job.parquet", 900_000 + 10 * number, outputs // CCDS, run)
        jobs[outputs].append(seconds(registry.ingest_table, rows, filetype="calexp", archive="home", run=run))
    questions = []
    chance = random.Random(files)
    for _ in range(20):
        visit, run = 900_000 + chance.randrange(VISITS_OF_A_RUN // 2), f"U_r1p{chance.randint(1, attempts):04d}"
        questions.append(seconds(registry.query, "calexp", where=f"visit = {visit}", runs=[run]))
    path = folder / "registry.db"
    with sqlite3.connect(path) as db:
        used = "SELECT sum(pgsize), sum(ncell) FROM dbstat WHERE name = 'ix_desfile_filename'"
        [(index, entries)] = db.execute(used).fetchall()
    db.close()
    return Stage(
        files,
        load,
        *(statistics.median(jobs[outputs]) for outputs in (OUTPUTS, FEW)),
        statistics.median(questions[1:]),
        path.stat().st_size,
        index / entries,
    )


def production(runs: int, files: int, at_once: int, chance: random.Random) -> Iterator[tuple[int, int]]:
    """Give run and place in it of each file, in the order in which `at_once` workers make them."""
    each = files // runs
    for run in range(runs):
        window = [(chance.random() * at_once + place, place) for place in range(each)]
        heapq.heapify(window)
        while window:
            yield run, heapq.heappop(window)[1]


def reads(pages: Iterable[int], memory: int) -> float:
    """Return how many pages must be read for each that is asked for, with a cache of so many."""
    cache: OrderedDict[int, None] = OrderedDict()
    asked = missed = 0
    for page in pages:
        asked += 1
        if page in cache:
            cache.move_to_end(page)
            continue
        missed += 1
        cache[page] = None
        if len(cache) > memory:
            cache.popitem(last=False)
    return missed / asked


def reads_of_an_index(files: int, entry: float, *, ordered: bool, runs: int = 20) -> float:
    """Return the pages read for each new file of a survey of `files`, of an index with so many bytes an entry.

    A quarter of the memory is for it.

    `ordered` are keys that begin with what a run goes through in order, as file names and data ids do; others, as
    checksums or random identifiers, lead anywhere.
    """
    chance = random.Random(1)
    leaves = math.ceil(SIMULATED * entry / PAGE)
    memory = max(16, round(leaves * min(1.0, MEMORY / 4 / (files * entry))))
    at_once = max(1, round(AT_ONCE * SIMULATED / files))
    each = SIMULATED // runs

    def pages() -> Iterator[int]:
        for run, place in production(runs, SIMULATED, at_once, chance):
            key = (place * runs + run) / (each * runs) if ordered else chance.random()
            yield int(key * leaves)

    return reads(pages(), memory)


def waits(rate: float, fixed: float, each: float, outputs: int, chance: random.Random) -> tuple[float, float]:
    """Return the share of time that the merging process is busy, and the wait that 99 % of ended jobs do not exceed.

    Jobs of `outputs` files end at random; whoever merges takes all that have ended, for `fixed` seconds and `each` for
    every file.
    """
    jobs = 20_000
    now, ends = 0.0, []
    for _ in range(jobs):
        now += chance.expovariate(rate / outputs)
        ends.append(now)
    free, busy, at, waited = 0.0, 0.0, 0, []
    while at < jobs:
        begin = max(free, ends[at])
        upto = at
        while upto < jobs and ends[upto] <= begin:
            upto += 1
        free = begin + fixed + each * outputs * (upto - at)
        busy += free - begin
        waited += [free - end for end in ends[at:upto]]
        at = upto
    return busy / free, sorted(waited)[int(len(waited) * 0.99)]


def simulate(last: Stage) -> tuple[str, list[Target]]:
    """Lay out what a survey of so many files needs."""
    each = (last.job - last.small_job) / (OUTPUTS - FEW)
    fixed = max(0.0, last.small_job - FEW * each)
    rows = []
    for exponent in (7, 8, 9, 10):
        files = 10**exponent
        ordered, scattered = (reads_of_an_index(files, last.index_entry, ordered=way) for way in (True, False))
        busy, wait = waits(10 * files / YEAR, fixed, each, 20, random.Random(exponent))
        rows.append(
            [
                f"10^{exponent}",
                f"{files * last.size / last.files / 1e9:.0f} GB",
                f"{ordered:.2f}",
                f"{scattered:.2f}",
                f"{10 * files / YEAR:.0f}",
                f"{busy:.1%}",
                f"{wait:.2f} s" if busy < 0.98 else "grows",
            ]
        )
    head = [
        "files",
        "SQLite",
        "pages read, keys in order",
        "random keys",
        "files/s at the peak",
        "merging busy",
        "99 % wait less",
    ]
    return table(head, rows), []


def main() -> None:
    """Measure, simulate and print."""
    given = options(__doc__, files=(20_000, 1_000_000, 10_000_000))
    folder = Path(tempfile.mkdtemp(prefix="scaling-", dir=given.work))
    try:
        stages = grow(folder, [given.files // 10, given.files])
    finally:
        shutil.rmtree(folder)
    rows = [
        [
            f"{s.files:,}".replace(",", " "),
            f"{s.load * 1e6:.1f}",
            f"{s.size / s.files:.0f}",
            f"{s.job * 1e3:.0f}",
            f"{s.question * 1e3:.2f}",
        ]
        for s in stages
    ]
    print(table(["files", "µs a file", "bytes a file", f"{OUTPUTS} outputs, ms", "100 rows, ms"], rows))
    first, last = stages
    text, _ = simulate(last)
    print(text, end="")
    conclude(
        given,
        [
            Target("a file of a registry ten times as large: time to load", ratio(last.load, first.load), 1.5),
            Target("100 rows of a registry ten times as large", ratio(last.question, first.question), 1.5),
            Target("a job's outputs into a registry ten times as large", ratio(last.job, first.job), 1.5),
        ],
    )


if __name__ == "__main__":
    main()
