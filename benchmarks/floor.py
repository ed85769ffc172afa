"""The floor: what a job's registry and links cost with nothing but the standard library.

    python benchmarks/floor.py repository GLOBAL.sqlite3 ARCHIVE JOB FIRST_VISIT LAST_VISIT CCDS
    python benchmarks/floor.py one-row URL

The first copies the rows inside SQLite and makes bare links: both registries and every input, but no policy, no
manifest, no check, nothing built aside. The second is the least that a process using SQLAlchemy can do.
"""

# ruff: noqa: PTH103, PTH211  # pathlib's own import and objects would count

from __future__ import annotations

import os
import sqlite3
import sys

TYPE_CHECKING = False  # not from typing, whose import would count
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

RAW = (
    "field text, visit int, ccd int, pointing int, filter text, proposal text, dateObs text, taiObs text,"
    " expTime double, pa double, autoguider int, ccdTemp double, config text, frameId text, expId text, dataType text"
)
RAW_COLUMNS = ", ".join(column.split()[0] for column in RAW.split(", "))
RAW_TABLES = (
    f"CREATE TABLE raw (id integer primary key autoincrement, {RAW}, unique(visit, ccd))",
    "CREATE TABLE raw_visit (visit int, field text, filter text, dateObs text, taiObs text, unique(visit))",
)
RAW_VISIT = "INSERT INTO raw_visit SELECT DISTINCT visit, field, filter, dateObs, taiObs FROM raw"
CALIB_COLUMNS = "filter, ccd, calibDate, validStart, validEnd"
CALIB_TYPES = ("bias", "dark", "flat")


def calib_tables(schema: str = "main") -> list[str]:
    """Give the statements that make the tables of a calibRegistry.sqlite3."""
    tables = []
    for kind in CALIB_TYPES:
        tables.append(
            f"CREATE TABLE {schema}.{kind} (id integer primary key autoincrement, filter text, ccd int, calibDate text,"
            " validStart text, validEnd text, unique(filter, ccd, calibDate))"
        )
        tables.append(f"CREATE TABLE {schema}.{kind}_visit (calibDate text, filter text, unique(calibDate, filter))")
    return tables


def link_raws(rows: Iterable[tuple[Any, ...]], archive: str, root: str, made: set[str]) -> None:
    """Link each (relpath, field, dateObs, pointing, filter, visit, ccd) at its Butler path."""
    for relpath, field, day, pointing, name, visit, ccd in rows:
        folder = f"{root}/{field}/{day}/{pointing:05d}/{name}"
        if folder not in made:
            os.makedirs(folder)
            made.add(folder)
        os.symlink(f"{archive}/{relpath}", f"{folder}/HSC-{visit:07d}-{ccd:03d}.fits")


def link_calibs(kind: str, rows: Iterable[tuple[Any, ...]], archive: str, root: str, made: set[str]) -> None:
    """Link each (relpath, filter, ccd, calibDate) of one type at its Butler path."""
    for relpath, name, ccd, day in rows:
        folder = f"{root}/CALIB/{kind.upper()}/{day}/{name}"
        if folder not in made:
            os.makedirs(folder)
            made.add(folder)
        label = f"{day}-{name}" if kind == "flat" else day
        os.symlink(f"{archive}/{relpath}", f"{folder}/{kind.upper()}-{label}-{ccd:03d}.fits")


def repository(source: str, archive: str, job: str, first: int, last: int, ccds: int) -> None:
    """Write both registries and all links of one job."""
    root = f"{job}/in"
    os.makedirs(f"{root}/CALIB")
    db = sqlite3.connect(f"{root}/registry.sqlite3", isolation_level=None)
    db.execute("ATTACH ? AS calibs", (f"{root}/CALIB/calibRegistry.sqlite3",))
    db.execute("ATTACH ? AS survey", (source,))
    for schema in ("main", "calibs"):
        db.execute(f"PRAGMA {schema}.journal_mode = OFF")
        db.execute(f"PRAGMA {schema}.synchronous = OFF")
    db.execute("BEGIN")
    for statement in (*RAW_TABLES, *calib_tables("calibs")):
        db.execute(statement)
    wanted, which = "survey.raw WHERE visit BETWEEN ? AND ? AND ccd < ?", (first, last, ccds)
    db.execute(f"INSERT INTO main.raw ({RAW_COLUMNS}) SELECT {RAW_COLUMNS} FROM {wanted} ORDER BY visit, ccd", which)
    db.execute(RAW_VISIT)
    rows = db.execute(f"SELECT relpath, field, dateObs, pointing, filter, visit, ccd FROM {wanted}", which)
    link_raws(rows, archive, root, set())
    fitting = (
        "survey.calib WHERE type = ? AND ccd < ? AND validStart <= (SELECT max(taiObs) FROM raw_visit)"
        " AND validEnd >= (SELECT min(taiObs) FROM raw_visit)"
        " AND (filter = 'NONE' OR filter IN (SELECT filter FROM raw_visit))"
    )
    for kind in CALIB_TYPES:
        db.execute(f"INSERT INTO calibs.{kind} ({CALIB_COLUMNS}) SELECT {CALIB_COLUMNS} FROM {fitting}", (kind, ccds))
        rows = db.execute(f"SELECT relpath, filter, ccd, calibDate FROM {fitting}", (kind, ccds))
        link_calibs(kind, rows, archive, root, set())
    db.execute("COMMIT")
    db.close()


def one_row(url: str) -> None:
    """Connect with SQLAlchemy and read one row of anything."""
    import sqlalchemy as sa

    with sa.create_engine(url).connect() as connection:
        connection.execute(sa.text("SELECT name FROM sqlite_master LIMIT 1")).one()


if __name__ == "__main__":
    if sys.argv[1] == "one-row":
        one_row(sys.argv[2])
    else:
        source, archive, job, first, last, ccds = sys.argv[2:]
        repository(source, archive, job, int(first), int(last), int(ccds))
