"""Overlap versions (tract, patch, visit, ccd), visit tags and the blacklist: facts about exposures, not about files."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler

from dbb.errors import ConflictError, MissingError, NotFoundError, UsageError
from dbb.registry._connect import compile_once, rows_table, run_compiled
from dbb.registry._insert import insert_missing
from dbb.registry._tables import EVERY_CCD, blacklist, now, overlap, overlap_version, visit_tag

OVERLAP_COLUMNS = ("tract", "patch", "visit", "ccd")
OverlapRow = tuple[int, str, int, int]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


@dataclass(frozen=True, slots=True)
class OverlapVersion:
    """An overlap version.

    Parameters
    ----------
    id
        Its number in the registry.
    name
        What it is called.
    live
        Whether it has no rows, but a sky map that overlaps are found with from the corners of images when asked for.
    skymap
        The sky map as TOML, if there is one.
    source
        What it was made from.
    """

    id: int
    name: str
    live: bool
    skymap: str | None
    source: str | None

    @property
    def skymap_name(self) -> str | None:
        """What its sky map is called."""
        return None if self.skymap is None else str(tomllib.loads(self.skymap)["name"])

    @property
    def way(self) -> str:
        """How it answers, for people."""
        return f"{self.name} (corners and sky map {self.skymap_name})" if self.live else f"{self.name} (table)"


def find_version(conn: sa.Connection, name: str | None) -> OverlapVersion:
    """Return the overlap version called `name`, or the one that there is.

    Raises
    ------
    NotFoundError
        If there is none of that name.
    MissingError
        If there is none at all.
    UsageError
        If there are several and none was named.
    """
    known = {version.name: version for version in _versions(conn)}
    if name is not None and name not in known:
        raise NotFoundError("overlap version", name, known, "Make it with 'dbb overlaps load', compute or live")
    if not known:
        raise MissingError(
            "tract and patch of exposures need an overlap table: load one with 'dbb overlaps load', or make one from a"
            " sky map with 'dbb overlaps compute' or 'dbb overlaps live'"
        )
    if name is None and len(known) > 1:
        raise UsageError(f"several overlap versions are loaded ({', '.join(sorted(known))}): say which with --overlaps")
    return known[name] if name is not None else next(iter(known.values()))


def _versions(conn: sa.Connection) -> list[OverlapVersion]:
    rows = run_compiled(conn, _all_versions(conn.dialect), {})
    return [OverlapVersion(id_, name, bool(live), skymap, source) for id_, name, live, skymap, source in rows]


@lru_cache(maxsize=8)
def _all_versions(dialect: sa.Dialect) -> SQLCompiler:
    columns = overlap_version.c
    statement = sa.select(columns.id, columns.name, columns.live, columns.skymap, columns.source)
    return compile_once(statement.order_by(columns.name), dialect)


def make_version(
    conn: sa.Connection, name: str, source: str, *, skymap: str | None = None, live: bool = False
) -> tuple[OverlapVersion, bool]:
    """Return the overlap version called `name`, made if it is new, and whether it was.

    Raises
    ------
    ConflictError
        If it is there, but of the other kind or with another sky map.
    UsageError
        If a new one cannot have this name.
    """
    known = next((version for version in _versions(conn) if version.name == name), None)
    if known is None:
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name[:60]!r} is no name of an overlap version: use letters, digits and . _ + -")
        row: dict[str, object] = {
            "name": name,
            "source": source,
            "created_date": now(conn.dialect.name),
            "skymap": skymap,
            "live": live,
        }
        insert_missing(conn, overlap_version, [row])
        return find_version(conn, name), True
    if known.live != live:
        is_kind = "found from corners and a sky map" if known.live else "a table of rows"
        raise ConflictError(f"overlap version {name} is {is_kind}: choose another name")
    if known.skymap != skymap:
        what = "no sky map" if known.skymap is None else f"another sky map ({known.skymap_name})"
        if skymap is None:
            raise ConflictError(f"overlap version {name} is computed from a sky map: load into another version")
        raise ConflictError(f"overlap version {name} has {what}: choose another name")
    return known, False


def add_overlaps(conn: sa.Connection, version: OverlapVersion, rows: Sequence[OverlapRow]) -> int:
    """Add rows to an overlap version; return how many were new.

    Patches are in their stored spelling, ``8x6``. One statement, however many rows.
    """
    if not rows:
        return 0
    from sqlalchemy.dialects import postgresql, sqlite

    dialect = conn.dialect.name
    given = rows_table(rows, OVERLAP_COLUMNS, dialect, texts=("patch",))
    # SQLite takes ON CONFLICT after a SELECT only if that has a WHERE
    chosen = sa.select(sa.literal(version.id), *given.c).where(given.c.visit.is_not(None))
    insert = (postgresql if dialect == "postgresql" else sqlite).insert(overlap)
    statement = insert.from_select(["overlap_version_id", *OVERLAP_COLUMNS], chosen).on_conflict_do_nothing()
    return conn.execute(statement, execution_options={"preserve_rowcount": True}).rowcount


def overlap_versions(conn: sa.Connection) -> list[tuple[OverlapVersion, int]]:
    """Return each overlap version and its number of rows."""
    statement = sa.select(overlap.c.overlap_version_id, sa.func.count()).group_by(overlap.c.overlap_version_id)
    counts = dict(tuple(row) for row in conn.execute(statement))
    return [(version, counts.get(version.id, 0)) for version in _versions(conn)]


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
