"""One registry, opened: its engine, its schema version, its filetypes, its transactions."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, DBAPIError

from dbb import __version__
from dbb.errors import DbbError, NotFoundError, SchemaVersionError
from dbb.filetypes import Filetype
from dbb.keys import CameraKeys
from dbb.mapper import Mapper
from dbb.plugins import plugins
from dbb.registry._connect import open_engine, outside_transaction
from dbb.registry._tables import SCHEMA_VERSION, metadata_table
from dbb.registry._turns import describe, run_transaction
from dbb.registry.archives import archive_order, archives
from dbb.registry.filetypes import StoredFiletypes, register_filetypes
from dbb.registry.migrate import schema_row
from dbb.registry.statistics import are_outdated, refresh

T = TypeVar("T")
_MOST_KEPT = 500
_ONE_VIEW: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


class Database:
    """An open registry; close it, or use it as a context manager.

    Parameters
    ----------
    url
        ``sqlite:///file.db`` or ``postgresql+psycopg://…``.
    engine
        Its engine, if there is one already.

    Raises
    ------
    NotFoundError
        If there is no registry at `url`.
    SchemaVersionError
        If its schema is newer or older than this dbb's.
    """

    def __init__(self, url: str, engine: sa.Engine | None = None) -> None:
        self.url = url
        self.engine = engine or open_engine(url)
        self._filetypes: StoredFiletypes | None = None
        self._tables: dict[str, sa.Table] = {}
        self._metadata = sa.MetaData()
        self._kept: dict[Hashable, Any] = {}
        self.known_archives: tuple[str, ...] = ()
        """What `archive_order` returned last."""
        try:
            self.mapper_name = self._check_schema()
        except BaseException:
            self.engine.dispose()
            raise

    @classmethod
    def create(cls, url: str, mapper: str | None = None) -> Self:
        """Make a new registry, with the filetypes of a camera, and open it.

        Parameters
        ----------
        url
            Where; the folder of an SQLite file is made, a PostgreSQL database must exist.
        mapper
            The camera.

        Raises
        ------
        ConflictError
            If there is a registry at `url` already.
        NotFoundError
            If there is no such mapper.
        """
        from dbb.registry.create import create_registry  # a job that opens a registry need not know how to make one

        engine = open_engine(url, create=True)
        try:
            create_registry(engine, mapper)
        except BaseException:
            engine.dispose()
            raise
        return cls(url, engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self.engine.dialect.name

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Give a connection with one consistent view of the registry."""
        try:
            options = {} if self.dialect == "sqlite" else _ONE_VIEW
            with self.engine.connect().execution_options(**options) as connection:
                yield connection
                connection.commit()  # psycopg forgets the statements that it prepared when it rolls back
        except DatabaseError as error:
            raise DbbError(f"the registry refused: {describe(error)}") from error

    @contextmanager
    def read_once(self) -> Iterator[sa.Connection]:
        """Give a connection for a single SELECT, which needs no transaction to see one state of the registry."""
        try:
            with outside_transaction(self.engine) as connection:
                yield connection
        except DatabaseError as error:
            raise DbbError(f"the registry refused: {describe(error)}") from error

    def archive_order(self, conn: sa.Connection) -> tuple[str, ...]:
        """Return all archives in the order in which their copies of a file are taken."""
        self.known_archives = archive_order(archives(conn), ())
        return self.known_archives

    def write(self, work: Callable[[sa.Connection], T], keep: Callable[[T], bool] = lambda result: True) -> T:
        """Run `work` in one write transaction, whole or not at all; it may be run again after a collision.

        What it did is undone if `keep` says no to its result: a dry run, or a refusal.
        """
        return run_transaction(self.engine, work, keep)

    def _check_schema(self) -> str | None:
        row = schema_row(self.engine)
        if row.version > SCHEMA_VERSION:
            raise SchemaVersionError(
                f"the registry has schema {row.version}, made by dbb {row.dbb}; this dbb {__version__} reads schema"
                f" {SCHEMA_VERSION}: use dbb {row.dbb} or newer"
            )
        if row.version < SCHEMA_VERSION:
            raise SchemaVersionError(
                f"the registry has schema {row.version}, this dbb reads {SCHEMA_VERSION}: run 'dbb migrate' on it"
            )
        return None if row.mapper is None else str(row.mapper)

    def filetypes(self) -> StoredFiletypes:
        """Return the registered filetypes by name."""
        if self._filetypes is None:
            with self.read() as conn:
                self._filetypes = StoredFiletypes(conn)
        return self._filetypes

    def forget_filetypes(self) -> None:
        """Read the filetypes anew at the next use."""
        self._filetypes = None
        self._tables.clear()
        self._kept.clear()
        self._metadata = sa.MetaData()

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` gave for `key` the first time; it must depend on nothing but the filetypes and `key`."""
        if key not in self._kept:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[key] = make()
        kept: T = self._kept[key]
        return kept

    def filetype(self, name: str) -> Filetype:
        """Return one filetype by its own or its Butler dataset type's name.

        Raises
        ------
        NotFoundError
            If it is not registered.
        """
        known = self.filetypes()
        if name.lower() in known:
            return known[name.lower()]
        found = self.kept(("dataset", name), lambda: known.of_dataset(name))
        if found is None and (camera := self.mapper()) is not None:
            with suppress(LookupError):  # the error below lists what this registry has
                found = camera.filetype_name(name)
        if found is None or found not in known:
            raise NotFoundError("filetype", name, known)
        return known[found]

    def mapper(self, filetype: str | None = None) -> Mapper | None:
        """Return the camera of a filetype, or of the registry; None if it has none."""
        name = self.filetypes().mapper_of(filetype) if filetype is not None else self.mapper_name
        return None if name is None else plugins().mapper(name)

    def keys(self, filetype: str) -> CameraKeys:
        """Return what the camera of a filetype calls its keys; the usual names if it has none."""
        camera = self.mapper(filetype)
        return CameraKeys() if camera is None else camera.keys

    def table(self, filetype: Filetype) -> sa.Table | None:
        """Return the metadata table of a filetype, with the columns of all filetypes that share it."""
        if filetype.table is None:
            return None
        if filetype.table not in self._tables:
            sharing = [self.filetypes()[name] for name in self.filetypes().sharing(filetype.table)]
            columns = {column.name.lower(): column for other in sharing for column in other.columns}
            self._tables[filetype.table] = metadata_table(
                self._metadata, filetype.table, columns.values(), filetype.keys
            )
        return self._tables[filetype.table]

    def register_filetypes(
        self, filetypes: Sequence[Filetype], mapper: str | None = None, *, dry_run: bool = False
    ) -> list[str]:
        """Add filetypes, or new columns of known ones; return the names of those that changed."""
        changed = self.write(lambda conn: register_filetypes(conn, filetypes, mapper), keep=lambda done: not dry_run)
        self.forget_filetypes()
        return changed

    def optimize(self, added: int) -> None:
        """Let the database learn the sizes of tables anew where it should, after `added` files or rows came."""
        # another writer may be in the way, who will do the same when it is done
        with suppress(DBAPIError), outside_transaction(self.engine) as conn:
            if added and are_outdated(conn, added):
                refresh(conn)
