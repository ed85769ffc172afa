"""Tars and reference catalogues in the registry: which members a tar has, and which tar a catalogue is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dbb.errors import ConflictError, NotFoundError
from dbb.members import Member
from dbb.refcats.shards import GENERAL, README
from dbb.registry._connect import one_of
from dbb.registry._insert import insert_rows
from dbb.registry._tables import now, refcat, tar_member

_MEMBER = (tar_member.c.member, tar_member.c.position, tar_member.c.filesize)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A reference catalogue: its name, the id of its tar, the HTM depth of its shards, the tar's leading folder."""

    name: str
    tar_id: int
    depth: int
    folder: str


def catalogue_tars(conn: sa.Connection) -> dict[str, tuple[int, int]]:
    """Return the id of the tar and the depth of each catalogue by name."""
    rows = conn.execute(sa.select(refcat.c.name, refcat.c.tar_id, refcat.c.depth).order_by(refcat.c.name))
    return {name: (tar, depth) for name, tar, depth in rows}


def catalogue(conn: sa.Connection, name: str) -> Catalogue:
    """Return one catalogue.

    Raises
    ------
    NotFoundError
        If it is not registered.
    """
    known = catalogue_tars(conn)
    if name not in known:
        raise NotFoundError("reference catalogue", name, known, "Register it with 'dbb refcat add'")
    tar, depth = known[name]
    member = _binary(conn, tar_member.c.member)
    ends = sa.select(sa.func.min(member), sa.func.max(member)).where(tar_member.c.tar_id == tar)
    first, last = conn.execute(ends).one()
    folder, slash, _ = (first or "").partition("/")
    # what is sorted between two texts begins as both of them do
    return Catalogue(name, tar, depth, folder + slash if slash and last.startswith(folder + slash) else "")


def _binary(conn: sa.Connection, column: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Return `column` ordered by its bytes: PostgreSQL may have been told an order that skips slashes."""
    return column.collate("C") if conn.dialect.name == "postgresql" else column


def general_members(conn: sa.Connection, chosen: Catalogue) -> list[Member]:
    """Return the members of a catalogue that every job gets."""
    member, folder = _binary(conn, tar_member.c.member), chosen.folder
    begin = folder + README
    named = tar_member.c.member.in_([folder + name for name in GENERAL])
    described = sa.and_(member >= begin, member < begin[:-1] + chr(ord(begin[-1]) + 1))
    statement = sa.select(*_MEMBER).where(tar_member.c.tar_id == chosen.tar_id, sa.or_(named, described))
    return _below(conn, statement)


def named_members(conn: sa.Connection, chosen: Catalogue, names: Sequence[str]) -> list[Member]:
    """Return those of the members called `names`, below the leading folder, that there are."""
    wanted = one_of(tar_member.c.member, [chosen.folder + name for name in names], conn.dialect.name)
    return _below(conn, sa.select(*_MEMBER).where(tar_member.c.tar_id == chosen.tar_id, wanted))


def all_members(conn: sa.Connection, tar: int) -> list[Member]:
    """Return every member of a tar, in the order of their bytes."""
    return _below(conn, sa.select(*_MEMBER).where(tar_member.c.tar_id == tar))


def _below(conn: sa.Connection, statement: sa.Select[Any]) -> list[Member]:
    return [
        Member(name, at, size)
        for name, at, size in conn.execute(statement.order_by(tar_member.c.position, tar_member.c.member))
    ]


def is_indexed(conn: sa.Connection, tar: int) -> bool:
    """Whether the members of a tar are known."""
    return bool(conn.scalar(sa.select(sa.exists().where(tar_member.c.tar_id == tar))))


def write_members(conn: sa.Connection, tar: int, members: Iterable[Member], files: Mapping[str, int]) -> None:
    """Note the members of a tar in the place of those known before.

    Parameters
    ----------
    conn
        In a write transaction.
    tar
        The tar's id.
    members
        All of them.
    files
        Id of the registered file that a member is, by the member's name; in addition to those known before.

    Raises
    ------
    ConflictError
        If a member that is a registered file is no longer there.
    """
    here = tar_member.c.tar_id == tar
    known = sa.select(tar_member.c.member, tar_member.c.desfile_id).where(here, tar_member.c.desfile_id.is_not(None))
    kept = {row.member: row.desfile_id for row in conn.execute(known)} | dict(files)
    rows = [(tar, one.name, one.position, one.size, kept.pop(one.name, None)) for one in members]
    if kept:
        raise ConflictError(f"the tar no longer holds {next(iter(kept))!r}, which is registered as a file")
    conn.execute(sa.delete(tar_member).where(here))
    insert_rows(conn, tar_member, ("tar_id", "member", "position", "filesize", "desfile_id"), rows)


def write_catalogue(conn: sa.Connection, name: str, tar: int, depth: int) -> None:
    """Note which tar a catalogue is, in the place of another one."""
    values = {"name": name, "tar_id": tar, "depth": depth, "created_date": now(conn.dialect.name)}
    conn.execute(sa.delete(refcat).where(refcat.c.name == name))
    conn.execute(sa.insert(refcat).values(values))
