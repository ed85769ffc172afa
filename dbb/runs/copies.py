"""Which archives have copies of files, as a run's transfers ask and tell it: many files in each statement."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from typing import NamedTuple

import sqlalchemy as sa

from dbb.registry import Database
from dbb.registry._connect import insert_missing_rows, one_of, run_many
from dbb.registry._runtables import pfw_attempt_val
from dbb.registry._tables import desfile, file_archive_info, tar_member
from dbb.registry.relpaths import HERE, join_relpath, split_relpath
from dbb.runs.transfers import Transfer

_BATCH = 5_000
_PLACE = ("filename", "path", "compression", "archive_name", "desfile_id")
_FACTS = tuple(desfile.c[name] for name in ("filesize", "md5sum", "sha256"))


class Place(NamedTuple):
    """Where a file lies: an archive and the path in it."""

    archive: str
    relpath: str


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A registered file, what is known of it, and its path in the archive that is asked about; None if it has none."""

    file: int
    filesize: int | None
    md5sum: str | None
    sha256: str | None
    there: str | None


def find_staged(db: Database, places: Collection[Place], target: str) -> dict[Place, StagedFile]:
    """Return the files at `places` with their copies in `target`; members of tars, which no copy has alone, are left out.

    Notes
    -----
    One SELECT for 5 000 places.
    """
    found: dict[Place, StagedFile] = {}
    place, copy = file_archive_info, file_archive_info.alias("copy")
    here = sa.and_(copy.c.desfile_id == desfile.c.id, copy.c.archive_name == target)
    statement = (
        sa.select(place.c.archive_name, *(place.c[name] for name in ("path", "filename", "compression")), desfile.c.id)
        .add_columns(*_FACTS, copy.c.path.label("its_path"))
        .select_from(desfile.join(place, place.c.desfile_id == desfile.c.id).outerjoin(copy, here))
        .where(~sa.exists().where(tar_member.c.desfile_id == desfile.c.id))
    )
    with db.read() as conn:
        for some in batched(places, _BATCH):
            mine, dialect = set(some), conn.dialect.name
            which = statement.where(
                one_of(place.c.filename, sorted(_names(mine)), dialect),
                one_of(place.c.path, sorted({one.relpath.rpartition("/")[0] or HERE for one in some}), dialect),
                one_of(place.c.archive_name, sorted({one.archive for one in some}), dialect),
            )
            for archive, path, filename, compression, number, size, md5sum, sha256, its in conn.execute(which):
                at = Place(archive, join_relpath(path, filename, compression))
                there = None if its is None else join_relpath(its, filename, compression)
                if at in mine and (at not in found or there == at.relpath):
                    found[at] = StagedFile(number, size, md5sum, sha256, there)
    return found


def _names(places: Iterable[Place]) -> set[str]:
    """Return what the files at places may be called: a compression is kept apart from the name, and is any suffix."""
    names = {one.relpath.rpartition("/")[2] for one in places}
    return names | {name[:at] for name in names for at, char in enumerate(name) if char == "."}


def find_elsewhere(db: Database, files: Collection[int], without: str, order: Sequence[str]) -> dict[int, Place]:
    """Return for each file the first of its copies, by the `order` of archives, that is in another than `without`."""
    place = file_archive_info
    statement = sa.select(place.c.desfile_id, place.c.archive_name, place.c.path, place.c.filename, place.c.compression)
    found: dict[int, Place] = {}
    with db.read() as conn:
        which = one_of(place.c.desfile_id, list(files), conn.dialect.name)
        for number, archive, *path in conn.execute(statement.where(which, place.c.archive_name != without)):
            best = found.get(number)
            if best is None or order.index(archive) < order.index(best.archive):
                found[number] = Place(archive, join_relpath(*path))
    return found


def register_copies(db: Database, copies: Sequence[Transfer]) -> None:
    """Note that files were copied, and of tars that their members were.

    A place that is registered already stays as it is, but for one whose file was replaced.

    Notes
    -----
    Three statements for each archive, whatever the number of files.
    """
    if copies:
        db.write(lambda conn: _register(conn, copies))


def _register(conn: sa.Connection, copies: Sequence[Transfer]) -> None:
    names = dict(conn.execute(_compressions(conn, [one.file for one in copies])).tuples().all())
    rows = []
    for one in copies:
        path, filename, compression = split_relpath(one.relpath, names.get(one.file))
        if one.file in names:
            rows.append((filename, path, compression, one.target, one.file))
    replaced = {one.file for one in copies if one.replaces}
    this = sa.and_(*(file_archive_info.c[name] == sa.bindparam(f"its_{name}") for name in _PLACE[:4]))
    moved = [
        {"new": row[4]} | {f"its_{name}": value for name, value in zip(_PLACE[:4], row, strict=False)}
        for row in rows
        if row[4] in replaced
    ]
    run_many(conn, sa.update(file_archive_info).where(this).values(desfile_id=sa.bindparam("new")), moved)
    insert_missing_rows(conn, file_archive_info, _PLACE, rows)
    pairs = {(one.source, one.target) for one in copies}
    for source, target in sorted(pairs):
        tars = [one.file for one in copies if (one.source, one.target) == (source, target)]
        _register_members(conn, tars, source, target)


def _compressions(conn: sa.Connection, files: Sequence[int]) -> sa.Select[tuple[int, str]]:
    return sa.select(desfile.c.id, desfile.c.compression).where(one_of(desfile.c.id, files, conn.dialect.name))


def _register_members(conn: sa.Connection, tars: Sequence[int], source: str, target: str) -> None:
    member, place = tar_member, file_archive_info
    select = sa.select(place.c.filename, place.c.path, place.c.compression, place.c.desfile_id).where(
        one_of(member.c.tar_id, tars, conn.dialect.name),
        place.c.desfile_id == member.c.desfile_id,
        place.c.archive_name == source,
    )
    rows = [(*row[:3], target, row[3]) for row in conn.execute(select)]
    insert_missing_rows(conn, file_archive_info, _PLACE, rows)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file that is in the target archive and not at home, and what home has in its place, if anything."""

    transfer: Transfer
    holder: int | None
    holder_md5sum: str | None
    holder_is_ours: bool


def outputs_waiting(
    db: Database, attempt: int, target: str, home: str, jobs: Collection[int] | None = None
) -> list[Waiting]:
    """Return the files that a run made and saved in `target`, and that `home` lacks; of some `jobs` or of all.

    Parameters
    ----------
    attempt, jobs
        The number of the run, and the tasks of jobs.

    Notes
    -----
    One SELECT.
    """
    from dbb.registry._tables import task  # noqa: PLC0415

    place, holder = file_archive_info, desfile.alias("holder")
    statement = _waiting(target, home).where(desfile.c.pfw_attempt_id == attempt)
    with db.read() as conn:
        if jobs is not None:
            below = task.alias("below")
            mine = one_of(task.c.id, list(jobs), conn.dialect.name)
            steps = sa.select(task.c.id).where(one_of(task.c.parent_task_id, list(jobs), conn.dialect.name))
            deeper = sa.select(below.c.id).where(below.c.parent_task_id.in_(steps))
            makers = sa.union(sa.select(task.c.id).where(mine), steps, deeper)
            statement = statement.where(desfile.c.wgb_task_id.in_(makers.scalar_subquery()))
        return [
            Waiting(Transfer(row[0], join_relpath(*row[4:7]), target, home, *row[1:4]), row[7], row[8], row[9] == attempt)
            for row in conn.execute(statement.order_by(desfile.c.id))
        ]
