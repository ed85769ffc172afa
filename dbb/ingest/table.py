"""Registering files from a table of facts: no file is opened, and either every row goes in or none."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dbb.filetypes import Filetype
from dbb.ingest.rows import RowReader
from dbb.ingest.tables import Rows, Table
from dbb.registry import Database
from dbb.registry.archives import archive_root
from dbb.registry.files import Registered, register_files
from dbb.registry.newfiles import NewFiles
from dbb.registry.runs import ensure_run, full_run

Progress = Callable[[int], object]


def ingest_table(
    db: Database,
    source: str | os.PathLike[str] | Rows,
    *,
    archive: str,
    filetype: str | None = None,
    run: str | None = None,
    rename: Mapping[str, str] | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Registered:
    """Register the files that a table describes.

    Parameters
    ----------
    db
        The registry.
    source
        Path of a Parquet, ECSV, CSV or JSON-lines file, or rows as mappings; columns as design section 4 says.
    archive
        The archive that holds the files.
    filetype, run
        What holds for rows without a column of that name.
    rename
        Name in the table by dbb's name, e.g. ``{"relpath": "path"}``.
    dry_run
        Do everything, then undo it.
    progress
        Called with the number of rows done after each batch.

    Returns
    -------
    Registered
        If any file is refused, nothing was changed.

    Raises
    ------
    TableError
        If a row is malformed; nothing was changed.
    NotFoundError
        If archive, filetype or a column is unknown.

    Notes
    -----
    One transaction. Statements grow with batches of 5 000 rows, not with files.
    """
    table = Table(Path(source) if isinstance(source, str | os.PathLike) else source)
    if filetype is not None:
        filetype = db.filetype(filetype).name

    def work(conn: sa.Connection) -> Registered:
        archive_root(conn, archive)
        reader = row_reader(db, conn, table.name, filetype, run, rename)
        total, done = Registered(), 0
        for batch in table.batches():
            total += register_batch(db, conn, archive, reader.files(batch))
            done += batch.size
            if progress is not None:
                progress(done)
        return total

    return write_files(db, work, dry_run=dry_run)


def write_files(db: Database, work: Callable[[sa.Connection], Registered], *, dry_run: bool) -> Registered:
    """Run `work` in a transaction that counts only if every file was taken; return what it did, or would do."""
    result = db.write(work, keep=lambda done: not (dry_run or done.conflict))
    if result.conflict:
        return Registered(0, 0, result.refused, conflict=True)
    if result.added and not dry_run:
        db.optimize(result.added)
    return result


def register_batch(db: Database, conn: sa.Connection, archive: str, files: Sequence[NewFiles]) -> Registered:
    """Register files of one archive with their metadata."""
    total = Registered()
    for some in files:
        filetype = db.filetype(some.filetype)
        total += register_files(conn, archive, some, filetype, db.table(filetype))
    return total


def row_reader(
    db: Database,
    conn: sa.Connection,
    name: str,
    filetype: str | None,
    run: str | None,
    rename: Mapping[str, str] | None = None,
) -> RowReader:
    """Return what turns rows into files of `db`; runs that rows name are made where they are missing."""
    run_ids: dict[str, int] = {}

    def run_id(text: str) -> int:
        if text not in run_ids:
            run_ids[text] = ensure_run(conn, full_run(text))
        return run_ids[text]

    def derive(wanted: Filetype) -> Callable[[Mapping[str, object]], dict[str, object]] | None:
        camera = db.mapper(wanted.name)
        return None if camera is None else camera.derive

    return RowReader(name, db.filetype, run_id, derive, filetype, run, rename)


def as_dict(result: Registered) -> dict[str, Any]:
    """Return the reply that commands print as JSON."""
    refused = [{"relpath": one.relpath, "why": one.why} for one in result.refused]
    return {"added": result.added, "known": result.known, "refused": refused}
