"""Statements that are made once and run many times, at the driver's own speed."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError
from sqlalchemy.sql.compiler import SQLCompiler

Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Ready:
    """A SELECT that is compiled: what SQLAlchemy does for each execution and each row costs more than many answers.

    Parameters
    ----------
    compiled
        It has no list to expand; its parameters take, and its columns give, only values that the driver knows.
    flags
        Places of columns that hold 0 and 1 for false and true.
    """

    compiled: SQLCompiler
    flags: Sequence[int]

    @classmethod
    def of(cls, statement: sa.Select[Any], dialect: sa.Dialect, *, lists: bool = False) -> Self:
        """Compile a statement for a kind of database; with `lists` for once, with the lists that it holds."""
        compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": lists})
        assert isinstance(compiled, SQLCompiler)
        kinds = [column["type"] for column in statement.column_descriptions]
        flags = [place for place, kind in enumerate(kinds) if isinstance(kind, sa.Boolean)]
        return cls(compiled, [] if dialect.supports_native_boolean else flags)

    @property
    def text(self) -> str:
        """The SQL, with the driver's marks for parameters."""
        return self.compiled.string

    def parameters(self, values: Mapping[str, object]) -> Any:
        """Return what the driver wants besides the SQL; what was a value when it was compiled need not be given."""
        given = self.compiled.construct_params(values)
        order = self.compiled.positiontup
        return given if order is None else tuple(given[name] for name in order)

    def rows(self, conn: sa.Connection, values: Mapping[str, object]) -> Generator[Row]:
        """Run it and give its rows as plain tuples; close what is returned where not all are taken.

        Raises
        ------
        DatabaseError
            Of SQLAlchemy, if the database refuses, at whichever row.
        """
        driver = conn.dialect.loaded_dbapi
        with conn.exec_driver_sql(self.text, self.parameters(values)) as result:
            cursor: Any = result.cursor  # not through SQLAlchemy, whose row objects cost as much as the rows
            try:
                # psycopg has them all by now
                rows = cursor if conn.dialect.name == "sqlite" else cursor.fetchall()
                yield from map(self._flagged, rows) if self.flags else rows
            except driver.Error as error:
                raise DatabaseError(self.text, None, error) from error

    def _flagged(self, row: Row) -> Row:
        changed = list(row)
        for place in self.flags:
            changed[place] = None if changed[place] is None else bool(changed[place])
        return tuple(changed)
