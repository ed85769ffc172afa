"""Filetypes as the registry keeps them, and their metadata tables: a new one needs no code and no migration."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from dbb.errors import ConflictError, UsageError
from dbb.filetypes import Column, Filetype
from dbb.registry._tables import column_type, metadata, metadata_table, ops_filetype, ops_filetype_metadata

RESERVED = frozenset(
    (
        "archive",
        "attnum",
        "blacklist",
        "compression",
        "desfile_id",
        "filename",
        "filesize",
        "filetype",
        "md5sum",
        "relpath",
        "reqnum",
        "run",
        "sha256",
        "tag",
        "unitname",
        "visit_tag",
    )
)
"""Names that mean the same for every file, and so cannot be metadata columns."""


def stored_filetypes(conn: sa.Connection) -> dict[str, tuple[Filetype, str | None]]:
    """Return each registered filetype with the name of its camera."""
    rows = conn.execute(
        sa.select(ops_filetype_metadata).order_by(ops_filetype_metadata.c.filetype, ops_filetype_metadata.c.position)
    )
    columns: dict[str, list[Column]] = {}
    keys: dict[str, list[tuple[int, str]]] = {}
    for row in rows:
        columns.setdefault(row.filetype, []).append(Column(row.column_name, row.column_type, required=row.required))
        if row.key_position is not None:
            keys.setdefault(row.filetype, []).append((row.key_position, row.column_name))
    return {
        row.filetype: (
            Filetype(
                name=row.filetype,
                dataset=row.dataset_type,
                table=row.metadata_table,
                columns=tuple(columns.get(row.filetype, ())),
                keys=tuple(name for _, name in sorted(keys.get(row.filetype, ()))),
                description=row.description or "",
            ),
            row.mapper,
        )
        for row in conn.execute(sa.select(ops_filetype).order_by(ops_filetype.c.filetype))
    }


def register_filetypes(conn: sa.Connection, filetypes: Sequence[Filetype], mapper: str | None) -> list[str]:
    """Add filetypes with their tables; a known one may have gained columns. Returns those that changed.

    Raises
    ------
    UsageError
        If a column or table has a name that dbb keeps for itself.
    ConflictError
        If a known filetype has another data id, table, or type of a column now.
    """
    known = stored_filetypes(conn)
    changed = []
    for filetype in filetypes:
        _check_names(filetype)
        old = known[filetype.name][0] if filetype.name in known else None
        if old is None:
            _add(conn, filetype, mapper)
        fresh = list(filetype.columns) if old is None else _new_columns(old, filetype)
        if old is None or fresh:
            _add_columns(conn, filetype, fresh, 0 if old is None else len(old.columns))
            changed.append(filetype.name)
    return changed


def _check_names(filetype: Filetype) -> None:
    wrong = sorted({column.name for column in filetype.columns if column.name.lower() in RESERVED})
    if wrong:
        raise UsageError(f"filetype {filetype.name}: columns {wrong} have names that mean something for every file")
    if filetype.table in metadata.tables:
        raise UsageError(f"filetype {filetype.name}: the table {filetype.table} is one of dbb's own")


def _new_columns(old: Filetype, new: Filetype) -> list[Column]:
    if (old.keys, old.table) != (new.keys, new.table) and old.columns:
        raise ConflictError(
            f"filetype {new.name} is registered with data id {old.keys} in table {old.table}, not {new.keys} in"
            f" {new.table}: give the changed one another name"
        )
    types = {column.name.lower(): column.type for column in old.columns}
    for column in new.columns:
        if types.get(column.name.lower(), column.type) != column.type:
            kept = types[column.name.lower()]
            raise ConflictError(f"filetype {new.name}: column {column.name} is registered as {kept}, not {column.type}")
    return [column for column in new.columns if column.name.lower() not in types]


def _add(conn: sa.Connection, filetype: Filetype, mapper: str | None) -> None:
    conn.execute(
        sa.insert(ops_filetype).values(
            filetype=filetype.name,
            metadata_table=filetype.table,
            description=filetype.description,
            dataset_type=filetype.dataset,
            mapper=mapper,
        )
    )


def _add_columns(conn: sa.Connection, filetype: Filetype, columns: Sequence[Column], first: int) -> None:
    rows = [
        {
            "filetype": filetype.name,
            "column_name": column.name,
            "column_type": column.type,
            "position": first + n,
            "key_position": filetype.keys.index(column.name) if column.name in filetype.keys else None,
            "required": column.required,
        }
        for n, column in enumerate(columns)
    ]
    if filetype.table is None or not rows:
        return
    conn.execute(sa.insert(ops_filetype_metadata), rows)
    inspector = sa.inspect(conn)
    if not inspector.has_table(filetype.table):
        metadata_table(sa.MetaData(), filetype.table, filetype.columns, filetype.keys).create(conn)
        return
    there = {column["name"].lower(): column["type"] for column in inspector.get_columns(filetype.table)}
    prepare = conn.dialect.identifier_preparer
    for column in columns:
        wanted = column_type(column.type)()
        if column.name.lower() not in there:
            kind = wanted.compile(conn.dialect)
            # identifiers are checked against a whitelist when a filetype is read, and quoted here
            conn.exec_driver_sql(
                f"ALTER TABLE {prepare.quote(filetype.table)} ADD COLUMN {prepare.quote(column.name.lower())} {kind}"
            )
        elif there[column.name.lower()]._type_affinity is not wanted._type_affinity:
            raise ConflictError(
                f"table {filetype.table} holds {column.name} with another type than filetype {filetype.name}"
            )
