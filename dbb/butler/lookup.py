"""Questions to the SQLite registries of a Gen2 repository, which are opened for reading only."""

from __future__ import annotations

import os
import re
import sqlite3
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from dbb.errors import IntegrityError, MissingError

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Row = dict[str, object]


class RegistryFiles:
    """Registries by path, each opened when first asked and kept open until `close` or the end of this object."""

    def __init__(self) -> None:
        self._open: dict[Path, sqlite3.Connection] = {}
        weakref.finalize(self, _close_all, self._open)

    def close(self) -> None:
        """Close all; a later question opens its file again."""
        _close_all(self._open)

    def select(
        self,
        path: Path,
        tables: Sequence[str],
        wanted: Sequence[str],
        equal: Mapping[str, object],
        within: tuple[object, str, str] | None = None,
    ) -> list[Row]:
        """Return the distinct rows of `wanted` columns from the natural join of `tables`, sorted by them.

        Parameters
        ----------
        path
            The SQLite file; absolute.
        tables, wanted
            Names of tables and columns.
        equal
            Columns and the values they must have.
        within
            A value and the two columns between which it must lie, ends included.

        Raises
        ------
        MissingError
            If a table or column is not there.
        IntegrityError
            If the file is no SQLite database.
        """
        try:
            connection = self._connection(path)
            _check_names(connection, path, tables, [*wanted, *equal, *(within[1:] if within else ())])
            columns = ", ".join(f'"{name}"' for name in wanted)
            conditions = [f'"{name}" = ?' for name in equal]
            conditions += [f'? BETWEEN "{within[1]}" AND "{within[2]}"'] if within else []
            # values are bound
            query = f"SELECT DISTINCT {columns} FROM {_joined(tables)}"  # noqa: S608  # _check_names let only identifiers of the file through
            query += f" WHERE {' AND '.join(conditions)}" if conditions else ""
            values = [*equal.values(), *([within[0]] if within else [])]
            found = connection.execute(f"{query} ORDER BY {columns}", values).fetchall()
        except sqlite3.Error as error:
            raise IntegrityError(f"the registry {path} cannot be read: {error}") from error
        return [dict(zip(wanted, row, strict=True)) for row in found]

    def _connection(self, path: Path) -> sqlite3.Connection:
        found = self._open.get(path)
        if found is None:
            url = f"file:{quote(os.fsencode(path))}?mode=ro"
            # It may be closed by the garbage collector in another thread.
            found = self._open[path] = sqlite3.connect(url, uri=True, check_same_thread=False)
        return found


def _joined(tables: Sequence[str]) -> str:
    return " NATURAL JOIN ".join(f'"{table}"' for table in tables)


def _check_names(connection: sqlite3.Connection, path: Path, tables: Sequence[str], columns: Iterable[str]) -> None:
    # SQLite takes a quoted name that is no column for a text, so that a wrong name would go unnoticed.
    for table in tables:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE type IN ('table', 'view') AND name = ?", (table,))
        if _IDENTIFIER.fullmatch(table) is None or known.fetchone() is None:
            raise MissingError(f"{path} has no table {table}")
    cursor = connection.execute(f"SELECT * FROM {_joined(tables)} LIMIT 0")  # noqa: S608  # the loop above let only identifiers through
    there = {entry[0] for entry in cursor.description}
    absent = [name for name in columns if name not in there or _IDENTIFIER.fullmatch(name) is None]
    if absent:
        raise MissingError(f"{' and '.join(tables)} of {path} has no column {', '.join(absent)}")


def _close_all(connections: dict[Path, sqlite3.Connection]) -> None:
    while connections:
        connections.popitem()[1].close()
