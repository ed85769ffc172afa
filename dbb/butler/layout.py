"""The two SQLite files of a job repository, as the Gen2 Butler reads them. Standard library only.

Tables and columns are facts about the Butler: one row of ``raw`` per exposure key, one of ``raw_visit`` per visit; one
table per calibration type with its validity by whole days, compared as text.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dbb.errors import AmbiguousError, UsageError
from dbb.keys import CameraKeys

_MAPPER = re.compile(r"(?:[A-Za-z_]\w*\.)+(?:[A-Za-z_]\w*)?Mapper", re.ASCII)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TYPES = {"int", "text", "double"}
_BATCH = 5_000
_TABLES = ("raw", "raw_visit")
_VALIDITY = ("validStart", "validEnd")
CALIB_FOLDER = "CALIB"
_USUAL_KEYS = CameraKeys()


@dataclass(frozen=True, slots=True)
class Layout:
    """What a camera's job registries look like.

    Parameters
    ----------
    mapper_class
        The Python class that repositoryCfg.yaml names.
    raw
        Columns of ``raw`` and their SQLite types.
    visit
        Columns of ``raw_visit``; the first is its key.
    exposure
        The keys of one row of ``raw``.
    calibrations
        Calibration types, a table each.
    keys
        What the columns of these tables are called.
    calib_root
        Where below the repository the mapper class looks for calibrations: in the folder ``CALIB``, or in ``.``.
    """

    mapper_class: str
    raw: Mapping[str, str]
    visit: Sequence[str]
    exposure: Sequence[str]
    calibrations: Sequence[str]
    keys: CameraKeys = _USUAL_KEYS
    calib_root: str = CALIB_FOLDER

    def __post_init__(self) -> None:
        if _MAPPER.fullmatch(self.mapper_class) is None:
            raise UsageError(
                f"the mapper {self.mapper_class!r} is no dotted name of a Python class that ends in 'Mapper'"
            )
        names = [*self.raw, *self.visit, *self.exposure, *self.calibrations, *self.calibration_columns]
        if not all(_IDENTIFIER.fullmatch(name) for name in names) or not set(self.raw.values()) <= _TYPES:
            raise UsageError("tables, columns or types are named that no Gen2 registry can have")
        if self.calib_root not in {CALIB_FOLDER, "."}:
            raise UsageError(f"calibrations lie in {CALIB_FOLDER} or in . of a repository, not in {self.calib_root!r}")
        if not self.visit or not self.exposure or not {*self.visit, *self.exposure} <= set(self.raw):
            raise UsageError("raw_visit and the exposure keys must be columns of raw, at least one each")
        # SQLite does not distinguish case, and each table has a column or companion of a fixed name
        _all_differ("column of raw", ["id", *self.raw])
        _all_differ("column of raw_visit", self.visit)
        _all_differ("exposure key", self.exposure)
        _all_differ("column of a calibration table", ["id", *self.calibration_columns, *_VALIDITY])
        tables = [table for name in self.calibrations for table in (name, f"{name}_visit")]
        _all_differ("calibration table", [*_TABLES, *tables])
        if any(name.lower().startswith("sqlite_") for name in self.calibrations):
            raise UsageError("a calibration type cannot begin with sqlite_: SQLite keeps such tables for itself")

    @property
    def calibration_columns(self) -> tuple[str, str, str]:
        """The columns that tell the rows of a calibration table apart: filter, detector, date."""
        return self.keys.filter, self.keys.detector, self.keys.calib_date

    def as_dict(self) -> dict[str, Any]:
        """Return the form that a manifest carries."""
        return {
            "class": self.mapper_class,
            "raw": dict(self.raw),
            "visit": list(self.visit),
            "exposure": list(self.exposure),
            "calibrations": list(self.calibrations),
            "keys": asdict(self.keys),
            "calib_root": self.calib_root,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Layout:
        """Read what `as_dict` gave.

        Raises
        ------
        UsageError
            If something is missing or cannot be an SQL name.
        """
        try:
            return cls(
                str(data["class"]),
                dict(data["raw"]),
                list(data["visit"]),
                list(data["exposure"]),
                list(data["calibrations"]),
                _keys(data.get("keys", {})),
                str(data.get("calib_root", CALIB_FOLDER)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"the manifest's entry 'butler' is incomplete: {error}") from error


def _keys(data: Mapping[str, Any]) -> CameraKeys:
    # a manifest of an older dbb has none, and its camera the usual ones
    known = {field.name for field in fields(CameraKeys)}
    return CameraKeys(**{name: str(value) for name, value in dict(data).items() if name in known})


def _all_differ(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise UsageError(f"the job's registries cannot have two of one name: {what} {name!r}")
        seen.add(name.lower())


def _quoted(names: Iterable[str]) -> str:
    # a name may be a word of SQL
    return ",".join(f'"{name}"' for name in names)


def _new(path: Path) -> sqlite3.Connection:
    conn = sqlite3.connect(path, isolation_level=None)
    # no journal and no sync: the file is built aside, and thrown away if anything goes wrong
    conn.execute("PRAGMA journal_mode=OFF")
    conn.execute("PRAGMA synchronous=OFF")
    conn.execute("BEGIN")
    return conn


class ExposureRegistry:
    """Writes ``registry.sqlite3``: add rows, then `close`.

    Parameters
    ----------
    path
        A file that does not exist yet.
    layout
        Its columns.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self._layout = layout
        self._conn = _new(path)
        columns = ",".join(f'"{name}" {kind}' for name, kind in layout.raw.items())
        kinds = ",".join(f'"{name}" {layout.raw[name]}' for name in layout.visit)
        key = f"unique({_quoted(layout.exposure)})"
        try:
            self._conn.execute(f"CREATE TABLE raw (id integer primary key autoincrement, {columns}, {key})")
            self._conn.execute(f"CREATE TABLE raw_visit ({kinds}, unique({_quoted(layout.visit[:1])}))")
        except sqlite3.Error as error:
            self._conn.close()
            raise UsageError(f"the job's registry cannot have the columns that it shall have: {error}") from error
        marks = ",".join("?" * len(layout.raw))
        self._insert = f"INSERT INTO raw ({_quoted(layout.raw)}) VALUES ({marks})"  # noqa: S608  # quoted names of the mapper, which is checked; values are bound
        self._pending: list[Sequence[object]] = []

    def add(self, row: Sequence[object]) -> None:
        """Add one exposure, values in the order of the layout's columns."""
        self._pending.append(row)
        if len(self._pending) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        try:
            self._conn.executemany(self._insert, self._pending)
        except (sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
            raise UsageError(f"the exposures cannot be rows of the job's registry: {error}") from error
        self._pending.clear()

    def rows(self) -> Iterator[dict[str, object]]:
        """Give back the rows added, in order, as mappings."""
        self._flush()
        names = list(self._layout.raw)
        for row in self._conn.execute(f"SELECT {_quoted(names)} FROM raw ORDER BY id"):  # noqa: S608  # quoted names of the mapper, which is checked; values are bound
            yield dict(zip(names, row, strict=True))

    def close(self) -> None:
        """Finish the file."""
        self._flush()
        columns = _quoted(self._layout.visit)
        # the first row of a visit stands for it, as the Butler's own ingest does
        self._conn.execute(f"INSERT OR IGNORE INTO raw_visit ({columns}) SELECT {columns} FROM raw ORDER BY id")  # noqa: S608  # quoted names of the mapper, which is checked; values are bound
        self._conn.execute("COMMIT")
        self._conn.close()

    def abandon(self) -> None:
        """Let go of an unfinished file."""
        self._conn.close()


def write_calibrations(path: Path, layout: Layout, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write ``calibRegistry.sqlite3`` from the manifest's entries ``calibs``."""
    conn, keys = _new(path), layout.keys
    chosen_by = _quoted(layout.calibration_columns)
    kinds = f'"{keys.filter}" text,"{keys.detector}" {layout.raw.get(keys.detector, "int")},"{keys.calib_date}" text'
    validity = ",".join(f"{name} text" for name in _VALIDITY)
    try:
        for name in layout.calibrations:
            conn.execute(
                f'CREATE TABLE "{name}" (id integer primary key autoincrement, {kinds},{validity}, unique({chosen_by}))'
            )
            conn.execute(
                f'CREATE TABLE "{name}_visit" ("{keys.calib_date}" text,"{keys.filter}" text,'
                f' unique("{keys.calib_date}","{keys.filter}"))'
            )
        rows: dict[str, list[tuple[object, ...]]] = {name: [] for name in layout.calibrations}
        for entry in entries:
            name, data_id = entry["dataset"], entry["data_id"]
            if keys.detector not in data_id:
                raise UsageError(f"the {name} calibration {entry['path']} has no {keys.detector} in its data id")
            if name not in rows:
                raise UsageError(f"{name!r} is no calibration type of this camera; known: {', '.join(rows)}")
            key = (data_id.get(keys.filter, keys.no_filter), data_id[keys.detector], entry["calib_date"])
            rows[name].append((*key, entry["valid_start"], entry["valid_end"]))
        for name, calibrations in rows.items():
            _insert_calibrations(conn, name, layout, calibrations)
        conn.execute("COMMIT")
    finally:
        conn.close()


def _insert_calibrations(
    conn: sqlite3.Connection, name: str, layout: Layout, rows: Sequence[tuple[object, ...]]
) -> None:
    names = layout.calibration_columns
    try:
        conn.executemany(f'INSERT INTO "{name}" ({_quoted([*names, *_VALIDITY])}) VALUES (?,?,?,?,?)', rows)  # noqa: S608  # quoted names of the mapper, which is checked; values are bound
    except sqlite3.IntegrityError as error:
        twice = next(row for row in rows if [other[:3] for other in rows].count(row[:3]) > 1)
        data_id = " ".join(f"{key}={value}" for key, value in zip(names, twice, strict=False))
        raise AmbiguousError(f"two {name} have {data_id}") from error
    except (sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
        raise UsageError(f"a {name} calibration cannot be a row of a registry: {error}") from error
    visits = sorted({(str(row[2]), str(row[0])) for row in rows})
    keys = _quoted([layout.keys.calib_date, layout.keys.filter])
    conn.executemany(f'INSERT INTO "{name}_visit" ({keys}) VALUES (?,?)', visits)  # noqa: S608  # quoted names of the mapper, which is checked; values are bound
