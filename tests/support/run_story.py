"""What a registry says, with names in place of the numbers of rows and without the moments of registering."""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dbb import Registry
from dbb.registry._runtables import RUSAGE

_MOMENTS = {"created_date", "submittime", "message_time", "path"}
_OF_A_TRY = {
    *("start_time", "end_time", "exec_host", "condor_submit_time", "condor_start_time", "condor_end_time"),
    *("condor_job_id", "target_submit_time", "target_job_id", "condorid", *RUSAGE),
}
"""When and where something ran, and what it took."""


def content(registry: Registry, folder: Path) -> dict[str, list[str]]:
    """Return all that a registry says, but for times, where and as whom jobs ran, and what started them.

    Parameters
    ----------
    registry
        The registry.
    folder
        The folder of the archives and runs; it has the same name in what is returned, wherever it is.
    """
    told = story(registry, _OF_A_TRY | {"environment", "host", "id", "merged", "pid", "username"})
    return {
        name: [text for row in found if "'engine'" not in (text := str(row).replace(str(folder), "FOLDER"))]
        for name, found in told.items()
    }


def story(registry: Registry, leaving_out: Set[str] = frozenset()) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows so that those of two registries are equal if they say the same.

    Parameters
    ----------
    registry
        The registry.
    leaving_out
        Names of columns.
    """
    tables = sa.MetaData()
    with registry.read() as conn:
        tables.reflect(conn)
        names = _Names(conn, tables, leaving_out)
        return {
            name: sorted((names.told(table, row) for row in conn.execute(sa.select(table))), key=repr)
            for name, table in tables.tables.items()
        }


def told(registry: Registry) -> dict[str, list[str]]:
    """Return the story as text, in which both databases have the same words for moments and truth."""
    return {name: sorted(json.dumps(row, default=_seconds) for row in found) for name, found in _plain(story(registry))}


def _plain(found: dict[str, list[tuple[object, ...]]]) -> Iterator[tuple[str, list[list[object]]]]:
    for name, lines in found.items():
        yield name, [[int(value) if isinstance(value, bool) else value for value in line] for line in lines]


def _seconds(value: object) -> float:
    return float(value.timestamp())


class _Names:
    def __init__(self, conn: sa.Connection, tables: sa.MetaData, leaving_out: Set[str]) -> None:
        self._leaving_out = _MOMENTS | leaving_out
        task, file, attempt = (tables.tables[name] for name in ("task", "desfile", "pfw_attempt"))
        self._attempts = {
            row.id: f"{row.unitname}_r{row.reqnum}p{row.attnum}" for row in conn.execute(sa.select(attempt))
        }
        wrapnums = {row[0]: row[1] for row in conn.execute(sa.text("select task_id, wrapnum from pfw_wrapper"))}
        rows = {row.id: row for row in conn.execute(sa.select(task))}
        self._tasks = {number: self._path(rows, wrapnums, number) for number in rows}
        self._files = {
            row.id: (self._tasks.get(row.wgb_task_id), row.filename, row.compression, row.md5sum)
            for row in conn.execute(sa.select(file))
        }

    @staticmethod
    def _path(rows: dict[int, Any], wrapnums: dict[int, int], number: int | None) -> str:
        parts = []
        while number is not None:
            parts.append(f"{rows[number].name}:{wrapnums.get(number, rows[number].label)}")
            number = rows[number].parent_task_id
        return "/".join(reversed(parts))

    def told(self, table: sa.Table, row: Any) -> tuple[Any, ...]:
        told = []
        for column, value in row._mapping.items():
            if column in self._leaving_out - ({"path"} if table.name == "file_archive_info" else set()):
                continue
            kind = f"{table.name}.id" if column == "id" else column
            if value is None:
                told.append(None)
            elif kind.endswith("task_id") or kind == "task.id":
                told.append(self._tasks[value])
            elif kind.endswith("desfile_id") or kind == "desfile.id":
                told.append(self._files[value])
            elif kind in {"pfw_attempt_id", "pfw_attempt.id"}:
                told.append(self._attempts[value])
            else:
                told.append(value)
        return tuple(told)
