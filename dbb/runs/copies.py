"""Which archives have copies of files, as a run's transfers ask and tell it: many files in each statement."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from dbb.pipeline.levels import HOME, TARGET
from dbb.registry import Database
from dbb.registry._connect import one_of
from dbb.registry._insert import insert_missing, insert_missing_rows, run_many
from dbb.registry._runtables import pfw_attempt_val, pfw_job
from dbb.registry._tables import desfile, file_archive_info, pfw_attempt, tar_member, task
from dbb.registry.relpaths import HERE, join_relpath
from dbb.runs.transfers import Transfer

MOVED = "outputs_moved"
"""The setting of an attempt that says that home has all its outputs."""
_JUNK = "JUNK"
"""The data state of runs that were cancelled."""
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
    """Return the files at `places` with their copies in `target`; members of tars, which are no files, are left out.

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
        wanted, dialect = list(places), conn.dialect.name
        for start in range(0, len(wanted), _BATCH):
            some = wanted[start : start + _BATCH]
            mine = set(some)
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
    names = {row.id: row for row in conn.execute(_named(conn, [one.file for one in copies]))}
    rows = []
    for one in copies:
        if (row := names.get(one.file)) is not None:  # else it was withdrawn meanwhile
            path = one.relpath.removesuffix(f"{row.filename}{row.compression}").rstrip("/") or HERE
            rows.append((row.filename, path, row.compression, one.target, one.file))
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


def _named(conn: sa.Connection, files: Sequence[int]) -> sa.Select[tuple[int, str, str]]:
    columns = desfile.c.id, desfile.c.filename, desfile.c.compression
    return sa.select(*columns).where(one_of(desfile.c.id, files, conn.dialect.name))


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
    holder_attempt: int | None


def outputs_waiting(
    db: Database, attempt: int, target: str, home: str, jobs: Collection[int] | None = None
) -> list[Waiting]:
    """Return the files that a run made and saved in `target`, and that `home` lacks.

    Parameters
    ----------
    attempt
        The number of the run.
    jobs
        Tasks of jobs: only what these made.

    Notes
    -----
    One SELECT.
    """
    place, held, holder = file_archive_info, file_archive_info.alias("held"), desfile.alias("holder")
    columns = [place.c[name] for name in ("path", "filename", "compression")]
    in_its_place = sa.and_(*(held.c[one.name] == one for one in columns), held.c.archive_name == home)
    statement = (
        sa.select(desfile.c.id, *columns, *_FACTS, holder.c.id, holder.c.md5sum, holder.c.pfw_attempt_id)
        .select_from(
            desfile.join(place, place.c.desfile_id == desfile.c.id)
            .outerjoin(held, in_its_place)
            .outerjoin(holder, holder.c.id == held.c.desfile_id)
        )
        .where(desfile.c.pfw_attempt_id == attempt, _only_in(desfile.c.id, place, target, home))
        .order_by(desfile.c.id)
    )
    with db.read() as conn:
        if jobs is not None:
            statement = statement.where(desfile.c.wgb_task_id.in_(_makers(jobs, conn.dialect.name)))
        return [
            Waiting(Transfer(row[0], join_relpath(*row[1:4]), target, home, *row[4:7]), row[7], row[8], row[9])
            for row in conn.execute(statement)
        ]


def _only_in(number: sa.Column[int], place: sa.FromClause, target: str, home: str) -> sa.ColumnElement[bool]:
    other = file_archive_info.alias("other")
    at_home = sa.exists().where(other.c.desfile_id == number, other.c.archive_name == home)
    return sa.and_(place.c.archive_name == target, ~at_home)


def _makers(jobs: Collection[int], dialect: str) -> sa.Select[tuple[int]]:
    """Return the tasks of jobs: themselves, their steps, and what steps or jobs did with files."""
    upper, middle = task.alias("upper"), task.alias("middle")
    steps = sa.select(upper.c.id).where(one_of(upper.c.parent_task_id, list(jobs), dialect))
    below = sa.select(middle.c.id).where(middle.c.parent_task_id.in_(steps))
    mine = sa.select(task.c.id).where(one_of(task.c.id, list(jobs), dialect))
    return sa.select(sa.union_all(mine, steps, below).subquery("makers").c.id)


def job_tasks(db: Database, attempt: int) -> dict[str, int]:
    """Return the tasks of a run's jobs by their names."""
    statement = sa.select(task.c.label, task.c.id).where(
        pfw_job.c.pfw_attempt_id == attempt, task.c.id == pfw_job.c.task_id
    )
    with db.read() as conn:
        return {row[0]: row[1] for row in conn.execute(statement)}


def count_waiting(conn: sa.Connection, attempts: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
    """Return how many files of runs wait to be copied home, and their bytes; runs without such are left out.

    Parameters
    ----------
    attempts
        The numbers of runs; None for all.

    Notes
    -----
    One SELECT. Only runs are looked at that have two archives and have not said that all is at home; what cancelled
    runs made stays where it is.
    """
    target, home, moved = (pfw_attempt_val.alias(name) for name in ("its_target", "its_home", "moved"))
    place, other = file_archive_info, file_archive_info.alias("other")
    at_home = sa.exists().where(other.c.desfile_id == desfile.c.id, other.c.archive_name == home.c.val)
    over = sa.exists().where(moved.c.pfw_attempt_id == target.c.pfw_attempt_id, moved.c.key == MOVED)
    statement = (
        sa.select(desfile.c.pfw_attempt_id, sa.func.count(), sa.func.sum(desfile.c.filesize))
        .where(
            target.c.key == TARGET,
            home.c.key == HOME,
            home.c.pfw_attempt_id == target.c.pfw_attempt_id,
            pfw_attempt.c.id == target.c.pfw_attempt_id,
            pfw_attempt.c.data_state.is_distinct_from(_JUNK),
            desfile.c.pfw_attempt_id == target.c.pfw_attempt_id,
            place.c.desfile_id == desfile.c.id,
            place.c.archive_name == target.c.val,
            ~at_home,
            ~over,
        )
        .group_by(desfile.c.pfw_attempt_id)
    )
    if attempts is not None:
        statement = statement.where(one_of(target.c.pfw_attempt_id, list(attempts), conn.dialect.name))
    return {row[0]: (int(row[1]), int(row[2] or 0)) for row in conn.execute(statement)}


def mark_moved(db: Database, attempt: int) -> None:
    """Note that all outputs of a run are at home."""
    row = {"pfw_attempt_id": attempt, "key": MOVED, "val": "yes"}
    db.write(lambda conn: insert_missing(conn, pfw_attempt_val, [row]))
