"""Making a registry: tables, schema version, and the filetypes of its camera."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from dbb import __version__
from dbb.errors import ConflictError, DbbError
from dbb.filetypes import Filetype
from dbb.mapper import Mapper
from dbb.plugins import plugins
from dbb.registry._connect import outside_transaction
from dbb.registry._runtables import metadata
from dbb.registry._tables import SCHEMA_VERSION, dbb_schema, now
from dbb.registry._turns import describe, run_transaction
from dbb.registry.filetypes import register_filetypes


def create_registry(engine: sa.Engine, mapper: str | None, *, dry_run: bool = False) -> None:
    """Make the tables of a registry with the filetypes of a camera and of plug-ins.

    Raises
    ------
    ConflictError
        If there is a registry already.
    NotFoundError
        If there is no such mapper.
    """
    camera = plugins().mapper(mapper) if mapper else None
    filetypes = plugins().filetypes() | (camera.filetypes if camera else {})
    if engine.dialect.name == "sqlite":
        if dry_run and not Path(engine.url.database or "").exists():
            return
        if not dry_run:
            _prepare_file(engine)
    run_transaction(engine, lambda conn: _create(conn, camera, filetypes), keep=lambda done: not dry_run)


def _prepare_file(engine: sa.Engine) -> None:
    database = engine.url.database
    if database and database != ":memory:":
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    try:
        with outside_transaction(engine) as conn:
            # WAL is a property of the file; it cannot be changed inside a transaction
            conn.exec_driver_sql("PRAGMA journal_mode=WAL")
    except DatabaseError as error:
        raise DbbError(f"{database} cannot be made a registry: {describe(error)}") from error


def _create(conn: sa.Connection, camera: Mapper | None, filetypes: dict[str, Filetype]) -> None:
    there = set(sa.inspect(conn).get_table_names())
    url = conn.engine.url.render_as_string()
    if "dbb_schema" in there:
        raise ConflictError(f"{url} holds a registry already: open it, or create another")
    taken = there & {*metadata.tables, *(filetype.table for filetype in filetypes.values())}
    if taken:
        raise ConflictError(f"{url} holds other tables ({', '.join(sorted(map(str, taken)))}): create another database")
    metadata.create_all(conn)
    name = camera.name if camera else None
    values = {"version": SCHEMA_VERSION, "dbb": __version__, "mapper": name, "created_date": now(conn.dialect.name)}
    conn.execute(sa.insert(dbb_schema).values(values))
    register_filetypes(conn, list(filetypes.values()), name)
