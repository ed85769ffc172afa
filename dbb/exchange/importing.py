"""An exported folder into a registry: an empty one, or one that knows some of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from dbb.errors import ConflictError, TableError
from dbb.exchange.conflicts import find_conflicts
from dbb.exchange.content import FILE, RUN, TASK, references
from dbb.exchange.fetch import is_time
from dbb.exchange.incoming import Progress, check_folder, incoming_tables, load
from dbb.exchange.manifest import Manifest, read_manifest
from dbb.exchange.renumber import (
    NUMBERS,
    Incoming,
    check_references,
    make_maps,
    number_files,
    number_overlaps,
    number_runs,
    number_tasks,
)
from dbb.filetypes import Filetype
from dbb.keys import CameraKeys
from dbb.plugins import plugins
from dbb.registry import Database
from dbb.registry._tables import dbb_schema, desfile, metadata_table, overlap_version, pfw_attempt, proctag, task
from dbb.registry.calibs import CalibrationType, certified_ranges, check_disjoint
from dbb.registry.files import Refusal
from dbb.registry.filetypes import StoredFiletypes, register_filetypes


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: files and runs that are new and that were known, and what contradicts the registry.

    If anything does, nothing was changed.
    """

    added: int
    known: int
    runs: int
    refused: tuple[Refusal, ...] = ()


def import_folder(
    db: Database, folder: str | os.PathLike[str], *, dry_run: bool = False, progress: Progress | None = None
) -> Imported:
    """Bring what `export_registry` wrote into a registry.

    Parameters
    ----------
    db
        The registry. One without files and runs is the exported one afterwards, number by number; otherwise what is
        known stays as it is, and what is new gets new numbers.
    folder
        The folder.
    dry_run
        Do everything, then undo it.
    progress
        Called with the number of rows read.

    Raises
    ------
    NotFoundError
        If there is no manifest in `folder`.
    IntegrityError, TableError, UsageError, UnsafePathError
        If a file of the folder is absent, broken, or holds what no registry would have taken.
    SchemaVersionError
        If it is of another schema.
    ConflictError
        If the registries are of different cameras, or a filetype or validity ranges contradict each other.

    Notes
    -----
    All files are checked first. One transaction; a fixed number of statements for each table, whatever its length.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    tables = incoming_tables(manifest)
    check_folder(folder, manifest, tables)
    if None not in (manifest.mapper, db.mapper_name) and manifest.mapper != db.mapper_name:
        raise ConflictError(f"{folder} is of a registry for {manifest.mapper}, this one is for {db.mapper_name}")
    work = _Import(db, folder, manifest, tables, progress)
    done = db.write(work.run, keep=lambda done: not (dry_run or done.refused))
    if not (dry_run or done.refused):
        db.forget_filetypes()
        db.mapper_name = db.mapper_name or manifest.mapper
        db.optimize(done.added)
    return done


class _Import:
    """One import, which may be run again from its beginning."""

    def __init__(
        self, db: Database, folder: Path, manifest: Manifest, tables: Mapping[str, sa.Table], progress: Progress | None
    ) -> None:
        self._db, self._folder, self._manifest, self._tables, self._progress = db, folder, manifest, tables, progress

    def run(self, conn: sa.Connection) -> Imported:
        _add_filetypes(conn, self._manifest.filetypes)
        if self._db.mapper_name is None:
            conn.execute(sa.update(dbb_schema).values(mapper=self._manifest.mapper))
        given = load(conn, self._folder, self._manifest, self._tables, self._progress)
        make_maps(conn)
        for number in (number_overlaps, number_runs, number_tasks, number_files):
            number(conn, given)
        check_references(conn, self._tables, given)
        done = self._counted(conn, find_conflicts(conn, given))
        if not done.refused:
            for name, table in self._tables.items():
                _insert(conn, table, given[name])
            _give_records(conn, given)
            _check_calibrations(conn, given)
            if conn.dialect.name == "postgresql":
                _advance(conn)
        for table in (*given.values(), *NUMBERS.values()):
            conn.execute(sa.schema.DropTable(table))
        return done

    def _counted(self, conn: sa.Connection, refused: list[Refusal]) -> Imported:
        if refused:
            return Imported(0, 0, 0, tuple(refused))
        fresh, known = (_count(conn, FILE, fresh=fresh) for fresh in (True, False))
        return Imported(fresh, known, _count(conn, RUN, fresh=True))


def _count(conn: sa.Connection, kind: str, *, fresh: bool) -> int:
    statement = sa.select(sa.func.count()).where(NUMBERS[kind].c.fresh == sa.literal(fresh))
    return conn.scalar(statement) or 0


def _add_filetypes(conn: sa.Connection, filetypes: Mapping[str, Filetype]) -> None:
    """Add filetypes and columns that are new; where files of known ones lie is what the registry says."""
    known = StoredFiletypes(conn)
    for name, filetype in filetypes.items():
        merged = _merged(known[name], filetype) if name in known else filetype
        register_filetypes(conn, [merged], filetype.mapper)


def _merged(old: Filetype, new: Filetype) -> Filetype:
    sources = {column.name.lower(): column.source for column in old.columns}
    columns = tuple(replace(one, source=sources.get(one.name.lower(), one.source)) for one in new.columns)
    kept = {"description": old.description, "directory": old.directory, "name_pattern": old.name_pattern}
    return replace(new, columns=columns, **kept)  # type: ignore[arg-type]  # each of its own type


def _insert(conn: sa.Connection, table: sa.Table, given: sa.Table) -> None:
    """Insert the rows of a table that are not there, with their new numbers."""
    source: sa.FromClause = given
    columns: dict[str, sa.ColumnElement[Any]] = {column.name: _stored(column, given, conn) for column in table.columns}
    maps: dict[str, sa.FromClause] = {}
    for name, kind in references(table):
        numbers = maps[name] = NUMBERS[kind].alias(f"number_{len(maps)}")
        source = source.join(numbers, numbers.c.old == given.c[name], isouter=bool(table.c[name].nullable))
        columns[name] = numbers.c.new
    if table is proctag:
        # after the runs that have the tag already
        last = sa.select(sa.func.max(proctag.c.position) + 1).where(proctag.c.tag == given.c.tag).scalar_subquery()
        columns["position"] = given.c.position + sa.func.coalesce(last, 0)
    chosen = sa.select(*columns.values()).select_from(source).where(*_conditions(table, maps))
    insert = (postgresql if conn.dialect.name == "postgresql" else sqlite).insert(table)
    conn.execute(insert.from_select(list(columns), chosen.where(sa.true())).on_conflict_do_nothing())


def _stored(column: sa.Column[Any], given: sa.Table, conn: sa.Connection) -> sa.ColumnElement[Any]:
    value = given.c[column.name]
    return sa.func.to_timestamp(value) if conn.dialect.name == "postgresql" and is_time(column) else value


def _conditions(table: sa.Table, maps: Mapping[str, sa.FromClause]) -> Iterator[sa.ColumnElement[bool]]:
    """Give the conditions on the rows of tables whose key does not tell whether they are there already."""
    if table in (desfile, task, pfw_attempt, overlap_version):
        yield maps["id"].c.fresh
    elif not table.primary_key.columns:
        # rows without a key come with what they are about
        names = [name for name in ("task_id", "child_desfile_id") if name in maps]
        yield sa.or_(*(sa.func.coalesce(maps[name].c.fresh, sa.false()) for name in names))


def _give_records(conn: sa.Connection, given: Incoming) -> None:
    """Let known runs that had none have the record that came with them."""
    runs, numbers, tasks = given["pfw_attempt"], NUMBERS[RUN], NUMBERS[TASK]
    record = (
        sa.select(tasks.c.new)
        .where(tasks.c.old == runs.c.task_id, numbers.c.old == runs.c.id, numbers.c.new == pfw_attempt.c.id)
        .scalar_subquery()
    )
    conn.execute(sa.update(pfw_attempt).where(pfw_attempt.c.task_id.is_(None)).values(task_id=record))


def _check_calibrations(conn: sa.Connection, given: Incoming) -> None:
    known = StoredFiletypes(conn)
    certified = given["certified_calibration"].c
    for version, name in conn.execute(sa.select(certified.version, certified.filetype).distinct()).all():
        filetype = known.get(name)
        if filetype is None or filetype.table is None:
            raise TableError(f"{name} is certified in version {version}, but is no filetype with a data id")
        keys = CameraKeys() if filetype.mapper is None else plugins().mapper(filetype.mapper).keys
        table = metadata_table(sa.MetaData(), filetype.table, filetype.columns)
        kind = CalibrationType(filetype, table, keys.calib_date)
        check_disjoint(version, kind, certified_ranges(conn, version, kind))


def _advance(conn: sa.Connection) -> None:
    """Let the sequences of PostgreSQL go on after the numbers that are taken now."""
    for table in (desfile, task, pfw_attempt, overlap_version):
        sequence = f"{table.name}_id_seq"
        highest = sa.select(sa.func.max(table.c.id)).scalar_subquery()
        last = sa.select(sa.column("last_value")).select_from(sa.table(sequence)).scalar_subquery()
        conn.execute(sa.select(sa.func.setval(sequence, sa.func.greatest(highest, last))))
