"""Archives: named roots, each a URL that fsspec can open, and which of them hold a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler

from dbb.errors import ConflictError, NotFoundError, UsageError
from dbb.registry._connect import compile_once, run_compiled
from dbb.registry._tables import ops_archive
from dbb.storage import is_local, root_url

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def add_archive(conn: sa.Connection, name: str, root: str) -> bool:
    """Register an archive; return False if it is known with the same root.

    Raises
    ------
    UsageError
        If the name is unusable.
    UnsafePathError
        If the root is; see `dbb.storage.root_url`.
    ConflictError
        If it is known with another root.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no archive name: use letters, digits and . _ -")
    url = root_url(root)
    known = archives(conn).get(name)
    if known == url:
        return False
    if known is not None:
        raise ConflictError(f"archive {name!r} is registered with root {known}, not {url}: choose another name")
    conn.execute(sa.insert(ops_archive).values(name=name, root=url))
    return True


def archives(conn: sa.Connection) -> dict[str, str]:
    """Return the root URL of each archive by name, in order of names."""
    return dict(tuple(row) for row in run_compiled(conn, _all_archives(conn.dialect), {}))


@lru_cache(maxsize=8)
def _all_archives(dialect: sa.Dialect) -> SQLCompiler:
    return compile_once(sa.select(ops_archive.c.name, ops_archive.c.root).order_by(ops_archive.c.name), dialect)


def archive_root(conn: sa.Connection, name: str) -> str:
    """Return the root URL of one archive.

    Raises
    ------
    NotFoundError
        If there is no such archive.
    """
    known = archives(conn)
    if name not in known:
        raise NotFoundError("archive", name, known, "Add it with 'dbb archive add'")
    return known[name]


def archive_order(roots: Mapping[str, str], preferred: Sequence[str]) -> tuple[str, ...]:
    """Return all archives in the order in which their copies of a file are taken: `preferred`, then local, then others.

    Raises
    ------
    NotFoundError
        If a preferred archive is not among `roots`.
    """
    for name in preferred:
        if name not in roots:
            raise NotFoundError("archive", name, roots)
    rest = sorted((name for name in roots if name not in preferred), key=lambda name: (not is_local(roots[name]), name))
    return (*preferred, *rest)
