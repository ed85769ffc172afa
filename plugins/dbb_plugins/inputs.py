"""Inputs that any survey may need: files listed in a table, and each patch together with those around it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbb.errors import UsageError
from dbb.hookspecs import hookimpl

if TYPE_CHECKING:
    from dbb.api import Registry

_PATCH = re.compile(r"([0-9]+)[,x]([0-9]+)")


@hookimpl
def dbb_query_inputs(
    name: str, args: Mapping[str, str], registry: Registry | None
) -> Sequence[Mapping[str, object]] | None:
    """Answer ``query = table``: the files that the rows of ``table`` (Parquet, ECSV, CSV, JSON lines) name.

    A column ``relpath`` will do for ``filename``. A relative path begins at the submit file.
    """
    if name != "table":
        return None
    if not args.get("table"):
        raise UsageError("it needs table = PATH: which table?")
    return list(_rows(Path(args["folder"]) / args["table"]))


@hookimpl
def dbb_group_inputs(
    name: str, rows: Sequence[Mapping[str, Mapping[str, str]]], keys: Sequence[str]
) -> Mapping[str, Sequence[int]] | None:
    """Answer ``group_by = neighbours``: for each patch the lines of it and of the up to eight patches around it.

    The patch is one of the keys; lines of a group agree in all others. A group is named by the values of the keys.
    """
    if name != "neighbours":
        return None
    if "patch" not in keys:
        raise UsageError(f"it needs patch among the keys of divide_by, which are {', '.join(keys) or 'none'}")
    members: dict[tuple[tuple[str, ...], int, int], list[int]] = {}
    names: dict[tuple[tuple[str, ...], int, int], str] = {}
    for index, row in enumerate(rows):
        values = _values(row, keys, index)
        match = _PATCH.fullmatch(values["patch"])
        if match is None:
            raise UsageError(f"line {index + 1}: {values['patch']!r} is no patch: expected 8x6 or 8,6")
        at = tuple(value for key, value in values.items() if key != "patch"), int(match[1]), int(match[2])
        members.setdefault(at, []).append(index)
        names.setdefault(at, "_".join(values.values()))
    return {
        names[at]: sorted(
            index
            for x in (at[1] - 1, at[1], at[1] + 1)
            for y in (at[2] - 1, at[2], at[2] + 1)
            for index in members.get((at[0], x, y), ())
        )
        for at in members
    }


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    from dbb.ingest.tables import Table  # not needed by those who load this plug-in for another query
    from dbb.registry.relpaths import split_relpath

    for batch in Table(path).batches():
        names = [name.lower() for name in batch.columns]
        for values in zip(*batch.columns.values(), strict=True):
            row = dict(zip(names, values, strict=True))
            if row.get("relpath") and not row.get("filename"):
                _, row["filename"], row["compression"] = split_relpath(str(row["relpath"]), row.get("compression"))
            yield row


def _values(row: Mapping[str, Mapping[str, str]], keys: Sequence[str], index: int) -> dict[str, str]:
    values = {}
    for key in keys:
        found = {file[key] for file in row.values() if key in file}
        if len(found) != 1:
            raise UsageError(f"line {index + 1} has {len(found)} values for {key}: expected one")
        values[key] = found.pop()
    return values
