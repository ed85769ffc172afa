"""Inputs that are not files of their own but members of a registered tar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import sqlalchemy as sa

from dbb.registry._connect import one_of
from dbb.registry._tables import desfile, file_archive_info, tar_member
from dbb.registry.relpaths import join_relpath

_BATCH = 2_000
_Row = Sequence[Any]


class PackedFiles:
    """Knows which rows of `dbb.registry.select.select_files` are packed, and where.

    Notes
    -----
    One SELECT for a job without packed files in its registry; else one more for each 2 000 rows.
    """

    def __init__(self, conn: sa.Connection) -> None:
        self._conn = conn
        self._known: dict[tuple[int, str], tuple[str, str, int, int]] = {}

    @cached_property
    def _any(self) -> bool:
        there = sa.exists().where(tar_member.c.desfile_id.is_not(None))
        return bool(self._conn.scalar(sa.select(there)))

    def noted(self, rows: Iterable[_Row]) -> Iterator[_Row]:
        """Give the rows on, `place` of which may then be asked."""
        if not self._any:
            yield from rows
            return
        left = iter(rows)
        while batch := list(islice(left, _BATCH)):
            self.ask([row[0] for row in batch])
            yield from batch

    def ask(self, files: Sequence[int]) -> None:
        """Find out which of some files, by their ids, are packed; what was asked before is forgotten."""
        if not self._any:
            return
        tar, place, member = desfile.alias("tar"), file_archive_info, tar_member
        statement = (
            sa.select(member.c.desfile_id, place.c.archive_name, place.c.path, tar.c.filename, tar.c.compression)
            .add_columns(member.c.member, member.c.position, member.c.filesize)
            .join(tar, tar.c.id == member.c.tar_id)
            .join(place, place.c.desfile_id == tar.c.id)
            .where(one_of(member.c.desfile_id, files, self._conn.dialect.name))
        )
        self._known = {
            (file, archive): (join_relpath(path, filename, compression), *extent)
            for file, archive, path, filename, compression, *extent in self._conn.execute(statement)
        }

    def place(self, file: int, archive: str, relpath: str) -> tuple[str, dict[str, Any]]:
        """Return the path to open for a file, and what a manifest says of its place in it if it is a tar."""
        found = self._known.get((file, archive))
        if found is None:
            return relpath, {}
        tar, member, position, size = found
        if relpath != f"{tar}/{member}":
            return relpath, {}  # this archive has it as a file of its own, too
        return tar, {"member": member, "offset": position, "size": size}
