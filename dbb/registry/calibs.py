"""Certified calibrations: which calibration file is valid from which day to which, in a named version."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any

import sqlalchemy as sa

from dbb.errors import ConflictError, NotFoundError
from dbb.filetypes import Filetype
from dbb.registry._connect import one_of
from dbb.registry._insert import insert_rows
from dbb.registry._tables import certified_calibration, desfile, file_archive_info


@dataclass(frozen=True, slots=True)
class CalibrationType:
    """A filetype of calibrations.

    Parameters
    ----------
    filetype, table
        The filetype and its metadata table.
    calib_date
        The key that is no part of the choice by date; see `dbb.keys.CameraKeys`.
    """

    filetype: Filetype
    table: sa.Table
    calib_date: str

    @property
    def group_keys(self) -> tuple[str, ...]:
        """The keys within which validity ranges must be disjoint."""
        return tuple(key for key in self.filetype.keys if key.lower() != self.calib_date.lower())

    @property
    def group_columns(self) -> list[sa.Column[Any]]:
        """The columns of `group_keys`."""
        return [self.table.c[key.lower()] for key in self.group_keys]


@dataclass(frozen=True, slots=True)
class Validity:
    """One calibration file and the days, both inclusive, for which it is certified.

    Parameters
    ----------
    desfile_id
        The file.
    filename
        For messages.
    group
        Its data id without the calibration date, e.g. ``(16, "r")``.
    valid_start, valid_end
        ``YYYY-MM-DD``.
    """

    desfile_id: int
    filename: str
    group: tuple[object, ...]
    valid_start: str
    valid_end: str


@dataclass(frozen=True, slots=True)
class Certified:
    """What a call did: calibrations added, known before, and what was trimmed, as sentences."""

    added: int
    known: int
    trimmed: tuple[str, ...] = ()


def certify(conn: sa.Connection, version: str, kind: CalibrationType, given: Sequence[Validity]) -> Certified:
    """Add validity ranges to a version inside the caller's transaction.

    Raises
    ------
    ConflictError
        If a range is empty, overlaps another of the same detector and filter, or a file has another range already;
        names both.
    """
    present = {old.desfile_id: old for old in certified_ranges(conn, version, kind)}
    fresh: list[Validity] = []
    for new in given:
        if new.valid_end < new.valid_start:
            raise ConflictError(f"{new.filename}: valid from {new.valid_start} to {new.valid_end} is no range")
        old = present.setdefault(new.desfile_id, new)
        if (old.valid_start, old.valid_end) != (new.valid_start, new.valid_end):
            raise ConflictError(
                f"{new.filename} is certified in {version} from {old.valid_start} to {old.valid_end}, not from"
                f" {new.valid_start} to {new.valid_end}: certify another version"
            )
        if old is new:
            fresh.append(new)
    check_disjoint(version, kind, present.values())
    columns = ("version", "desfile_id", "filetype", "valid_start", "valid_end")
    rows = [(version, new.desfile_id, kind.filetype.name, new.valid_start, new.valid_end) for new in fresh]
    insert_rows(conn, certified_calibration, columns, rows)
    return Certified(len(fresh), len(given) - len(fresh))


def check_disjoint(version: str, kind: CalibrationType, ranges: Iterable[Validity]) -> None:
    """Make sure that validity ranges of the same detector and filter are disjoint.

    Raises
    ------
    ConflictError
        If two overlap; names both.
    """
    for earlier, later in _neighbours(ranges):
        if later.valid_start <= earlier.valid_end:
            raise ConflictError(
                f"{kind.filetype.name} calibrations overlap in version {version}:\n"
                f"    {_range(earlier)}\n    {_range(later)}"
            )


def trim_shared_days(given: Sequence[Validity]) -> tuple[list[Validity], list[str]]:
    """Let a range that ends on the first day of the next one end a day earlier; return ranges and what was done.

    The ingestCalibs of 2021 makes such ranges, which the Butler then refuses to choose between on that day.
    """
    out = {one.desfile_id: one for one in given}
    notes = []
    for earlier, later in _neighbours(given):
        if earlier.valid_end == later.valid_start and earlier.valid_start < later.valid_start:
            day = dt.date.fromisoformat(later.valid_start) - dt.timedelta(days=1)
            out[earlier.desfile_id] = replace(earlier, valid_end=day.isoformat())
            notes.append(f"{earlier.filename}: valid until {day}, as {later.filename} begins on {later.valid_start}")
    return list(out.values()), notes


def _neighbours(validities: Iterable[Validity]) -> Iterable[tuple[Validity, Validity]]:
    ordered = sorted(validities, key=lambda one: (tuple(map(str, one.group)), one.valid_start, one.valid_end))
    for _, group in groupby(ordered, key=lambda one: one.group):
        yield from pairwise(group)


def _range(one: Validity) -> str:
    return f"{one.filename}: {one.valid_start} to {one.valid_end}"


def certified_ranges(conn: sa.Connection, version: str, kind: CalibrationType) -> list[Validity]:
    """Return every calibration of a filetype in a version."""
    certified = certified_calibration
    columns = (certified.c.desfile_id, desfile.c.filename, certified.c.valid_start, certified.c.valid_end)
    statement = sa.select(*columns, *kind.group_columns).where(
        certified.c.version == version,
        certified.c.filetype == kind.filetype.name,
        desfile.c.id == certified.c.desfile_id,
        kind.table.c.desfile_id == certified.c.desfile_id,
    )
    return [
        Validity(number, name, tuple(group), start, end) for number, name, start, end, *group in conn.execute(statement)
    ]


def version_types(conn: sa.Connection, version: str) -> list[str]:
    """Return the filetypes that a version has calibrations of.

    Raises
    ------
    NotFoundError
        If there is no such version.
    """
    certified = certified_calibration
    found = list(
        conn.scalars(
            sa.select(certified.c.filetype)
            .distinct()
            .where(certified.c.version == version)
            .order_by(certified.c.filetype)
        )
    )
    if not found:
        known = conn.scalars(sa.select(certified.c.version).distinct())
        raise NotFoundError("calibration version", version, known, "Make it with 'dbb certify-calibrations'")
    return found


def certified_in(filetype: Filetype, version: str) -> tuple[sa.Table, list[sa.ColumnElement[bool]]]:
    """Return the table of validity ranges, and the conditions that pick those of a filetype in a version."""
    table = certified_calibration
    return table, [table.c.version == version, table.c.filetype == filetype.name]


def find_calibrations(
    conn: sa.Connection,
    kind: CalibrationType,
    wanted: Sequence[tuple[object, ...]],
    names: Sequence[str],
    archive: str,
) -> dict[tuple[object, ...], list[tuple[int, str, tuple[object, ...]]]]:
    """Return the files of an archive whose columns `names` have one of the `wanted` values: id, file name, group.

    Notes
    -----
    One statement; rows are narrowed by the first column and compared here.
    """
    if not wanted:
        return {}
    chosen = [kind.table.c[name.lower()] for name in names]
    first = one_of(chosen[0], list({values[0] for values in wanted}), conn.dialect.name)
    place = file_archive_info
    here = sa.exists().where(place.c.desfile_id == desfile.c.id, place.c.archive_name == archive)
    statement = sa.select(desfile.c.id, desfile.c.filename, *chosen, *kind.group_columns).where(
        desfile.c.id == kind.table.c.desfile_id, desfile.c.filetype == kind.filetype.name, first, here
    )
    found: dict[tuple[object, ...], list[tuple[int, str, tuple[object, ...]]]] = {}
    for number, filename, *rest in conn.execute(statement):
        values = tuple(rest[: len(chosen)])
        found.setdefault(values, []).append((number, filename, tuple(rest[len(chosen) :])))
    return found
