"""Files of the registry as data lines: rows are streamed, and turned into texts column by column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, overload

from dbb.errors import MissingError
from dbb.filetypes import Filetype
from dbb.pipeline.inputs.output import nick_of
from dbb.pipeline.inputs.problems import NOT_FOUND, problem
from dbb.pipeline.lines import ColumnLines
from dbb.pipeline.section import Line, Section
from dbb.registry import Database
from dbb.registry.relpaths import join_relpath
from dbb.registry.select import (
    FIXED,
    FileQuery,
    Wanted,
    describe_place,
    resolve,
    resolve_overlaps,
    run_text,
    select_files,
    select_overlaps,
)

_FETCH = 5_000
_REMEMBERED = 100_000
_FILENAME, _COMPRESSION, _FILESIZE, _MD5SUM, _ARCHIVE, _PATH = 1, 2, 3, 4, 7, 8
FILE_KEYS = ("filename", "compression", "relpath", "archive", "run", "filesize", "md5sum")
"""What a line says of a file besides its metadata."""

_OVERLAP = ("tract", "patch")

Row = Sequence[Any]


def registered_lines(section: Section, db: Database, query: FileQuery) -> Sequence[Line]:
    """Return a line for each file that fits, in the order of the data ids.

    Where a section asks for tract and patch, and its files refer to exposures instead, a file has a line for each
    overlap with which the conditions hold.

    Raises
    ------
    PipelineError
        If no file fits.
    NotFoundError, ParseError, AmbiguousError, MissingError
        As `dbb.Registry.query`; also if a file is kept in no archive.

    Notes
    -----
    One SELECT besides the look-up of names.
    """
    filetype = db.filetype(query.filetype)
    names, overlapping = metadata_names(section, filetype), _asks_overlaps(section, filetype)
    if overlapping:
        names = (*(name for name in names if name not in _OVERLAP), *_OVERLAP)
    table = db.table(filetype)
    lines = FileLines(nick_of(section, filetype.name), names)
    with db.read() as conn:
        if overlapping:
            _, statement = select_overlaps(db, conn, query, names[: -len(_OVERLAP)])
        else:
            columns = (table.c[name] for name in names) if table is not None else ()
            _, statement = select_files(db, conn, query, Wanted(tuple(columns)))
        with conn.execution_options(yield_per=_FETCH).execute(statement) as rows:
            one_each = bool(filetype.keys)  # files without a data id cannot be mistaken for each other
            found = resolve_overlaps(rows, filetype) if overlapping else resolve(rows, filetype, unique=one_each)
            lines.extend(found, FIXED + len(filetype.keys))
    if not lines:
        key = next(name for name in ("query_fields", "where", "id") if name in section.tree)
        raise problem(section, f"no lines: no {filetype.name} fits {key} = {section.tree[key]}", key, NOT_FOUND)
    return lines


def metadata_names(section: Section, filetype: Filetype) -> tuple[str, ...]:
    """Return the metadata columns that the lines of a section get, in lower case.

    Those of ``output_fields`` with the data id; all if it is not given.

    Raises
    ------
    NotFoundError
        If there is no such column.
    """
    columns = [column.name for column in filetype.columns]
    if "output_fields" in section.tree:
        fixed = {*FILE_KEYS, *(_OVERLAP if _asks_overlaps(section, filetype) else ())}
        columns = [*filetype.keys, *(filetype.column(name).name for name in _asked(section) if name not in fixed)]
    return tuple(dict.fromkeys(name.lower() for name in columns))


def _asked(section: Section) -> list[str]:
    return [name.rpartition(".")[2].lower() for name in section.items("output_fields")]


def _asks_overlaps(section: Section, filetype: Filetype) -> bool:
    """Whether a section wants tract or patch, by its output or the keys it is divided by, and its files have none."""
    dividing = [name.lower() for key in ("loopkey", "match", "divide_by") for name in section.items(key)]
    own = {column.name.lower() for column in filetype.columns}
    return any(name in _OVERLAP and name not in own for name in (*_asked(section), *dividing))


class FileLines(ColumnLines):
    """Data lines of files that the registry knows, kept by column and made when asked for.

    Parameters
    ----------
    nick
        What the file of each line is called.
    names
        What the metadata columns are called.

    Notes
    -----
    As dictionaries, a million lines would take more than a gigabyte; so they take a third of it.
    """

    def __init__(self, nick: str, names: Sequence[str]) -> None:
        self.nick = nick
        self._names = (*FILE_KEYS, *names)
        self._columns: tuple[list[str | None], ...] = tuple([] for _ in self._names)
        self._texts = [_Texts() for _ in self._names]
        self._partial = False

    def extend(self, rows: Iterable[Row], first: int) -> None:
        """Add a line for each row of `dbb.registry.select.select_files`, whose metadata begin at column `first`.

        Raises
        ------
        MissingError
            If a file is in no archive.
        """
        waiting = iter(rows)
        while batch := list(islice(waiting, _FETCH)):
            for kept, column in zip(self._columns, self._read(batch, first), strict=True):
                self._partial = self._partial or None in column
                kept += column

    def __len__(self) -> int:
        return len(self._columns[0])

    @overload
    def __getitem__(self, index: int) -> Line: ...

    @overload
    def __getitem__(self, index: slice) -> list[Line]: ...

    def __getitem__(self, index: int | slice) -> Line | list[Line]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return {self.nick: self._values([column[index] for column in self._columns])}

    def column(self, key: str) -> Sequence[str | None]:
        """Return for each line its file's value of `key`, None where it has none."""
        if key == "relpath":
            return [values["relpath"] for line in self for values in line.values()]
        return self._columns[self._names.index(key)] if key in self._names else [None] * len(self)

    def known_keys(self) -> set[str]:
        """Return the keys that any of the files has."""
        kept = zip(self._names, self._columns, strict=True)
        return {name for name, column in kept if any(value is not None for value in column)}

    def __iter__(self) -> Iterator[Line]:
        for row in zip(*self._columns, strict=True):
            yield {self.nick: self._values(row)}

    def _values(self, row: Sequence[Any]) -> dict[str, str]:
        values = dict(zip(self._names, row, strict=True))
        values["relpath"] = join_relpath(row[2], row[0], row[1])  # kept is only its folder, which many files share
        return {key: value for key, value in values.items() if value is not None} if self._partial else values

    def _read(self, batch: Sequence[Row], first: int) -> Iterator[Sequence[str | None]]:
        given = list(zip(*batch, strict=True))
        if None in given[_PATH]:
            row = batch[given[_PATH].index(None)]
            raise MissingError(f"{describe_place(row)} is registered but kept in no archive, so it cannot be an input")
        runs = list(zip(*given[_PATH + 1 : FIXED - 1], strict=True))
        of_run = {run: run_text((None,) * (_PATH + 1) + run) for run in set(runs)}
        yield given[_FILENAME]
        yield self._text(1, given[_COMPRESSION])
        yield self._text(2, given[_PATH])
        yield self._text(3, given[_ARCHIVE])
        yield self._text(4, [of_run[run] for run in runs])
        yield self._text(5, given[_FILESIZE])
        yield given[_MD5SUM]
        for number, column in enumerate(given[first : first + len(self._names) - len(FILE_KEYS)]):
            yield self._text(len(FILE_KEYS) + number, column)

    def _text(self, number: int, column: Sequence[object]) -> list[str | None]:
        texts = self._texts[number]
        if len(texts) > _REMEMBERED:
            texts.clear()
        return list(map(texts.__getitem__, column))


class _Texts(dict[object, "str | None"]):
    """The text of each value of one column, made once: a million rows have a few filters and visits."""

    def __missing__(self, value: object) -> str | None:
        text = self[value] = None if value is None else str(value)
        return text
