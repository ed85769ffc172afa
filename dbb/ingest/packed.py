"""Registering the members of a tar one by one, as files that stay where they are."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import sqlalchemy as sa

from dbb.errors import ConflictError, NotFoundError, UsageError
from dbb.filetypes import Filetype
from dbb.ingest.files import Looker, Progress, by_column, definition, read_found
from dbb.ingest.table import register_batch, row_reader, write_files
from dbb.ingest.tables import BATCH
from dbb.ingest.tarballs import TarPlace, locate_tar, register_tar, tar_digest
from dbb.ingest.transfer import Found
from dbb.members import Member
from dbb.refcats.rows import write_members
from dbb.refcats.tarindex import read_members
from dbb.refcats.tars import is_compressed, open_url
from dbb.registry import Database
from dbb.registry._connect import one_of
from dbb.registry._tables import file_archive_info
from dbb.registry.files import Refusal, Registered
from dbb.registry.relpaths import COMPRESSIONS, join_relpath, split_relpath
from dbb.registry.runs import full_run
from dbb.storage import CHUNK, Digest

TAR = "packed_tar"


def ingest_packed(
    db: Database,
    tarball: str,
    *,
    filetype: str,
    archive: str | None = None,
    run: str | None = None,
    given: Mapping[str, str] | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Registered:
    """Register those members of a tar whose names fit a filetype.

    Parameters
    ----------
    db
        The registry.
    tarball
        An uncompressed tar: a registered file, or one that lies in an archive, which is then registered.
    filetype, run
        What the members are, and what made them.
    archive
        The archive that holds the tar.
    given
        Values that win over what the members say, by column.
    dry_run
        Do everything, then undo it.
    progress
        Called with the number of members looked into.

    Returns
    -------
    Registered
        A member whose header cannot be read or lacks a key is refused and the rest go in.

    Raises
    ------
    UsageError
        If the filetype has no name pattern to tell its members by, or the tar is compressed.
    NotFoundError
        If no member fits, or tar, archive or filetype is unknown.
    ConflictError
        If a member that is registered is no longer in the tar.
    UnsafePathError, IntegrityError
        If the tar is refused; see `dbb.refcats.tarindex.read_members`.

    Notes
    -----
    A member's path in the archive is that of the tar and its own in it. Each member is copied aside to be looked into
    and to find its checksums.
    """
    kind = definition(db, db.filetype(filetype))
    place = locate_tar(db, tarball, archive)
    if is_compressed(place.relpath):
        raise UsageError(f"{place.url} is compressed: files can be taken out of uncompressed tars only")
    digest = tar_digest(place, changed=False)
    with closing(open_url(place.url)) as stream:
        members = read_members(stream, place.url)
    fitting = _fitting(members, kind, place)
    camera = db.mapper(kind.name)
    made_by = full_run(run) if run else None
    with tempfile.TemporaryDirectory(prefix="dbb-packed-") as scratch:
        derive = camera.derive if camera else None
        look = Looker(kind, scratch, "direct", made_by, by_column(kind, given or {}), derive)
        found, refused = _look(look, place, fitting, Path(scratch), progress)
    done = _register(db, _Packed(place, digest, members, kind.name, run), found, dry_run=dry_run)
    db.forget_filetypes()
    return replace(done, refused=done.refused + tuple(refused))


@dataclass(frozen=True, slots=True)
class _Packed:
    """A tar, its members, and what those are that get registered."""

    place: TarPlace
    digest: Digest
    members: Sequence[Member]
    filetype: str
    run: str | None


def _fitting(members: Sequence[Member], kind: Filetype, place: TarPlace) -> list[Member]:
    pattern = kind.name_pattern
    if pattern is None:
        raise UsageError(f"filetype {kind.name} has no name pattern, so its files in {place.relpath} cannot be told")
    types = {**kind.types, "reqnum": "int", "attnum": "int"}
    found = [one for one in members if pattern.invert(_plain_name(one.name), types) is not None]
    if not found:
        raise NotFoundError(
            "member", pattern.text, hint=f"None of the {len(members)} files in {place.relpath} is called so"
        )
    return found


def _plain_name(path: str) -> str:
    name = PurePosixPath(path).name
    return next((name.removesuffix(suffix) for suffix in COMPRESSIONS if name.endswith(suffix)), name)


def _look(
    look: Looker, place: TarPlace, members: Sequence[Member], scratch: Path, progress: Progress | None
) -> tuple[list[Found], list[Refusal]]:
    """Copy one member after the other aside, under its path in the archive, and look into it."""
    found: list[Found] = []
    refused: list[Refusal] = []
    with closing(open_url(place.url)) as stream:
        for number, member in enumerate(members, start=1):
            aside = scratch / place.relpath / member.name
            aside.parent.mkdir(parents=True, exist_ok=True)
            stream.seek(member.position)
            left = member.size
            with aside.open("xb") as target:
                while left and (data := stream.read(min(CHUNK, left))):
                    left -= target.write(data)
            some, wrong = look.at_all([str(aside)], None)
            aside.unlink()
            found += some
            refused += wrong
            if progress is not None:
                progress(number)
    return found, refused


def _register(db: Database, packed: _Packed, found: Sequence[Found], *, dry_run: bool) -> Registered:
    place = packed.place

    def work(conn: sa.Connection) -> Registered:
        tar = register_tar(conn, place, TAR, packed.digest)
        reader = row_reader(db, conn, f"members of {place.relpath}", packed.filetype, packed.run)
        total = Registered()
        for start in range(0, len(found), BATCH):
            batch = read_found(reader, found[start : start + BATCH], start)
            total += register_batch(db, conn, place.archive, batch)
        if not total.conflict:
            try:
                write_members(conn, tar, packed.members, _ids(conn, place, found))
            except ConflictError as error:
                raise ConflictError(f"{place.relpath}: {error}") from error
        return total

    return write_files(db, work, dry_run=dry_run)


def _ids(conn: sa.Connection, place: TarPlace, found: Sequence[Found]) -> dict[str, int]:
    """Return the id of each registered member by its name in the tar."""
    info, dialect = file_archive_info, conn.dialect.name
    split = [split_relpath(one.relpath) for one in found]
    statement = sa.select(info.c.path, info.c.filename, info.c.compression, info.c.desfile_id).where(
        info.c.archive_name == place.archive,
        one_of(info.c.path, sorted({path for path, _, _ in split}), dialect),
        one_of(info.c.filename, sorted({name for _, name, _ in split}), dialect),
    )
    prefix = place.relpath + "/"
    wanted = {one.relpath for one in found}
    there = ((join_relpath(*key), file) for *key, file in conn.execute(statement))
    return {relpath.removeprefix(prefix): file for relpath, file in there if relpath in wanted}
