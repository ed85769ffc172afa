"""Arguments that come from the lines of a list: ``per_file_cmdline`` and ``add_cmdline`` of a module's wrapper."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from dbb.errors import PipelineError, known_names
from dbb.pipeline.listfiles import ListText
from dbb.pipeline.model import Data, Value
from dbb.pipeline.scope import Scope
from dbb.pipeline.values import Hole, UnsettledNameError, expand, settled_text
from dbb.pipeline.words import Template, is_patch, split_words, written
from dbb.pipeline.workflow import Argument

_PER_FILE = re.compile(r"\s*list\.([^.\s:]+)\.([^.\s:]+)\s*:(.*)", re.DOTALL)
_ADD = re.compile(r"\s*(['\"])(.*)\1\s*\.\s*join\(\s*list\.([^.\s()]+)\.([^.\s()]+)\.([^.\s()]+)\s*\)\s*", re.DOTALL)
UNSETTLED = "the name of a variable may depend on loop values, but not on files, lists or columns"
_NOT_FIXED = "it has to be the same for the whole module, but depends on a loop value, file or list"
_ONE_WORD = re.compile(r"[^\s'\"\\]*")
_COLUMN = re.compile(r"\$\(([^()]*)\)")


@dataclass(frozen=True, slots=True)
class PerFile:
    """``list.L.F:TEXT``: words appended for each line of a list."""

    list_name: str
    nick: str
    text: str
    scope: Scope
    patch: Callable[[str], str] | None
    templates: dict[object, Template] = field(default_factory=dict)

    @classmethod
    def parse(cls, value: Value | None, scope: Scope, patch: Callable[[str], str] | None) -> PerFile | None:
        """Read what the operator wrote; None if nothing.

        Raises
        ------
        PipelineError
            If it has another form.
        """
        if value is None:
            return None
        match = _PER_FILE.fullmatch(written(value))
        if match is None or not match[3].strip():
            raise PipelineError(f"{str(value)!r}: expected list.NAME.FILE:TEXT, such as list.corr.img:--id ccd=$(ccd)")
        return cls(match[1].lower(), match[2].lower(), _COLUMN.sub(r"${\1}", match[3]), scope, patch)

    def words(self, values: Mapping[str, str], lists: Mapping[str, ListText]) -> list[Argument]:
        """Return the words for all lines of the list of one quantum.

        Raises
        ------
        PipelineError
            If there is no such list, file or column.
        """
        found = _list(lists, self.list_name)
        template = self.templates.get((found.columns, found.nicks)) or self._compile(found, values)
        known = dict(values)
        out: list[Argument] = []
        for row in found.rows:
            known.update(zip(found.columns, row, strict=True))
            out += template.prune(template.fill(known))
        return out

    def _compile(self, found: ListText, values: Mapping[str, str]) -> Template:
        try:
            template = self._template(found, self.scope)
        except UnsettledNameError:
            try:
                return self._template(found, settled(self.scope, values, self.patch))
            except UnsettledNameError:
                raise PipelineError(UNSETTLED) from None
        self.templates[found.columns, found.nicks] = template
        return template

    def _template(self, found: ListText, scope: Scope) -> Template:
        columns = {name: Hole(column) for name, column in _columns(found, self.nick).items()}
        parts = expand(self.text, replace(scope, late={**scope.late, **columns})).parts
        return Template(split_words(parts), self.patch)


@dataclass(frozen=True, slots=True)
class Added:
    """``'SEP'.join(list.L.F.col)``: the different values of a column, glued to the last argument."""

    separator: str
    list_name: str
    nick: str
    column: str
    patch: Callable[[str], str] | None
    indexes: dict[object, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, value: Value | None, scope: Scope, patch: Callable[[str], str] | None) -> Added | None:
        """Read what the operator wrote; None if nothing.

        Raises
        ------
        PipelineError
            If it has another form.
        """
        if value is None:
            return None
        match = _ADD.fullmatch(fixed(written(value), scope))
        if match is None:
            raise PipelineError(f"{str(value)!r}: expected 'SEPARATOR'.join(list.NAME.FILE.COLUMN)")
        return cls(match[2], match[3].lower(), match[4].lower(), match[5].lower(), patch)

    def words(self, lists: Mapping[str, ListText]) -> list[str]:
        """Return the joined values: one word, or several if blanks in the separator part them.

        Raises
        ------
        PipelineError
            If there is no such list, file or column.
        """
        found = _list(lists, self.list_name)
        at = self.indexes.get((found.columns, found.nicks))
        if at is None:
            at = self.indexes[found.columns, found.nicks] = self._index(found)
        different = dict.fromkeys([row[at] for row in found.rows])
        if self.patch is not None and is_patch(found.columns[at]):
            different = dict.fromkeys(map(self.patch, different))
        if _ONE_WORD.fullmatch(self.separator):
            return [self.separator.join(different)]
        pieces = [piece for value in different for piece in (self.separator, Data(value))][1:]
        return ["".join(map(str, word.parts)) for word in split_words(tuple(pieces))] or [""]

    def _index(self, found: ListText) -> int:
        names = _columns(found, self.nick)
        if self.column not in names:
            raise PipelineError(
                f"list {self.list_name} has no column {self.column!r}{known_names(self.column, list(names))}"
            )
        return found.columns.index(names[self.column])


def fixed(text: str, scope: Scope) -> str:
    """Return a text that is the same for all quanta, its variables replaced.

    Raises
    ------
    PipelineError
        If it holds what only a quantum knows.
    """
    try:
        return settled_text(text, scope)
    except UnsettledNameError:
        raise PipelineError(f"{text!r}: {_NOT_FIXED}") from None


def settled(scope: Scope, values: Mapping[str, str], patch: Callable[[str], str] | None) -> Scope:
    """Return a scope that knows the loop values of one quantum, for names of variables that depend on them."""
    known = {name: values[name] for name in scope.late if "." not in name and name in values}
    if patch is not None and "patch" in known:
        known["patch"] = patch(known["patch"])
    return replace(
        scope.within(**{name: Data(value) for name, value in known.items()}),
        late={name: hole for name, hole in scope.late.items() if name not in known},
    )


def _list(lists: Mapping[str, ListText], name: str) -> ListText:
    found = lists.get(name)
    if found is None:
        raise PipelineError(f"there is no list {name!r}{known_names(name, list(lists))}")
    return found


def _columns(found: ListText, nick: str) -> dict[str, str]:
    """Return the columns of a list by all their names: with and without the nick of the file they belong to."""
    if found.nicks and nick not in found.nicks:
        if len(found.nicks) > 1:
            raise PipelineError(f"the list has no file {nick!r}{known_names(nick, found.nicks)}")
        alias = {f"{nick}.{column.partition('.')[2]}": column for column in found.columns if "." in column}
        return {**_columns(found, found.nicks[0]), **alias}
    names = {column: column for column in found.columns}
    for column in found.columns:
        owner, _, key = column.rpartition(".")
        if not owner:
            names.setdefault(f"{nick}.{key}", column)
        elif owner == nick:
            names[key] = column
    for column in found.columns:
        names.setdefault(column.rpartition(".")[2], column)
    return names
