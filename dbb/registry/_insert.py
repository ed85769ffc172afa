"""Many rows into a table at the speed of the database's own driver, and changed there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def insert_columns(conn: sa.Connection, table: sa.Table, columns: Mapping[str, Sequence[Any]]) -> None:
    """Insert rows given as columns of equal length: by COPY on PostgreSQL, one prepared statement on SQLite.

    Values must be what the driver takes as they are: None, text, numbers, truth values, and on PostgreSQL moments.
    The rows go past SQLAlchemy, which would make a list of them.
    """
    # to bind a value costs as much as to store it: a column without any is left out
    filled = {
        name: values
        for name, values in columns.items()
        if any(value is not None for value in values) or table.c[name].server_default is not None
    }
    prepare, driver = conn.dialect.identifier_preparer, conn.dialect.dbapi
    name, names = prepare.format_table(table), ", ".join(prepare.quote(column) for column in filled)
    cursor = conn.connection.cursor()
    assert driver is not None
    try:
        if conn.dialect.name == "postgresql":
            with cursor.copy(f"COPY {name} ({names}) FROM STDIN") as copy:
                copy.write(_copy_text(list(filled.values())))
        else:
            marks = ", ".join("?" * len(filled))
            statement = f"INSERT INTO {name} ({names}) VALUES ({marks})"  # noqa: S608  # names only
            rows: Any = zip(*filled.values(), strict=True)  # any iterable will do, whatever the protocol says
            cursor.executemany(statement, rows)
    except driver.Error as error:
        raise DBAPIError(f"insert into {table.name}", None, error) from error  # as for what SQLAlchemy sends
    finally:
        cursor.close()


def _copy_text(columns: Sequence[Sequence[Any]]) -> str:
    """Return rows as PostgreSQL's COPY reads them, several times faster than the driver writes them one by one."""
    lines = list(map("\t".join, zip(*map(_copy_column, columns), strict=True)))
    return "\n".join([*lines, ""])


def _copy_column(values: Sequence[Any]) -> Sequence[str]:
    if values.count(values[0]) == len(values):
        return [_copy_value(values[0])] * len(values)
    types = set(map(type, values))
    if types <= {int, float}:
        return list(map(str, values))
    if types <= {str, type(None)}:
        joined = "".join(filter(None, values))
        if not ("\\" in joined or "\t" in joined or "\n" in joined or "\r" in joined):
            return values if types == {str} else [r"\N" if value is None else value for value in values]
    return list(map(_copy_value, values))


def _copy_value(value: object) -> str:
    return r"\N" if value is None else str(value).translate(_ESCAPES)


def insert_rows(conn: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Insert many rows as `insert_columns` does."""
    if rows:
        insert_columns(conn, table, dict(zip(columns, zip(*rows, strict=True), strict=True)))


def take_ids(conn: sa.Connection, table: sa.Table, count: int) -> Sequence[int]:
    """Return `count` new values for the ``id`` column of `table`, which nobody else will get."""
    if conn.dialect.name == "postgresql":
        sequence = sa.cast(sa.literal(f"{table.name}_id_seq"), sa.Text).op("::")(sa.text("regclass"))
        numbers = sa.select(sa.func.nextval(sequence).label("n")).select_from(
            sa.func.generate_series(1, count).table_valued("i")
        )
        taken = numbers.subquery()
        first, last = conn.execute(sa.select(sa.func.min(taken.c.n), sa.func.max(taken.c.n))).one()
        if last - first == count - 1:
            return range(first, last + 1)
        return list(conn.scalars(numbers))  # another writer has some of those between: they are left alone
    first = (conn.scalar(sa.select(sa.func.max(table.c.id))) or 0) + 1  # safe: a write transaction is exclusive here
    return range(first, first + count)


def insert_missing(conn: sa.Connection, table: sa.Table, rows: Sequence[dict[str, object]]) -> None:
    """Insert the rows whose key is not there yet."""
    if not rows:
        return
    if conn.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as pg_insert

        conn.execute(pg_insert(table).on_conflict_do_nothing(), list(rows))
    else:
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        conn.execute(sqlite_insert(table).on_conflict_do_nothing(), list(rows))


def insert_missing_rows(
    conn: sa.Connection, table: sa.Table, columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    """Insert many rows as `insert_rows` does, but for those whose key is there already."""
    if not rows:
        return
    if conn.dialect.name == "postgresql":
        insert_missing(conn, table, [dict(zip(columns, row, strict=True)) for row in rows])
        return
    prepare = conn.dialect.identifier_preparer
    names, marks = ", ".join(prepare.quote(column) for column in columns), ", ".join("?" * len(columns))
    statement = f"INSERT OR IGNORE INTO {prepare.format_table(table)} ({names}) VALUES ({marks})"  # noqa: S608  # names only
    conn.exec_driver_sql(statement, [tuple(row) for row in rows])


def run_many(conn: sa.Connection, statement: sa.Executable, rows: Sequence[Mapping[str, Any]]) -> None:
    """Run an UPDATE or DELETE for each of many rows of plain values at the driver's own speed.

    Parameters
    ----------
    conn
        The caller's transaction.
    statement
        All its values are bound by name.
    rows
        A value for each name.

    Notes
    -----
    A statement is compiled once: one that is used often should be made once.
    """
    if not rows:
        return
    text, order = _compiled(statement, conn.dialect)
    if order is None:
        conn.exec_driver_sql(text, list(rows))
    else:
        conn.exec_driver_sql(text, [tuple(row[name] for name in order) for row in rows])


@lru_cache(maxsize=64)
def _compiled(statement: sa.Executable, dialect: sa.Dialect) -> tuple[str, Sequence[str] | None]:
    """Return the text of a statement, and the names of its values in order if the driver wants them so."""
    compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]  # every statement has it
    return str(compiled), compiled.positiontup
