"""The rows of an exported folder beside a registry: each checked, and loaded into temporary tables of plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from dbb.errors import TableError
from dbb.exchange.content import own_tables, references
from dbb.exchange.fetch import is_time
from dbb.exchange.manifest import Manifest, Part
from dbb.exchange.parquet import check_file, read_batches
from dbb.filetypes import Filetype
from dbb.patterns import is_safe_path
from dbb.registry._insert import insert_columns
from dbb.registry._tables import BIG, metadata_table, ops_filetype, ops_filetype_metadata
from dbb.registry.relpaths import HERE
from dbb.storage import root_url

Progress = Callable[[int], object]
MOST = 1 << 62
"""Numbers of files, tasks and runs are below this: there is room for as many again."""
_TEXTS = {
    ("desfile", "md5sum"): "[0-9a-f]{32}",
    ("desfile", "sha256"): "[0-9a-f]{64}",
    ("desfile", "compression"): r"(\.[A-Za-z0-9]{1,9})?",
    ("ops_archive", "name"): "[A-Za-z0-9][A-Za-z0-9._-]{0,99}",
    ("overlap_version", "name"): "[A-Za-z0-9][A-Za-z0-9._+-]{0,99}",
    ("ops_proctag_def", "tag"): "[A-Za-z0-9][A-Za-z0-9._+-]{0,99}",
    ("pfw_unit", "unitname"): "[A-Za-z0-9][A-Za-z0-9.+_-]{0,199}",
    ("certified_calibration", "valid_start"): "[0-9]{4}-[0-9]{2}-[0-9]{2}",
    ("certified_calibration", "valid_end"): "[0-9]{4}-[0-9]{2}-[0-9]{2}",
}
_NOT_NEGATIVE = {("desfile", "filesize"), ("tar_member", "position"), ("tar_member", "filesize")}


def incoming_tables(manifest: Manifest) -> dict[str, sa.Table]:
    """Return the tables that a folder may have rows of, by name, with those of its filetypes.

    Raises
    ------
    TableError
        If it has rows of another table.
    """
    described = (ops_filetype, ops_filetype_metadata)
    known = {name: table for name, table in own_tables().items() if table not in described}
    owner = sa.MetaData()
    for name, filetypes in _sharing(manifest.filetypes.values()).items():
        if name in own_tables() or name.startswith("dbb_"):
            raise TableError(f"filetype {filetypes[0].name}: the table {name} is one of dbb's own")
        columns = {column.name.lower(): column for filetype in filetypes for column in filetype.columns}
        known[name] = metadata_table(owner, name, columns.values())
    for part in manifest.parts:
        if part.table not in known:
            raise TableError(f"{part.path}: there is no table {part.table} in a registry with these filetypes")
    return known


def _sharing(filetypes: Any) -> dict[str, list[Filetype]]:
    found: dict[str, list[Filetype]] = {}
    for filetype in filetypes:
        if filetype.table is not None:
            found.setdefault(filetype.table, []).append(filetype)
    return found


def check_folder(folder: Path, manifest: Manifest, tables: Mapping[str, sa.Table]) -> None:
    """Look at the columns of all files, before anything is written.

    Raises
    ------
    TableError
        If one has not the columns and rows that it must have.
    """
    for part in manifest.parts:
        check_file(folder / part.path, tables[part.table], part.rows)


def incoming(table: sa.Table) -> sa.Table:
    """Return the temporary table for the rows of a table: the same columns with plain values, and the same key."""
    name = f"in_{table.name}"
    columns = [sa.Column(column.name, _plain(column)) for column in table.columns]
    key = [sa.PrimaryKeyConstraint(*(column.name for column in table.primary_key.columns))]
    return sa.Table(name, sa.MetaData(), *columns, *(key if table.primary_key.columns else []), prefixes=["TEMPORARY"])


def _plain(column: sa.Column[Any]) -> Any:
    if is_time(column):
        return sa.Double()
    return BIG if isinstance(column.type, sa.Integer) else column.type


def load(
    conn: sa.Connection, folder: Path, manifest: Manifest, tables: Mapping[str, sa.Table], progress: Progress | None
) -> dict[str, sa.Table]:
    """Make and fill the temporary tables, also those without rows; return them by the names of the tables.

    Raises
    ------
    TableError
        If a value is none that a registry would have taken.
    """
    done, made = 0, {name: incoming(table) for name, table in tables.items()}
    for table in made.values():
        conn.execute(sa.schema.CreateTable(table))
    for part in manifest.parts:
        for batch in read_batches(folder / part.path):
            _check(folder, part, tables[part.table], batch)
            if batch.num_rows:
                columns = [values.to_pylist() for values in batch.columns]
                insert_columns(conn, made[part.table], dict(zip(batch.schema.names, columns, strict=True)))
            done += batch.num_rows
            if progress is not None:
                progress(done)
    if conn.dialect.name == "postgresql":
        for table in made.values():
            conn.exec_driver_sql(f"ANALYZE {table.name}")
    return made


def _check(folder: Path, part: Part, table: sa.Table, batch: Any) -> None:
    """Check the values of a record batch, column by column."""
    for name, why in _faults(table, batch):
        raise TableError(f"{folder / part.path}, column {name}: {why}")


def _faults(table: sa.Table, batch: Any) -> Iterator[tuple[str, str]]:
    numbers = dict(references(table))
    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        place = table.name, name
        if not table.c[name].nullable and values.null_count:
            yield name, "a value is missing"
        if values.type == pa.string() and pc.any(pc.match_substring(values, "\x00")).as_py():
            yield name, "a text cannot hold a NUL character"
        if values.type == pa.float64() and pc.all(pc.is_finite(values)).as_py() not in {True, None}:
            yield name, "expected finite numbers"
        if place in _TEXTS and (bad := _unlike(values, _TEXTS[place])):
            yield name, f"{bad[:80]!r} is no such value"
        least = 1 if name in numbers else 0
        if name in numbers or place in _NOT_NEGATIVE:
            low, high = pc.min_max(values).as_py().values()
            if low is not None and not (least <= low and high < MOST):
                yield name, f"the numbers {low} to {high} cannot be"
    if table.name == "file_archive_info":
        yield from _unsafe_places(batch)
    if table.name == "ops_archive":
        yield from _unusable_roots(batch)


def _unlike(values: Any, pattern: str) -> str | None:
    fits = pc.match_substring_regex(values, f"^(?:{pattern})$")
    wrong = values.filter(pc.invert(fits))
    return str(wrong[0]) if len(wrong) else None


def _unsafe_places(batch: Any) -> Iterator[tuple[str, str]]:
    paths, names, suffixes = (batch.column(name).to_pylist() for name in ("path", "filename", "compression"))
    for path in set(paths):
        if path != HERE and not is_safe_path(path):
            yield "path", f"{path[:80]!r} is refused: it must be relative, without '.', '..' or any of [ ] * ? \\"
    for name, suffix in zip(names, suffixes, strict=True):
        if "/" in name or not is_safe_path(name + suffix):
            yield "filename", f"{name[:80]!r} is refused: it must be a name without / or any of [ ] * ? \\"


def _unusable_roots(batch: Any) -> Iterator[tuple[str, str]]:
    for root in batch.column("root").to_pylist():
        if root_url(root) != root:
            yield "root", f"{root[:80]!r} is no root of an archive"
