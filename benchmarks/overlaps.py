"""Measure what it costs to find the exposures that overlap a patch, from their corners, beside an indexed look-up.

    python benchmarks/overlaps.py [--size small|normal|large] [--visits N] [--patches N] [--work DIR]

A survey of 100 ccds a visit, over 2000 square degrees across right ascension 0, is registered with corners and
kept between runs. Sides take turns on the same random patches, in one process, imports and first use left out:

* floor: plain ``sqlite3``, the rows of the table ``overlap`` joined to what the same question returns
* found: the exposures that overlap, from the corners: candidates by the index, the exact test, visits and ccds
* table: `Registry.query` with a computed overlap version, from the text of the question to records
* live: the same with the corners
"""

from __future__ import annotations

import math
import random
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from part import conclude, options
from report import Bar, Target, table

from dbb import Registry
from dbb.query.bounds import Box
from dbb.registry.corners import live_overlaps
from dbb.sky.cells import image_cells
from dbb.sky.polygons import unit_vectors
from dbb.sky.skymap import parse_skymap

CCDS = 100
WIDTH, HEIGHT = 0.18, 0.09  # degrees
CORNERS = ("ra_cent", "dec_cent", *(f"{axis}c{corner}" for corner in (1, 2, 3, 4) for axis in ("ra", "dec")))
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
LABELS = {
    "floor": "floor: sqlite3, the table of overlaps joined to the files",
    "found": "exposures found from the corners",
    "table": "`Registry.query`, overlaps in a table",
    "live": "`Registry.query`, overlaps from the corners",
}
BATCH = 50_000
WHERE = "tract = {} AND patch = '{}'"


def corners(visits: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each visit with centre and corners of its ccds, shape (100, 10)."""
    random_numbers, side = np.random.default_rng(1), math.sqrt(visits / 10_000)  # of the sky: as many lie on each patch
    (west, east_end), (south, north_end) = ((side * low, side * high) for low, high in (RA, DEC))
    x, y = np.meshgrid((np.arange(10) - 4.5) * WIDTH, (np.arange(10) - 4.5) * HEIGHT)
    dx, dy = np.array([0, -1, 1, 1, -1]) * WIDTH / 2, np.array([0, -1, -1, 1, 1]) * HEIGHT / 2
    across, up = x.reshape(-1, 1) + dx, y.reshape(-1, 1) + dy
    for visit in range(visits):
        ra, dec, turn = random_numbers.uniform((west, south, 0), (east_end, north_end, 2 * np.pi))
        north = dec + np.sin(turn) * across + np.cos(turn) * up
        east = ra + (np.cos(turn) * across - np.sin(turn) * up) / np.cos(np.radians(dec))
        yield visit, np.stack([east % 360, north], axis=2).reshape(CCDS, 10)


def build(path: Path, visits: int) -> None:
    """Make a registry of the survey, with its overlaps computed, and the live version."""
    skymap = path.with_suffix(".toml")
    skymap.write_text(SKYMAP)
    making = path.with_name("making.db")
    for rest in path.parent.glob("making.db*"):
        rest.unlink()
    url = f"sqlite:///{making}"
    with Registry.create(url, mapper="hsc") as registry:
        registry.add_archive("home", "/data/home")
    register(making, visits)
    with Registry(url) as registry:
        began = time.perf_counter()
        count = registry.compute_overlaps(skymap, version="table")
        say(f"{count} overlaps computed in {time.perf_counter() - began:.1f} s")
        registry.register_live_overlaps(skymap, version="live")
        registry.optimize(count)
    making.rename(path)


def register(path: Path, visits: int) -> None:
    """Write the raws' rows as `Registry.ingest_table` would, without its checks and in a tenth of its time."""
    began = time.perf_counter()
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript("PRAGMA synchronous = OFF; PRAGMA cache_size = -200000; BEGIN")
    for visit, places in corners(visits):
        ids = range(visit * CCDS + 1, (visit + 1) * CCDS + 1)
        names = [f"HSCA{visit:06d}{ccd:02d}.fits" for ccd in range(CCDS)]
        rows = {
            "desfile (id, filename, compression, filetype, filesize)": (
                (number, name, "", "hsc_raw", 18_000_000) for number, name in zip(ids, names, strict=True)
            ),
            "file_archive_info (filename, path, compression, archive_name, desfile_id)": (
                (name, f"raw/{visit:06d}", "", "home", number) for number, name in zip(ids, names, strict=True)
            ),
            "hsc_raw (desfile_id, visit, ccd, filter, dateobs)": (
                (number, visit, ccd, "HSC-R", "2014-03-28") for ccd, number in enumerate(ids)
            ),
            f"image_corners (desfile_id, {', '.join(CORNERS)}, cell)": (
                (number, *place, cell)
                for number, place, cell in zip(ids, places.tolist(), image_cells(places).tolist(), strict=True)
            ),
        }
        for target, values in rows.items():
            slots = ", ".join("?" * (target.count(",") + 1))
            db.executemany(f"INSERT INTO {target} VALUES ({slots})", values)
    db.execute("COMMIT")
    db.close()
    say(f"{visits * CCDS} exposures registered in {time.perf_counter() - began:.1f} s")


def patches(db: sqlite3.Connection, version: int, number: int) -> list[tuple[int, str]]:
    """Choose patches that lie well inside the survey, evenly over its tracts."""
    tracts = db.execute(
        "SELECT tract FROM overlap WHERE overlap_version_id = ? GROUP BY tract HAVING count(DISTINCT patch) > 40",
        (version,),
    ).fetchall()
    choice = random.Random(2)
    return [(choice.choice(tracts)[0], f"{choice.randrange(2, 7)}x{choice.randrange(2, 7)}") for _ in range(number)]


def measure(path: Path, number: int) -> dict[str, list[float]]:
    """Ask every side about the same patches, in turns; give seconds, and numbers of rows."""
    with Registry(f"sqlite:///{path}") as registry, sqlite3.connect(path) as db:
        db.execute("PRAGMA cache_size=-32000")  # as dbb has it
        version = dict(db.execute("SELECT name, id FROM overlap_version"))["table"]
        [(skymap,)] = db.execute("SELECT skymap FROM overlap_version WHERE name = 'live'").fetchall()
        raw = registry.filetype("raw")

        def find(tract: int, patch: str) -> list[Any]:
            with registry.read() as conn:
                box = Box(frozenset({(tract, tract)}), frozenset({patch}))
                return live_overlaps(registry, conn, raw, skymap, (box,))

        def ask(overlaps: str) -> Callable[[int, str], list[Any]]:
            return lambda tract, patch: registry.query("raw", where=WHERE.format(tract, patch), overlaps=overlaps)

        sides: dict[str, Callable[[int, str], list[Any]]] = {
            "floor": lambda tract, patch: db.execute(FLOOR, (version, tract, patch)).fetchall(),
            "found": find,
            "table": ask("table"),
            "live": ask("live"),
        }
        times: dict[str, list[float]] = {side: [] for side in (*sides, "rows")}
        for place, (tract, patch) in enumerate(patches(db, version, number + 1)):
            turns, counts = take_turns(sides, tract, patch)
            if place:  # the first time is for imports and caches
                for side, seconds in turns.items():
                    times[side].append(seconds)
                times["rows"].append(counts["floor"])
            assert len(set(counts.values())) == 1, counts
        return times


def take_turns(
    sides: dict[str, Callable[[int, str], list[Any]]], tract: int, patch: str
) -> tuple[dict[str, float], dict[str, int]]:
    """Let all sides answer one question three times, in random order; give the best time and the number of rows."""
    seconds, counts = dict.fromkeys(sides, math.inf), {}
    for turn in range(3):
        for side in random.Random(f"{tract} {patch} {turn}").sample(list(sides), len(sides)):
            began = time.perf_counter()
            found = sides[side](tract, patch)
            seconds[side] = min(seconds[side], time.perf_counter() - began)
            counts[side] = len(found)
    return seconds, counts


def measure_all_sky(images: int) -> tuple[float, int]:
    """Find the overlaps of images all over the sky; give seconds and their number."""
    sky = parse_skymap(SKYMAP, "benchmark")
    chance, found, seconds = np.random.default_rng(3), 0, 0.0
    for _ in range(0, images, BATCH):
        ra, dec = chance.uniform(0, 360, BATCH), np.degrees(np.arcsin(chance.uniform(-1, 1, BATCH)))
        north = dec[:, None] + np.array([-1, -1, 1, 1]) * HEIGHT / 2
        east = ra[:, None] + np.array([-1, 1, 1, -1]) * WIDTH / 2 / np.cos(np.radians(dec))[:, None]
        polygons = unit_vectors(east, np.clip(north, -90, 90))
        began = time.perf_counter()
        found += len(sky.overlaps(polygons)[0])
        seconds += time.perf_counter() - began
    return seconds, found


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> None:
    """Build if need be, measure and print."""
    given = options(__doc__, visits=(500, 10_000, 10_000), patches=(20, 40, 40))
    path = given.work / f"overlaps-{given.visits}.db"
    if not path.exists():
        build(path, given.visits)
    times = measure(path, given.patches)
    with sqlite3.connect(path) as db:
        [(exposures,)] = db.execute("SELECT count(*) FROM image_corners").fetchall()
    middle = {side: statistics.median(values) for side, values in times.items()}
    ratios = {
        side: statistics.median(a / b for a, b in zip(times[side], times["floor"], strict=True)) for side in LABELS
    }
    rows = [[text, f"{middle[side] * 1000:.2f}", f"{ratios[side]:.1f}"] for side, text in LABELS.items()]
    seconds, found = measure_all_sky(exposures)
    print(
        f"{exposures} exposures known by corners; medians of {given.patches} patches of {middle['rows']:.0f}.\n\n"
        f"{table(['', 'ms', 'times the floor'], rows)}\n"
        f"`SkyMap.overlaps` of {exposures} images all over the sky: {seconds:.1f} s, {found} overlaps."
    )
    held = [Target("finding the exposures of a patch against the floor", ratios["found"], 3)]
    topic = f"the exposures of a patch out of {exposures}"
    bars = [Bar(topic, text.replace("`", ""), ratios[side], side != "floor") for side, text in LABELS.items()]
    conclude(given, held, bars)


if __name__ == "__main__":
    main()
