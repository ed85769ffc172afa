"""Facts about exposures: overlap versions, loaded or computed, visit tags, the blacklist."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dbb.errors import DbbError, MissingError, TableError
from dbb.filetypes import CONVERTERS
from dbb.ingest.foreign import open_foreign
from dbb.ingest.tables import BATCH, Batch, Rows, Table
from dbb.registry import Database
from dbb.registry.corners import NO_CORNERS, computed_overlaps
from dbb.registry.overlaps import OVERLAP_COLUMNS, add_overlaps, blacklist_exposures, make_version, tag_visits

_TYPES = {
    "tract": "int",
    "patch": "patch",
    "visit": "int",
    "ccd": "int",
    "tag": "str",
    "reason": "str",
    "remark": "str",
}


def load_overlap_table(
    db: Database, source: str | os.PathLike[str] | Rows, *, version: str, dry_run: bool = False
) -> int:
    """Add the rows of a table (tract, patch, visit, ccd) to an overlap version; return how many were new.

    Raises
    ------
    TableError
        If a column is missing or a value malformed; nothing was changed.
    ConflictError
        If the version was made from a sky map.

    Notes
    -----
    One transaction, one statement for each 5 000 rows.
    """
    table = _table(source)

    def work(conn: sa.Connection) -> int:
        made, _ = make_version(conn, version, table.name)
        rows = (tuple(row) for row in _rows(table, OVERLAP_COLUMNS, ()))
        added = 0
        while batch := list(islice(rows, BATCH)):
            added += add_overlaps(conn, made, batch)
        return added

    return db.write(work, keep=lambda done: not dry_run)


def compute_overlaps(
    db: Database,
    skymap: str | os.PathLike[str],
    *,
    version: str,
    dry_run: bool = False,
    progress: Callable[[int], object] | None = None,
) -> int:
    """Fill an overlap version from the corners in the registry and a sky map; return how many rows were new.

    Parameters
    ----------
    db
        The registry.
    skymap
        A TOML file, see `dbb.sky.skymap`; the version keeps its text.
    version
        The version to fill; what it has already is kept.
    dry_run
        Do everything, then undo it.
    progress
        Called with the number of images done after each batch.

    Raises
    ------
    UsageError
        If the sky map cannot be read.
    ConflictError
        If the version is there with another sky map, or without one.
    MissingError
        If no exposure has corners.

    Notes
    -----
    An exposure overlaps a patch if its image and the patch's outer region have a point in common. One transaction, two
    statements for each 50 000 images.
    """
    from dbb.sky.skymap import read_skymap

    sky = read_skymap(Path(skymap))

    def work(conn: sa.Connection) -> int:
        made, _ = make_version(conn, version, str(skymap), skymap=sky.text)
        added = done = 0
        for done, rows in computed_overlaps(db, conn, sky.text):
            added += add_overlaps(conn, made, rows)
            if progress is not None:
                progress(done)
        if not done:
            raise MissingError(NO_CORNERS)
        return added

    return db.write(work, keep=lambda done: not dry_run)


def register_live_overlaps(
    db: Database, skymap: str | os.PathLike[str], *, version: str, dry_run: bool = False
) -> bool:
    """Make an overlap version without rows, asked from the corners and a sky map; return False if it is there.

    Raises
    ------
    UsageError
        If the sky map cannot be read.
    ConflictError
        If the version is there and has another sky map, or rows.
    """
    from dbb.sky.skymap import read_skymap

    sky = read_skymap(Path(skymap))

    def work(conn: sa.Connection) -> bool:
        return make_version(conn, version, str(skymap), skymap=sky.text, live=True)[1]

    return db.write(work, keep=lambda done: not dry_run)


def load_visit_tags(db: Database, source: str | os.PathLike[str] | Rows, *, tag: str, dry_run: bool = False) -> int:
    """Give `tag` to the visits in a table's column ``visit``; return how many rows there are."""
    visits = [row[0] for row in _rows(_table(source), ("visit",), ())]
    db.write(lambda conn: tag_visits(conn, tag, visits), keep=lambda done: not dry_run)
    return len(visits)


def load_blacklist(db: Database, source: str | os.PathLike[str] | Rows, *, reason: str, dry_run: bool = False) -> int:
    """Put the exposures of a table (visit, optionally ccd, reason, remark) on the blacklist; return how many rows.

    A row without ccd stands for the whole visit, one without reason takes `reason`.
    """
    rows = [
        (visit, ccd, own or reason, remark)
        for visit, ccd, own, remark in _rows(_table(source), ("visit",), ("ccd", "reason", "remark"))
    ]
    db.write(lambda conn: blacklist_exposures(conn, rows), keep=lambda done: not dry_run)
    return len(rows)


def _table(source: str | os.PathLike[str] | Rows) -> Table:
    return Table(Path(source) if isinstance(source, str | os.PathLike) else source)


def _rows(table: Table, needed: Sequence[str], optional: Sequence[str]) -> Iterator[Sequence[Any]]:
    batches = _sqlite_batches(table.source, needed) if _is_sqlite(table.source) else table.batches()
    for batch in batches:
        columns = {name.lower(): values for name, values in batch.columns.items()}
        for name in needed:
            if name not in columns:
                raise TableError(f"{table.name}: there is no column {name}; it has {', '.join(batch.columns)}")
        picked = [_column(columns, name, name in needed, batch, table) for name in (*needed, *optional)]
        yield from zip(*picked, strict=True)


def _column(columns: dict[str, Sequence[Any]], name: str, needed: bool, batch: Batch, table: Table) -> list[Any]:
    convert, out = CONVERTERS[_TYPES[name]], []
    for n, value in enumerate(columns.get(name, [None] * batch.size)):
        try:
            if value is None and needed:
                raise ValueError("a value is missing")
            out.append(None if value is None else convert(value))
        except (ValueError, TypeError) as error:
            raise TableError(
                f"{table.name}, row {batch.first_row + n}, column {name}: {error}, not {value!r}"
            ) from error
    return out


def _is_sqlite(source: Path | Rows) -> bool:
    return isinstance(source, Path) and source.suffix in {".sqlite3", ".sqlite", ".db"} and source.is_file()


def _sqlite_batches(source: Path | Rows, needed: Sequence[str]) -> Iterator[Batch]:
    """Read the one table of an SQLite file that has the needed columns, as LSST's tract-to-visit files are."""
    try:
        with open_foreign(Path(str(source))) as conn:
            tables = [name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            fitting = [
                name
                for name in tables
                if set(needed)
                <= {row[0].lower() for row in conn.execute("SELECT name FROM pragma_table_info(?)", (name,))}
            ]
            if len(fitting) != 1:
                raise TableError(
                    f"{source}: expected one table with {', '.join(needed)}, found {len(fitting)} among {tables}"
                )
            quoted = fitting[0].replace('"', '""')
            cursor = conn.execute(f'SELECT {", ".join(needed)} FROM "{quoted}"')  # noqa: S608  # a name that the file has
            first = 1
            while rows := cursor.fetchmany(BATCH):
                yield Batch(dict(zip(needed, zip(*rows, strict=True), strict=True)), first, len(rows))
                first += len(rows)
    except sqlite3.Error as error:
        raise DbbError(f"{source} cannot be read as an SQLite file: {error}") from error
