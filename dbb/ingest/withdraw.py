"""Taking back files that were brought to an archive in vain, while other processes may count on them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa

from dbb.errors import DbbError, IntegrityError
from dbb.registry import Database
from dbb.registry.provenance import files_at
from dbb.storage import is_local, local_path


def withdraw(db: Database, archive: str, root: str, relpaths: Iterable[str]) -> None:
    """Remove files that were brought to a local archive in vain, except those that are registered by now.

    Notes
    -----
    Another process may have found such a file in its place and count on it. Both settle that while no other writes to
    the registry: here what is registered stays, and who registers calls `check_brought`. Files stay, too, where the
    registry cannot be asked, and in a remote archive, where looking takes a request for each: a file that nothing
    registers does no harm and is taken, or replaced, by a repetition.
    """
    places = {relpath: f"{local_path(root)}/{relpath}" for relpath in relpaths}
    if not places or not is_local(root):
        return

    def work(conn: sa.Connection) -> None:
        taken = {relpath for _, relpath in files_at(conn, [(archive, relpath) for relpath in places])}
        for relpath in places.keys() - taken:
            Path(places[relpath]).unlink(missing_ok=True)

    with suppress(DbbError):  # whoever calls has an error of its own to tell
        db.write(work)


def check_brought(root: str, relpaths: Iterable[str]) -> None:
    """Raise IntegrityError if a file that is about to be registered is gone from its local archive; see `withdraw`."""
    if not is_local(root):
        return
    for relpath in relpaths:
        if not os.path.isfile(f"{local_path(root)}/{relpath}"):
            raise IntegrityError(
                f"{relpath} is gone from the archive at {root}, another process removed it meanwhile: run it again"
            )
