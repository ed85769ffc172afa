"""The registered copies of files, many at a time, with the tars that hold those which are packed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from dbb.registry._connect import one_of
from dbb.registry._tables import desfile, file_archive_info, tar_member
from dbb.registry.relpaths import HERE, join_relpath
from dbb.verify.places import Part


@dataclass(frozen=True, slots=True)
class Copy:
    """A file as the registry has it in one archive.

    Parameters
    ----------
    desfile_id, archive
        Which file, and where.
    path, filename, compression
        DESDM's columns.
    filesize, md5sum, sha256
        What is registered of it; None where nothing is.
    tar, part
        Relpath of the tar that holds it in this archive, and its bytes there; None if it is a file of its own.
    """

    desfile_id: int
    archive: str
    path: str
    filename: str
    compression: str
    filesize: int | None
    md5sum: str | None
    sha256: str | None
    tar: str | None = None
    part: Part | None = None

    @property
    def relpath(self) -> str:
        """Path below the archive's root; of a packed file that of its tar and of the member in it."""
        return join_relpath(self.path, self.filename, self.compression)

    @property
    def on_disk(self) -> str:
        """Path of the file whose bytes are meant."""
        return self.tar or self.relpath

    @property
    def is_readable(self) -> bool:
        """Whether its bytes can be read without unpacking anything."""
        return self.tar is None or self.tar.endswith(".tar")


def copies_after(
    conn: sa.Connection, archive: str, filetype: str | None, after: Sequence[Any] | None, limit: int
) -> list[Copy]:
    """Return the next copies in an archive, by number of the file."""
    statement = _select().where(file_archive_info.c.archive_name == archive)
    if filetype is not None:
        statement = statement.where(desfile.c.filetype == filetype)
    place = file_archive_info.c.desfile_id, file_archive_info.c.path
    if after is not None:
        statement = statement.where(sa.tuple_(*place) > sa.tuple_(*map(sa.literal, after)))
    return _copies(conn, statement.order_by(*place).limit(limit))


def copies_elsewhere(conn: sa.Connection, copies: Iterable[Copy]) -> dict[int, list[Copy]]:
    """Return the copies that other archives have of the same files, by number of the file."""
    here = {copy.desfile_id: copy.archive for copy in copies}
    statement = _select().where(one_of(desfile.c.id, list(here), conn.dialect.name))
    found: dict[int, list[Copy]] = {}
    for copy in _copies(conn, statement.order_by(file_archive_info.c.archive_name)):
        if copy.archive != here[copy.desfile_id]:
            found.setdefault(copy.desfile_id, []).append(copy)
    return found


def registered(conn: sa.Connection, archive: str, relpaths: Sequence[str]) -> set[str]:
    """Return which paths, and maybe others, are those of registered files in an archive."""
    place, dialect = file_archive_info, conn.dialect.name
    parts = [relpath.rpartition("/") for relpath in relpaths]
    # a compression is kept apart from the name, and is any suffix
    names = {name[:at] for *_, name in parts for at, char in enumerate(name) if char == "."}
    names.update(name for *_, name in parts)
    statement = sa.select(place.c.path, place.c.filename, place.c.compression).where(
        place.c.archive_name == archive,
        one_of(place.c.filename, sorted(names), dialect),
        one_of(place.c.path, sorted({folder or HERE for folder, *_ in parts}), dialect),
    )
    return {join_relpath(*row) for row in conn.execute(statement)}


def _select() -> sa.Select[Any]:
    place = file_archive_info
    return sa.select(
        desfile.c.id, *(place.c[name] for name in ("archive_name", "path", "filename", "compression")),
        *(desfile.c[name] for name in ("filesize", "md5sum", "sha256")),
    ).where(place.c.desfile_id == desfile.c.id)  # fmt: skip


def _copies(conn: sa.Connection, statement: sa.Select[Any]) -> list[Copy]:
    copies = [Copy(*row) for row in conn.execute(statement)]
    tars = _tars(conn, list({copy.desfile_id for copy in copies}))
    return [
        replace(copy, tar=packed[0], part=packed[1])
        if tars and (packed := tars.get((copy.desfile_id, copy.archive, copy.relpath)))
        else copy
        for copy in copies
    ]


def _tars(conn: sa.Connection, numbers: Sequence[int]) -> dict[tuple[int, str, str], tuple[str, Part]]:
    member, place = tar_member, file_archive_info
    statement = sa.select(
        member.c.desfile_id, member.c.member, member.c.position, member.c.filesize, place.c.archive_name,
        place.c.path, place.c.filename, place.c.compression,
    ).where(one_of(member.c.desfile_id, numbers, conn.dialect.name), place.c.desfile_id == member.c.tar_id)  # fmt: skip
    found = {}
    for number, name, position, size, archive, *tar in conn.execute(statement):
        relpath = join_relpath(*tar)
        found[number, archive, f"{relpath}/{name}"] = (relpath, Part(position, size))
    return found
