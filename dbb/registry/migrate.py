"""Bringing the schema of an older registry up to date, in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, NoResultFound

from dbb import __version__
from dbb.errors import DbbError, NotFoundError, SchemaVersionError
from dbb.registry._connect import open_engine
from dbb.registry._steps import to_2, to_3, to_4
from dbb.registry._tables import SCHEMA_VERSION, dbb_schema
from dbb.registry._turns import describe, run_transaction

STEPS: dict[int, Callable[[sa.Connection], None]] = {1: to_2, 2: to_3, 3: to_4}
"""For each older version what brings a registry to the next one; steps use frozen table shapes, not today's."""


def schema_row(engine: sa.Engine) -> Any:
    """Return the row that says which schema a registry has, which dbb made it, and for which mapper.

    Raises
    ------
    NotFoundError
        If there is no registry.
    DbbError
        If the database cannot be asked.
    """
    try:
        with engine.connect() as conn:
            return conn.execute(sa.select(dbb_schema.c.version, dbb_schema.c.dbb, dbb_schema.c.mapper)).one()
    except (DatabaseError, NoResultFound) as error:
        url = engine.url.render_as_string()
        if isinstance(error, NoResultFound) or _is_absent(error):
            raise NotFoundError("registry", url, hint=f"It holds no dbb registry ({describe(error)})") from error
        raise DbbError(f"registry {url} cannot be opened: {describe(error)}") from error


def _is_absent(error: DatabaseError) -> bool:
    reason = str(error.orig)
    return getattr(error.orig, "sqlstate", "") == "42P01" or "no such table" in reason or "not a database" in reason


def migrate(url: str, *, dry_run: bool = False) -> tuple[int, int]:
    """Migrate the registry at `url`; return its schema version before and after.

    Raises
    ------
    SchemaVersionError
        If the registry is newer than this dbb, or so old that no step is left for it.
    NotFoundError
        If there is no registry.
    """
    engine = open_engine(url)
    try:
        before = int(schema_row(engine).version)
        if before > SCHEMA_VERSION:
            raise SchemaVersionError(
                f"the registry has schema {before}, newer than {SCHEMA_VERSION} of dbb {__version__}"
            )
        missing = [version for version in range(before, SCHEMA_VERSION) if version not in STEPS]
        if missing:
            raise SchemaVersionError(f"no migration from schema {missing[0]} is known to dbb {__version__}")
        if before < SCHEMA_VERSION and not dry_run:
            run_transaction(engine, lambda conn: _run(conn, before))
        return before, SCHEMA_VERSION
    finally:
        engine.dispose()


def _run(conn: sa.Connection, before: int) -> None:
    for version in range(before, SCHEMA_VERSION):
        STEPS[version](conn)
    conn.execute(sa.update(dbb_schema).values(version=SCHEMA_VERSION, dbb=__version__))
