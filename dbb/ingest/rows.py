"""Rows of a table → files to register, each value checked against its column's type."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dbb.errors import NotFoundError, TableError, UnsafePathError, UsageError
from dbb.filetypes import CONVERTERS, Filetype
from dbb.ingest.columns import convert_column
from dbb.ingest.derived import Derive, fill_gaps
from dbb.ingest.tables import Batch
from dbb.registry.newfiles import NewFiles
from dbb.registry.relpaths import split_relpath, split_relpaths
from dbb.sky import Corners

_HEX = {"md5sum": re.compile(r"[0-9a-f]{32}"), "sha256": re.compile(r"[0-9a-f]{64}")}
_CORNERS = tuple(Corners.__dataclass_fields__)
FILE_COLUMNS = ("relpath", "filesize", "md5sum", "sha256", "compression", "run", "filetype", *_CORNERS)
"""Columns of an ingest table that mean the same for every filetype."""


def shown(value: object, most: int = 60) -> str:
    """Return a value as messages show it: cut, because what is wrong with it may be its length."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _checksum(name: str) -> Callable[[object], str]:
    def convert(value: object) -> str:
        text = str(value).strip().lower()
        if not _HEX[name].fullmatch(text):
            raise ValueError(f"expected {_HEX[name].pattern[-3:-1]} hexadecimal digits")
        return text

    return convert


def _size(value: object) -> int:
    size = CONVERTERS["int"](value)
    assert isinstance(size, int)
    if size < 0:
        raise ValueError("a size cannot be negative")
    return size


_FILE_CONVERTERS: Mapping[str, Callable[[object], object]] = {
    "relpath": CONVERTERS["str"],
    "filesize": _size,
    "md5sum": _checksum("md5sum"),
    "sha256": _checksum("sha256"),
    "compression": CONVERTERS["str"],
    "run": CONVERTERS["str"],
    "filetype": CONVERTERS["str"],
    **dict.fromkeys(_CORNERS, CONVERTERS["float"]),
}
_FILE_KINDS = {
    **dict.fromkeys(FILE_COLUMNS, "str"),
    **dict.fromkeys(_CORNERS, "float"),
    **{name: name for name in ("filesize", *_HEX)},
}
"""What `convert_column` calls them."""


@dataclass(frozen=True, slots=True)
class RowReader:
    """Turns batches into files.

    Parameters
    ----------
    name
        The table, for messages.
    filetype_of
        Filetype by name (own or dataset type); raises NotFoundError.
    run_id
        Id of the attempt of a run's text.
    derive
        Per filetype what adds metadata that follow from others; absent where nothing does.
    filetype, run
        What holds for rows that do not say it themselves.
    rename
        Name in the table by the name that dbb knows.
    """

    name: str
    filetype_of: Callable[[str], Filetype]
    run_id: Callable[[str], int]
    derive: Callable[[Filetype], Derive | None]
    filetype: str | None = None
    run: str | None = None
    rename: Mapping[str, str] | None = None

    def files(self, batch: Batch) -> list[NewFiles]:
        """Return the files of one batch, by filetype.

        Raises
        ------
        TableError
            If a value is malformed or missing; names row and column.
        NotFoundError
            If a column, filetype or run is unknown.
        """
        columns = self._columns(batch)
        filetypes = self._per_row(columns, "filetype", self.filetype, batch.size)
        if None in filetypes:
            raise TableError(
                f"{self.name}, row {batch.first_row + filetypes.index(None)}: no filetype; give one, or a column"
            )
        named = list(dict.fromkeys(str(one) for one in filetypes))
        if len(named) == 1:
            return [self._files_of(self.filetype_of(named[0]), columns, range(batch.size), batch)]
        return [
            self._files_of(
                self.filetype_of(asked),
                {name: [values[row] for row in rows] for name, values in columns.items()},
                rows,
                batch,
            )
            for asked in named
            if (rows := [n for n, one in enumerate(filetypes) if one == asked])
        ]

    def _columns(self, batch: Batch) -> dict[str, Sequence[Any]]:
        renamed = {given.lower(): wanted for wanted, given in (self.rename or {}).items()}
        columns: dict[str, Sequence[Any]] = {}
        for name, values in batch.columns.items():
            known = renamed.get(name.lower(), name).lower()
            if known in columns:
                raise TableError(f"{self.name}: two columns, one of them {name!r}, stand for {known}")
            # nothing between two commas is no value in CSV; so is an empty text elsewhere
            empty = str in set(map(type, values)) and "" in values
            columns[known] = [None if value == "" else value for value in values] if empty else values
        missing = [
            given
            for given in (self.rename or {}).values()
            if given.lower() not in {name.lower() for name in batch.columns}
        ]
        if missing:
            raise NotFoundError("column", missing[0], batch.columns, f"It is asked for in {self.name} by --map")
        if "relpath" not in columns:
            raise TableError(f"{self.name}: there is no column relpath; it has {', '.join(batch.columns)} (see --map)")
        return columns

    def _files_of(
        self, filetype: Filetype, columns: Mapping[str, Sequence[Any]], rows: Sequence[int], batch: Batch
    ) -> NewFiles:
        def converted(name: str, convert: Callable[[object], object], kind: str) -> Sequence[Any]:
            if name not in columns:
                return nothing
            whole = convert_column(columns[name], kind)
            if whole is not None:
                return whole
            return self._convert(own[name].name if name in own else name, columns[name], convert, rows, batch)

        own = {column.name.lower(): column for column in filetype.columns}
        self._check_names(filetype, columns, own)
        nothing: list[Any] = [None] * len(rows)
        kinds = _FILE_KINDS.items()
        fixed = {name: converted(name, _FILE_CONVERTERS[name], kind) for name, kind in kinds}
        metadata = [converted(name, CONVERTERS[column.type], column.type) for name, column in own.items()]
        derive = self.derive(filetype)
        if derive is not None:
            metadata = fill_gaps([column.name for column in filetype.columns], metadata, derive)
        self._check_required(filetype, metadata, rows, batch)
        corners = list(zip(*(fixed[name] for name in _CORNERS), strict=True)) if _CORNERS[0] in columns else []
        return NewFiles(
            filetype.name,
            *self._places(fixed["relpath"], fixed["compression"], rows, batch),
            fixed["filesize"],
            fixed["md5sum"],
            fixed["sha256"],
            self._run_ids(fixed["run"]),
            nothing,
            metadata,
            {n: one for n, one in enumerate(corners) if None not in one},
        )

    def _check_names(self, filetype: Filetype, columns: Mapping[str, Sequence[Any]], own: Mapping[str, object]) -> None:
        for name in columns.keys() - own.keys() - _FILE_CONVERTERS.keys():
            if any(value is not None for value in columns[name]):
                known = [column.name for column in filetype.columns] + list(FILE_COLUMNS)
                raise NotFoundError("column", name, known, f"{self.name} has it, filetype {filetype.name} does not")

    def _run_ids(self, runs: Sequence[str | None]) -> list[int | None]:
        ids = {run: None if run is None else self.run_id(run) for run in dict.fromkeys(run or self.run for run in runs)}
        return [ids[run or self.run] for run in runs]

    def _convert(
        self, name: str, given: Sequence[Any], convert: Callable[[object], object], rows: Sequence[int], batch: Batch
    ) -> list[object]:
        out = []
        for value, row in zip(given, rows, strict=True):
            try:
                out.append(None if value is None else convert(value))
            except (ValueError, TypeError, OverflowError) as error:
                raise TableError(
                    f"{self.name}, row {batch.first_row + row}, column {name}: {error}, not {shown(value)}"
                ) from error
        return out

    def _check_required(
        self, filetype: Filetype, metadata: Sequence[Sequence[Any]], rows: Sequence[int], batch: Batch
    ) -> None:
        for column, values in zip(filetype.columns, metadata, strict=True):
            if column.required and None in values:
                at = f"{self.name}, row {batch.first_row + rows[values.index(None)]}, column {column.name}"
                raise TableError(f"{at}: it is empty, but filetype {filetype.name} must have it")

    def _places(
        self, relpaths: Sequence[Any], compressions: Sequence[Any], rows: Sequence[int], batch: Batch
    ) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        if None not in relpaths and not any(compressions) and (split := split_relpaths(relpaths)):
            return split
        places = [
            self._place(relpath, compression, batch.first_row + row)
            for relpath, compression, row in zip(relpaths, compressions, rows, strict=True)
        ]
        paths, names, suffixes = zip(*places, strict=True)
        return paths, names, suffixes

    @staticmethod
    def _per_row(
        columns: Mapping[str, Sequence[Any]], name: str, default: str | None, size: int
    ) -> Sequence[str | None]:
        if name not in columns:
            return [default] * size
        return [default if value is None else str(value) for value in columns[name]]

    def _place(self, relpath: object, compression: object, row: int) -> tuple[str, str, str]:
        if not relpath:
            raise TableError(f"{self.name}, row {row}, column relpath: it is empty")
        try:
            return split_relpath(str(relpath), None if compression is None else str(compression))
        except UnsafePathError as error:
            raise UnsafePathError(f"{self.name}, row {row}: {error}") from error


def parse_map(text: str) -> dict[str, str]:
    """Read ``relpath=path,filesize=size_bytes``: dbb's name = the table's name.

    Raises
    ------
    UsageError
        If it has another form.
    """
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if not pairs or any(not (name.strip() and equals and given.strip()) for name, equals, given in pairs):
        raise UsageError(f"--map {text!r}: write relpath=path,filesize=size_bytes")
    return {name.strip().lower(): given.strip() for name, _, given in pairs}
