"""What a filetype is: its metadata table and columns, its data id, its names in the archive. Filetypes are TOML.

A filetype file looks like this; only ``keys`` and the columns are a must::

    [sets.exposure]                 # columns that several filetypes share
    visit = "int"
    filter = "str"

    [filetypes.calexp]
    description = "Calibrated exposure of one CCD."
    dataset = "calexp"              # the Butler dataset type, if it is one
    metadata_table = "calexp"       # default: the filetype's name
    keys = ["visit", "ccd"]         # the data id
    sets = ["exposure"]
    directory = "r${reqnum}/${unitname}/p${attnum:2}/corr"
    name = "CORR-${visit:7}-${ccd:3}-r${reqnum}p${attnum:2}.fits"
    [filetypes.calexp.columns]
    ccd = "int"
    expTime = { type = "float", source = "header:EXPTIME" }

A column's source says where `dbb ingest-files` finds the value: ``header:KEY`` (or ``header:KEY|OTHER`` for the first
that is there), ``mapper`` (translated from the header by the camera), or ``name`` (the name pattern, read backwards;
the default). ``each:KEY`` is for files of several detectors: the card of every HDU that has it, as a text of
``value:HDU`` pairs, HDUs counted from 0. A value given by the caller wins over each of them.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from dbb.errors import NotFoundError, UsageError
from dbb.patch import stored_patch
from dbb.patterns import Pattern, parse_pattern

# At most 55 characters: PostgreSQL takes 63, and the name of an index is that of its table and eight more.
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,54}")
_INTEGER = re.compile(r"\s*[+-]?[0-9]+\s*")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_KEYS = {"description", "dataset", "metadata_table", "keys", "sets", "columns", "directory", "name"}


@dataclass(frozen=True, slots=True)
class Column:
    """A metadata column: its name as declared, type (a key of `CONVERTERS`), source, and whether it must be given."""

    name: str
    type: str
    source: str = "name"
    required: bool = False


@dataclass(frozen=True, slots=True)
class Filetype:
    """What one kind of file is.

    Parameters
    ----------
    name
        As stored in ``desfile.filetype``, lower case.
    dataset
        The Butler dataset type, or None.
    table
        The metadata table, or None if the filetype has no columns.
    columns
        In the order of the table.
    keys
        Names of the columns that make the data id.
    directory, name_pattern
        Where the archive keeps such files, or None where only the caller knows.
    mapper
        The camera that a registry has it from.
    """

    name: str
    dataset: str | None
    table: str | None
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    description: str = ""
    directory: Pattern | None = None
    name_pattern: Pattern | None = None
    mapper: str | None = field(default=None, compare=False)

    @property
    def types(self) -> dict[str, str]:
        """Type of each column by its declared name."""
        return {column.name: column.type for column in self.columns}

    def column(self, name: str) -> Column:
        """Return the column called `name`, without regard to case.

        Raises
        ------
        NotFoundError
            If there is none; lists those that are there.
        """
        for column in self.columns:
            if column.name.lower() == name.lower():
                return column
        raise NotFoundError("column", name, [column.name for column in self.columns], f"Filetype {self.name} lacks it")

    def as_dict(self) -> dict[str, object]:
        """Return its entry as a filetype file has it, with the camera besides; `filetype_from_dict` reads it."""
        columns = {one.name: {"type": one.type, "source": one.source, "required": one.required} for one in self.columns}
        entry = {"dataset": self.dataset, "metadata_table": self.table, "keys": list(self.keys), "columns": columns}
        patterns = {"directory": self.directory, "name": self.name_pattern}
        entry |= {key: pattern.text for key, pattern in patterns.items() if pattern is not None}
        entry |= {"description": self.description} if self.description else {}
        return {key: value for key, value in (entry | {"mapper": self.mapper}).items() if value is not None}


def _to_int(value: object) -> int:
    # Python also reads 1_000 and digits of other scripts, which no other program writes
    if isinstance(value, bool) or (isinstance(value, str) and not _INTEGER.fullmatch(value)):
        raise ValueError("expected an integer")
    try:
        number = int(value)  # type: ignore[call-overload]  # whatever int() reads: text, numpy integer, whole float
    except (ValueError, TypeError, OverflowError):
        raise ValueError("expected an integer") from None
    if not isinstance(value, str) and number != value:
        raise ValueError("expected an integer")
    if not -(2**63) <= number < 2**63:
        raise ValueError("the number does not fit in 64 bits")
    return int(number)


def _to_float(value: object) -> float:
    if isinstance(value, str) and "_" in value:
        raise ValueError("expected a number")
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever float() reads
    except (ValueError, TypeError, OverflowError):
        raise ValueError("expected a number") from None
    if number != number or number in {float("inf"), float("-inf")}:
        raise ValueError("expected a finite number")
    return number


def _to_text(value: object) -> str:
    text = str(value)
    if "\x00" in text:
        raise ValueError("a text cannot hold a NUL character")
    if not text.isascii():
        text.encode()  # half of a surrogate pair, which no database takes, is a ValueError here
    return text


@lru_cache(maxsize=4096)
def _checked_date(text: str) -> str:
    if not _DATE.fullmatch(text):
        raise ValueError("expected a date YYYY-MM-DD")
    return dt.date.fromisoformat(text).isoformat()


def _to_date(value: object) -> str:
    if isinstance(value, dt.datetime):
        value = value.date()
    return _checked_date(value.isoformat() if isinstance(value, dt.date) else str(value))


def _to_patch(value: object) -> str:
    return stored_patch(str(value))


def _to_bool(value: object) -> bool:
    text = str(value).strip().lower()
    if text in {"true", "t", "1"}:
        return True
    if text in {"false", "f", "0"}:
        return False
    raise ValueError("expected true or false")


CONVERTERS: Mapping[str, Callable[[object], object]] = {
    "int": _to_int,
    "float": _to_float,
    "str": _to_text,
    "date": _to_date,
    "patch": _to_patch,
    "bool": _to_bool,
}
"""Column types, each with what turns a given value into the stored one (ValueError if it cannot be)."""


def load_filetypes(path: Path) -> dict[str, Filetype]:
    """Read a filetype file.

    Raises
    ------
    UsageError
        If the file cannot be read or a definition is unusable; names the file, the filetype and the entry.
    """
    import tomllib  # jobs have their filetypes from the job file

    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"filetype file {path} cannot be read: {error}") from error
    unknown = data.keys() - {"sets", "filetypes"}
    if unknown:
        raise UsageError(f"filetype file {path}: unknown entries {sorted(unknown)}; known: filetypes, sets")
    return read_filetypes(data, path)


def read_filetypes(data: Mapping[str, object], path: Path) -> dict[str, Filetype]:
    """Read the tables ``sets`` and ``filetypes`` of what the file at `path` holds.

    Raises
    ------
    UsageError
        If a definition is unusable; names the file, the filetype and the entry.
    """
    try:
        sets = {name: _table(f"set {name}", entry) for name, entry in _table("sets", data.get("sets", {})).items()}
        entries = _table("filetypes", data.get("filetypes", {}))
        return {name: _filetype(name, _table(f"filetype {name}", entry), sets) for name, entry in entries.items()}
    except (UsageError, NotFoundError) as error:
        raise UsageError(f"filetype file {path}: {error}") from error


def filetype_from_dict(name: str, entry: object) -> Filetype:
    """Read what `Filetype.as_dict` gave.

    Raises
    ------
    UsageError
        If it is unusable; names the filetype.
    """
    given = dict(_table(f"filetype {name}", entry))
    mapper = given.pop("mapper", None)
    try:
        return replace(_filetype(name, given, {}), mapper=None if mapper is None else str(mapper))
    except NotFoundError as error:
        raise UsageError(f"filetype {name}: {error}") from error


def _table(what: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{what} must be a table of entries, not {value!r}")
    return value


def _filetype(name: str, entry: Mapping[str, object], sets: Mapping[str, Mapping[str, object]]) -> Filetype:
    if not _IDENTIFIER.fullmatch(name) or name != name.lower():
        raise UsageError(f"filetype {name!r}: the name must be lower-case letters, digits and _")
    if entry.keys() - _KEYS:
        raise UsageError(
            f"filetype {name}: unknown entries {sorted(entry.keys() - _KEYS)}; known: {', '.join(sorted(_KEYS))}"
        )
    declared: dict[str, object] = {}
    for chosen in _names(name, entry, "sets"):
        if chosen not in sets:
            raise NotFoundError("set of columns", chosen, sets)
        declared |= sets[chosen]
    declared |= _table(f"filetype {name}, columns", entry.get("columns", {}))
    lowered = [column.lower() for column in declared]
    twice = [column for column in declared if lowered.count(column.lower()) > 1]
    if twice:
        raise UsageError(f"filetype {name}: the columns {', '.join(twice)} differ in case only")
    keys = _names(name, entry, "keys")
    columns = tuple(_column(name, column, what, keys) for column, what in declared.items())
    missing = [key for key in keys if key not in declared]
    if missing:
        raise UsageError(f"filetype {name}: keys {missing} are not among its columns")
    table = str(entry.get("metadata_table", name)) if columns else None
    if table is not None and not _IDENTIFIER.fullmatch(table):
        raise UsageError(f"filetype {name}: {table!r} cannot be a table name")
    return Filetype(
        name=name,
        dataset=_text(entry, "dataset"),
        table=table.lower() if table else None,
        columns=columns,
        keys=keys,
        description=_text(entry, "description") or "",
        directory=_pattern(entry, "directory"),
        name_pattern=_pattern(entry, "name"),
    )


def _column(filetype: str, name: str, what: object, keys: Iterable[str]) -> Column:
    entry = {"type": what} if isinstance(what, str) else dict(what) if isinstance(what, Mapping) else {}
    kind, source = str(entry.get("type", "")), str(entry.get("source", "name"))
    if not _IDENTIFIER.fullmatch(name) or name.lower() == "desfile_id":
        raise UsageError(f"filetype {filetype}: {name!r} cannot be a column name")
    if kind not in CONVERTERS:
        raise UsageError(f"filetype {filetype}, column {name}: type {kind!r} is none of {', '.join(CONVERTERS)}")
    if source not in {"name", "mapper"} and not source.startswith(("header:", "each:")):
        known = "header:KEY, each:KEY, mapper, name"
        raise UsageError(f"filetype {filetype}, column {name}: source {source!r} is none of {known}")
    return Column(name, kind, source, bool(entry.get("required", name in keys)))


def _names(filetype: str, entry: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = entry.get(key, [])
    if not isinstance(value, list):
        raise UsageError(f"filetype {filetype}: {key} must be a list of names, not {value!r}")
    return tuple(str(item) for item in value)


def _text(entry: Mapping[str, object], key: str) -> str | None:
    value = entry.get(key)
    return None if value is None else str(value)


def _pattern(entry: Mapping[str, object], key: str) -> Pattern | None:
    text = _text(entry, key)
    return None if text is None else parse_pattern(text)
