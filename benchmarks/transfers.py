"""Measure the copies that a run makes of its inputs beside ``cp`` and ``md5sum``, as many of these at once.

    python benchmarks/transfers.py [--size small|normal|large] [--files N] [--bytes N] [--rounds N] [--work DIR]

Both sides take turns and copy the same files, which lie in the page cache. Ours finds them in the registry, copies them
through the plug-ins with their checksums, sees each on the disk (fsync) before it gets its name, and registers it;
the others copy, and read the copies once more for their sums. Printed is a table of medians with the ratio.
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
from measure import run
from part import conclude, filled, parser_of
from report import Bar, Target, table

AT_ONCE = 4
TOGETHER = 16


def make_archives(folder: Path, files: int, size: int) -> None:
    """Write files and register them in the archive ``home``."""
    from dbb import Registry

    (folder / "home/raw").mkdir(parents=True)
    noise, rows = os.urandom(size + files), []
    for number in range(files):
        data = noise[number : number + size]
        (folder / f"home/raw/{number}.dat").write_bytes(data)
        md5sum = hashlib.md5(data, usedforsecurity=False).hexdigest()
        rows.append({"relpath": f"raw/{number}.dat", "filesize": size, "md5sum": md5sum})
    with Registry.create(f"sqlite:///{folder / 'registry.db'}") as registry:
        registry.add_archive("home", str(folder / "home"))
        registry.add_archive("near", str(folder / "near"))
        registry.ingest_table(rows, filetype="genfile", archive="home")


def stage(folder: Path) -> None:
    """Bring all files into the archive ``near``, as before a job that reads them."""
    from dbb import Registry
    from dbb.pipeline.levels import ArchiveLevels
    from dbb.registry.archives import archives
    from dbb.runs.prestage import Prestage
    from dbb.runs.transfers import Transfers

    names = [f"raw/{path.name}" for path in (folder / "home/raw").iterdir()]
    inputs = [{"source": {"archive": "home", "relpath": name}} for name in sorted(names)]
    with Registry(f"sqlite:///{folder / 'registry.db'}") as registry:
        with registry.read() as conn:
            roots = archives(conn)
        began = time.perf_counter()
        transfers = Transfers(roots, AT_ONCE)
        levels = ArchiveLevels("home", "near", "target_archive", ("home", "near"), "near")
        prestage = Prestage(registry, levels, roots, transfers, lambda: False)
        prestage.localize({"steps": [{"inputs": inputs}], "repository": None})
        seconds = time.perf_counter() - began
        transfers.stop()
    sys.stdout.write(json.dumps({"seconds": seconds}) + "\n")


def measure(given: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Let the sides take turns, each with an empty archive, and return their medians."""
    python = make_environment(given.work / "env")
    near, home = folder / "near", folder / "home"
    plain = f'cp "$@" "{near}/raw" && cd "{near}" && md5sum "$@" > /dev/null'
    shared = f"cd \"{home}\" && ls raw/*.dat | xargs -P{AT_ONCE} -n{TOGETHER} sh -c '{plain}' _"
    ours = [str(python), str(Path(__file__)), "--stage", str(folder)]
    sides = {"cp and md5sum": ["/bin/sh", "-c", shared], "dbb": ours}
    walls: dict[str, list[float]] = {side: [] for side in sides}
    pristine = (folder / "registry.db").read_bytes()
    for _ in range(given.rounds):
        for side, argv in sides.items():
            shutil.rmtree(near, ignore_errors=True)
            (near / "raw").mkdir(parents=True)
            (folder / "registry.db").write_bytes(pristine)
            os.sync()
            cost = run(argv)
            walls[side].append(cost.wall if cost.seconds is None else cost.seconds)
    return {side: statistics.median(some) for side, some in walls.items()}


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__, files=(200, 1_000, 5_000), bytes=(1 << 20, 1 << 20, 1 << 20), rounds=(3, 5, 5))
    parser.add_argument("--stage", metavar="FOLDER", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        stage(given.stage)
        return
    filled(given)
    folder = Path(tempfile.mkdtemp(prefix="transfers-", dir=given.work))
    try:
        make_archives(folder, given.files, given.bytes)
        medians = measure(given, folder)
    finally:
        shutil.rmtree(folder)
    floor, total = medians["cp and md5sum"], given.files * given.bytes / 1e6
    rows = [[side, f"{wall:.2f}", f"{total / wall:.0f}", f"{wall / floor:.2f}"] for side, wall in medians.items()]
    print(f"{given.files} files of {given.bytes / 1e6:.1f} MB, {AT_ONCE} at a time (medians).\n")
    print(table(["", "s", "MB/s", "of cp and md5sum"], rows), end="")
    held = [Target("inputs copied near, of the time of cp and md5sum", medians["dbb"] / floor, 2)]
    topic = f"{given.files} inputs of {given.bytes / 1e6:.1f} MB copied near"
    conclude(given, held, [Bar(topic, side, wall / floor, side == "dbb") for side, wall in medians.items()])


if __name__ == "__main__":
    main()
