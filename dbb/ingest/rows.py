"""Rows of a table → files to register, each value checked against its column's type."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dbb.errors import NotFoundError, TableError, UnsafePathError, UsageError
from dbb.filetypes import CONVERTERS, Filetype
from dbb.ingest.tables import Batch
from dbb.registry.files import NewFile
from dbb.registry.relpaths import split_relpath
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
    derive: Callable[[Filetype], Callable[[Mapping[str, object]], dict[str, object]] | None]
    filetype: str | None = None
    run: str | None = None
    rename: Mapping[str, str] | None = None

    def files(self, batch: Batch) -> list[NewFile]:
        """Return the files of one batch, in order.

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
        out: list[NewFile | None] = [None] * batch.size
        for asked in dict.fromkeys(str(one) for one in filetypes):
            filetype = self.filetype_of(asked)
            rows = (
                range(batch.size)
                if len(set(filetypes)) == 1
                else [n for n, one in enumerate(filetypes) if one == asked]
            )
            for row, file in zip(rows, self._files_of(filetype, columns, rows, batch), strict=True):
                out[row] = file
        return [file for file in out if file is not None]

    def _columns(self, batch: Batch) -> dict[str, Sequence[Any]]:
        renamed = {given.lower(): wanted for wanted, given in (self.rename or {}).items()}
        columns: dict[str, Sequence[Any]] = {}
        for name, values in batch.columns.items():
            known = renamed.get(name.lower(), name).lower()
            if known in columns:
                raise TableError(f"{self.name}: two columns, one of them {name!r}, stand for {known}")
            # nothing between two commas is no value in CSV; so is an empty text elsewhere
            columns[known] = [None if value == "" else value for value in values] if "" in values else values
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

    @staticmethod
    def _per_row(
        columns: Mapping[str, Sequence[Any]], name: str, default: str | None, size: int
    ) -> Sequence[str | None]:
        if name not in columns:
            return [default] * size
        return [default if value is None else str(value) for value in columns[name]]

    def _files_of(
        self, filetype: Filetype, columns: Mapping[str, Sequence[Any]], rows: Sequence[int], batch: Batch
    ) -> Iterator[NewFile]:
        def converted(name: str, convert: Callable[[object], object]) -> list[object]:
            label = own[name].name if name in own else name
            return self._convert(label, [columns[name][row] for row in rows], convert, rows, batch)

        own = {column.name.lower(): column for column in filetype.columns}
        used = {name for name in columns if name in own or name in _FILE_CONVERTERS}
        for name in columns.keys() - used:
            if any(columns[name][row] is not None for row in rows):
                known = [column.name for column in filetype.columns] + list(FILE_COLUMNS)
                raise NotFoundError("column", name, known, f"{self.name} has it, filetype {filetype.name} does not")
        nothing: list[object] = [None] * len(rows)
        fixed = {name: converted(name, _FILE_CONVERTERS[name]) if name in columns else nothing for name in FILE_COLUMNS}
        values = [
            converted(name, CONVERTERS[column.type]) if name in columns else nothing for name, column in own.items()
        ]
        metadata = self._derived(filetype, list(zip(*values, strict=True)) if values else [()] * len(rows))
        self._check_required(filetype, metadata, rows, batch)
        runs = [self.run if one is None else str(one) for one in fixed["run"]]
        corners = list(zip(*(fixed[name] for name in _CORNERS), strict=True))
        for n, row in enumerate(rows):
            place = self._place(fixed["relpath"][n], fixed["compression"][n], batch.first_row + row)
            run = runs[n]
            yield NewFile(
                *place,
                filetype.name,
                fixed["filesize"][n],  # type: ignore[arg-type]  # converted above
                fixed["md5sum"][n],  # type: ignore[arg-type]  # converted above
                fixed["sha256"][n],  # type: ignore[arg-type]  # converted above
                None if run is None else self.run_id(run),
                metadata[n],
                Corners(*corners[n]) if None not in corners[n] else None,
            )

    def _convert(
        self, name: str, given: list[Any], convert: Callable[[object], object], rows: Sequence[int], batch: Batch
    ) -> list[object]:
        try:
            return [None if value is None else convert(value) for value in given]
        except (ValueError, TypeError, OverflowError):
            for value, row in zip(given, rows, strict=True):
                try:
                    _ = None if value is None else convert(value)
                except (ValueError, TypeError, OverflowError) as error:
                    raise TableError(
                        f"{self.name}, row {batch.first_row + row}, column {name}: {error}, not {shown(value)}"
                    ) from error
            raise

    def _derived(self, filetype: Filetype, metadata: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
        derive = self.derive(filetype)
        if derive is None:
            return metadata
        names = [column.name for column in filetype.columns]
        out = []
        for values in metadata:
            if None in values:
                known = {name: value for name, value in zip(names, values, strict=True) if value is not None}
                more = derive(known)
                values = tuple(
                    more.get(name) if value is None else value for name, value in zip(names, values, strict=True)
                )
            out.append(values)
        return out

    def _check_required(
        self, filetype: Filetype, metadata: Sequence[Sequence[object]], rows: Sequence[int], batch: Batch
    ) -> None:
        for place, column in enumerate(filetype.columns):
            if column.required:
                for values, row in zip(metadata, rows, strict=True):
                    if values[place] is None:
                        at = f"{self.name}, row {batch.first_row + row}, column {column.name}"
                        raise TableError(f"{at}: it is empty, but filetype {filetype.name} must have it")

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
