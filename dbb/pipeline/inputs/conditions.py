"""What a section asks the registry: ``where`` and ``id`` in our language, or DESDM's ``query_fields``."""

from __future__ import annotations

import re

from dbb.errors import PipelineError, VariableError
from dbb.pipeline.model import Data
from dbb.pipeline.section import Section
from dbb.pipeline.values import Part, UnsettledNameError, expand, expand_all
from dbb.query import Literal
from dbb.query.tokens import tokenize
from dbb.registry import Database
from dbb.registry.select import FileQuery

_NO_DATA_ID = re.compile(r"\s|\^|\.\.")
_JOINED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\.")
_REGULAR = re.compile(r"[*^$\[\]&]")
_TABLES = frozenset({"desfile", "file_archive_info", "pfw_attempt", "proctag", "wgb"})
"""Tables besides the filetype's own whose columns a condition may name: what they say, our language says of a file.

They need no ``join``, which is accepted where it ties them.
"""


def where_query(section: Section) -> FileQuery:
    """Return what ``where``, ``id``, ``runs`` and ``overlaps`` of a section ask.

    Variables are replaced in what the operator wrote; a value that came from data is bound, never pasted.

    Raises
    ------
    PipelineError
        If a variable or a ``:name`` has no value, or there is neither ``filetype`` nor ``dataset``.
    """
    filetype = section.text("dataset") or section.text("filetype")
    if not filetype:
        raise section.error("where and id need filetype (or dataset): files of which kind?")
    where, binds = _where(section) if "where" in section.tree else (None, {})
    ids = (_data_id(section),) if "id" in section.tree else ()
    overlaps = section.text("overlaps") or None
    return FileQuery(filetype, where, ids, tuple(section.items("runs")), overlaps, binds=binds)


def fields_query(section: Section, db: Database) -> FileQuery:
    """Return what ``query_fields`` and ``query_table`` ask: every field has the value of the key of its name.

    Raises
    ------
    PipelineError
        If a field has no value or a regular expression, or it is not clear which filetype is meant.
    """
    fields = [(table.lower(), name.lower()) for table, _, name in (f.rpartition(".") for f in section.items(_FIELDS))]
    filetype = _filetype(section, db, [name for _, name in fields])
    own = {filetype, db.filetype(filetype).table or "", (section.text("query_table") or "").lower(), ""}
    joined = [table.lower() for table in _JOINED.findall(section.text("join") or "")]
    for table in (*(table for table, _ in fields), *joined):
        if table not in own | _TABLES:
            known = ", ".join(sorted(name for name in own | _TABLES if name))
            raise section.error(f"only columns of {known} can be asked, not of {table}; write 'where' instead", _FIELDS)
    binds: dict[str, object] = {}
    conditions = [_Field(section, name).condition(binds) for _, name in fields if name != "filetype"]
    return FileQuery(filetype, " AND ".join(conditions) or None, runs=tuple(section.items("runs")), binds=binds)


_FIELDS = "query_fields"


def _where(section: Section) -> tuple[str, dict[str, object]]:
    binds: dict[str, object] = {}
    text, inside = "", False
    for part in _parts(section, str(section.tree["where"]), "where"):
        if isinstance(part, Data):
            if inside:  # a whole or a part of a text in quotes
                text += part.replace("'", "''")
            else:
                name = f"dbb_{len(binds)}"
                binds[name] = Literal(str(part), raw=True)
                text += f":{name}"
        else:
            text += part
            inside ^= part.count("'") % 2 == 1
    for token in tokenize(text):
        name = token.text[1:]
        if token.kind == "bind" and name not in binds:
            values = _values(section, name, "where", f":{name}")
            raw = [Literal(str(value), raw=True) for value in values]
            binds[name] = raw[0] if len(raw) == 1 else raw
    return text, binds


def _data_id(section: Section) -> str:
    text = ""
    for part in _parts(section, str(section.tree["id"]), "id"):
        if isinstance(part, Data) and _NO_DATA_ID.search(part):
            raise section.error(f"id cannot hold the value {part!r}: compare it in 'where', with quotes", "id")
        text += part
    return text


def _filetype(section: Section, db: Database, fields: list[str]) -> str:
    """Return the filetype that ``query_table`` is or belongs to, or that the field ``filetype`` names."""
    if "filetype" in fields:
        names = {str(value).lower() for value in _values(section, "filetype", _FIELDS)}
        if len(names) != 1:
            raise section.error(f"one section asks for one filetype, not {', '.join(sorted(names))}", "filetype")
        return db.filetype(names.pop()).name
    table = section.text("query_table")
    if not table:
        raise section.error("query_fields needs query_table: a filetype, or its metadata table", _FIELDS)
    if table.lower() in db.filetypes():
        return table.lower()
    sharing = db.filetypes().sharing(table.lower())
    if len(sharing) > 1:
        listed = ", ".join(sorted(sharing))
        raise section.error(f"query_table = {table} is shared by {listed}: name one of them", "query_table")
    return sharing[0] if sharing else db.filetype(table).name


class _Field:
    """The condition on one field."""

    def __init__(self, section: Section, name: str) -> None:
        self._section, self._name = section, name
        self._equal: dict[bool, list[str]] = {True: [], False: []}
        self._alike: dict[bool, list[str]] = {True: [], False: []}
        self._null: dict[bool, bool] = {True: False, False: False}
        for value in _values(section, name, _FIELDS):
            self._sort_in(value)

    def _sort_in(self, value: str) -> None:
        if isinstance(value, Data):
            self._equal[True].append(str(value))
            return
        text, wanted = value.removeprefix("!"), not value.startswith("!")
        if text.lower() == "null":
            self._null[wanted] = True
        elif _REGULAR.search(text):
            advice = f"write 'where' instead, e.g. where = {self._name} GLOB 'a*'"
            raise self._section.error(
                f"{self._name} = {value}: a regular expression cannot be asked; {advice}", _FIELDS
            )
        elif "%" in text:
            self._alike[wanted].append(_glob(text))
        else:
            self._equal[wanted].append(text)

    def condition(self, binds: dict[str, object]) -> str:
        """Return the expression; its values are put into `binds`."""
        name = self._name

        def bound(value: object) -> str:
            binds[f"f{len(binds)}"] = value
            return f":f{len(binds) - 1}"

        def listed(values: list[str]) -> str:
            return bound([Literal(value, raw=True) for value in values])

        some = [f"{name} IN {listed(self._equal[True])}"] if self._equal[True] else []
        some += [f"{name} GLOB {bound(pattern)}" for pattern in self._alike[True]]
        some += [f"{name} IS NULL"] if self._null[True] else []
        every = [f"({' OR '.join(some)})"] if some else []
        every += [f"{name} NOT IN {listed(self._equal[False])}"] if self._equal[False] else []
        every += [f"{name} NOT GLOB {bound(pattern)}" for pattern in self._alike[False]]
        every += [f"{name} IS NOT NULL"] if self._null[False] else []
        return " AND ".join(every)


def _glob(like: str) -> str:
    r"""Return the shell pattern for a LIKE pattern, in which ``\_`` and ``\%`` stand for themselves."""
    signs = {"%": "*", "_": "?", "?": "[?]"}
    pieces = re.findall(r"\\[%_]|.", like, re.DOTALL)
    return "".join(piece[1] if len(piece) > 1 else signs.get(piece, piece) for piece in pieces)


def _values(section: Section, name: str, key: str, shown: str = "") -> list[str]:
    """Return the values of a key, as a search from the section finds it; those that came from data are `Data`."""
    if section.scope.find(name) is None:
        raise section.error(
            f"{shown or name} has no value: give the section, its module or the top level a key {name}", key
        )
    try:
        found = expand_all(f"${{{name}}}", section.scope)
    except VariableError as error:
        raise _at(section, error, key) from None
    values = []
    for text in found:
        parts = _known(section, text.parts, key)
        kind = Data if any(isinstance(part, Data) for part in parts) else str
        values.append(kind("".join(parts)))
    return values


def _parts(section: Section, text: str, key: str) -> list[str]:
    try:
        return _known(section, expand(text, section.scope).parts, key)
    except UnsettledNameError:
        raise _late(section, key) from None
    except VariableError as error:
        raise _at(section, error, key) from None


def _known(section: Section, parts: tuple[Part, ...], key: str) -> list[str]:
    known = [part for part in parts if isinstance(part, str)]
    if len(known) < len(parts):
        raise _late(section, key)
    return known


def _late(section: Section, key: str) -> PipelineError:
    return section.error("a value that only a quantum or a step knows cannot choose the files of the module", key)


def _at(section: Section, error: VariableError, key: str) -> VariableError:
    return type(error)(f"{section.title}, {key}: {error.problem}", section.place(key))
