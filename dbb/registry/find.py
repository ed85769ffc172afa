"""Finding one registered file by its name or its path in an archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from dbb.errors import AmbiguousError, NotFoundError
from dbb.registry._tables import desfile, file_archive_info
from dbb.registry.relpaths import join_relpath, split_relpath


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A registered file at one of its places; archive and path are None where no archive has it."""

    id: int
    filename: str
    compression: str
    filetype: str
    filesize: int | None
    md5sum: str | None
    sha256: str | None
    archive: str | None
    path: str | None

    @property
    def relpath(self) -> str | None:
        """Path below the archive's root."""
        return None if self.path is None else join_relpath(self.path, self.filename, self.compression)

    def __str__(self) -> str:
        return f"{self.relpath or self.filename + self.compression} ({self.archive or 'in no archive'})"


_COLUMNS = (
    *(desfile.c[name] for name in ("id", "filename", "compression", "filetype", "filesize", "md5sum", "sha256")),
    file_archive_info.c.archive_name,
    file_archive_info.c.path,
)


def find_files(conn: sa.Connection, name: str, archive: str | None = None) -> list[StoredFile]:
    """Return the places of files called `name`, which is a file's name or a path below an archive's root."""
    path, filename, compression = split_relpath(name)
    place = file_archive_info
    statement = (
        sa.select(*_COLUMNS)
        .outerjoin(place, place.c.desfile_id == desfile.c.id)
        .where(desfile.c.filename == filename, desfile.c.compression == compression)
    )
    if "/" in name:
        statement = statement.where(place.c.path == path)
    if archive is not None:
        statement = statement.where(place.c.archive_name == archive)
    return [StoredFile(*row) for row in conn.execute(statement.order_by(desfile.c.id, place.c.archive_name))]


def find_file(conn: sa.Connection, name: str, order: Sequence[str], archive: str | None = None) -> StoredFile:
    """Return the one file called `name`, at its place in the first archive of `order` that has it.

    Raises
    ------
    NotFoundError
        If there is none.
    AmbiguousError
        If several files have this name; lists them.
    """
    found = find_files(conn, name, archive)
    if not found:
        raise NotFoundError("file", name, hint="No registered file has this name")
    if len({one.id for one in found}) > 1:
        listed = "\n    ".join(dict.fromkeys(str(one) for one in found))
        raise AmbiguousError(f"several files are called {name}:\n    {listed}\nGive the relpath of the one you mean")
    return min(found, key=lambda one: order.index(one.archive) if one.archive else len(order))


def places_of(conn: sa.Connection, file: int) -> list[StoredFile]:
    """Return the places of the file with this id, in order of archives."""
    place = file_archive_info
    statement = sa.select(*_COLUMNS).outerjoin(place, place.c.desfile_id == desfile.c.id).where(desfile.c.id == file)
    return [StoredFile(*row) for row in conn.execute(statement.order_by(place.c.archive_name))]
