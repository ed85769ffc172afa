"""Measure what a plan costs: quanta with two exposures each, out of a registry of a million calibrated exposures.

    python benchmarks/plan.py [--size small|normal|large] [--quanta N] [--repeats N] [--work DIR]

The pipeline is that of ``docs/pipelines.md``: one warp for each tract, patch, visit and filter. Each plan is made in a
process of its own, whose query is timed apart. Of the rounds the best counts: what else the machine does only adds.
The registry is kept between runs; remove the folder to start anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

from measure import run
from part import conclude, filled, parser_of
from report import Target, ratio, table

from dbb import Registry
from dbb.pipeline import Pipeline, plan, sources

ROOT = Path(__file__).parent.parent
CCDS = 2
EXPOSURES = 1_000_000
FIRST_VISIT = 900_000
FILTERS = ("HSC-R", "HSC-I")
COMMAND = {
    "execname": "makeCoaddTempExp.py",
    "cmd_hyphen": "mixed_gnu",
    "used": "list.corr.calexp",
    "was_generated_by": "file.deepcoadd_tempexp",
    "cmdline": {
        "_01": "${job_repo_dir}",
        "output": "${job_repo_dir}",
        "id": "tract=${tract} patch=${patch} filter=${filter}",
        "doraise": "_flag",
        "c": "doApplyUberCal=False",
    },
}
MODULE = {
    "wrapperloop": "tract, patch, visit, filter",
    "loopobj": "list.corr",
    "modnamepat": "t${tract}_p${patch}_v${visit}_${filter}_${modulename}",
    "file": {
        "calexp": {"listonly": True, "dirpat": "calexp"},
        "deepcoadd_tempexp": {
            "filetype": "deepcoadd_tempexp", "filepat": "warp", "flabel": "warp", "fsuffix": "fits", "dirpat": "coadd",
        },
    },
    "exec_1": COMMAND,
    "wrapper": {"per_file_cmdline": "list.corr.calexp:--selectId visit=$(visit) ccd=$(ccd)"},
}  # fmt: skip


def pipeline(quanta: int) -> Pipeline:
    """Return the pipeline of the first `quanta` visits."""
    corr = {
        "dataset": "calexp",
        "where": f"visit IN ({FIRST_VISIT}..{FIRST_VISIT + quanta - 1})",
        "runs": ["Ht0_r11p95"],
        "divide_by": "tract, patch, visit, filter",
        "columns": "calexp.fullname, tract, patch, visit, ccd, filter",
        "filepat": "warp",
        "flabel": "corr",
        "fsuffix": "list",
    }
    return Pipeline.of(
        {
            "reqnum": 12,
            "unitname": "Ht0",
            "attnum": 1,
            "job_repo_dir": "jobrepo",
            "ops_run_dir": "MMG/hsctest/r${reqnum}/${unitname}/p${attnum:2}",
            "filename_pattern": {
                "warp": "${flabel}-${filter}-${tract}-${patch}-${visit}-r${reqnum}p${attnum:2}.${fsuffix}"
            },
            "directory_pattern": {
                "calexp": {"runtime": "${job_repo_dir}/${visit:7}/${filter}", "ops": "${ops_run_dir}/corr"},
                "coadd": {
                    "runtime": "${job_repo_dir}/deepCoadd/${filter}/${tract}/${patch}",
                    "ops": "${ops_run_dir}/coadd",
                },
            },
            "blocklist": "coadd",
            "block": {"coadd": {"modulelist": "make_coadd_temp_exp", "divide_jobs_by": "patch"}},
            "module": {"make_coadd_temp_exp": {**MODULE, "list": {"corr": corr}}},
        }
    )


def build(path: Path) -> None:
    """Make the registry: rows as `Registry.ingest_table` would write them, without its checks, in far less time."""
    making = path.with_name("plan-making.db")
    for rest in path.parent.glob("plan-making.db*"):
        rest.unlink()
    with Registry.create(f"sqlite:///{making}", mapper="hsc") as registry:
        registry.add_archive("home", "/data/home")
    db = sqlite3.connect(making, isolation_level=None)
    db.executescript(
        "PRAGMA synchronous = OFF; PRAGMA cache_size = -200000; BEGIN;"
        "INSERT INTO pfw_request (reqnum) VALUES (11); INSERT INTO pfw_unit VALUES (11, 'Ht0');"
        "INSERT INTO pfw_attempt (id, reqnum, unitname, attnum) VALUES (1, 11, 'Ht0', 95);"
        "INSERT INTO overlap_version (id, name, live) VALUES (1, 'made', 0)"
    )
    for start in range(0, EXPOSURES, 100_000):
        _insert(db, range(start, start + 100_000))
    db.execute("COMMIT")
    db.close()
    with Registry(f"sqlite:///{making}") as registry:
        registry.optimize(EXPOSURES)
    making.rename(path)


def _insert(db: sqlite3.Connection, numbers: range) -> None:
    exposures = [(number, FIRST_VISIT + number // CCDS, number % CCDS) for number in numbers]
    names = [f"CORR-{visit:07d}-{ccd:03d}-r11p95.fits" for _, visit, ccd in exposures]
    rows = {
        "desfile (id, filename, compression, filetype, filesize, md5sum, pfw_attempt_id)": (
            (number, name, "", "calexp", 80_000_000 + number, hashlib.md5(name.encode()).hexdigest(), 1)
            for number, name in zip(numbers, names, strict=True)
        ),
        "file_archive_info (filename, path, compression, archive_name, desfile_id)": (
            (name, "r11/Ht0/p95/corr", "", "home", number) for number, name in zip(numbers, names, strict=True)
        ),
        "calexp (desfile_id, visit, ccd, filter, pointing, field, dateobs, taiobs, exptime)": (
            (number, visit, ccd, FILTERS[visit % 2], 671 + visit // 90, "COSMOS", "2014-03-28", "2014-03-28", 30.0)
            for number, visit, ccd in exposures
        ),
        "overlap (overlap_version_id, tract, patch, visit, ccd)": (
            (1, visit // 810, f"{visit % 9}x{visit // 9 % 9}", visit, ccd) for _, visit, ccd in exposures
        ),
    }
    for into, values in rows.items():
        db.executemany(f"INSERT INTO {into} VALUES ({', '.join('?' * (into.count(',') + 1))})", values)


class Clock:
    """Seconds of this process so far: on the wall, and of its processor."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> Clock:
        self._start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._start[0]
        self.cpu += time.process_time() - self._start[1]


def measure_one(quanta: int, registry: str, folder: Path) -> dict[str, float]:
    """Make one plan in this process, write it as JSON, and return what each part cost."""
    query, whole, writing = Clock(), Clock(), Clock()
    ask = sources.query_lines

    def timed(*args: Any) -> Any:
        with query:
            return ask(*args)

    sources.query_lines = timed
    with Registry(registry) as opened, whole:
        workflow = plan(pipeline(quanta), opened)
    assert len(workflow.instances) == quanta, len(workflow.instances)
    peak = _peak()
    with writing, (folder / "plan.json").open("w") as stream:
        stream.writelines(workflow.as_json())
    return {
        "query_cpu": query.cpu,
        "query_wall": query.wall,
        "plan_cpu": whole.cpu - query.cpu,
        "plan_wall": whole.wall - query.wall,
        "json_cpu": writing.cpu,
        "json_wall": writing.wall,
        "peak": peak,
        "json_peak": _peak(),
        "json_size": (folder / "plan.json").stat().st_size / 1e6,
    }


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def measure(sizes: list[int], repeats: int, work: Path) -> dict[int, dict[str, float]]:
    """Make each plan some times, sizes taking turns, and return the best of each quantity."""
    best: dict[int, dict[str, float]] = {}
    for _ in range(repeats):
        for size in sizes:
            run([sys.executable, __file__, "--work", str(work), "--one", str(size)])
            figures = json.loads((work / "plan-one.json").read_text())
            known = best.setdefault(size, figures)
            best[size] = {name: min(value, known[name]) for name, value in figures.items()}
    return best


def report(best: dict[int, dict[str, float]]) -> list[Target]:
    """Print what was measured, per quantum, and hold it against what the project promises."""
    rows = []
    for size, figures in best.items():
        each = {name: f"{value / size * 1e6:.1f}" for name, value in figures.items()}
        memory = [f"{figures[name]:.0f}" for name in ("peak", "json_peak", "json_size")]
        names = ("query_cpu", "plan_cpu", "plan_wall", "json_cpu")
        rows.append([f"{size:,}".replace(",", " "), *(each[name] for name in names), *memory])
    small, large = min(best), max(best)
    cost = {size: figures["plan_cpu"] / size * 1e6 for size, figures in best.items()}
    head = ["quanta", "query, µs", "planning, µs", "on the wall", "JSON, µs", "MB", "MB with JSON", "JSON, MB"]
    print(table(head, rows), end="")
    return [
        Target(f"{large} quanta: planning each", cost[large], 60, unit="µs"),
        Target(f"{large} quanta: peak memory", best[large]["peak"], 1000, unit="MB"),
        Target(f"one quantum of {large} against one of {small}", ratio(cost[large], cost[small]), 1.5),
    ]


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__, quanta=(20_000, 100_000, 100_000), repeats=(1, 3, 3))
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = filled(parser.parse_args())
    registry = given.work / "plan.db"
    if given.one:
        figures = measure_one(given.one, f"sqlite:///{registry}", given.work)
        (given.work / "plan-one.json").write_text(json.dumps(figures))
        return
    if not registry.exists():
        build(registry)
    sizes = [given.quanta // 4, given.quanta // 2, given.quanta]
    conclude(given, report(measure(sizes, given.repeats, given.work)))


if __name__ == "__main__":
    main()
