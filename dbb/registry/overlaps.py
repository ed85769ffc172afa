"""Overlap versions (tract, patch, visit, ccd), visit tags and the blacklist: facts about exposures, not about files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from dbb.errors import UsageError
from dbb.registry._connect import insert_missing, insert_rows
from dbb.registry._tables import EVERY_CCD, blacklist, now, overlap, overlap_version, visit_tag

OVERLAP_COLUMNS = ("tract", "patch", "visit", "ccd")
OverlapRow = tuple[int, str, int, int]


def load_overlaps(conn: sa.Connection, version: str, rows: Sequence[OverlapRow], source: str) -> int:
    """Add rows to an overlap version, which is made if it is new; return how many were new.

    Patches are in their stored spelling, ``8x6``.
    """
    if not version:
        raise UsageError("an overlap version needs a name")
    dialect = conn.dialect.name
    insert_missing(conn, overlap_version, [{"name": version, "source": source, "created_date": now(dialect)}])
    number = conn.scalar(sa.select(overlap_version.c.id).where(overlap_version.c.name == version))
    statement = sa.select(*(overlap.c[name] for name in OVERLAP_COLUMNS)).where(overlap.c.overlap_version_id == number)
    there = {tuple(row) for row in conn.execute(statement)}
    fresh = [row for row in dict.fromkeys(rows) if row not in there]
    insert_rows(conn, overlap, ("overlap_version_id", *OVERLAP_COLUMNS), [(number, *row) for row in fresh])
    return len(fresh)


def overlap_versions(conn: sa.Connection) -> list[tuple[str, int]]:
    """Return name and number of rows of each overlap version."""
    statement = (
        sa.select(overlap_version.c.name, sa.func.count(overlap.c.visit))
        .outerjoin(overlap, overlap.c.overlap_version_id == overlap_version.c.id)
        .group_by(overlap_version.c.name)
        .order_by(overlap_version.c.name)
    )
    return [(name, count) for name, count in conn.execute(statement)]


def tag_visits(conn: sa.Connection, tag: str, visits: Iterable[int]) -> None:
    """Give `tag` to visits; those that have it already keep it."""
    insert_missing(conn, visit_tag, [{"tag": tag, "visit": visit} for visit in dict.fromkeys(visits)])


def blacklist_exposures(conn: sa.Connection, rows: Iterable[tuple[int, int | None, str, str | None]]) -> None:
    """Put exposures on the blacklist: visit, ccd (None for all of the visit), reason code, remark."""
    entries: list[dict[str, object]] = [
        {"visit": visit, "ccd": EVERY_CCD if ccd is None else ccd, "reason": reason, "remark": remark}
        for visit, ccd, reason, remark in rows
    ]
    insert_missing(conn, blacklist, entries)
