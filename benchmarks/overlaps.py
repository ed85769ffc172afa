"""Measure what it costs to find the exposures that overlap a patch, from their corners, beside an indexed look-up.

    python benchmarks/overlaps.py [--visits 10000] [--patches 40] [--work DIR]

A survey of 100 ccds a visit, over 2000 square degrees across right ascension 0, is registered with corners and
kept between runs. Sides take turns on the same random patches, in one process, imports and first use left out:

* floor: plain ``sqlite3``, the rows of the table ``overlap`` joined to what the same question returns
* table: `Registry.query` with a computed overlap version
* live: `Registry.query` with the corners
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dbb import Registry

CCDS = 100
WIDTH, HEIGHT = 0.18, 0.09  # degrees
RA, DEC = (-25.0, 25.0), (-20.0, 20.0)
SKYMAP = """name = "rings"
type = "rings"
num_rings = 120
tract_overlap = 0.0166667
pixel_scale = 0.168
patch_inner = 4000
patch_border = 100
"""
FLOOR = """
SELECT d.id, d.filename, d.compression, d.filesize, d.md5sum, d.sha256, d.pfw_attempt_id, i.archive_name, i.path,
    a.unitname, a.reqnum, a.attnum, t.*
FROM overlap o JOIN hsc_raw t ON t.visit = o.visit AND t.ccd = o.ccd JOIN desfile d ON d.id = t.desfile_id
    LEFT JOIN file_archive_info i ON i.desfile_id = d.id LEFT JOIN pfw_attempt a ON a.id = d.pfw_attempt_id
WHERE o.overlap_version_id = ? AND o.tract = ? AND o.patch = ? ORDER BY t.visit, t.ccd, t.desfile_id
"""
WHERE = "tract = {} AND patch = '{}'"


def corners(visits: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each visit with centre and corners of its ccds, shape (100, 10)."""
    random_numbers = np.random.default_rng(1)
    x, y = np.meshgrid((np.arange(10) - 4.5) * WIDTH, (np.arange(10) - 4.5) * HEIGHT)
    dx, dy = np.array([0, -1, 1, 1, -1]) * WIDTH / 2, np.array([0, -1, -1, 1, 1]) * HEIGHT / 2
    across, up = x.reshape(-1, 1) + dx, y.reshape(-1, 1) + dy
    for visit in range(visits):
        ra, dec, turn = random_numbers.uniform((RA[0], DEC[0], 0), (RA[1], DEC[1], 2 * np.pi))
        north = dec + np.sin(turn) * across + np.cos(turn) * up
        east = ra + (np.cos(turn) * across - np.sin(turn) * up) / np.cos(np.radians(dec))
        yield visit, np.stack([east % 360, north], axis=2).reshape(CCDS, 10)


def build(path: Path, visits: int) -> None:
    """Register the survey, compute its overlaps, and make the live version."""
    names = ("ra_cent", "dec_cent", *(f"{axis}c{corner}" for corner in (1, 2, 3, 4) for axis in ("ra", "dec")))
    skymap = path.with_suffix(".toml")
    skymap.write_text(SKYMAP)
    making = path.with_name("making.db")
    for rest in path.parent.glob("making.db*"):
        rest.unlink()
    with Registry.create(f"sqlite:///{making}", mapper="hsc") as registry:
        registry.add_archive("home", "/data/home")
        rows: list[dict[str, Any]] = []
        for visit, places in corners(visits):
            for ccd, place in enumerate(places.tolist()):
                known = {"relpath": f"raw/{visit}/{ccd}.fits", "visit": visit, "ccd": ccd, "filter": "HSC-R"}
                rows.append({**known, "dateObs": "2014-03-28", **dict(zip(names, place, strict=True))})
            if len(rows) >= 50_000 or visit == visits - 1:
                registry.ingest_table(rows, filetype="hsc_raw", archive="home")
                rows = []
                say(f"{visit + 1} visits")
        began = time.perf_counter()
        count = registry.compute_overlaps(skymap, version="table")
        say(f"{count} overlaps computed in {time.perf_counter() - began:.1f} s")
        registry.register_live_overlaps(skymap, version="live")
        registry.optimize(count)
    making.rename(path)


def patches(db: sqlite3.Connection, version: int, number: int) -> list[tuple[int, str]]:
    """Choose patches that lie well inside the survey, evenly over its tracts."""
    tracts = db.execute(
        "SELECT tract FROM overlap WHERE overlap_version_id = ? GROUP BY tract HAVING count(DISTINCT patch) > 40",
        (version,),
    ).fetchall()
    choice = random.Random(2)
    return [(choice.choice(tracts)[0], f"{choice.randrange(2, 7)}x{choice.randrange(2, 7)}") for _ in range(number)]


def measure(path: Path, number: int) -> dict[str, list[float]]:
    """Ask every side about the same patches, in turns; give seconds."""
    with Registry(f"sqlite:///{path}") as registry, sqlite3.connect(path) as db:
        db.execute("PRAGMA cache_size=-32000")
        versions = dict(db.execute("SELECT name, id FROM overlap_version"))
        sides: dict[str, Callable[[int, str], list[Any]]] = {
            "floor": lambda tract, patch: db.execute(FLOOR, (versions["table"], tract, patch)).fetchall(),
            "table": lambda tract, patch: registry.query("raw", where=WHERE.format(tract, patch), overlaps="table"),
            "live": lambda tract, patch: registry.query("raw", where=WHERE.format(tract, patch), overlaps="live"),
        }
        times: dict[str, list[float]] = {side: [] for side in sides}
        times["rows"] = []
        for place in range(number + 1):
            tract, patch = patches(db, versions["table"], number + 1)[place]
            found = {}
            for side in random.Random(place).sample(list(sides), len(sides)):
                best = []
                for _ in range(3):
                    began = time.perf_counter()
                    found[side] = sides[side](tract, patch)
                    best.append(time.perf_counter() - began)
                if place:
                    times[side].append(min(best))
            assert len({len(rows) for rows in found.values()}) == 1, found
            times["rows"] += [len(found["floor"])] if place else []
        return times


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> None:
    """Build if need be, measure and print."""
    parser = argparse.ArgumentParser(description="Overlaps of one patch: from corners, from a table, and the floor.")
    parser.add_argument("--visits", type=int, default=10_000, help="of 100 ccds each")
    parser.add_argument("--patches", type=int, default=40, help="how many are asked for")
    parser.add_argument("--work", type=Path, default=Path(__file__).parent.parent / "build" / "benchmarks")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    path = given.work.absolute() / f"overlaps-{given.visits}.db"
    if not path.exists():
        build(path, given.visits)
    times = measure(path, given.patches)
    middle = {side: statistics.median(values) for side, values in times.items()}
    with sqlite3.connect(path) as db:
        [(exposures,)] = db.execute("SELECT count(*) FROM image_corners").fetchall()
    sys.stdout.write(f"{exposures} exposures known by corners; median of {given.patches} patches, ")
    sys.stdout.write(f"{middle['rows']:.0f} exposures each\n\n| side | ms | times the floor |\n| --- | --- | --- |\n")
    for side in ("floor", "table", "live"):
        ratio = statistics.median(a / b for a, b in zip(times[side], times["floor"], strict=True))
        sys.stdout.write(f"| {side} | {middle[side] * 1000:.2f} | {ratio:.2f} |\n")


if __name__ == "__main__":
    main()
