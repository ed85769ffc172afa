"""Measure loading a registry from a table: dbb with all its checks beside the drivers alone.

    python benchmarks/bulkload.py [--size small|normal|large] [--databases sqlite,postgresql] [--work DIR]

Both sides fill the same tables with the same indexes, in one transaction, in batches of the same size. Of the driver
alone only its own calls count (executemany of tuples that are ready, COPY in binary), with no foreign key checked on
SQLite; of dbb all from the Parquet file to the end of ``Registry.ingest_table``. Each is a process of its own.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from measure import Cost, run
from part import conclude, filled, parser_of
from postgres import run_postgres
from report import Bar, Target, table
from survey import Template, stamped_columns, write_parquet

from dbb import Registry
from dbb.ingest.tables import BATCH

ARCHIVE = "survey"
SIDES = {"raw": "the driver alone", "ours": "Registry.ingest_table"}
SERVER = {"fsync": "on", "synchronous_commit": "on", "shared_buffers": "512MB", "max_wal_size": "4GB"}
FILE = [
    *("id", "filename", "compression", "filetype", "filesize", "md5sum", "sha256"),
    *("pfw_attempt_id", "wgb_task_id", "created_date"),
]
PLACE = ["filename", "path", "compression", "archive_name", "desfile_id"]
INDEXES = {"by_place": "filename, path, compression, archive_name", "by_run": "pfw_attempt_id, filetype"} | {
    "by_keys": "visit, ccd"
}
Insert = Callable[[str, Sequence[str], list[tuple[Any, ...]]], None]


def batches(path: Path, names: Sequence[str], moment: object) -> Iterator[list[tuple[str, Sequence[str], list[Any]]]]:
    """Yield the rows of each table as tuples, a batch at a time; `names` are the columns of the metadata."""
    first = 1
    for batch in pq.ParquetFile(path).iter_batches(batch_size=BATCH):
        columns = {name.lower(): values.to_pylist() for name, values in zip(batch.schema.names, batch, strict=True)}
        count = batch.num_rows
        ids, nothing, plain = range(first, first + count), [None] * count, [""] * count
        split = [relpath.rpartition("/") for relpath in columns["relpath"]]
        files, folders = [name for _, _, name in split], [folder for folder, _, _ in split]
        facts = (columns["filesize"], columns["md5sum"], nothing, nothing, nothing)
        yield [
            ("desfile", FILE, list(zip(ids, files, plain, ["hsc_raw"] * count, *facts, [moment] * count, strict=True))),
            ("file_archive_info", PLACE, list(zip(files, folders, plain, [ARCHIVE] * count, ids, strict=True))),
            ("hsc_raw", ["desfile_id", *names], list(zip(ids, *(columns[name] for name in names), strict=True))),
        ]
        first += count


def load(path: Path, names: Sequence[str], moment: object, insert: Insert, commit: Callable[[], object]) -> float:
    """Return the seconds that the driver's calls take."""
    seconds = 0.0
    for ready in batches(path, names, moment):
        began = time.perf_counter()
        for name, columns, rows in ready:
            insert(name, columns, rows)
        seconds += time.perf_counter() - began
    began = time.perf_counter()
    commit()
    return seconds + time.perf_counter() - began


def load_sqlite(url: str, path: Path) -> float:
    """Load by the module sqlite3."""
    db = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    db.executescript("PRAGMA synchronous = NORMAL; PRAGMA cache_size = -32000;")
    names = [row[1] for row in db.execute("PRAGMA table_info(hsc_raw)")][1:]

    def insert(name: str, columns: Sequence[str], rows: list[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" * len(columns))
        db.executemany(f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({marks})", rows)

    db.execute("BEGIN IMMEDIATE")
    return load(path, names, time.time(), insert, lambda: db.execute("COMMIT"))


def load_postgres(url: str, path: Path) -> float:
    """Load by psycopg."""
    import psycopg

    with psycopg.connect(url.replace("+psycopg", "")) as db, db.cursor() as cursor:
        asked = "SELECT table_name, column_name, data_type FROM information_schema.columns ORDER BY ordinal_position"
        types: dict[str, dict[str, str]] = {}
        for name, column, kind in cursor.execute(asked):
            types.setdefault(name, {})[column] = "timestamptz" if kind.startswith("timestamp") else kind

        def insert(name: str, columns: Sequence[str], rows: list[tuple[Any, ...]]) -> None:
            statement = f"COPY {name} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
            with cursor.copy(statement.encode()) as copy:
                copy.set_types([types[name][column] for column in columns])
                for row in rows:
                    copy.write_row(row)

        return load(path, list(types["hsc_raw"])[1:], dt.datetime.now(dt.UTC), insert, db.commit)


def load_ours(url: str, path: Path) -> float:
    """Load as anybody does."""
    with Registry(url) as registry:
        began = time.perf_counter()
        registry.ingest_table(path, filetype="hsc_raw", archive=ARCHIVE)
        return time.perf_counter() - began


def child(side: str, url: str, path: Path) -> None:
    """Load and print the seconds."""
    raw = load_sqlite if url.startswith("sqlite") else load_postgres
    seconds = (load_ours if side == "ours" else raw)(url, path)
    sys.stdout.write(json.dumps({"seconds": seconds}) + "\n")


def bytes_used(registry: Registry) -> dict[str, int]:
    """Return the bytes of each table with metadata of files, and of each index."""
    tables = ("desfile", "file_archive_info", "hsc_raw", "wide")
    with registry.read() as conn:
        if registry.dialect == "sqlite":
            asked = (
                "SELECT s.tbl_name, d.name, sum(d.pgsize) FROM dbstat d JOIN sqlite_master s USING (name) GROUP BY 1, 2"
            )
            found = conn.exec_driver_sql(asked).all()
        else:
            asked = "SELECT t.relname, i.relname, pg_relation_size(i.oid) FROM pg_class t, pg_class i"
            index = "EXISTS (SELECT FROM pg_index x WHERE x.indrelid = t.oid AND x.indexrelid = i.oid)"
            found = conn.exec_driver_sql(f"{asked} WHERE t.oid = i.oid OR {index}").all()
    return {name: size for owner, name, size in found if owner in tables}


def disk(registry: Registry) -> list[list[str]]:
    """Compare with one wide table that holds each value once, and an index for each way to look something up."""
    ours = bytes_used(registry)
    names = [column.name.lower() for column in registry.filetype("hsc_raw").columns]
    facts = ["d.id", "f.path", "f.archive_name", *(f"d.{name}" for name in FILE[1:]), *(f"m.{name}" for name in names)]
    source = "desfile d, file_archive_info f, hsc_raw m WHERE f.desfile_id = d.id AND m.desfile_id = d.id"

    def make(conn: Any) -> None:
        conn.exec_driver_sql(f"CREATE TABLE wide AS SELECT {', '.join(facts)} FROM {source}")
        for name, columns in INDEXES.items():
            conn.exec_driver_sql(f"CREATE INDEX {name} ON wide ({columns})")
        if registry.dialect == "postgresql":  # on SQLite a table is its own index by number
            conn.exec_driver_sql("CREATE UNIQUE INDEX wide_id ON wide (id)")

    registry.write(make)
    [[count]] = registry.engine.connect().exec_driver_sql("SELECT count(*) FROM desfile").all()
    wide = {name: size for name, size in bytes_used(registry).items() if name not in ours}
    rows = [[name, f"{size / count:.1f}"] for name, size in sorted(ours.items())]
    rows.append(["all of them", f"{sum(ours.values()) / count:.1f}"])
    rows.append(["one wide table with its indexes", f"{sum(wide.values()) / count:.1f}"])
    return [*rows, ["times", f"{sum(ours.values()) / sum(wide.values()):.2f}"]]


def measure(database: str, path: Path, given: argparse.Namespace) -> tuple[dict[str, list[Cost]], list[list[str]]]:
    """Let both sides take turns, each with a new registry."""
    costs: dict[str, list[Cost]] = {side: [] for side in SIDES}
    used: list[list[str]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bulkload-", dir=given.work)))
        folder.chmod(0o755)
        server = stack.enter_context(run_postgres(folder, SERVER)) if database == "postgresql" else None
        for number in range(given.rounds):
            for side in list(SIDES)[:: 1 if number % 2 else -1]:
                with ExitStack() as turn:
                    url = (
                        turn.enter_context(server.database())
                        if server
                        else f"sqlite:///{folder / f'{side}{number}.db'}"
                    )
                    with Registry.create(url, mapper="hsc") as registry:
                        registry.add_archive(ARCHIVE, "/data")
                    costs[side].append(run([sys.executable, __file__, "--side", side, url, str(path)]))
                    if side == "ours" and number == given.rounds - 1:
                        with Registry(url) as registry:
                            used = disk(registry)
                for rest in folder.glob("*.db*"):
                    rest.unlink()
    return costs, used


def tell(
    database: str, rows: int, costs: dict[str, list[Cost]], used: list[list[str]]
) -> tuple[list[Target], list[Bar]]:
    """Print what was measured of one database; return what is held against limits, and the bars of the chart."""
    seconds = {side: statistics.median(cost.seconds or 0.0 for cost in costs[side]) for side in SIDES}
    peak = {side: max(cost.peak for cost in costs[side]) for side in SIDES}
    lines = [
        [text, f"{seconds[side] / rows * 1e6:.1f}", f"{rows / seconds[side]:.0f}", f"{peak[side]:.0f}"]
        for side, text in SIDES.items()
    ]
    print(f"\n{rows} raws into {database}:\n\n{table(['', 'µs a file', 'files/s', 'MB'], lines)}")
    print(table(["bytes a file", ""], used))
    held = [
        Target(f"{database}: rate of dbb against the driver alone", seconds["raw"] / seconds["ours"], 0.6, True),
        Target(f"{database}: disk against one wide table", float(used[-1][1]), 1.5),
    ]
    group = f"{rows} files loaded into {database}"
    return held, [Bar(group, text, seconds[side] / seconds["raw"], side == "ours") for side, text in SIDES.items()]


def main() -> None:
    """Measure and print, or be one of the sides."""
    parser = parser_of(__doc__, rows=(50_000, 1_000_000, 10_000_000), rounds=(3, 3, 1))
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    given = filled(parser.parse_args())
    if given.side:
        child(given.side[0], given.side[1], Path(given.side[2]))
        return
    path = given.work / f"raws-{given.rows}.parquet"
    if not path.exists():
        aside = path.with_suffix(".part")
        for _ in write_parquet(aside, stamped_columns(given.rows, 0, Template())):
            pass
        aside.rename(path)
    held: list[Target] = []
    bars: list[Bar] = []
    for database in given.databases.split(","):
        found = tell(database, given.rows, *measure(database, path, given))
        held += found[0]
        bars += found[1]
    conclude(given, held, bars)


if __name__ == "__main__":
    main()
