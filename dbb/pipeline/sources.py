"""Where the data lines of a module's sections come from: queries, earlier modules, or names made from patterns."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from dbb.errors import ConsequenceError, DbbError, PipelineError
from dbb.pipeline.fillers import Filler
from dbb.pipeline.inputs import group_lines, query_lines
from dbb.pipeline.lines import LineIndex, index_lines, section_keys
from dbb.pipeline.lists import list_items
from dbb.pipeline.model import Pipeline, Tree, subtree
from dbb.pipeline.names import named_files
from dbb.pipeline.scope import Scope
from dbb.pipeline.section import Line, Section
from dbb.pipeline.values import Hole, render

if TYPE_CHECKING:
    from dbb.api import Registry

RegistrySource: TypeAlias = "Registry | Callable[[], Registry] | None"
_ASK_REGISTRY = {"where", "id", "query_fields", "query", "calibs"}
GROUP = "group"
"""The name in ``wrapperloop`` of the groups that a plug-in makes."""
_OF_OLD_FILE = {"relpath", "archive", "run", "filesize", "md5sum"}
_DEPENDS = ("depends", "depends-newname")
_NICK = re.compile(r"([^\s,{}.]+)\.[^\s,{}]+")


@dataclass(slots=True)
class Sources:
    """The data lines of all sections planned so far.

    Parameters
    ----------
    pipeline, root
        The pipeline as read, and its tree as prepared for planning.
    registry
        Asked by the sections that query it, or what opens it then; None where nobody may ask.
    scratch
        A folder for what query programs write.
    broken
        Modules that could not be planned; what depends on them cannot either.
    """

    pipeline: Pipeline
    root: Tree
    registry: RegistrySource
    scratch: Path
    broken: set[str] = field(default_factory=set)
    _lines: dict[tuple[str, str, str], Sequence[Line] | None] = field(default_factory=dict)
    _indexes: dict[tuple[str, str, str], LineIndex] = field(default_factory=dict)
    _made: dict[tuple[str, str], list[Line]] = field(default_factory=dict)
    _new_names: dict[tuple[str, str], Filler] = field(default_factory=dict)
    _wanted: frozenset[tuple[str, str]] = frozenset()

    def __post_init__(self) -> None:
        self._wanted = frozenset(_depended_on(self.root))

    def lines(self, section: Section) -> Sequence[Line] | None:
        """Return the data lines of a section, or None if it has none of its own; each source is asked once.

        Raises
        ------
        PipelineError
            If a query finds nothing, or a section that it depends on has no data.
        """
        key = (section.module, section.kind, section.name)
        if key not in self._lines:
            self._lines[key] = None  # whoever asks for itself on the way finds nothing
            try:
                self._lines[key] = self._find(section)
            except BaseException:
                del self._lines[key]
                raise
        return self._lines[key]

    def index(self, section: Section) -> LineIndex | None:
        """Return a section's lines by its keys, or None if it has no data of its own."""
        key = (section.module, section.kind, section.name)
        if key not in self._indexes:
            lines = self.lines(section)
            if lines is None:
                return None
            self._indexes[key] = self._index(section, lines)
        return self._indexes[key]

    def _index(self, section: Section, lines: Sequence[Line]) -> LineIndex:
        grouping = section.text("group_by")
        if grouping is None:
            return index_lines(section, lines)
        groups = group_lines(section, grouping, lines, section_keys(section))
        return LineIndex(section, (GROUP,), lines, {(name,): indexes for name, indexes in groups.items()})

    def new_name(self, module: str, nick: str) -> Filler | None:
        """Return the path in the job of files that a section renames by its lines, or None if it does not."""
        return self._new_names.get((module, nick))

    def is_wanted(self, module: str, nick: str) -> bool:
        """Tell whether a later section depends on the names that a module gives to a file section."""
        return (module, nick) in self._wanted

    def remember(self, module: str, nick: str, line: Line) -> None:
        """Keep a name that a module made, for the sections that depend on it."""
        self._made.setdefault((module, nick), []).append(line)

    def section(self, scope: Scope, kind: str, name: str) -> Section | None:
        """Return a section of the module that `scope` has chosen, or None."""
        module = scope.chosen["module"]
        tree = subtree(self.root, "module", module, kind).get(name)
        return Section(kind, module, name, tree, scope.within(tree), self.pipeline) if isinstance(tree, dict) else None

    def _find(self, section: Section) -> Sequence[Line] | None:
        registry = None
        if _ASK_REGISTRY & section.tree.keys():
            registry = self._opened()
        elif "exec" in section.tree:
            with contextlib.suppress(DbbError):  # a program that needs no registry does without, another one says so
                registry = self._opened()
        found = query_lines(section, registry, self.scratch, self._known_to(section))
        if found is not None:
            return found
        for key in _DEPENDS:
            if key in section.tree:
                lines = [line for item in section.items(key) for line in self._dependency(section, key, item)]
                if not lines:
                    raise section.error(f"{key} = {section.text(key)}: there are no lines", key)
                return lines if key == "depends" else self._renamed(section, lines)
        return None

    def _opened(self) -> Registry | None:
        if callable(self.registry):
            self.registry = self.registry()
        return self.registry

    def _known_to(self, section: Section) -> Callable[[str], Sequence[Line]]:
        def known(reference: str) -> Sequence[Line]:
            kind, _, name = reference.partition(".")
            other = self.section(_unsectioned(section), kind, name)
            if other is None:
                raise section.error(f"there is no {kind} section {name!r} in this module")
            return self.lines(other) or self._named(other)

        return known

    def _named(self, section: Section) -> list[Line]:
        return [
            {
                section.name: {key: render(parts, {}) for key, parts in one.used.items()}
                | {"filename": _base(one.fullname)}
            }
            for one in named_files(section, section.scope, section.scope, output=False)
        ]

    def _dependency(self, section: Section, key: str, reference: str) -> Sequence[Line]:
        module, kind, name, nick = _parsed(section, key, reference)
        scope = replace(section.scope, chosen={**section.scope.chosen, "module": module}, search=())
        other = self.section(scope, kind, name)
        if other is None:
            raise section.error(f"{key} = {reference}: module {module} has no {kind} section {name!r}", key)
        lines = self.lines(other)
        if lines is None:
            lines = self._made.get((module, name)) if kind == "file" else None
        if not lines and module in self.broken:
            raise ConsequenceError(f"{section.title}: {key} = {reference}: that module has errors", section.place(key))
        if lines is None:
            raise section.error(f"{key} = {reference}: it has no data yet; only what comes earlier can be used", key)
        return _only(section, key, reference, lines, nick)

    def _renamed(self, section: Section, lines: Sequence[Line]) -> list[Line]:
        """Give the files on `lines` names of the section's own pattern, made from what each line says."""
        named = section if section.kind == "file" else self._file_of_columns(section)
        holes = {key: Hole(key) for line in lines for values in line.values() for key in values if key != "filename"}
        scope = replace(named.scope, search=(named.tree, holes, *section.scope.search))
        files = named_files(named, scope, scope, output=False)
        if len(files) == 1:
            self._new_names[named.module, named.name] = files[0].fullname
        else:
            raise section.error(f"depends-newname needs one name for each line, not {len(files)}", "depends-newname")
        renamed: list[Line] = []
        for line in lines:
            for values in line.values():
                try:
                    name = files[0].fullname.fill(values)
                except KeyError as error:
                    raise section.error(f"the name needs {error.args[0]!r}, which a line lacks") from None
                kept = {key: value for key, value in values.items() if key not in _OF_OLD_FILE}
                renamed.append({named.name: {**kept, "filename": name.rpartition("/")[2], "compression": ""}})
        return renamed

    def _file_of_columns(self, section: Section) -> Section:
        nicks = list(dict.fromkeys(_NICK.findall(section.text("columns") or "")))
        named = self.section(_unsectioned(section), "file", nicks[0]) if len(nicks) == 1 else None
        if named is None:
            raise section.error("depends-newname needs columns of exactly one file section", "columns")
        return named


def _unsectioned(section: Section) -> Scope:
    """Return the scope of the module that a section is in."""
    return replace(section.scope, search=section.scope.search[1:])


def _base(fullname: Filler) -> str:
    return fullname.fill({}).rpartition("/")[2]


def _only(section: Section, key: str, reference: str, lines: Sequence[Line], nick: str | None) -> Sequence[Line]:
    if nick is None:
        if any(len(line) > 1 for line in lines):
            raise section.error(f"{key} = {reference}: its lines have several files, write {reference}.nick", key)
        return lines
    found = [{nick: line[nick]} for line in lines if nick in line]
    if not found and lines and all(len(line) == 1 for line in lines):
        return [{nick: next(iter(line.values()))} for line in lines]
    if not found:
        raise section.error(f"{key} = {reference}: no line has a file {nick!r}", key)
    return found


def _parsed(section: Section, key: str, reference: str) -> tuple[str, str, str, str | None]:
    parts = reference.lower().split(".")
    if len(parts) == 3 and parts[1] in {"file", "list"}:
        return parts[0], parts[1], parts[2], None
    if len(parts) == 4 and parts[1] in {"file", "list"}:
        return parts[0], parts[1], parts[2], parts[3] if parts[1] == "list" else None
    raise section.error(f"{key} = {reference}: expected module.file.nick or module.list.name[.nick]", key)


def _depended_on(root: Tree) -> list[tuple[str, str]]:
    found = []
    for module in subtree(root, "module").values():
        for kind in ("file", "list"):
            for section in subtree(module, kind).values() if isinstance(module, dict) else ():
                texts = [str(section[key]) for key in _DEPENDS if key in section] if isinstance(section, dict) else []
                parts = [item.lower().split(".") for text in texts for item in list_items(text)]
                found += [(one[0], one[2]) for one in parts if len(one) >= 3]
    return found


__all__ = ["PipelineError", "Sources", "section_keys"]
