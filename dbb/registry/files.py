"""Registering files: known, new, or in contradiction with what is registered, many at a time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from dbb.filetypes import Filetype
from dbb.registry._connect import one_of
from dbb.registry._insert import insert_columns, insert_rows, take_ids
from dbb.registry._tables import desfile, file_archive_info, image_corners, now
from dbb.registry.newfiles import NewFiles
from dbb.sky import Corners


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that was not taken, and why."""

    relpath: str
    why: str


@dataclass(frozen=True, slots=True)
class Registered:
    """What a call did: files added, files known before, files refused.

    `conflict` says that a file contradicts the registry, so that nothing was changed; otherwise the refused files could
    not be understood, and the others went in.
    """

    added: int = 0
    known: int = 0
    refused: tuple[Refusal, ...] = ()
    conflict: bool = False

    def __add__(self, other: Registered) -> Registered:
        refused, conflict = self.refused + other.refused, self.conflict or other.conflict
        return Registered(self.added + other.added, self.known + other.known, refused, conflict)


@dataclass(slots=True)
class _Known:
    """A file as registered, with the archives that hold it."""

    desfile_id: int
    filetype: str
    filesize: int | None
    md5sum: str | None
    sha256: str | None
    run_id: int | None
    archives: set[str]


_Key = tuple[str, str, str]
_FACTS = ("id", "filetype", "filesize", "md5sum", "sha256", "pfw_attempt_id")


def register_files(
    conn: sa.Connection, archive: str, files: NewFiles, filetype: Filetype, table: sa.Table | None
) -> Registered:
    """Register one batch of files of an archive inside the caller's transaction.

    The same path with the same checksum is known, with another one it is refused, and so is a known file that now
    belongs to another filetype or run. A path that another archive has with the same checksum is a copy of that file.

    Parameters
    ----------
    conn
        The caller's transaction.
    archive
        Where they are.
    files
        The files, of one filetype.
    filetype, table
        What they are, and its metadata table if it has one.

    Notes
    -----
    A fixed number of statements, whatever the length of `files`.
    """
    if not len(files):
        return Registered()
    names = set(files.filenames)
    there = _look_up(conn, files, names)
    if not there and (len(names) == len(files) or len(set(files.keys())) == len(files)):
        _insert(conn, archive, files, filetype, table)
        return Registered(added=len(files))
    keys = files.keys()
    fresh: list[bool] = []
    copies: list[tuple[int, int]] = []
    refused: list[Refusal] = []
    known = 0
    for n, key in enumerate(keys):
        file = _Known(
            0, files.filetype, files.filesizes[n], files.md5sums[n], files.sha256s[n], files.run_ids[n], {archive}
        )
        candidates = there.setdefault(key, [])
        here = next((one for one in candidates if archive in one.archives), None)
        same = next((one for one in candidates if _is_copy(one, file)), None) if here is None else None
        fresh.append(here is None and same is None)
        if here is not None:
            why = _contradiction(here, file)
            known += not why
            refused += [Refusal(files.relpath(n), why)] if why else []
        elif same is not None:
            same.archives.add(archive)
            copies.append((n, same.desfile_id))
        else:
            candidates.append(file)
    _insert(conn, archive, files.chosen(fresh), filetype, table)
    copied = {n for n, _ in copies}
    _insert_places(conn, archive, files.chosen([n in copied for n in range(len(files))]), [one for _, one in copies])
    return Registered(sum(fresh) + len(copies), known, tuple(refused), conflict=bool(refused))


def _look_up(conn: sa.Connection, files: NewFiles, names: Collection[str]) -> dict[_Key, list[_Known]]:
    place, dialect = file_archive_info.c, conn.dialect.name
    # not joined with desfile: a planner that expects to find thousands would read all of that, and mostly none is found
    places = conn.execute(
        sa.select(place.path, place.filename, place.compression, place.archive_name, place.desfile_id).where(
            one_of(place.filename, list(names), dialect), one_of(place.path, list(set(files.paths)), dialect)
        )
    ).all()
    wanted = set(files.keys()) if places else set()  # not only those: each name was asked for in all folders
    holding: dict[int, dict[_Key, set[str]]] = {}
    for path, filename, compression, archive, number in places:
        if (key := (path, filename, compression)) in wanted:
            holding.setdefault(number, {}).setdefault(key, set()).add(archive)
    if not holding:
        return {}
    found: dict[_Key, list[_Known]] = {}
    facts = sa.select(*(desfile.c[name] for name in _FACTS)).where(one_of(desfile.c.id, list(holding), dialect))
    for number, kind, size, md5sum, sha256, run in conn.execute(facts):
        for key, archives in holding[number].items():
            found.setdefault(key, []).append(_Known(number, kind, size, md5sum, sha256, run, archives))
    return found


def _contradiction(known: _Known, file: _Known) -> str:
    for name in ("filesize", "md5sum", "sha256"):
        old, new = getattr(known, name), getattr(file, name)
        if old is not None and new is not None and old != new:
            return f"registered with {name} {old}, now {new}"
    if known.filetype != file.filetype:
        return f"registered as filetype {known.filetype}, now {file.filetype}"
    if known.run_id != file.run_id:
        return "registered for another run"
    return ""


def _is_copy(known: _Known, file: _Known) -> bool:
    sums = [(known.md5sum, file.md5sum), (known.sha256, file.sha256)]
    return not _contradiction(known, file) and any(old is not None and old == new for old, new in sums)


def _insert(conn: sa.Connection, archive: str, files: NewFiles, filetype: Filetype, table: sa.Table | None) -> None:
    if not len(files):
        return
    numbers, count = take_ids(conn, desfile, len(files)), len(files)
    columns: dict[str, Sequence[Any]] = {
        "id": numbers,
        "filename": files.filenames,
        "compression": files.compressions,
        "filetype": [files.filetype] * count,
        "filesize": files.filesizes,
        "md5sum": files.md5sums,
        "sha256": files.sha256s,
        "pfw_attempt_id": files.run_ids,
        "wgb_task_id": files.task_ids,
        "created_date": [now(conn.dialect.name)] * count,
    }
    insert_columns(conn, desfile, columns)
    _insert_places(conn, archive, files, numbers)
    if table is not None:
        names = [column.name.lower() for column in filetype.columns]
        insert_columns(conn, table, {"desfile_id": numbers, **dict(zip(names, files.metadata, strict=True))})
    insert_corners(conn, [(numbers[n], *corners) for n, corners in files.corners.items()])


def insert_corners(conn: sa.Connection, rows: Sequence[tuple[float, ...]]) -> None:
    """Insert where images lie: rows of a file's id and its corners."""
    if not rows:
        return
    import numpy as np  # not for files that have no corners

    from dbb.sky.cells import image_cells

    cells = image_cells(np.array([row[1:] for row in rows], dtype=float)).tolist()
    columns = ["desfile_id", *(field.name for field in fields(Corners)), "cell"]
    insert_rows(conn, image_corners, columns, [(*row, cell) for row, cell in zip(rows, cells, strict=True)])


def _insert_places(conn: sa.Connection, archive: str, files: NewFiles, numbers: Sequence[int]) -> None:
    columns = {
        "filename": files.filenames,
        "path": files.paths,
        "compression": files.compressions,
        "archive_name": [archive] * len(files),
        "desfile_id": numbers,
    }
    if len(files):
        insert_columns(conn, file_archive_info, columns)
