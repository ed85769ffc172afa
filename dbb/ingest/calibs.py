"""Certifying calibrations: from a table of files and dates, or from an existing Gen2 calibRegistry.sqlite3."""

from __future__ import annotations

import datetime as dt
import os
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dbb.errors import AmbiguousError, DbbError, MissingError, NotFoundError, TableError, UnsafePathError, UsageError
from dbb.filetypes import CONVERTERS, Filetype
from dbb.ingest.foreign import open_foreign
from dbb.ingest.rows import shown
from dbb.ingest.tables import Rows, Table
from dbb.keys import CameraKeys
from dbb.mapper import Mapper
from dbb.registry import Database
from dbb.registry._connect import one_of
from dbb.registry._tables import desfile, file_archive_info
from dbb.registry.archives import archive_root
from dbb.registry.calibs import (
    CalibrationType,
    Certified,
    Validity,
    certify,
    find_calibrations,
    trim_shared_days,
)
from dbb.registry.relpaths import split_relpath

_Gen2Row = tuple[object, object, str, str, str]
Gen2Tables = Mapping[str, list[_Gen2Row]]
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


def certify_table(
    db: Database,
    source: str | os.PathLike[str] | Rows,
    *,
    version: str,
    filetype: str,
    archive: str | None = None,
    dry_run: bool = False,
) -> Certified:
    """Certify registered files with the dates that a table gives.

    Parameters
    ----------
    db
        The registry.
    source
        Columns ``relpath`` or ``filename``, ``validStart``, ``validEnd`` (both days inclusive).
    version
        The version to add to.
    filetype
        What the files are.
    archive
        Where relpaths are looked for; any archive if not given.
    dry_run
        Check everything and change nothing.

    Raises
    ------
    TableError
        If a column is missing or a date malformed.
    MissingError
        If a file is not registered.
    ConflictError
        If ranges overlap.
    """
    check_version(version)
    kind = _calibration_type(db, filetype)
    given_table = Table(Path(source) if isinstance(source, str | os.PathLike) else source)
    rows = _date_rows(given_table)

    def work(conn: sa.Connection) -> Certified:
        files = _files_of(conn, kind, rows, archive)
        given = [_validity(kind.filetype, files.get(_lookup(row), {}), row, given_table.name) for row in rows]
        return certify(conn, version, kind, given)

    return db.write(work, keep=lambda done: not dry_run)


@dataclass(frozen=True, slots=True)
class _DateRow:
    row: int
    relpath: str | None
    filename: str
    valid_start: str
    valid_end: str


def _date_rows(table: Table) -> list[_DateRow]:
    out = []
    for batch in table.batches():
        columns = {name.lower(): values for name, values in batch.columns.items()}
        for needed in ("validstart", "validend"):
            if needed not in columns:
                raise TableError(f"{table.name}: there is no column {needed}; it has {', '.join(batch.columns)}")
        named = "relpath" if "relpath" in columns else "filename"
        if named not in columns:
            raise TableError(f"{table.name}: there is neither a column relpath nor filename")
        for n in range(batch.size):
            row = batch.first_row + n
            start, end = (_date(columns[name][n], table.name, row, name) for name in ("validstart", "validend"))
            name = str(columns[named][n] or "")
            out.append(_DateRow(row, name if named == "relpath" else None, _filename(name, table, row), start, end))
    return out


def _filename(name: str, table: Table, row: int) -> str:
    try:
        return split_relpath(name)[1]
    except UnsafePathError as error:
        raise UnsafePathError(f"{table.name}, row {row}: {error}") from error


def _date(value: Any, table: str, row: int, column: str) -> str:
    try:
        return str(CONVERTERS["date"](value))
    except ValueError as error:
        raise TableError(f"{table}, row {row}, column {column}: {error}, not {shown(value)}") from error


def _files_of(
    conn: sa.Connection, kind: CalibrationType, rows: Sequence[_DateRow], archive: str | None
) -> dict[object, dict[int, tuple[object, ...]]]:
    """Return id and group of the registered files, by name and by path."""
    if archive is not None:
        archive_root(conn, archive)
    place = file_archive_info
    names = list({row.filename for row in rows})
    statement = sa.select(place.c.path, place.c.filename, place.c.compression, desfile.c.id, *kind.group_columns).where(
        one_of(place.c.filename, names, conn.dialect.name),
        place.c.desfile_id == desfile.c.id,
        desfile.c.filetype == kind.filetype.name,
        kind.table.c.desfile_id == desfile.c.id,
        *([place.c.archive_name == archive] if archive is not None else []),
    )
    found: dict[object, dict[int, tuple[object, ...]]] = {}
    for path, filename, compression, number, *keys in conn.execute(statement):
        for key in (filename, (path, filename, compression)):
            found.setdefault(key, {})[number] = tuple(keys)
    return found


def _lookup(row: _DateRow) -> object:
    return row.filename if row.relpath is None else split_relpath(row.relpath)


def _validity(filetype: Filetype, files: Mapping[int, tuple[object, ...]], row: _DateRow, table: str) -> Validity:
    name, at = row.relpath or row.filename, f"{table}, row {row.row}"
    if not files:
        raise MissingError(f"{at}: no {filetype.name} {name!r} is registered: ingest it first")
    if len(files) > 1:
        raise AmbiguousError(f"{at}: {len(files)} files are called {name!r}: give their relpath, or --archive")
    number, group = next(iter(files.items()))
    return Validity(number, row.filename, group, row.valid_start, row.valid_end)


def certify_registry(
    db: Database, path: str | os.PathLike[str], *, version: str, archive: str, dry_run: bool = False
) -> dict[str, Certified]:
    """Take over the validity ranges of a Gen2 calibRegistry.sqlite3.

    Its rows are matched with registered files by detector, filter (where it is part of the data id) and calibration
    date. Ranges that share a boundary day are trimmed; the result says which.

    Raises
    ------
    NotFoundError
        If the file or archive is not there.
    MissingError
        If a calibration of the registry is not registered as a file of the archive.
    ConflictError
        If ranges overlap by more than a day.
    """
    check_version(version)
    camera = db.mapper()
    if camera is None:
        raise UsageError("this registry has no mapper, so the tables of a Gen2 registry mean nothing to it")
    tables = read_gen2(Path(path), camera)

    def work(conn: sa.Connection) -> dict[str, Certified]:
        archive_root(conn, archive)
        return certify_gen2(db, conn, camera, tables, version=version, archive=archive)

    return db.write(work, keep=lambda done: not dry_run)


def certify_gen2(
    db: Database,
    conn: sa.Connection,
    camera: Mapper,
    tables: Gen2Tables,
    *,
    version: str,
    archive: str,
    absent: list[str] | None = None,
) -> dict[str, Certified]:
    """Certify what `read_gen2` returned inside the caller's transaction; see `certify_registry`.

    A row without a file is described in `absent` and left out if there is such a list, and an error if not.
    """
    out = {}
    for name, rows in tables.items():
        kind = _calibration_type(db, name)
        given, trimmed = trim_shared_days(_match(conn, kind, camera.keys, rows, archive, absent))
        done = certify(conn, version, kind, given)
        out[kind.filetype.name] = Certified(done.added, done.known, tuple(trimmed))
    return out


def read_gen2(path: Path, camera: Mapper) -> Gen2Tables:
    """Return the rows of a Gen2 calibration registry by dataset type: filter, detector, calibration date, range.

    Raises
    ------
    NotFoundError
        If there is no such file.
    DbbError
        If it is no Gen2 calibration registry.
    """
    if not path.exists():
        raise NotFoundError("calibration registry", str(path), hint="There is no such file")
    keys = camera.keys
    types = {dataset.name for dataset in camera.datasets if dataset.is_validity_ranged}
    try:
        with open_foreign(path) as conn:
            tables = {name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            # the names come from the mapper, not from the file
            columns = f'"{keys.filter}", "{keys.detector}", "{keys.calib_date}", validStart, validEnd'
            query = f'SELECT {columns} FROM "{{}}" ORDER BY id'  # noqa: S608  # the mapper's names
            return {
                name: rows for name in sorted(types & tables) if (rows := conn.execute(query.format(name)).fetchall())
            }
    except sqlite3.Error as error:
        raise DbbError(f"{path} cannot be read as a Gen2 calibration registry: {error}") from error


def _match(
    conn: sa.Connection,
    kind: CalibrationType,
    keys: CameraKeys,
    rows: Sequence[_Gen2Row],
    archive: str,
    absent: list[str] | None,
) -> list[Validity]:
    filetype = kind.filetype
    places = {key.lower(): n for n, key in enumerate((keys.filter, keys.detector, keys.calib_date))}
    names = [key for key in filetype.keys if key.lower() in places]
    wanted = [tuple(row[places[name.lower()]] for name in names) for row in rows]
    found = find_calibrations(conn, kind, wanted, names, archive)
    out = []
    for row, values in zip(rows, wanted, strict=True):
        data_id = " ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
        files = found.get(values, [])
        if not files:
            why = f"no {filetype.name} with {data_id} is registered in archive {archive}"
            if absent is None:
                raise MissingError(f"{why}: ingest it first")
            absent.append(why)
            continue
        if len(files) > 1:
            listed = ", ".join(filename for _, filename, _ in files)
            raise AmbiguousError(f"several {filetype.name} files have {data_id}: {listed}")
        number, filename, group = files[0]
        out.append(Validity(number, filename, group, _gen2_date(row[3]), _gen2_date(row[4])))
    return out


def _gen2_date(text: str) -> str:
    try:
        return dt.date.fromisoformat(str(text)[:10]).isoformat()
    except ValueError as error:
        raise TableError(f"the calibration registry holds {text!r} where a date must be") from error


def _calibration_type(db: Database, name: str) -> CalibrationType:
    filetype = db.filetype(name)
    table = db.table(filetype)
    if table is None or not filetype.keys:
        raise UsageError(f"filetype {filetype.name} has no data id, so its files cannot be certified")
    calib_date = db.keys(filetype.name).calib_date
    if calib_date.lower() not in {key.lower() for key in filetype.keys}:
        raise UsageError(
            f"filetype {filetype.name} has no {calib_date} among its keys ({', '.join(filetype.keys)}), so its"
            " files are not told apart by date and cannot be certified"
        )
    return CalibrationType(filetype, table, calib_date)


def check_version(version: str) -> None:
    """Raise UsageError if `version` cannot name a version of calibrations."""
    if not _VERSION.fullmatch(version):
        raise UsageError(f"{version!r} is no version name: use letters, digits and . _ + -")
