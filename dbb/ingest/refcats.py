"""Registering a reference catalogue: its tar, and once and for all where each shard lies in it."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from dbb.errors import ConflictError, UsageError
from dbb.ingest.tarballs import TarPlace, locate_tar, register_tar, tar_digest, write_beside
from dbb.members import Member
from dbb.refcats.rows import all_members, catalogue_tars, is_indexed, write_catalogue, write_members
from dbb.refcats.shards import check_name, shard_depth, shard_trixel
from dbb.refcats.tarindex import leading_folder
from dbb.refcats.tars import SIDECAR, index_tar, is_compressed
from dbb.registry import Database
from dbb.registry.find import places_of
from dbb.storage import Digest, Hasher

TAR, INDEX = "refcat_tar", "gzip_index"


@dataclass(frozen=True, slots=True)
class RefcatInfo:
    """A reference catalogue as registered.

    Parameters
    ----------
    name
        As jobs ask for it.
    tarball, archive
        Where its tar is.
    depth
        HTM depth of its shards.
    members, shards
        How many files it has, and how many of them are shards.
    filesize
        Bytes of the tar.
    known
        Whether it was registered before, so that nothing changed.
    """

    name: str
    tarball: str
    archive: str
    depth: int
    members: int
    shards: int
    filesize: int
    known: bool = False


@dataclass(frozen=True, slots=True)
class _Index:
    """What was found in a tar: its members, and its seek index if it is compressed."""

    members: list[Member]
    seek: bytes | None


def add_refcat(
    db: Database, name: str, tarball: str, *, archive: str | None = None, reindex: bool = False, dry_run: bool = False
) -> RefcatInfo:
    """Register a tar as a reference catalogue.

    Parameters
    ----------
    db
        The registry.
    name
        What jobs and the Butler shall call the catalogue.
    tarball
        A registered file (its name or path in an archive), or a file that lies in an archive, which is then registered.
    archive
        The archive that is meant.
    reindex
        The tar was replaced, or the catalogue shall be another tar: forget what was known.
    dry_run
        Look at everything and change nothing.

    Raises
    ------
    UsageError
        If the name cannot be that of a folder, or the tar is compressed otherwise than by gzip.
    NotFoundError
        If archive or tar is not there.
    ConflictError
        If the catalogue is registered with another tar and `reindex` is false; nothing was changed.
    UnsafePathError
        If the tar holds what could do harm; nothing was changed.
    IntegrityError
        If the tar is broken, is not the registered one, or is no catalogue; nothing was changed.

    Notes
    -----
    The tar is read once for its checksum and once for its headers; a tar that is indexed already is not read for its
    headers again. One transaction, in which the members are inserted by a few statements.
    """
    check_name(name)
    place = locate_tar(db, tarball, archive)
    with db.read() as conn:
        known = catalogue_tars(conn).get(name)
        same = known is not None and place.stored is not None and known[0] == place.stored.id
        if known is not None and not same and not reindex:
            other = places_of(conn, known[0])
            raise ConflictError(
                f"reference catalogue {name!r} is {other[0]}, not {place.relpath}: choose another name, or give"
                " --reindex to replace it"
            )
        indexed = place.stored is not None and not reindex and is_indexed(conn, place.stored.id)
        members = all_members(conn, place.stored.id) if indexed and place.stored is not None else []
    digest = tar_digest(place, changed=reindex)
    index = _Index(members, None) if indexed else _read(place)
    depth, shards = _looked_at(index.members, place)
    if not (same and indexed) and not dry_run:
        _write(db, name, place, digest, index, depth)
    return RefcatInfo(
        name, place.relpath, place.archive, depth, len(index.members), shards, digest.filesize, known=same and indexed
    )


def _read(place: TarPlace) -> _Index:
    members, seek = index_tar(place.url)
    if (seek is not None) != is_compressed(place.relpath):
        really, wanted = ("", ".tar.gz or .tgz") if seek is not None else ("not ", ".tar")
        raise UsageError(f"{place.url} is {really}gzip-compressed: its name must end in {wanted}")
    return _Index(members, seek)


def _looked_at(members: list[Member], place: TarPlace) -> tuple[int, int]:
    """Return depth and number of the shards."""
    folder = leading_folder([one.name for one in members])
    names = [one.name.removeprefix(folder) for one in members]
    return shard_depth(names, place.url), sum(shard_trixel(name) is not None for name in names)


def _write(db: Database, name: str, place: TarPlace, digest: Digest, index: _Index, depth: int) -> None:
    beside, seek = None, None
    if index.seek is not None:
        beside, seek = write_beside(place, SIDECAR, index.seek), _digest(index.seek)

    def work(conn: sa.Connection) -> None:
        tar = register_tar(conn, place, TAR, digest)
        if beside is not None and seek is not None:
            register_tar(conn, beside, INDEX, seek)
        write_members(conn, tar, index.members, {})
        write_catalogue(conn, name, tar, depth)

    db.write(work)
    db.forget_filetypes()
    db.optimize(len(index.members))


def _digest(data: bytes) -> Digest:
    hasher = Hasher()
    hasher.update(data)
    return hasher.digest()


def list_refcats(db: Database) -> list[RefcatInfo]:
    """Return all reference catalogues, by name; a tar's first place is shown."""
    with db.read() as conn:
        found = []
        for name, (tar, depth) in catalogue_tars(conn).items():
            members = all_members(conn, tar)
            folder = leading_folder([one.name for one in members])
            shards = sum(shard_trixel(one.name.removeprefix(folder)) is not None for one in members)
            place = places_of(conn, tar)[0]
            facts = (place.relpath or place.filename, place.archive or "", depth, len(members), shards)
            found.append(RefcatInfo(name, *facts, place.filesize or 0))
        return found
