"""Where an exported registry contradicts the one that it goes into: all is found before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from dbb.exchange.content import FILE, OVERLAPS, RUN, TASK
from dbb.exchange.renumber import NUMBERS, Incoming, contradicts, same
from dbb.registry._tables import (
    certified_calibration,
    desfile,
    file_archive_info,
    ops_archive,
    overlap_version,
    refcat,
    task,
)
from dbb.registry.files import Refusal
from dbb.registry.relpaths import join_relpath

_MOST = 1000
_FILES, _TASKS, _RUNS, _OVERLAPS = (NUMBERS[kind] for kind in (FILE, TASK, RUN, OVERLAPS))


def find_conflicts(conn: sa.Connection, given: Incoming) -> list[Refusal]:
    """Return what contradicts the registry, at most 1 000 of each kind: names, and why."""
    finders = (_archives, _overlaps, _files, _places, _tasks, _calibrations, _refcats)
    return [one for find in finders for one in find(conn, given)]


def _rows(conn: sa.Connection, statement: sa.Select[Any]) -> Iterator[sa.RowMapping]:
    yield from conn.execute(statement.limit(_MOST)).mappings()


def _archives(conn: sa.Connection, given: Incoming) -> Iterator[Refusal]:
    theirs = given["ops_archive"]
    differ = sa.select(theirs.c.name, theirs.c.root.label("theirs"), ops_archive.c.root).where(
        theirs.c.name == ops_archive.c.name, theirs.c.root != ops_archive.c.root
    )
    for row in _rows(conn, differ.order_by(theirs.c.name)):
        yield Refusal(f"archive {row['name']}", f"registered with root {row['root']}, now {row['theirs']}")


def _overlaps(conn: sa.Connection, given: Incoming) -> Iterator[Refusal]:
    theirs = given["overlap_version"]
    other = [sa.not_(same(theirs.c[name], overlap_version.c[name])) for name in ("skymap", "live")]
    differ = sa.select(theirs.c.name).where(theirs.c.name == overlap_version.c.name, sa.or_(*other))
    for row in _rows(conn, differ.order_by(theirs.c.name)):
        yield Refusal(f"overlap version {row['name']}", "registered with another sky map, or found in another way")


def _files(conn: sa.Connection, given: Incoming) -> Iterator[Refusal]:
    theirs, places, names = given["desfile"], given["file_archive_info"], ("filesize", "md5sum", "sha256", "filetype")
    run = sa.select(_RUNS.c.new).where(_RUNS.c.old == theirs.c.pfw_attempt_id).scalar_subquery()
    other_run = sa.not_(same(desfile.c.pfw_attempt_id, run))
    differ = (
        sa.select(
            theirs.c.filename,
            theirs.c.compression,
            places.c.path,
            *(theirs.c[name].label(f"their_{name}") for name in names),
            *(desfile.c[name] for name in names),
        )
        .select_from(theirs.outerjoin(places, places.c.desfile_id == theirs.c.id))
        .where(_FILES.c.old == theirs.c.id, sa.not_(_FILES.c.fresh), _FILES.c.new == desfile.c.id)
        .where(sa.or_(contradicts(theirs, desfile), other_run))
    )
    for row in _rows(conn, differ.order_by(theirs.c.id, places.c.path)):
        yield Refusal(_relpath(row), _why(row, names))


def _relpath(row: sa.RowMapping) -> str:
    if row["path"] is None:
        return f"{row['filename']}{row['compression']}"
    return join_relpath(row["path"], row["filename"], row["compression"])


def _why(row: sa.RowMapping, names: tuple[str, ...]) -> str:
    for name in names:
        old, new = row[name], row[f"their_{name}"]
        if old is not None and new is not None and old != new:
            return f"registered with {name} {old}, now {new}"
    return "registered for another run"


def _places(conn: sa.Connection, given: Incoming) -> Iterator[Refusal]:
    """Give the places that the registry has for another file than the one that is known here."""
    places, here = given["file_archive_info"], file_archive_info
    path = [places.c[name] == here.c[name] for name in ("filename", "path", "compression", "archive_name")]
    columns = (places.c.filename, places.c.path, places.c.compression)
    other = sa.select(*columns).where(*path, _FILES.c.old == places.c.desfile_id, _FILES.c.new != here.c.desfile_id)
    for row in _rows(conn, other.order_by(*columns)):
        yield Refusal(_relpath(row), "registered as the place of another file")


def _tasks(conn: sa.Connection, given: Incoming) -> Iterator[Refusal]:
    theirs = given["task"]
    other = sa.or_(*(sa.not_(same(theirs.c[name], task.c[name])) for name in ("state", "status")))
    differ = sa.select(theirs.c.name, theirs.c.label, task.c.state, theirs.c.state.label("theirs")).where(
        _TASKS.c.old == theirs.c.id, _TASKS.c.new == task.c.id, sa.not_(_TASKS.c.fresh), other
    )
    for row in _rows(conn, differ.order_by(theirs.c.id)):
        why = f"registered as {row['state']}, now {row['theirs']}: its run went on, or was another try"
        yield Refusal(f"task {row['name']} {row['label'] or ''}".rstrip(), why)


def _calibrations(conn: sa.Connection, given: Incoming) -> Iterator[Refusal]:
    theirs, ours, files = given["certified_calibration"], certified_calibration, given["desfile"]
    other = sa.or_(theirs.c.valid_start != ours.c.valid_start, theirs.c.valid_end != ours.c.valid_end)
    columns = [files.c.filename, ours.c.version, ours.c.valid_start, ours.c.valid_end]
    differ = sa.select(*columns).where(
        _FILES.c.old == theirs.c.desfile_id,
        _FILES.c.new == ours.c.desfile_id,
        theirs.c.version == ours.c.version,
        files.c.id == theirs.c.desfile_id,
        other,
    )
    for row in _rows(conn, differ.order_by(theirs.c.desfile_id)):
        why = f"certified in {row['version']} from {row['valid_start']} to {row['valid_end']}, now for other days"
        yield Refusal(row["filename"], why)


def _refcats(conn: sa.Connection, given: Incoming) -> Iterator[Refusal]:
    theirs = given["refcat"]
    differ = sa.select(theirs.c.name).where(
        theirs.c.name == refcat.c.name, _FILES.c.old == theirs.c.tar_id, _FILES.c.new != refcat.c.tar_id
    )
    for row in _rows(conn, differ.order_by(theirs.c.name)):
        yield Refusal(f"reference catalogue {row['name']}", "registered with another tar")
