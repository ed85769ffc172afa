"""Measure selecting a job's rows out of a large registry, beside the same SQL given to the raw driver.

    python benchmarks/selection.py [--size small|normal|large] [--databases sqlite,postgresql] [--work DIR]

The registry holds so many calexps of a hundred runs. All sides ask for a hundred files of one visit, in turn, each for
visits of its own that were read once before, on connections that stay open. A SQLite registry is kept in the work
folder; the server for PostgreSQL is a throw-away one and is filled anew.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from part import conclude, filled, parser_of
from postgres import run_postgres
from report import Bar, Target, ratio, table

from dbb import Registry
from dbb.butler import InputSpec, RepoSpec, plan_repo
from dbb.registry.prepared import prepare_files
from dbb.registry.ready import Ready
from dbb.registry.select import FileQuery

CCDS, FIRST_VISIT, RUNS, TENTH = 112, 900_000, 100, 10
WANTED = 100
WARMING = 8  # rounds that do not count: connections and statements are made, and on PostgreSQL prepared
SIDES = (
    "the raw driver, the same SQL",
    "`Registry.query`",
    "`Registry.query`, runs in order",
    "`plan_repo`, manifest and all",
)

NUMBERS = {
    "sqlite": "(WITH RECURSIVE n(i) AS (VALUES({first}) UNION ALL SELECT i+1 FROM n LIMIT {count}) SELECT * FROM n)",
    "postgresql": "(SELECT i FROM generate_series({first}, {first} + {count} - 1) AS numbers(i)) AS n",
}
PADDED = {"sqlite": "printf('%0{width}d', {value})", "postgresql": "lpad(({value})::text, {width}, '0')"}
FILL = (
    (
        "INSERT INTO desfile (id, filename, compression, filetype, filesize, md5sum, pfw_attempt_id)"
        " SELECT i, {name}, '', 'calexp', 80000000 + i, {checksum}, 1 + i * {runs} / {size} FROM {numbers}"
    ),
    (
        "INSERT INTO file_archive_info (filename, path, compression, archive_name, desfile_id)"
        " SELECT {name}, 'r11/Ht0/p' || (1 + i * {runs} / {size}) || '/corr', '', 'home', i FROM {numbers}"
    ),
    (
        "INSERT INTO calexp (desfile_id, visit, ccd, filter, pointing, field, dateobs, taiobs, exptime)"
        " SELECT i, {visit}, i % {ccds}, CASE (i / {ccds}) % 2 WHEN 0 THEN 'HSC-R' ELSE 'HSC-I' END, 671 + i / 10080,"
        " 'COSMOS', '2014-03-28', '2014-03-28', 30.0 FROM {numbers}"
    ),
)
BATCH = 1_000_000
SERVER = {"shared_buffers": "512MB", "max_wal_size": "4GB"}


def fill(registry: Registry, size: int) -> None:
    """Write rows as an ingest would, without its checks, in far less time."""
    dialect = registry.dialect
    padded = PADDED[dialect]
    visit = f"{FIRST_VISIT} + i / {CCDS}"
    name = " || ".join(
        ("'CORR-'", padded.format(width=7, value=visit), "'-'", padded.format(width=3, value=f"i % {CCDS}"), "'.fits'")
    )
    checksum = padded.format(width=32, value="i")
    registry.add_archive("home", "/data/home")
    with registry.engine.connect().execution_options(dbb_write=True) as conn:
        conn.exec_driver_sql("INSERT INTO pfw_request (reqnum) VALUES (11)")
        conn.exec_driver_sql("INSERT INTO pfw_unit (reqnum, unitname) VALUES (11, 'Ht0')")
        for run in range(1, RUNS + 1):
            conn.exec_driver_sql(
                f"INSERT INTO pfw_attempt (id, reqnum, unitname, attnum) VALUES ({run}, 11, 'Ht0', {run})"
            )
        for first in range(0, size, BATCH):
            numbers = NUMBERS[dialect].format(first=first, count=min(BATCH, size - first))
            for statement in FILL:
                text = statement.format(
                    name=name, checksum=checksum, visit=visit, numbers=numbers, size=size, runs=RUNS, ccds=CCDS
                )
                conn.exec_driver_sql(text.replace("%", "%%") if dialect == "postgresql" else text)
            conn.commit()
    registry.optimize(size)
    if dialect == "postgresql":  # what the server would do in the next minutes must not fall on one of the sides
        with registry.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.exec_driver_sql("VACUUM ANALYZE")
            conn.exec_driver_sql("CHECKPOINT")


@contextmanager
def registry_of(database: str, size: int, work: Path) -> Iterator[Registry]:
    """Give a registry of so many files; that of SQLite is made once."""
    with ExitStack() as stack:
        if database == "sqlite":
            kept = work / f"selection-{size}.db"
            if not kept.exists():
                making = kept.with_suffix(".making")
                for rest in work.glob(f"{making.name}*"):
                    rest.unlink()
                with Registry.create(f"sqlite:///{making}", mapper="hsc") as registry:
                    fill(registry, size)
                making.rename(kept)
            yield stack.enter_context(Registry(f"sqlite:///{kept}"))
            return
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="postgres-", dir=work)))
        folder.chmod(0o755)
        url = stack.enter_context(stack.enter_context(run_postgres(folder, SERVER)).database())
        with Registry.create(url, mapper="hsc") as registry:
            fill(registry, size)
            yield registry


def raw_driver(registry: Registry, stack: ExitStack) -> Callable[[int], int]:
    """Return what asks the driver for the files of a visit, with the SQL that `Registry.query` uses."""
    with registry.read() as conn:
        prepared = prepare_files(registry, conn, FileQuery("calexp", condition(FIRST_VISIT)))
    ready = prepared.statement
    assert isinstance(ready, Ready)
    [name] = [name for name, value in prepared.values.items() if value == FIRST_VISIT]
    if registry.dialect == "sqlite":
        driver = sqlite3.connect(registry.url.removeprefix("sqlite:///"))
        driver.execute("PRAGMA cache_size = -32000")  # as ours
    else:
        import psycopg

        driver = psycopg.connect(registry.url.replace("+psycopg", ""), autocommit=True)
    stack.callback(driver.close)

    def ask(visit: int) -> int:
        values = ready.parameters({**prepared.values, name: visit})
        return len(driver.execute(ready.text, values).fetchall())

    return ask


def condition(visit: int) -> str:
    """Return the question for the files of a visit."""
    return f"visit = {visit} AND ccd < {WANTED}"


def planned(registry: Registry, visit: int) -> int:
    """Plan a job repository of the files of a visit; return how many inputs it has."""
    spec = RepoSpec(mapper="hsc", inputs=(InputSpec("calexp", where=condition(visit)),))
    return len(plan_repo(registry, spec)["inputs"])


def measure(registry: Registry, size: int, rounds: int) -> list[list[float]]:
    """Return for each side the milliseconds of all its rounds."""
    runs = [f"r11p{number:02d}" for number in range(1, TENTH + 1)]
    with ExitStack() as stack:
        sides = (
            raw_driver(registry, stack),
            lambda visit: len(registry.query("calexp", where=condition(visit))),
            lambda visit: len(registry.query("calexp", where=condition(visit), runs=runs)),
            lambda visit: planned(registry, visit),
        )
        visits = iter(range(FIRST_VISIT, FIRST_VISIT + len(sides) * (WARMING + rounds)))
        with ExitStack() as reading:  # from the disk, which no side is to pay for
            read = raw_driver(registry, reading)
            for visit in range(FIRST_VISIT, FIRST_VISIT + len(sides) * (WARMING + rounds)):
                read(visit)
        times: list[list[float]] = [[] for _ in sides]
        for number in range(WARMING + rounds):
            for turn in range(len(sides)):
                at = (turn + number) % len(sides)
                visit = next(visits)
                start = time.perf_counter()
                found = sides[at](visit)
                times[at].append((time.perf_counter() - start) * 1e3)
                assert found == WANTED, (size, visit, found)
        return [one[WARMING:] for one in times]


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__, few=(100_000, 100_000, 1_000_000), many=(200_000, 1_000_000, 10_000_000))
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--rounds", type=int, default=14)
    given = filled(parser.parse_args())
    held: list[Target] = []
    bars: list[Bar] = []
    for database in given.databases.split(","):
        medians: dict[int, list[float]] = {}
        for size in (given.few, given.many):
            with registry_of(database, size, given.work) as registry:
                medians[size] = [statistics.median(one) for one in measure(registry, size, given.rounds)]
        print(f"\n{report(database, medians)}")
        held += targets(database, medians)
        floor = medians[given.many][0]
        group = f"{WANTED} files out of {given.many}, {database}"
        bars += [Bar(group, side, medians[given.many][at] / floor, at > 0) for at, side in enumerate(SIDES)]
    conclude(given, held, bars)


def report(database: str, medians: dict[int, list[float]]) -> str:
    """Lay out what was measured on one database."""
    head = [f"{database}: {WANTED} files out of", *(f"{size:,}".replace(",", " ") for size in medians)]
    rows = [
        [side, *(f"{found[at]:.2f} ms ({found[at] / found[0]:.1f} x)" for found in medians.values())]
        for at, side in enumerate(SIDES)
    ]
    return table(head, rows)


def targets(database: str, medians: dict[int, list[float]]) -> list[Target]:
    """Hold what was measured against what the project promises."""
    small, large = medians[min(medians)], medians[max(medians)]
    return [
        Target(f"{database}: `Registry.query` against the raw driver", ratio(large[1], large[0]), 2),
        Target(f"{database}: out of {max(medians)} against out of {min(medians)}", ratio(large[1], small[1]), 1.5),
    ]


if __name__ == "__main__":
    main()
