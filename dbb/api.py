"""The registry as programs use it: `dbb.Registry`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dbb import ingest
from dbb.errors import NotFoundError
from dbb.filetypes import Filetype
from dbb.registry import Database
from dbb.registry._tables import desfile
from dbb.registry.archives import add_archive, archives
from dbb.registry.explain import Explanation, explain_files
from dbb.registry.prepared import Finish, prepare_alone, prepare_files
from dbb.registry.relpaths import join_relpath
from dbb.registry.select import (
    FILE_COLUMNS,
    FIXED,
    PLACE_COLUMNS,
    FileQuery,
    overlaps_used,
    resolve,
    run_text,
    sort_columns,
)
from dbb.registry.tags import tag_runs

if TYPE_CHECKING:
    from dbb.exchange import Exported, Imported, Snapshot
    from dbb.ingest.tables import Rows
    from dbb.registry.calibs import Certified
    from dbb.registry.files import Registered

_ARCHIVE_AT = len(FILE_COLUMNS) + PLACE_COLUMNS.index("archive_name")
_FIXED_COLUMNS = ("relpath", "filename", "archive", "run", "filesize", "md5sum")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FileRecord:
    """A file as a query gives it; ``record["visit"]`` works for every column, without regard to case.

    Parameters
    ----------
    row
        As `dbb.registry.select.select_files` describes it; what the properties say is made of it when asked for.
    first
        Where the filetype's columns begin in it.
    names
        Of the filetype's columns.
    """

    row: Sequence[Any]
    first: int
    names: tuple[str, ...]

    @property
    def relpath(self) -> str | None:
        """Where it is in its archive; None for a file that was not kept."""
        _, filename, compression, _, _, _, _, _, path = self.row[:9]
        return None if path is None else join_relpath(path, filename, compression)

    @property
    def filename(self) -> str:
        """Its name without the suffix of a compression."""
        return str(self.row[1])

    @property
    def archive(self) -> str | None:
        """Where it is; None for a file that was not kept."""
        name: str | None = self.row[7]
        return name

    @property
    def run(self) -> str | None:
        """``Ht0_r11p95``, or None for files that no run made."""
        return run_text(self.row)

    @property
    def filesize(self) -> int | None:
        """Bytes."""
        size: int | None = self.row[3]
        return size

    @property
    def md5sum(self) -> str | None:
        """Hexadecimal."""
        checksum: str | None = self.row[4]
        return checksum

    @property
    def metadata(self) -> dict[str, Any]:
        """The filetype's columns."""
        return dict(zip(self.names, self.row[self.first :], strict=True))

    def as_dict(self) -> dict[str, Any]:
        """Return all columns in one mapping, those of the file first."""
        return {name: getattr(self, name) for name in _FIXED_COLUMNS} | self.metadata

    def __getitem__(self, name: str) -> Any:
        wanted = name.lower()
        if wanted in _FIXED_COLUMNS:
            return getattr(self, wanted)
        for place, known in enumerate(self.names, self.first):
            if known.lower() == wanted:
                return self.row[place]
        raise NotFoundError("column", name, self.as_dict())

    def __eq__(self, other: object) -> bool:
        return self.as_dict() == other.as_dict() if isinstance(other, FileRecord) else NotImplemented

    def __repr__(self) -> str:
        return f"FileRecord({', '.join(f'{name}={value!r}' for name, value in self.as_dict().items())})"


class Registry(Database):
    """A registry of files: open one by URL, or make one with `create`.

    Examples
    --------
    >>> with Registry.create("sqlite://", mapper="generic") as registry:
    ...     registry.add_archive("home", "/data/home")
    ...     rows = [{"relpath": "c/1.fits", "visit": 903334, "ccd": 16, "filter": "R2"}]
    ...     done = registry.ingest_table(rows, filetype="calexp", archive="home", run="Ht0_r11p95")
    ...     [record.relpath for record in registry.query("calexp", where="visit = 903334")]
    True
    ['c/1.fits']
    """

    def add_archive(self, name: str, root: str) -> bool:
        """Register an archive by its root (URL or path); return False if it was known.

        Raises
        ------
        ConflictError
            If it is known with another root.
        """
        return self.write(lambda conn: add_archive(conn, name, root))

    def archives(self) -> dict[str, str]:
        """Return the root URL of each archive by name."""
        with self.read() as conn:
            return archives(conn)

    def tag(self, tag: str, *runs: str) -> int:
        """Give a tag to runs, in order; return how many got it now.

        Raises
        ------
        NotFoundError
            If a run does not exist.
        """
        return self.write(lambda conn: tag_runs(conn, tag, runs))

    def ingest_table(
        self,
        source: str | os.PathLike[str] | Rows,
        *,
        archive: str,
        filetype: str | None = None,
        run: str | None = None,
        rename: Mapping[str, str] | None = None,
        dry_run: bool = False,
    ) -> Registered:
        """Register the files that a table describes; see `dbb.ingest.ingest_table`."""
        return ingest.ingest_table(
            self, source, archive=archive, filetype=filetype, run=run, rename=rename, dry_run=dry_run
        )

    def ingest_files(
        self,
        sources: Sequence[str],
        *,
        filetype: str,
        archive: str,
        run: str | None = None,
        transfer: str = "direct",
        given: Mapping[str, str] | None = None,
        dry_run: bool = False,
    ) -> Registered:
        """Look into files and register them; see `dbb.ingest.ingest_files`."""
        return ingest.ingest_files(
            self, sources, filetype=filetype, archive=archive, run=run, transfer=transfer, given=given, dry_run=dry_run
        )

    def certify_calibrations(
        self, source: str | os.PathLike[str] | Rows, *, version: str, filetype: str, archive: str | None = None
    ) -> Certified:
        """Certify registered calibrations; see `dbb.ingest.certify_table`."""
        return ingest.certify_table(self, source, version=version, filetype=filetype, archive=archive)

    def load_overlaps(self, source: str | os.PathLike[str] | Rows, *, version: str) -> int:
        """Add rows (tract, patch, visit, ccd) to an overlap version; see `dbb.ingest.load_overlap_table`."""
        return ingest.load_overlap_table(self, source, version=version)

    def compute_overlaps(self, skymap: str | os.PathLike[str], *, version: str) -> int:
        """Fill an overlap version from the corners and a sky map; see `dbb.ingest.compute_overlaps`."""
        return ingest.compute_overlaps(self, skymap, version=version)

    def register_live_overlaps(self, skymap: str | os.PathLike[str], *, version: str) -> bool:
        """Have overlaps found from the corners when asked for; see `dbb.ingest.register_live_overlaps`."""
        return ingest.register_live_overlaps(self, skymap, version=version)

    def snapshot(
        self,
        path: str | os.PathLike[str],
        *,
        where: str | None = None,
        filetypes: Sequence[str] = (),
        runs: Sequence[str] = (),
        overlaps: str | None = None,
        dry_run: bool = False,
    ) -> Snapshot:
        """Write what is chosen of the registry to an SQLite file; see `dbb.exchange.write_snapshot`."""
        from dbb.exchange import Choice, write_snapshot  # here and below: few programs need it

        choice = Choice(where, tuple(filetypes), tuple(runs), overlaps)
        return write_snapshot(self, path, choice, dry_run=dry_run)

    def export(self, folder: str | os.PathLike[str], *, dry_run: bool = False) -> Exported:
        """Write all of the registry to a folder of Parquet files; see `dbb.exchange.export_registry`."""
        from dbb.exchange import export_registry

        return export_registry(self, folder, dry_run=dry_run)

    def import_folder(self, folder: str | os.PathLike[str], *, dry_run: bool = False) -> Imported:
        """Bring what `export` wrote into the registry; see `dbb.exchange.import_folder`."""
        from dbb.exchange import import_folder

        return import_folder(self, folder, dry_run=dry_run)

    def overlaps_used(
        self,
        filetype: str,
        *,
        where: str | None = None,
        ids: Sequence[str] = (),
        overlaps: str | None = None,
        binds: Mapping[str, object] | None = None,
    ) -> str | None:
        """Return how `query` finds tract and patch, e.g. ``"survey (table)"``; None if the question does not need it.

        Raises
        ------
        NotFoundError, MissingError, UsageError
            If there is no such overlap version, or which one is not clear.
        """
        with self.read() as conn:
            version = overlaps_used(self, conn, FileQuery(filetype, where, tuple(ids), (), overlaps, binds=binds or {}))
        return None if version is None else version.way

    def query(
        self,
        filetype: str,
        *,
        where: str | None = None,
        ids: Sequence[str] = (),
        runs: Sequence[str] = (),
        overlaps: str | None = None,
        order_by: Sequence[str] = (),
        limit: int | None = None,
        binds: Mapping[str, object] | None = None,
    ) -> list[FileRecord]:
        """Return the files that fit.

        Parameters
        ----------
        filetype
            Filetype or Butler dataset type.
        where
            An expression, e.g. ``"visit IN (903334, 903340..903350:2) AND filter = 'R2'"``.
        ids
            Gen2 data ids, e.g. ``"visit=903334^903336 ccd=0..8:2"``; any of them may fit.
        runs
            Runs and ``tag:NAME`` in order: the first that has a data id wins.
        overlaps
            The overlap version that ``tract`` and ``patch`` of exposures refer to.
        order_by
            Columns; ``-column`` for falling order. By data id if not given.
        limit
            At most so many.
        binds
            Values of ``:name`` in `where`.

        Raises
        ------
        NotFoundError
            If filetype, a column, a run or a tag is unknown.
        ParseError
            If an expression cannot be read.
        AmbiguousError
            If `runs` are given and two files of equal rank have one data id.

        Notes
        -----
        One SELECT besides the look-up of names. A file that several archives hold is given once for each, unless
        `runs` choose.
        """
        question = FileQuery(filetype, where, tuple(ids), tuple(runs), overlaps, binds=binds or {})
        kind = self.filetype(filetype)
        order = self._order(kind, order_by)
        if not runs:
            return self._records(question, order, limit)
        # which file of a data id counts is known only when all its files were seen
        records = self._records(question, (), None if order else limit)
        for column, falling in reversed(order):
            records.sort(key=_sort_key(column), reverse=falling)
        return records[:limit]

    def explain(
        self,
        filetype: str,
        *,
        where: str | None = None,
        ids: Sequence[str] = (),
        runs: Sequence[str] = (),
        overlaps: str | None = None,
        order_by: Sequence[str] = (),
        limit: int | None = None,
        binds: Mapping[str, object] | None = None,
    ) -> Explanation:
        """Return how the database would answer `query` with the same arguments, which raises the same."""
        question = FileQuery(filetype, where, tuple(ids), tuple(runs), overlaps, binds=binds or {})
        kind = self.filetype(filetype)
        order = [] if runs else self._order(kind, order_by)
        finished = self._finish(kind, order, None if runs else limit)
        with self.read() as conn:
            prepared = prepare_files(self, conn, question, finish=finished)
            return explain_files(conn, prepared, kind.keys, limited=limit is not None and not runs)

    def _order(self, filetype: Filetype, order_by: Sequence[str]) -> list[tuple[str, bool]]:
        return [(self._record_column(filetype, name.removeprefix("-")), name.startswith("-")) for name in order_by]

    def record_columns(self, filetype: str) -> list[str]:
        """Return the columns that `query` gives for a filetype, in order."""
        return [*_FIXED_COLUMNS, *(column.name for column in self.filetype(filetype).columns)]

    def _record_column(self, filetype: Filetype, name: str) -> str:
        columns = self.record_columns(filetype.name)
        for column in columns:
            if column.lower() == name.lower():
                return column
        raise NotFoundError("column", name, columns)

    def _records(self, question: FileQuery, order: Sequence[tuple[str, bool]], limit: int | None) -> list[FileRecord]:
        kind = self.filetype(question.filetype)
        finished = self._finish(kind, order, None if question.runs else limit)
        alone = prepare_alone(self, question, finish=finished)
        if alone is not None:
            with self.read_once() as conn:
                found = list(alone.rows(conn))
            if {row[_ARCHIVE_AT] for row in found} <= {None, *self.known_archives}:
                return _records(found, kind)
        with self.read() as conn, closing(prepare_files(self, conn, question, finish=finished).rows(conn)) as rows:
            return _records(islice(resolve(rows, kind, unique=True), limit) if question.runs else rows, kind)

    def _finish(self, filetype: Filetype, order: Sequence[tuple[str, bool]], cut: int | None) -> Finish:
        def finish(statement: sa.Select[Any]) -> sa.Select[Any]:
            if order:
                statement = statement.order_by(None).order_by(*self._order_by(filetype, order))
            return statement if cut is None else statement.limit(cut)

        return Finish((tuple(order), cut), finish)

    def _order_by(self, filetype: Filetype, order: Sequence[tuple[str, bool]]) -> Iterator[sa.UnaryExpression[Any]]:
        table = self.table(filetype)
        for name, falling in order:
            own = table is not None and name in filetype.types
            columns = [table.c[name.lower()]] if table is not None and own else sort_columns(name)
            yield from (column.desc().nulls_last() if falling else column.asc().nulls_first() for column in columns)
        yield desfile.c.id.asc()


def _records(rows: Iterable[Sequence[Any]], filetype: Filetype) -> list[FileRecord]:
    names, first = tuple(column.name for column in filetype.columns), FIXED + len(filetype.keys)
    return [FileRecord(row, first, names) for row in rows]


def _sort_key(column: str) -> Callable[[FileRecord], tuple[bool, Any]]:
    """Return what sorts records by a column, those without a value first as in SQL above."""

    def key(record: FileRecord) -> tuple[bool, Any]:
        value = record[column]
        return (value is not None, value if value is not None else 0)

    return key
