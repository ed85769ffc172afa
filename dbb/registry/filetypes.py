"""Filetypes as the registry keeps them, and their metadata tables: a new one needs no code and no migration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from dbb.errors import ConflictError, UsageError
from dbb.filetypes import Column, Filetype
from dbb.patterns import Pattern, parse_pattern
from dbb.registry._tables import column_type, desfile, metadata_table, ops_filetype, ops_filetype_metadata

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


class StoredFiletypes(Mapping[str, Filetype]):
    """The registered filetypes by name, each made when it is asked for: a job needs three of a hundred.

    Parameters
    ----------
    conn
        Used now, and not kept.
    """

    def __init__(self, conn: sa.Connection) -> None:
        known = sa.select(ops_filetype).order_by(ops_filetype.c.filetype)
        self._rows = {row.filetype: row for row in conn.execute(known)}
        self._columns: dict[str, list[Sequence[Any]]] = {}
        described = ops_filetype_metadata.c
        names = ("filetype", "column_name", "column_type", "source", "required")
        chosen = [described[name] for name in names]
        statement = sa.select(*chosen, described.key_position).order_by(described.filetype, described.position)
        for filetype, *column in conn.execute(statement):
            self._columns.setdefault(filetype, []).append(column)
        self._made: dict[str, Filetype] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, name: str) -> Filetype:
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Filetype:
        row, columns = self._rows[name], self._columns.get(name, [])
        keys = sorted((place, column) for column, *_, place in columns if place is not None)
        return Filetype(
            name=name,
            dataset=row.dataset_type,
            table=row.metadata_table,
            columns=tuple(Column(*column) for *column, _ in columns),
            keys=tuple(column for _, column in keys),
            description=row.description or "",
            directory=row.directory and parse_pattern(row.directory),
            name_pattern=row.name_pattern and parse_pattern(row.name_pattern),
            mapper=row.mapper,
        )

    def mapper_of(self, name: str) -> str | None:
        """Return the name of a filetype's camera."""
        mapper: str | None = self._rows[name].mapper
        return mapper

    def of_dataset(self, dataset: str) -> str | None:
        """Return the filetype of a Butler dataset type, compared without regard to case."""
        wanted = dataset.lower()
        return next((name for name, row in self._rows.items() if (row.dataset_type or "").lower() == wanted), None)

    def sharing(self, table: str) -> list[str]:
        """Return the filetypes whose metadata are in `table`."""
        return [name for name, row in self._rows.items() if row.metadata_table == table]


def register_filetypes(conn: sa.Connection, filetypes: Sequence[Filetype], mapper: str | None) -> list[str]:
    """Add filetypes with their tables; return those that changed.

    A known one may have gained columns, and where its files lie and its metadata are found may be another place now.

    Raises
    ------
    UsageError
        If a column or table has a name that dbb keeps for itself.
    ConflictError
        If a known filetype has another data id, table, or type of a column now.
    """
    known = StoredFiletypes(conn)
    changed = []
    for filetype in filetypes:
        _check_names(filetype)
        old = known.get(filetype.name)
        if old is None:
            _add(conn, filetype, mapper)
        fresh = list(filetype.columns) if old is None else _new_columns(old, filetype)
        if old is None or fresh:
            _add_columns(conn, filetype, fresh, 0 if old is None else len(old.columns))
        if old is not None and old.table is None and filetype.table is not None:
            _give_table(conn, filetype.name, filetype.table)
        moved = old is not None and _describe(conn, old, filetype)
        changed += [filetype.name] if old is None or fresh or moved else []
    return changed


def _check_names(filetype: Filetype) -> None:
    from dbb.registry._runtables import metadata  # jobs that only read filetypes need not know of runs

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
            directory=_text(filetype.directory),
            name_pattern=_text(filetype.name_pattern),
        )
    )


def _text(pattern: Pattern | None) -> str | None:
    return None if pattern is None else pattern.text


def _describe(conn: sa.Connection, old: Filetype, new: Filetype) -> bool:
    """Note what may change of a known filetype: its patterns, its description, the sources of its columns."""
    if (old.description, old.directory, old.name_pattern) != (new.description, new.directory, new.name_pattern):
        values = {
            "description": new.description,
            "directory": _text(new.directory),
            "name_pattern": _text(new.name_pattern),
        }
        conn.execute(sa.update(ops_filetype).where(ops_filetype.c.filetype == new.name).values(values))
        changed = True
    else:
        changed = False
    sources = {column.name.lower(): column.source for column in old.columns}
    described = ops_filetype_metadata
    for column in new.columns:
        if sources.get(column.name.lower(), column.source) != column.source:
            this = (described.c.filetype == new.name, sa.func.lower(described.c.column_name) == column.name.lower())
            conn.execute(sa.update(described).where(*this).values(source=column.source))
            changed = True
    return changed


def _give_table(conn: sa.Connection, filetype: str, name: str) -> None:
    """Tie a filetype that had no columns to its table, which gets a row for each of its files."""
    tied = sa.update(ops_filetype).where(ops_filetype.c.filetype == filetype).values(metadata_table=name)
    conn.execute(tied)
    files = sa.select(desfile.c.id).where(desfile.c.filetype == filetype)
    conn.execute(sa.insert(metadata_table(sa.MetaData(), name, ())).from_select(["desfile_id"], files))


def _add_columns(conn: sa.Connection, filetype: Filetype, columns: Sequence[Column], first: int) -> None:
    rows = [
        {
            "filetype": filetype.name,
            "column_name": column.name,
            "column_type": column.type,
            "source": column.source,
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
