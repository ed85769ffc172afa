"""What the database knows of the sizes of tables, and so chooses plans by; refreshed as a registry grows."""

from __future__ import annotations

import sqlalchemy as sa

from dbb.registry._tables import desfile

_FEW = 1_000  # any plan is good for so few files
_GROWN = 2  # and stays good until there are so many times as many
_MANY, _PART = 10_000, 10  # or until so many come at once that are a tenth of all: they may be of a new type
_SAMPLE = 1_000  # entries of each index that SQLite looks at, whatever its length


def are_outdated(conn: sa.Connection, added: int) -> bool:
    """Whether the statistics should be made anew, after `added` files came.

    Notes
    -----
    Two look-ups; nothing is counted.
    """
    files = conn.scalar(sa.select(sa.func.max(desfile.c.id))) or 0
    if files < _FEW:
        return False
    known = _files_known(conn)
    return known is None or files >= _GROWN * known or added >= max(_MANY, known // _PART)


def refresh(conn: sa.Connection) -> None:
    """Make the statistics of all tables anew; on SQLite from a sample, so that it takes as long for any size."""
    if conn.dialect.name == "sqlite":
        conn.exec_driver_sql(f"PRAGMA analysis_limit={_SAMPLE}")
    conn.exec_driver_sql("ANALYZE")


def _files_known(conn: sa.Connection) -> int | None:
    """Return how many files there were when the statistics were made, or None if they never were."""
    if conn.dialect.name == "postgresql":
        found = conn.exec_driver_sql("SELECT reltuples FROM pg_class WHERE oid = 'desfile'::regclass").scalar_one()
        return None if found < 0 else int(found)
    if conn.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'").first() is None:
        return None
    rows = conn.exec_driver_sql("SELECT stat FROM sqlite_stat1 WHERE tbl = 'desfile'").scalars().all()
    return max((int(stat.split()[0]) for stat in rows if stat), default=None)
