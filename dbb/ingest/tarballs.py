"""A tar as a file of the registry: where it lies, whether it is still the one that was registered, its members."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from dbb.errors import AmbiguousError, ConflictError, DbbError, IntegrityError, MissingError, NotFoundError
from dbb.filetypes import Filetype
from dbb.ingest.transfer import url_digest
from dbb.patterns import is_safe_path
from dbb.plugins import plugins
from dbb.registry import Database
from dbb.registry._tables import desfile
from dbb.registry.archives import archive_order, archive_root, archives
from dbb.registry.files import register_files
from dbb.registry.filetypes import StoredFiletypes, register_filetypes
from dbb.registry.find import StoredFile, find_file, find_files
from dbb.registry.newfiles import NewFile, NewFiles
from dbb.registry.relpaths import split_relpath
from dbb.storage import Digest, is_local, local_path, new_file

CHANGED = (
    "it is not the tar that was registered, so an index of it does not fit; if a reference catalogue was replaced on"
    " purpose, run 'dbb refcat add --reindex'; give a changed tar of packed files another name"
)


@dataclass(frozen=True, slots=True)
class TarPlace:
    """Where a tar lies; `stored` is what is registered of it, None where nothing is."""

    archive: str
    root: str
    relpath: str
    stored: StoredFile | None = None

    @property
    def url(self) -> str:
        """What opens it."""
        return f"{self.root}/{self.relpath}"


def locate_tar(db: Database, name: str, archive: str | None) -> TarPlace:
    """Find a tar that is registered, or lies in an archive.

    Parameters
    ----------
    db
        The registry.
    name
        File name or path in an archive of a registered tar; or path or URL of one that lies in an archive.
    archive
        Which archive's copy is meant.

    Raises
    ------
    NotFoundError
        If there is no such archive, or no such tar.
    AmbiguousError
        If several fit.
    MissingError
        If it is registered but in no archive.
    """
    with db.read() as conn:
        roots = archives(conn)
        if archive is not None:
            archive_root(conn, archive)
        if is_safe_path(name) and find_files(conn, name, archive):
            stored = find_file(conn, name, archive_order(roots, ()), archive)
            if stored.archive is None or stored.relpath is None:
                raise MissingError(f"{stored} is registered but kept in no archive, so it cannot be read")
            return TarPlace(stored.archive, roots[stored.archive], stored.relpath, stored)
        chosen = {key: root for key, root in roots.items() if archive in (None, key)}
        found = [TarPlace(key, root, path) for key, root in chosen.items() if (path := _below(name, root, archive))]
        if len(found) > 1:
            listed = ", ".join(place.archive for place in found)
            raise AmbiguousError(f"{name} lies in several archives ({listed}): say which with --archive")
        if not found:
            raise NotFoundError(
                "tar", name, hint="No registered file has this name, and it lies in no archive: put it into one"
            )
        place = found[0]
        stored_there = [one for one in find_files(conn, place.relpath, place.archive) if one.relpath == place.relpath]
        return TarPlace(place.archive, place.root, place.relpath, stored_there[0] if stored_there else None)


def _below(name: str, root: str, archive: str | None) -> str | None:
    """Return the path below `root` of a tar that lies there."""
    if is_local(root):
        folder = local_path(root)
        for path in (os.path.abspath(local_path(name)), os.path.join(folder, name)):
            relpath = path.removeprefix(folder.rstrip("/") + "/")
            if relpath != path and is_safe_path(relpath) and Path(path).is_file():
                return relpath
        return None
    if name.startswith(root + "/"):
        return name.removeprefix(root + "/")
    return name if archive is not None and is_safe_path(name) else None


def tar_digest(place: TarPlace, *, changed: bool) -> Digest:
    """Read a tar and return its size and checksums.

    Parameters
    ----------
    place
        The tar.
    changed
        Whether it may be another one than registered.

    Raises
    ------
    IntegrityError
        If it cannot be read, or is another one than registered and may not be.
    """
    stored = place.stored
    try:
        digest = url_digest(place.url)
    except FileNotFoundError as error:
        raise IntegrityError(f"{place.url} is not there") from error
    except OSError as error:
        raise IntegrityError(f"{place.url} cannot be read: {error.strerror or error}") from error
    if stored is not None and not changed:
        for name in ("filesize", "md5sum", "sha256"):
            known, found = getattr(stored, name), getattr(digest, name)
            if known is not None and known != found:
                raise IntegrityError(f"{place.url}: {name} is {found}, registered as {known}: {CHANGED}")
    return digest


def register_tar(conn: sa.Connection, place: TarPlace, filetype: str, digest: Digest) -> int:
    """Register a tar, or note its present size and checksums if it is registered; return its id.

    Raises
    ------
    ConflictError
        If another file has its place.
    """
    here = [one for one in find_files(conn, place.relpath, place.archive) if one.relpath == place.relpath]
    if not here:
        facts = (digest.filesize, digest.md5sum, digest.sha256)
        file = NewFile(*split_relpath(place.relpath), filetype, *facts, run_id=None, values=())
        [files] = NewFiles.of([file])
        done = register_files(conn, place.archive, files, _core(conn, filetype), None)
        if done.conflict:
            raise ConflictError(f"{place.relpath}: {done.refused[0].why}")
        here = find_files(conn, place.relpath, place.archive)
    number = here[0].id
    values = {"filesize": digest.filesize, "md5sum": digest.md5sum, "sha256": digest.sha256}
    conn.execute(sa.update(desfile).where(desfile.c.id == number).values(values))
    return number


def _core(conn: sa.Connection, name: str) -> Filetype:
    """Return one of dbb's own filetypes, registered if the registry is older than it."""
    if name not in StoredFiletypes(conn):
        register_filetypes(conn, [plugins().filetypes()[name]], None)
    return StoredFiletypes(conn)[name]


def write_beside(place: TarPlace, suffix: str, data: bytes) -> TarPlace:
    """Write a file beside a tar, replacing one that is there, and return its place.

    Raises
    ------
    DbbError
        If nothing can be written there.
    """
    beside = TarPlace(place.archive, place.root, place.relpath + suffix)
    try:
        if is_local(beside.url):
            with new_file(Path(local_path(beside.url))) as stream:
                stream.write(data)
        else:
            import fsspec

            files, path = fsspec.core.url_to_fs(beside.url)
            files.pipe_file(path, data)
    except (OSError, NotImplementedError) as error:
        raise DbbError(
            f"{beside.url} cannot be written ({error}): a compressed tar needs a seek index beside it; put it where"
            " you may write, or repack it with 'dbb refcat pack'"
        ) from error
    return beside
