"""Registering files: known, new, or in contradiction with what is registered, many at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields

import sqlalchemy as sa

from dbb.filetypes import Filetype
from dbb.registry._connect import insert_rows, one_of, take_ids
from dbb.registry._tables import desfile, file_archive_info, image_corners, now
from dbb.registry.relpaths import join_relpath
from dbb.sky import Corners


@dataclass(frozen=True, slots=True)
class NewFile:
    """What is said of a file to be registered; `values` are its metadata in the order of the filetype's columns.

    `run_id` and `task_id` are the attempt and the task that made it.
    """

    path: str
    filename: str
    compression: str
    filetype: str
    filesize: int | None
    md5sum: str | None
    sha256: str | None
    run_id: int | None
    values: tuple[object, ...]
    corners: Corners | None = None
    task_id: int | None = None

    @property
    def relpath(self) -> str:
        """Path below the archive's root."""
        return join_relpath(self.path, self.filename, self.compression)


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


def register_files(
    conn: sa.Connection,
    archive: str,
    files: Sequence[NewFile],
    filetypes: Mapping[str, Filetype],
    tables: Mapping[str, sa.Table | None],
) -> Registered:
    """Register one batch of files of an archive inside the caller's transaction.

    The same path with the same checksum is known, with another one it is refused, and so is a known file that now
    belongs to another filetype or run. A path that another archive has with the same checksum is a copy of that file.

    Notes
    -----
    A fixed number of statements per filetype, whatever the length of `files`.
    """
    there = _look_up(conn, files)
    fresh: list[NewFile] = []
    copies: list[tuple[NewFile, _Known]] = []
    refused: list[Refusal] = []
    known = 0
    for file in files:
        candidates = there.setdefault((file.path, file.filename, file.compression), [])
        here = next((one for one in candidates if archive in one.archives), None)
        if here is not None:
            why = _contradiction(here, file)
            known += not why
            refused += [Refusal(file.relpath, why)] if why else []
            continue
        same = next((one for one in candidates if _is_copy(one, file)), None)
        if same is not None:
            same.archives.add(archive)
            copies.append((file, same))
            continue
        fresh.append(file)
        fact = _Known(0, file.filetype, file.filesize, file.md5sum, file.sha256, file.run_id, {archive})
        candidates.append(fact)
    _insert(conn, archive, fresh, filetypes, tables)
    _insert_places(conn, archive, [(file, known_file.desfile_id) for file, known_file in copies])
    return Registered(len(fresh) + len(copies), known, tuple(refused), conflict=bool(refused))


def _look_up(conn: sa.Connection, files: Sequence[NewFile]) -> dict[_Key, list[_Known]]:
    place, dialect = file_archive_info, conn.dialect.name
    statement = sa.select(
        *(place.c[name] for name in ("path", "filename", "compression", "archive_name")),
        *(desfile.c[name] for name in ("id", "filetype", "filesize", "md5sum", "sha256", "pfw_attempt_id")),
    ).where(
        place.c.desfile_id == desfile.c.id,
        one_of(place.c.filename, list({file.filename for file in files}), dialect),
        one_of(place.c.path, list({file.path for file in files}), dialect),
    )  # fmt: skip
    found: dict[_Key, dict[int, _Known]] = {}
    for path, filename, compression, archive, number, kind, size, md5sum, sha256, run in conn.execute(statement):
        same_path = found.setdefault((path, filename, compression), {})
        same_path.setdefault(number, _Known(number, kind, size, md5sum, sha256, run, set())).archives.add(archive)
    return {key: list(by_id.values()) for key, by_id in found.items()}


def _contradiction(known: _Known, file: NewFile) -> str:
    for name in ("filesize", "md5sum", "sha256"):
        old, new = getattr(known, name), getattr(file, name)
        if old is not None and new is not None and old != new:
            return f"registered with {name} {old}, now {new}"
    if known.filetype != file.filetype:
        return f"registered as filetype {known.filetype}, now {file.filetype}"
    if known.run_id != file.run_id:
        return "registered for another run"
    return ""


def _is_copy(known: _Known, file: NewFile) -> bool:
    sums = [(known.md5sum, file.md5sum), (known.sha256, file.sha256)]
    return not _contradiction(known, file) and any(old is not None and old == new for old, new in sums)


def _insert(
    conn: sa.Connection,
    archive: str,
    files: Sequence[NewFile],
    filetypes: Mapping[str, Filetype],
    tables: Mapping[str, sa.Table | None],
) -> None:
    if not files:
        return
    moment = now(conn.dialect.name)
    numbered = list(zip(files, take_ids(conn, desfile, len(files)), strict=True))
    columns = (
        "id",
        "filename",
        "compression",
        "filetype",
        "filesize",
        "md5sum",
        "sha256",
        "pfw_attempt_id",
        "wgb_task_id",
        "created_date",
    )
    rows = [
        (
            number,
            file.filename,
            file.compression,
            file.filetype,
            file.filesize,
            file.md5sum,
            file.sha256,
            file.run_id,
            file.task_id,
            moment,
        )
        for file, number in numbered
    ]
    insert_rows(conn, desfile, columns, rows)
    _insert_places(conn, archive, numbered)
    for name in dict.fromkeys(file.filetype for file in files):
        table = tables[name]
        if table is not None:
            names = ["desfile_id", *(column.name.lower() for column in filetypes[name].columns)]
            insert_rows(
                conn, table, names, [(number, *file.values) for file, number in numbered if file.filetype == name]
            )
    insert_corners(conn, [(number, *astuple(file.corners)) for file, number in numbered if file.corners is not None])


def insert_corners(conn: sa.Connection, rows: Sequence[tuple[float, ...]]) -> None:
    """Insert where images lie: rows of a file's id and its corners."""
    if not rows:
        return
    import numpy as np  # not for files that have no corners

    from dbb.sky.cells import image_cells

    cells = image_cells(np.array([row[1:] for row in rows], dtype=float)).tolist()
    columns = ["desfile_id", *(field.name for field in fields(Corners)), "cell"]
    insert_rows(conn, image_corners, columns, [(*row, cell) for row, cell in zip(rows, cells, strict=True)])


def _insert_places(conn: sa.Connection, archive: str, files: Sequence[tuple[NewFile, int]]) -> None:
    columns = ("filename", "path", "compression", "archive_name", "desfile_id")
    rows = [(file.filename, file.path, file.compression, archive, number) for file, number in files]
    insert_rows(conn, file_archive_info, columns, rows)
