"""What marks an SQLite file as a snapshot: a copy of some of a registry, that is never written to."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from urllib.parse import quote, unquote, urlencode

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from dbb.errors import ConflictError
from dbb.registry._tables import TIMESTAMP

SNAPSHOT_ID = int.from_bytes(b"dbbs")
"""The application id in the head of the file, which is read before anything else is done with it."""

dbb_snapshot = sa.Table(
    "dbb_snapshot",
    sa.MetaData(),  # its own: only snapshots have this table
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("chosen", sa.Text, nullable=False),
    sa.Column("files", sa.BigInteger, nullable=False),
    sa.Column("dbb", sa.Text, nullable=False),
    sa.Column("created_date", TIMESTAMP, nullable=False),
)


IMMUTABLE = {"mode": "ro", "immutable": "1"}
"""How a file is opened that nobody writes: without locks, and without files beside it."""


def file_uri(path: str) -> str:
    """Return what SQLite calls the file at an absolute path in a URI; `IMMUTABLE` may follow."""
    return f"file:{quote(path)}"


def is_snapshot(path: str) -> bool:
    """Whether the SQLite file at `path` is a snapshot.

    Notes
    -----
    It is asked through SQLite: closing a file that it has open elsewhere in the process would lose its locks.
    """
    try:
        with closing(sqlite3.connect(f"{file_uri(path)}?{urlencode(IMMUTABLE)}", uri=True)) as file:
            return bool(file.execute("PRAGMA application_id").fetchone()[0] == SNAPSHOT_ID)
    except sqlite3.Error:
        return False  # whoever opens it will say what is wrong


def refuse_snapshot(engine: sa.Engine) -> None:
    """Say of which registry the snapshot behind an engine is, to somebody who wants to write to it.

    Raises
    ------
    ConflictError
        Always.
    """
    columns, path = dbb_snapshot.c, unquote((engine.url.database or "").removeprefix("file:"))
    told = "another registry"
    try:
        with engine.connect() as conn:
            row = conn.execute(sa.select(columns.source, columns.created_date)).first()
    except DatabaseError:
        row = None
    if row is not None:
        told = f"{row.source} of {datetime.fromtimestamp(row.created_date, UTC).isoformat(timespec='seconds')}"
    raise ConflictError(
        f"{path} is a snapshot of {told} and is never written to:"
        " name that registry, and make another snapshot when it has changed"
    )
