"""What may be done about a problem without a doubt, and doing it: the registry alone is changed, never an archive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from dbb.registry import Database
from dbb.registry._tables import desfile, file_archive_info
from dbb.storage import Digest
from dbb.verify.copies import Copy

FACTS = ("filesize", "md5sum", "sha256")
DigestOf = Callable[[Copy, bool], "Digest | None"]
"""Gives size and checksums of a copy, or if the second argument is true only its size; None if it cannot be read."""


@dataclass(frozen=True, slots=True)
class Fill:
    """What is to be registered of a file: the values of `FACTS` that were not known, None for the others."""

    copy: Copy
    filesize: int | None = None
    md5sum: str | None = None
    sha256: str | None = None


def what_differs(copy: Copy, found: Digest) -> tuple[str, str, str] | None:
    """Return the first registered fact that `found` contradicts: its name, expected, found."""
    for name in FACTS:
        expected, actual = getattr(copy, name), getattr(found, name)
        if expected is not None and expected != actual:
            return name, str(expected), str(actual)
    return None


def proof_elsewhere(copies: Sequence[Copy], digest_of: DigestOf) -> tuple[bool, str]:
    """Return whether one of the other copies of a lost file is surely intact, and words that say which or why not.

    Surely means that its bytes were read and have a registered checksum: a size alone proves nothing.
    """
    if not copies:
        return False, "no other archive has a copy"
    if copies[0].md5sum is None and copies[0].sha256 is None:
        return False, f"no checksum is registered that could prove the copy in {copies[0].archive} intact"
    for copy in copies:
        found = digest_of(copy, False)
        if found is not None and what_differs(copy, found) is None:
            return True, f"archive {copy.archive} has an intact copy"
    return False, f"no intact copy in {', '.join(copy.archive for copy in copies)} either"


def all_agree(fill: Fill, elsewhere: Sequence[Copy], digest_of: DigestOf) -> bool:
    """Return whether every other copy of the file has what is to be filled; if not, nobody knows which is right."""
    wanted = [(name, getattr(fill, name)) for name in FACTS if getattr(fill, name) is not None]
    size_only = fill.md5sum is None and fill.sha256 is None
    found = [digest_of(copy, size_only) for copy in elsewhere]
    return all(one is not None and all(getattr(one, name) == value for name, value in wanted) for one in found)


def apply(db: Database, gone: Sequence[Copy], fills: Sequence[Fill]) -> None:
    """Remove the places of lost copies and fill what was not known, in one transaction."""
    if not gone and not fills:
        return

    def work(conn: sa.Connection) -> None:
        if gone:
            place = file_archive_info
            conn.execute(
                sa.delete(place).where(
                    place.c.filename == sa.bindparam("name"),
                    place.c.path == sa.bindparam("folder"),
                    place.c.compression == sa.bindparam("suffix"),
                    place.c.archive_name == sa.bindparam("archive"),
                    place.c.desfile_id == sa.bindparam("file"),
                ),
                [
                    dict(zip(("name", "folder", "suffix", "archive", "file"), values, strict=True))
                    for copy in gone
                    for values in [(copy.filename, copy.path, copy.compression, copy.archive, copy.desfile_id)]
                ],
            )
        if fills:
            # what another process filled meanwhile stays
            new = {
                name: sa.func.coalesce(desfile.c[name], sa.bindparam(f"new_{name}", type_=desfile.c[name].type))
                for name in FACTS
            }
            conn.execute(
                sa.update(desfile).where(desfile.c.id == sa.bindparam("file")).values(new),
                [
                    {"file": fill.copy.desfile_id, **{f"new_{name}": getattr(fill, name) for name in FACTS}}
                    for fill in fills
                ],
            )

    db.write(work)
