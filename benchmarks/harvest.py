"""Measure harvesting the outputs of a job beside the floor: the MD5 sums of the same files, alone and with a copy.

    python benchmarks/harvest.py [--size small|normal|large] [--files N] [--bytes N] [--rounds N] [--work DIR]

All sides take turns, each as a process of its own, and read the same files, which lie in the page cache. Printed is a
table of medians, with the rate of each side, what it is of the rate of plain MD5 sums, and what all its processes took
of the processors. A harvest shares the work among the processors, so on a machine that does other things meanwhile it
loses more than the plain sums do.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from environment import make_environment
from measure import Cost, run
from part import conclude, filled, parser_of
from report import Bar, Target, table

CCDS = 100
RUN = "Ht0_r20p01"
CHUNK = 1 << 20


def header(number: int) -> bytes:
    """Give the header of a calibrated exposure: some ordinary cards, and where on the sky it is."""
    cards = {
        "SIMPLE": "T", "BITPIX": "8", "NAXIS": "2", "NAXIS1": "2048", "NAXIS2": "4176", "CTYPE1": "'RA---TAN'",
        "CTYPE2": "'DEC--TAN'", "CRVAL1": f"{number % 360}.5", "CRVAL2": "0.1", "CRPIX1": "1024.0", "CRPIX2": "2088.0",
        "CD1_1": "-4.6E-05", "CD1_2": "0.0", "CD2_1": "0.0", "CD2_2": "4.6E-05",
    }  # fmt: skip
    cards |= {f"KEY{n}": f"{n}.5" for n in range(80)}
    text = "".join(f"{key:<8}= {value:>20}".ljust(80) for key, value in cards.items()) + "END".ljust(80)
    return text.ljust(-(-len(text) // 2880) * 2880).encode()


def make_job(folder: Path, files: int, size: int) -> None:
    """Register raws, lay out a job that reads them, and write its outputs."""
    from dbb import Registry, RepoSpec, materialize_repo
    from dbb.butler import InputSpec, OutputSpec

    rows = []
    (folder / "raws").mkdir(parents=True)
    (folder / "home").mkdir()
    for number in range(files):
        relpath, visit, ccd = f"{number}.fits", 900_000 + number // CCDS, number % CCDS
        (folder / "raws" / relpath).write_bytes(b"x")
        rows.append(
            {
                "relpath": relpath, "filesize": 1, "visit": visit, "ccd": ccd, "filter": "HSC-R", "field": "SKY",
                "dateObs": "2013-06-17", "frameId": f"F{number}", "expTime": 30.0,
            }
        )  # fmt: skip
    with Registry.create(f"sqlite:///{folder / 'registry.db'}", mapper="hsc") as registry:
        registry.add_archive("raws", str(folder / "raws"))
        registry.add_archive("home", str(folder / "home"))
        registry.ingest_table(rows, filetype="hsc_raw", archive="raws")
        spec = RepoSpec("hsc", (InputSpec("raw"),), outputs=OutputSpec(RUN, ("calexp",)))
        materialize_repo(registry, folder / "JOB", spec)
    corr = folder / "JOB/out/r20/Ht0/p01/corr"
    corr.mkdir(parents=True)
    noise = os.urandom(size + files)
    for number in range(files):
        data = header(number) + noise[number : number + size]
        lack = max(0, 2048 * 4176 - size)
        path = corr / f"CORR-{900_000 + number // CCDS:07d}-{number % CCDS:03d}-r20p01.fits"
        path.write_bytes(data if not lack else data.replace(b"4176", f"{size // 2048:>4}".encode(), 1))


def floor(folder: Path, copies: str) -> None:
    """Take the MD5 sum of every file in one process, and write a copy if a folder for them is given."""
    began = time.perf_counter()
    room = memoryview(bytearray(CHUNK))
    for path in sorted(folder.iterdir()):
        digest = hashlib.md5(usedforsecurity=False)
        with path.open("rb", buffering=0) as source:
            target = (Path(copies) / path.name).open("xb", buffering=0) if copies else None
            while count := source.readinto(room):
                digest.update(room[:count])
                if target is not None:
                    target.write(room[:count])
            if target is not None:
                target.close()
        digest.hexdigest()
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - began}) + "\n")


def measure(given: argparse.Namespace, folder: Path) -> dict[str, list[Cost]]:
    """Let the sides take turns; each harvest begins with the registry and the archive as they were."""
    python = make_environment(given.work / "env")
    outputs = folder / "JOB/out/r20/Ht0/p01/corr"
    pristine = (folder / "registry.db").read_bytes()
    harvest = [str(python.parent / "dbb"), "harvest-repo", str(folder / "JOB"), "--run", RUN, "--archive", "home"]
    harvest += ["--registry", f"sqlite:///{folder / 'registry.db'}"]
    alone = [str(python), str(Path(__file__)), "--floor", str(outputs)]
    sides = {
        "md5": [*alone, ""],
        "md5 and copy": [*alone, str(folder / "copies")],
        "harvest, hard links": [*harvest, "--transfer", "hardlink"],
        "harvest, copies": harvest,
        "harvest again": harvest,
    }
    costs: dict[str, list[Cost]] = {side: [] for side in sides}
    for _ in range(given.rounds):
        for side, argv in sides.items():
            if side != "harvest again":
                for name in ("copies", "home"):
                    shutil.rmtree(folder / name, ignore_errors=True)
                    (folder / name).mkdir()
                (folder / "registry.db").write_bytes(pristine)
            os.sync()
            costs[side].append(run(argv))
    return costs


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__, files=(2_000, 10_000, 10_000), bytes=(500_000, 500_000, 500_000), rounds=(1, 3, 3))
    parser.add_argument("--floor", nargs=2, metavar=("FOLDER", "COPIES"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.floor:
        floor(Path(given.floor[0]), given.floor[1])
        return
    filled(given)
    folder = Path(tempfile.mkdtemp(prefix="harvest-", dir=given.work))
    try:
        make_job(folder, given.files, given.bytes)
        costs = measure(given, folder)
    finally:
        shutil.rmtree(folder)
    medians = {side: statistics.median(cost.wall for cost in some) for side, some in costs.items()}
    cpu = {side: statistics.median(cost.cpu for cost in some) for side, some in costs.items()}
    total = given.files * given.bytes / 1e6
    rows = [
        [side, f"{wall:.2f}", f"{total / wall:.0f}", f"{medians['md5'] / wall:.0%}", f"{cpu[side]:.2f}"]
        for side, wall in medians.items()
    ]
    print(f"{given.files} outputs of {given.bytes / 1e6:g} MB (medians).\n")
    print(table(["", "s", "MB/s", "of plain md5", "CPU s"], rows), end="")
    rates = {side: 100 * medians["md5"] / medians[side] for side in ("harvest, hard links", "harvest, copies")}
    held = [Target(f"{side}, of the rate of plain md5", rate, 80, True, "%") for side, rate in rates.items()]
    topic = f"{given.files} outputs of {given.bytes / 1e6:g} MB registered"
    bars = [Bar(topic, side, medians[side] / medians["md5"], side.startswith("harvest")) for side in medians]
    conclude(given, held, bars)


if __name__ == "__main__":
    main()
