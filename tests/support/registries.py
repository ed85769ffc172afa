"""What tests of registries share: all that is in one, and the statements that something sends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from dbb import Registry
from dbb.plugins import plugins


def small_registry(url: str, *filetypes: str) -> Registry:
    """Make a registry for HSC with a few of its filetypes: the tables of all take longer to make than most tests."""
    with Registry.create(url) as made:
        execute(made, "update dbb_schema set mapper = 'hsc'")
    opened = Registry(url)
    opened.register_filetypes([plugins().mapper("hsc").filetypes[name] for name in filetypes], "hsc")
    return opened


def contents(registry: Registry) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table, in order."""
    tables = sa.MetaData()
    with registry.read() as conn:
        tables.reflect(conn)
        return {
            name: sorted((tuple(row) for row in conn.execute(sa.select(table))), key=repr)
            for name, table in sorted(tables.tables.items())
        }


def rows(registry: Registry, statement: str) -> list[tuple[Any, ...]]:
    """Run a SELECT as an operator would type it."""
    with registry.read() as conn:
        return [tuple(row) for row in conn.execute(sa.text(statement))]


def execute(registry: Registry, statement: str) -> None:
    """Run another statement as an operator would type it."""
    registry.write(lambda conn: conn.execute(sa.text(statement)))


@contextmanager
def statements(registry: Registry, *, in_transactions: bool = False) -> Iterator[list[str]]:
    """Yield a list that gets every statement sent meanwhile; or those in transactions, which statistics are not."""
    sent: list[str] = []

    def note(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if not (in_transactions and conn.get_execution_options().get("dbb_no_transaction")):
            sent.append(statement)

    sa.event.listen(registry.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(registry.engine, "before_cursor_execute", note)
