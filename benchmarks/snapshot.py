"""Measure snapshots, exports and imports of a registry, each beside what the drivers alone need for the same rows.

    python benchmarks/snapshot.py [--size small|normal|large] [--databases sqlite,postgresql] [--work DIR]

A registry of calibrated exposures in runs is made anew. Sides take turns, in one process, after first use:

* snapshot: of half of the visits. Floor: three tables by ATTACH and INSERT … SELECT into a new file, with their indexes
  made after the rows; from PostgreSQL rows of a binary server-side cursor into executemany
* export: all of it. Floor: the rows of three tables from a cursor into Parquet by pyarrow, a file for each table
* import: into an empty registry. Floor: the same files by pyarrow into executemany, with the indexes
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from measure import run as run_measured
from part import conclude, filled, parser_of
from postgres import run_postgres
from report import Bar, Target, table
from scaling import CCDS, calexps

from dbb import Registry

TABLES = ("desfile", "file_archive_info", "calexp")
FILES_OF_A_RUN = 50_000
FETCH = 50_000
WORKS = ("snapshot", "export", "import")
LIMITS = {"snapshot": 2.0, "export": 2.5, "import": 2.5}


def build(url: str, folder: Path, files: int) -> None:
    """Make the registry."""
    with Registry.create(url, mapper="hsc") as registry:
        registry.add_archive("home", "/data/home")
        for attempt in range(1, -(-files // FILES_OF_A_RUN) + 1):
            count = min(FILES_OF_A_RUN, files - (attempt - 1) * FILES_OF_A_RUN)
            rows = calexps(folder / "rows.parquet", 1000 * attempt, count // CCDS, f"r1p{attempt:02d}")
            registry.ingest_table(rows, filetype="calexp", archive="home", run=f"U_r1p{attempt:02d}")


def half(files: int) -> str:
    """Return the condition that picks half of the visits."""
    first, last = 1000, 1000 + FILES_OF_A_RUN // CCDS
    return f"visit % 1000 < {min(last - first, files // CCDS) // 2}"


def schema(path: Path) -> tuple[list[str], list[str]]:
    """Return the statements that make the three tables, and those that make their indexes."""
    with closing(sqlite3.connect(path)) as db:
        asked = "SELECT type, sql FROM sqlite_master WHERE tbl_name IN (?, ?, ?) AND sql IS NOT NULL"
        found = db.execute(asked, TABLES).fetchall()
    return [sql for kind, sql in found if kind == "table"], [sql for kind, sql in found if kind == "index"]


def new_file(path: Path, made_like: Path) -> sqlite3.Connection:
    """Return a new file with the three tables."""
    path.unlink(missing_ok=True)
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -64000")
    for statement in schema(made_like)[0]:
        db.execute(statement)
    return db


class Floors:
    """What the drivers alone need."""

    def __init__(self, url: str, like: Path, folder: Path, files: int) -> None:
        self.url, self.like, self.folder = url, like, folder
        self.chosen = f"SELECT desfile_id FROM {'source.' if self.on_sqlite else ''}calexp WHERE {half(files)}"

    @property
    def on_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    def snapshot(self) -> None:
        with closing(new_file(self.folder / "floor.db", self.like)) as db:
            if self.on_sqlite:
                db.execute("ATTACH ? AS source", (str(self.like),))
            db.execute("BEGIN")
            for name in TABLES:
                key = "id" if name == "desfile" else "desfile_id"
                order = "filename, path, compression, archive_name" if name == "file_archive_info" else key
                where = f"WHERE {key} IN ({self.chosen}) ORDER BY {order}"
                if self.on_sqlite:
                    db.execute(f"INSERT INTO main.{name} SELECT * FROM source.{name} {where}")
                else:
                    self._from_postgres(db, name, where)
            for statement in schema(self.like)[1]:
                db.execute(statement)
            db.execute("COMMIT")

    def _from_postgres(self, db: sqlite3.Connection, name: str, where: str) -> None:
        for rows in self._rows(name, where):
            marks = ", ".join("?" * len(rows[0]))
            db.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)

    def _rows(self, name: str, where: str = "") -> Iterator[list[tuple[Any, ...]]]:
        with closing(sqlite3.connect(self.like)) as db:
            names = [row[1] for row in db.execute(f"PRAGMA table_info({name})")]
            if self.on_sqlite:
                cursor: Any = db.execute(f"SELECT {', '.join(names)} FROM {name} {where}")
                while rows := cursor.fetchmany(FETCH):
                    yield rows
                return
        import psycopg

        plain = [f"extract(epoch from {one})::float8" if one.endswith("_date") else one for one in names]
        with psycopg.connect(self.url.replace("+psycopg", "")) as db_, db_.cursor("c", binary=True) as cursor:
            cursor.execute(f"SELECT {', '.join(plain)} FROM {name} {where}")
            while rows := cursor.fetchmany(FETCH):
                yield rows

    def export(self) -> None:
        folder = self.folder / "floor"
        folder.mkdir(exist_ok=True)
        for name in TABLES:
            with closing(sqlite3.connect(self.like)) as db:
                about = db.execute(f"PRAGMA table_info({name})").fetchall()
            kinds = {"TEXT": pa.string(), "FLOAT": pa.float64(), "DOUBLE": pa.float64()}
            columns = pa.schema([(row[1], kinds.get(row[2], pa.int64())) for row in about])
            with pq.ParquetWriter(folder / f"{name}.parquet", columns, compression="zstd") as writer:
                for rows in self._rows(name):
                    arrays = [
                        pa.array(values, kind)
                        for values, kind in zip(zip(*rows, strict=True), columns.types, strict=True)
                    ]
                    writer.write_batch(pa.record_batch(arrays, schema=columns))

    def import_(self) -> None:
        """Only into SQLite: what PostgreSQL takes is measured by bulkload.py."""
        with closing(new_file(self.folder / "floor.db", self.like)) as db:
            db.executescript("PRAGMA synchronous = NORMAL")
            for statement in schema(self.like)[1]:
                db.execute(statement)
            db.execute("BEGIN")
            for name in TABLES:
                for batch in pq.ParquetFile(self.folder / "floor" / f"{name}.parquet").iter_batches(20_000):
                    marks = ", ".join("?" * batch.num_columns)
                    rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
                    db.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)
            db.execute("COMMIT")


class Ours:
    """The same by dbb, with everything else that is in a registry, checks and checksums."""

    def __init__(self, url: str, folder: Path, files: int, empty: Path) -> None:
        self.url, self.folder, self.where, self.empty = url, folder, half_ours(files), empty

    def snapshot(self) -> None:
        (self.folder / "ours.db").unlink(missing_ok=True)
        with Registry(self.url) as registry:
            registry.snapshot(self.folder / "ours.db", where=self.where)

    def export(self) -> None:
        shutil.rmtree(self.folder / "ours", ignore_errors=True)
        with Registry(self.url) as registry:
            registry.export(self.folder / "ours")

    def import_(self) -> None:
        for rest in self.folder.glob("target.db*"):
            rest.unlink()
        shutil.copy(self.empty, self.folder / "target.db")
        with Registry(f"sqlite:///{self.folder / 'target.db'}") as registry:
            registry.import_folder(self.folder / "ours")


def half_ours(files: int) -> str:
    """Return the same condition in the language of queries, which has no remainder."""
    visits = min(FILES_OF_A_RUN, files) // CCDS // 2
    runs = -(-files // FILES_OF_A_RUN)
    return "visit IN (" + ", ".join(f"{1000 * n}..{1000 * n + visits - 1}" for n in range(1, runs + 1)) + ")"


def take_turns(floors: Floors, ours: Ours, works: tuple[str, ...], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Let the sides take turns; return their seconds."""
    times: dict[str, dict[str, list[float]]] = {work: {"floor": [], "dbb": []} for work in works}
    for number in range(rounds):
        for work in works:
            sides: dict[str, Callable[[], None]] = {
                side: getattr(one, "import_" if work == "import" else work)
                for side, one in (("floor", floors), ("dbb", ours))
            }
            for side in list(sides)[:: 1 if number % 2 else -1]:
                began = time.perf_counter()
                sides[side]()
                times[work][side].append(time.perf_counter() - began)
    return times


def measure(given: argparse.Namespace, database: str, folder: Path) -> dict[str, dict[str, list[float]]]:
    """Build, and measure one database."""
    like = folder / "sqlite.db"
    if not like.exists():
        build(f"sqlite:///{like}", folder, given.files)
        Registry.create(f"sqlite:///{folder / 'empty.db'}", mapper="hsc").close()
    with ExitStack() as stack:
        url, works = f"sqlite:///{like}", WORKS
        if database == "postgresql":
            url = stack.enter_context(stack.enter_context(run_postgres(folder)).database())
            build(url, folder, given.files)
            works = WORKS[:2]
        floors, ours = Floors(url, like, folder, given.files), Ours(url, folder, given.files, folder / "empty.db")
        take_turns(floors, ours, works, 1)  # the first time is for imports and caches
        return take_turns(floors, ours, works, given.rounds)


def memory(folder: Path, url: str, where: str) -> dict[str, float]:
    """Return the peak memory of the commands in MB."""
    dbb = [sys.executable, "-m", "dbb_cli"]
    for rest in (folder / "memory.db", folder / "target.db"):
        rest.unlink(missing_ok=True)
    shutil.rmtree(folder / "memory", ignore_errors=True)
    shutil.copy(folder / "empty.db", folder / "target.db")
    commands = {
        "snapshot": [*dbb, "snapshot", str(folder / "memory.db"), "--where", where, "--registry", url],
        "export": [*dbb, "export", str(folder / "memory"), "--registry", url],
        "import": [*dbb, "import", str(folder / "memory"), "--registry", f"sqlite:///{folder / 'target.db'}"],
    }
    return {work: run_measured(command).peak for work, command in commands.items()}


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__, files=(60_000, 300_000, 3_000_000), rounds=(2, 3, 3))
    parser.add_argument("--databases", default="sqlite,postgresql", help="which to measure")
    given = filled(parser.parse_args())
    held, bars, rows = [], [], []
    with tempfile.TemporaryDirectory(prefix="snapshot-", dir=given.work) as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        for database in given.databases.split(","):
            name = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[database]
            for work, times in measure(given, database, folder).items():
                count = given.files // 2 if work == "snapshot" else given.files
                floor, ours = (statistics.median(times[side]) for side in ("floor", "dbb"))
                cells = [f"{one / count * 1e6:.1f}" for one in (floor, ours)]
                rows.append([work, name, *cells, f"{ours / floor:.2f}"])
                text = f"{work} {'into' if work == 'import' else 'of'} {name}: dbb against its floor"
                held.append(Target(text, ours / floor, LIMITS[work]))
                topic = f"{work}, {given.files} files, {name}"
                bars += [Bar(topic, "floor: the drivers", 1.0, False), Bar(topic, "dbb", ours / floor, True)]
        peaks = memory(folder, f"sqlite:///{folder / 'sqlite.db'}", half_ours(given.files))
        sizes = {name: (folder / name).stat().st_size for name in ("sqlite.db", "ours.db")}
        parquet = sum(path.stat().st_size for path in (folder / "ours").rglob("*") if path.is_file())
    said = ", ".join(f"{work} {peak:.0f}" for work, peak in peaks.items())
    print(
        f"{given.files} files in runs of {FILES_OF_A_RUN}; microseconds a file, medians of {given.rounds}.\n\n"
        f"{table(['', 'database', 'floor', 'dbb', 'times'], rows)}\n"
        f"Bytes a file: registry {sizes['sqlite.db'] / given.files:.0f}, snapshot"
        f" {sizes['ours.db'] / (given.files // 2):.0f}, Parquet {parquet / given.files:.0f}. Peak memory in MB: {said}."
    )
    conclude(given, held, bars)


if __name__ == "__main__":
    main()
