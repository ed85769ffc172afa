"""Measure what two shards out of a tar of a thousand cost: read directly, by a job, and by unpacking everything.

    python benchmarks/refcats.py [--size small|normal|large] [--repeats N] [--shards N] [--work DIR]

The first three are measured in this process, the last two as commands from start to exit. All take turns.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measure import run
from part import conclude, options
from report import Bar, Target, table

from dbb import Registry
from dbb.butler.pieces import Pieces, member_request
from dbb.ingest import add_refcat
from dbb.refcats.pack import pack_folder

SIZE = 1_000_000
SIDES = (
    ("read directly", "their bytes read directly", False),
    ("extraction by dbb", "dbb", True),
    ("whole extraction", "the whole tar unpacked", False),
)
FIRST = 189_570
FIELD = {
    "ra_cent": 320.8, "dec_cent": -0.3, "rac1": 320.7, "decc1": -0.4, "rac2": 320.9, "decc2": -0.4,
    "rac3": 320.9, "decc3": -0.2, "rac4": 320.7, "decc4": -0.2,
}  # fmt: skip


def prepare(work: Path, shards: int) -> tuple[str, Path]:
    """Make the tar and a registry that knows it and one exposure on two of its shards."""
    (work / "home").mkdir(parents=True)
    folder, tar = work / "ps1", work / "home/ps1.tar"
    folder.mkdir()
    for trixel in range(FIRST, FIRST + shards):
        (folder / f"{trixel}.fits").write_bytes(os.urandom(SIZE))
    pack_folder(folder, tar)
    shutil.rmtree(folder)
    url = f"sqlite:///{work / 'registry.db'}"
    with Registry.create(url, mapper="hsc") as registry:
        registry.add_archive("home", str(work / "home"))
        (work / "home/raw.fits").write_bytes(b"raw")
        values = {"field": "F", "dateObs": "2013-06-17", "taiObs": "2013-06-17", "pointing": 533, "filter": "HSC-R"}
        row = {"relpath": "raw.fits", "filesize": 3, "visit": 903334, "ccd": 23, "expTime": 30.0, **values, **FIELD}
        registry.ingest_table([row], filetype="hsc_raw", archive="home")
        add_refcat(registry, "ps1", "ps1.tar")
    return url, tar


def read_directly(members: list[dict[str, object]], tar: Path, target: Path) -> None:
    """Do the least: read the bytes at their places and write them."""
    target.mkdir()
    source = os.open(tar, os.O_RDONLY)
    for member in members:
        data = os.pread(source, int(str(member["size"])), int(str(member["offset"])))
        (target / Path(str(member["path"])).name).write_bytes(data)
    os.close(source)


def extract(members: list[dict[str, object]], tar: Path, target: Path) -> None:
    """Do what a job does for the same members."""
    target.mkdir()
    pieces = Pieces(str(target / "parts"))
    for member in members:
        pieces.copy(member_request(member, str(target / Path(str(member["path"])).name)))


def unpack(members: list[dict[str, object]], tar: Path, target: Path) -> None:
    """Unpack everything."""
    with tarfile.open(tar) as opened:
        opened.extractall(target, filter="data")


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    given = options(__doc__, repeats=(3, 9, 9), shards=(100, 1000, 1000))
    work = Path(tempfile.mkdtemp(prefix="refcats-", dir=given.work))
    try:
        held, bars = measure(work, given.repeats, given.shards)
    finally:
        shutil.rmtree(work)
    conclude(given, held, bars)


def measure(work: Path, repeats: int, shards: int) -> tuple[list[Target], list[Bar]]:
    """Let all ways take turns, and print the medians."""
    url, tar = prepare(work, shards)
    dbb = [str(Path(sys.executable).with_name("dbb")), "--registry", url, "materialize-repo"]
    job = ["--mapper", "hsc", "--dataset", "raw", "--refcat", "ps1"]
    run([*dbb, str(work / "JOB"), *job])
    members = json.loads((work / "JOB/manifest.json").read_text())["refcats"][0]["members"]
    assert len(members) == 2, members
    times: dict[str, list[float]] = {}
    for number in range(repeats):
        ways = {"read directly": read_directly, "extraction by dbb": extract, "whole extraction": unpack}
        for name, way in ways.items():
            if way is unpack and number % 3:
                continue
            target = work / "out"
            os.sync()
            times.setdefault(name, []).append(seconds(lambda way=way, target=target: way(members, tar, target)))
            shutil.rmtree(target)
        (work / "out").mkdir()
        if number % 3 == 0:
            times.setdefault("command: tar -x", []).append(
                run([shutil.which("tar") or "tar", "-xf", str(tar), "-C", str(work / "out")]).wall
            )
        shutil.rmtree(work / "out")
        for name, words in (("a job", job), ("a job without catalogue", job[:4])):
            cost = run([*dbb, str(work / "OUT"), *words]).wall
            times.setdefault(f"command: {name}", []).append(cost)
            shutil.rmtree(work / "OUT")
    medians = {name: statistics.median(values) for name, values in times.items()}
    floor, whole = medians["read directly"], medians["whole extraction"]
    rows = [[name, f"{1000 * v:.2f}", f"{v / floor:.2f}", f"{whole / v:.2f}"] for name, v in medians.items()]
    print(
        f"{len(members)} of {shards} shards of {SIZE / 1e6:g} MB in a tar (medians).\n\n"
        f"{table(['', 'ms', 'times direct reading', 'whole extraction ÷ it'], rows)}",
        end="",
    )
    ours = medians["extraction by dbb"]
    held = [Target("two shards of a tar against reading their bytes directly", ours / floor, 1.3)]
    if shards == 1000:
        held.append(Target("unpacking the tar of 1000 shards against two of them", whole / ours, 50, at_least=True))
    bars = [
        Bar("two shards of a reference catalogue of 1000", name, medians[side] / floor, ours)
        for side, name, ours in SIDES
    ]
    return held, bars


if __name__ == "__main__":
    main()
