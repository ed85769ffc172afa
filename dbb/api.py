"""The registry as programs use it: `dbb.Registry`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dbb import exchange, ingest
from dbb.errors import NotFoundError
from dbb.filetypes import Filetype
from dbb.registry import Database
from dbb.registry._tables import desfile
from dbb.registry.archives import add_archive, archives
from dbb.registry.prepared import prepare_files
from dbb.registry.relpaths import join_relpath
from dbb.registry.select import FIXED, FileQuery, overlaps_used, resolve, run_text, sort_columns
from dbb.registry.tags import tag_runs

if TYPE_CHECKING:
    from dbb.exchange import Exported, Imported, Snapshot
    from dbb.ingest.tables import Rows
    from dbb.registry.calibs import Certified
    from dbb.registry.files import Registered

_FETCH = 2_000
_FIXED_COLUMNS = ("relpath", "filename", "archive", "run", "filesize", "md5sum")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file as a query gives it; ``record["visit"]`` works for every column, without regard to case.

    Parameters
    ----------
    relpath, archive
        Where it is; None for a file that was not kept.
    filename
        Without the suffix of a compression.
    run
        ``Ht0_r11p95``, or None for files that no run made.
    filesize
        Bytes.
    md5sum
        Hexadecimal.
    metadata
        The filetype's columns.
    """

    relpath: str | None
    filename: str
    archive: str | None
    run: str | None
    filesize: int | None
    md5sum: str | None
    metadata: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return all columns in one mapping, those of the file first."""
        return {name: getattr(self, name) for name in _FIXED_COLUMNS} | dict(self.metadata)

    def __getitem__(self, name: str) -> Any:
        for known, value in self.as_dict().items():
            if known.lower() == name.lower():
                return value
        raise NotFoundError("column", name, self.as_dict())


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
        choice = exchange.Choice(where, tuple(filetypes), tuple(runs), overlaps)
        return exchange.write_snapshot(self, path, choice, dry_run=dry_run)

    def export(self, folder: str | os.PathLike[str], *, dry_run: bool = False) -> Exported:
        """Write all of the registry to a folder of Parquet files; see `dbb.exchange.export_registry`."""
        return exchange.export_registry(self, folder, dry_run=dry_run)

    def import_folder(self, folder: str | os.PathLike[str], *, dry_run: bool = False) -> Imported:
        """Bring what `export` wrote into the registry; see `dbb.exchange.import_folder`."""
        return exchange.import_folder(self, folder, dry_run=dry_run)

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
        order = [(self._record_column(kind, name.removeprefix("-")), name.startswith("-")) for name in order_by]
        if not runs:
            return list(self._records(question, order, limit))
        # which file of a data id counts is known only when all its files were seen
        records = list(self._records(question, (), None if order else limit))
        for column, falling in reversed(order):
            records.sort(key=_sort_key(column), reverse=falling)
        return records[:limit]

    def record_columns(self, filetype: str) -> list[str]:
        """Return the columns that `query` gives for a filetype, in order."""
        return [*_FIXED_COLUMNS, *(column.name for column in self.filetype(filetype).columns)]

    def _record_column(self, filetype: Filetype, name: str) -> str:
        columns = self.record_columns(filetype.name)
        for column in columns:
            if column.lower() == name.lower():
                return column
        raise NotFoundError("column", name, columns)

    def _records(
        self, question: FileQuery, order: Sequence[tuple[str, bool]], limit: int | None
    ) -> Iterator[FileRecord]:
        with self.read() as conn:
            filetype, statement, values = prepare_files(self, conn, question)
            if order:
                statement = statement.order_by(None).order_by(*self._order_by(filetype, order))
            if limit is not None and not question.runs:
                statement = statement.limit(limit)
            names, first = tuple(column.name for column in filetype.columns), FIXED + len(filetype.keys)
            with conn.execution_options(yield_per=_FETCH).execute(statement, values) as rows:
                chosen = islice(resolve(rows, filetype, unique=True), limit) if question.runs else rows
                for row in chosen:
                    yield _record(row, dict(zip(names, row[first:], strict=True)))

    def _order_by(self, filetype: Filetype, order: Sequence[tuple[str, bool]]) -> Iterator[sa.UnaryExpression[Any]]:
        table = self.table(filetype)
        for name, falling in order:
            own = table is not None and name in filetype.types
            columns = [table.c[name.lower()]] if table is not None and own else sort_columns(name)
            yield from (column.desc().nulls_last() if falling else column.asc().nulls_first() for column in columns)
        yield desfile.c.id.asc()


def _record(row: Sequence[Any], metadata: Mapping[str, Any]) -> FileRecord:
    _, filename, compression, filesize, md5sum, _, _, archive, path = row[:9]
    relpath = None if path is None else join_relpath(path, filename, compression)
    return FileRecord(relpath, filename, archive, run_text(row), filesize, md5sum, metadata)


def _sort_key(column: str) -> Callable[[FileRecord], tuple[bool, Any]]:
    """Return what sorts records by a column, those without a value first as in SQL above."""

    def key(record: FileRecord) -> tuple[bool, Any]:
        value = record[column]
        return (value is not None, value if value is not None else 0)

    return key
