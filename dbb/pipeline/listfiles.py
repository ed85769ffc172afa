"""List files: which columns of which files, in which format, compiled once per module and written per quantum."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

from dbb.errors import PipelineError, known_names
from dbb.pipeline.fillers import picker
from dbb.pipeline.section import Line, Section

FullName: TypeAlias = "Callable[[str, Mapping[str, str]], str]"
"""The runtime path of a file, from its nick ("" if the list names none) and its values on the line."""
_Row: TypeAlias = "tuple[str, ...]"
_ITEM = re.compile(r"\$FMT\{([^},]*),([^{}]*)\}|([^\s,$]+)", re.IGNORECASE)
_BETWEEN = re.compile(r"\s*,\s*|\s+|$")
_FORMAT = re.compile(r"(?:[^%]|%%)*%[-+ #0]*[0-9]{0,3}(?:\.[0-9]{1,3})?([dfegs])(?:[^%]|%%)*")
_SORT = re.compile(r"\(\s*([^\s,()]+)\s*(?:,\s*([^\s,()]+)\s*)?(?:,\s*([^\s,()]+)\s*)?\)|([^\s,()]+)")
_SEPARATORS = {"textsp": " ", "textcsv": ", ", "texttab": "\t"}
FORMATS = (*_SEPARATORS, "wcl", "config", "json")
_LINE_END = re.compile(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]")
_CSV_SPECIAL = re.compile(rf"""[",]|{_LINE_END.pattern}|^\s|\s$""")
_MISSING = "\0"  # a key that is not there, until it is known whether that is allowed


class ListText(NamedTuple):
    """One list of one quantum.

    Parameters
    ----------
    columns
        The columns' names as written, without formats.
    rows
        For each line the texts of the columns.
    text
        The content of the list file.
    nicks
        The nicks of files that the columns name.
    """

    columns: tuple[str, ...]
    rows: list[_Row]
    text: str
    nicks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListPlan:
    """How one list file is written; see `compile_list`.

    Attributes
    ----------
    columns, nicks, format
        As in `ListText`; the format's name.
    """

    _section: Section
    _columns: tuple[_Column, ...]
    _fullname: FullName
    _sort: _Sort | None
    _allow_missing: bool
    format: str
    columns: tuple[str, ...]
    nicks: tuple[str, ...]
    _pick: Callable[[Mapping[str, str]], _Row] | None
    _fullname_of: str | None
    _formats: bool

    def text(self, lines: Sequence[Line]) -> ListText:
        """Write the list of one quantum.

        Raises
        ------
        PipelineError
            If a line lacks a column, has several values for it, or one that the format cannot hold.
        """
        rows = self._rows(lines)
        return ListText(self.columns, rows, self._written(rows), self.nicks)

    def sorted(self, lines: Sequence[Line]) -> list[Line]:
        """Return the lines in the order in which they are written.

        Raises
        ------
        PipelineError
            If a line lacks the key to sort by, or it is no number where one is wanted.
        """
        if self._sort is None:
            return list(lines)
        keys = [self._sort_key(line, self._sort) for line in lines]
        order = sorted(range(len(lines)), key=keys.__getitem__, reverse=self._sort.reverse)
        return [lines[number] for number in order]

    def _rows(self, lines: Sequence[Line]) -> list[_Row]:
        pick, nick = self._pick, self._fullname_of
        rows = []
        for line in self.sorted(lines):
            try:
                if len(line) != 1 or pick is None:
                    raise KeyError  # the slow way asks file by file
                (values,) = line.values()
                rows.append(pick(values if nick is None else {**values, "fullname": self._fullname(nick, values)}))
            except KeyError:
                rows.append(tuple(self._value(line, column) for column in self._columns))
        if self._formats:
            rows = [tuple(map(self._formatted, self._columns, row)) for row in rows]
        return rows

    def _value(self, line: Line, column: _Column) -> str:
        found = self._find(line, column)
        if found == _MISSING:
            if self._allow_missing:
                return ""
            raise self._section.error(self._lacks(line, column), "columns")
        return found

    def _find(self, line: Line, column: _Column) -> str:
        """Return the value of the nick's file, else the one value that the files of the line have."""
        if column.nick:
            own = line.get(column.nick) or (next(iter(line.values())) if len(line) == 1 else {})
            value = self._of_file(own, column)
            if value != _MISSING:
                return value
        found = {self._of_file(values, column) for values in line.values()} - {_MISSING}
        if len(found) > 1:
            raise self._section.error(
                f"the files {', '.join(line)} of one line have different values of {column.key!r}: "
                f"{', '.join(sorted(found))}; say whose as NICK.{column.key}",
                "columns",
            )
        return found.pop() if found else _MISSING

    def _of_file(self, values: Mapping[str, str], column: _Column) -> str:
        if column.key == "fullname":
            return self._fullname(column.nick, values) if values else _MISSING
        return values.get(column.key, _MISSING)

    def _formatted(self, column: _Column, value: str) -> str:
        if column.format is None or (self._allow_missing and value == ""):
            return value
        try:
            return column.format(value)
        except (ValueError, OverflowError):
            raise self._section.error(
                f"column {column.name} is {value!r}, which is no number to format", "columns"
            ) from None

    def _lacks(self, line: Line, column: _Column) -> str:
        names = [key for values in line.values() for key in values] + ["fullname"]
        files = ", ".join(values.get("filename", nick) for nick, values in line.items())
        return (
            f"the line of {files} has no {column.name!r}{known_names(column.key, list(dict.fromkeys(names)))}; "
            "if it may be empty, say allow_missing = True"
        )

    def _sort_key(self, line: Line, sort: _Sort) -> str | float:
        value = self._find(line, sort.column)
        if value == _MISSING:
            raise self._section.error(self._lacks(line, sort.column), "sortkey")
        if not sort.numeric:
            return value
        try:
            return float(value)
        except ValueError:
            raise self._section.error(
                f"{sort.column.name} is {value!r}, which is no number to sort by", "sortkey"
            ) from None

    def _written(self, rows: list[_Row]) -> str:
        if not rows:
            return "[]\n" if self.format == "json" else ""
        if self.format == "json":
            objects = [json.dumps(dict(zip(self.columns, row, strict=True)), ensure_ascii=False) for row in rows]
            return "[\n" + ",\n".join(objects) + "\n]\n"
        if self.format in _SEPARATORS:
            return self._separated(rows, _SEPARATORS[self.format])
        return "".join(map(self._file_block, rows))

    def _separated(self, rows: list[_Row], separator: str) -> str:
        together = "".join(itertools.chain.from_iterable(rows))  # one look tells that no value is special
        full = all(map(all, rows))
        if separator == ", ":
            if "," in together or '"' in together or together.split() != [together] or not full:
                lines = [", ".join(map(_csv_value, row)) or '""' for row in rows]  # a blank line is no row
                return "\n".join(lines) + "\n"
        elif separator == "\t":
            if "\t" in together or together.splitlines() != [together]:
                self._check(rows, lambda value: "\t" not in value and not _LINE_END.search(value))
        elif together.split() != [together] or not full:
            self._check(rows, lambda value: value.split() == [value] or (value == "" and self._allow_missing))
        return "\n".join(map(separator.join, rows)) + "\n"

    def _check(self, rows: list[_Row], fits: Callable[[str], bool]) -> None:
        for row in rows:
            for column, value in zip(self.columns, row, strict=True):
                if not fits(value):
                    raise self._section.error(
                        f"column {column} of {row[0]!r} is {value!r}: in format {self.format} that would shift the "
                        "columns; use format = textcsv or json",
                        "columns",
                    )

    def _file_block(self, row: _Row) -> str:
        block = ["<file>\n"]
        for column, value in zip(self.columns, row, strict=True):
            if value != value.strip() or "#" in value or value.endswith("\\") or _LINE_END.search(value):
                raise self._section.error(
                    f"column {column} of {row[0]!r} is {value!r}, which format {self.format} cannot hold; use json",
                    "columns",
                )
            block.append(f"    {column} = {value}\n")
        return "".join([*block, "</file>\n"])


@dataclass(frozen=True, slots=True)
class _Column:
    """``key``, ``nick.key``, or either in ``$FMT{format,…}``."""

    name: str
    format: Callable[[str], str] | None = None

    @property
    def nick(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def key(self) -> str:
        return self.name.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class _Sort:
    column: _Column
    numeric: bool
    reverse: bool


def compile_list(section: Section, fullname: FullName) -> ListPlan:
    """Prepare a list file of a module.

    Parameters
    ----------
    section
        The list section, or one of those that `divided` gives.
    fullname
        Gives the runtime path of one file from its nick and its values on the line.

    Raises
    ------
    PipelineError
        If a key of the section cannot be used; says what was expected.
    """
    columns = _parse_columns(section)
    format_ = (section.text("format") or "").strip().lower() or "textsp"
    if format_ not in FORMATS:
        raise section.error(f"format = {format_}: expected one of {', '.join(FORMATS)}", "format")
    of_fullname = dict.fromkeys(column.nick for column in columns if column.key == "fullname")
    return ListPlan(
        section,
        columns,
        fullname,
        _parse_sort(section, columns),
        section.flag("allow_missing"),
        format_,
        tuple(column.name for column in columns),
        tuple(dict.fromkeys(column.nick for column in columns if column.nick)),
        picker([column.key for column in columns]) if len(of_fullname) <= 1 else None,
        next(iter(of_fullname), None),
        any(column.format is not None for column in columns),
    )


def divided(section: Section) -> list[Section]:
    """Return one section for each list file to write: those of ``div_list_by_col``, else the section itself.

    Raises
    ------
    PipelineError
        If ``div_list_by_col`` holds anything but sections.
    """
    inner = section.tree.get("div_list_by_col")
    if inner is None:
        return [section]
    if not isinstance(inner, dict) or not inner:
        raise section.error("div_list_by_col: expected a section for each list file", "div_list_by_col")
    shared = {key: value for key, value in section.tree.items() if key != "div_list_by_col"}
    sections = []
    for name, own in inner.items():
        if not isinstance(own, dict):
            raise section.error(f"div_list_by_col, {name}: expected a section", "div_list_by_col")
        sections.append(
            replace(
                section,
                name=name,
                tree={**shared, **own},
                scope=section.scope.within(own),
                inside=(*section.inside, section.name, "div_list_by_col"),
            )
        )
    return sections


def _parse_columns(section: Section) -> tuple[_Column, ...]:
    text = (section.text("columns") or "").strip() or "fullname"
    columns = []
    at = 0
    while at < len(text):
        match = _ITEM.match(text, at)
        separator = _BETWEEN.match(text, match.end()) if match else None
        if match is None or separator is None:
            raise section.error(
                f"columns = {text}: {text[at:]!r} is no column: expected key, nick.key or $FMT{{%05d,key}}, "
                "with commas or blanks between",
                "columns",
            )
        try:
            columns.append(_column(match))
        except PipelineError as error:
            raise section.error(f"columns = {text}: {error.problem}", "columns") from None
        at = separator.end()
    return tuple(columns)


def _column(match: re.Match[str]) -> _Column:
    if match[3] is not None:
        return _Column(match[3].lower())
    key = match[2].strip().lower()
    if not key or key.split() != [key]:
        raise PipelineError(f"{match[0]}: expected one column after the format")
    kind = _FORMAT.fullmatch(match[1])
    if kind is None:
        raise PipelineError(f"{match[1]!r}: expected one of the formats %d, %f, %e, %g and %s, such as %05d")
    return _Column(key, _formatter(match[1], kind[1]))


def _formatter(format_: str, kind: str) -> Callable[[str], str]:
    if kind == "s":
        return lambda value: format_ % value
    if kind == "d":
        return lambda value: format_ % _integer(value)
    return lambda value: format_ % float(value)


def _integer(text: str) -> int:
    """Read ``7`` or ``7.0``; ValueError for what is no whole number."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
    if not number.is_integer():
        raise ValueError(text)
    return int(number)


def _parse_sort(section: Section, columns: Sequence[_Column]) -> _Sort | None:
    text = section.text("sortkey")
    if text is None:
        return None
    match = _SORT.fullmatch(text.strip())
    if match is None:
        raise section.error(
            f"sortkey = {text}: expected key or (key, numeric, reverse), such as (ccd, True, False)", "sortkey"
        )
    numeric, reverse = (value is not None and section.truth(value, "sortkey") for value in (match[2], match[3]))
    name = (match[1] or match[4]).lower()
    paths = {column.name for column in columns if column.key == "fullname"}
    if name == "fullname" and len(paths) == 1:
        (name,) = paths  # the path that the list gives, which is that of a nick's file
    return _Sort(_Column(name), numeric, reverse)


def _csv_value(value: str) -> str:
    if _CSV_SPECIAL.search(value) is None:
        return value
    return '"' + value.replace('"', '""') + '"'
