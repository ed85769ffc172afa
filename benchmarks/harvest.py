"""Measure harvesting the outputs of a job beside the floor: the MD5 sums of the same files, alone and with a copy.

    python benchmarks/harvest.py [--files 10000] [--size 500000] [--rounds 3] [--work DIR]

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

ROOT = Path(__file__).parent.parent
CCDS = 100
RUN = "Ht0_r20p01"
CHUNK = 1 << 20


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure harvesting the outputs of a job.")
    parser.add_argument("--files", type=int, default=10_000, help="number of outputs, a multiple of 100")
    parser.add_argument("--size", type=int, default=500_000, help="about how many bytes each has")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "benchmarks")
    parser.add_argument("--floor", nargs=2, metavar=("FOLDER", "COPIES"), help=argparse.SUPPRESS)
    return parser.parse_args()


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
    given = options()
    if given.floor:
        floor(Path(given.floor[0]), given.floor[1])
        return
    given.work = given.work.absolute()
    given.work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="harvest-", dir=given.work))
    try:
        make_job(folder, given.files, given.size)
        costs = measure(given, folder)
    finally:
        shutil.rmtree(folder)
    base = statistics.median(cost.wall for cost in costs["md5"])
    total = given.files * given.size / 1e6
    print(f"{given.files} outputs of {given.size / 1e6:g} MB\n")
    print("| | s | MB/s | of plain md5 | CPU s |\n|---|---|---|---|---|")
    for side, some in costs.items():
        wall, cpu = (statistics.median(values) for values in zip(*((one.wall, one.cpu) for one in some), strict=True))
        print(f"| {side} | {wall:.2f} | {total / wall:.0f} | {base / wall:.0%} | {cpu:.2f} |")


if __name__ == "__main__":
    main()
