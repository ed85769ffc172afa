"""What is wrong with one module, as far as its settings tell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dbb.errors import known_names
from dbb.pipeline.check_execs import ExecCheck
from dbb.pipeline.defaults import REPOSITORY_MODULE
from dbb.pipeline.findings import Findings
from dbb.pipeline.known_keys import BOOLEAN_KEYS, DATA_KEYS, NAME_KEYS
from dbb.pipeline.listfiles import FORMATS
from dbb.pipeline.model import Tree, Value, subtree
from dbb.pipeline.references import column_names, parse_reference, section_of
from dbb.pipeline.scope import Scope
from dbb.pipeline.section import TRUTHS

_ABSOLUTE = re.compile(r"(?:^|[\s=,@'\"])(/[^\s/=,'\"][^\s,'\"]*)")


@dataclass(frozen=True, slots=True)
class _Section:
    """A file or list section: its own keys, all that hold in it, and where it stands in the module."""

    kind: str
    name: str
    own: Tree
    tree: Tree
    path: tuple[str, ...]


class ModuleCheck:
    """The check of one module.

    Parameters
    ----------
    findings
        Where problems go.
    root
        The settings as prepared for planning.
    scope
        What names mean in the module.
    earlier
        The modules that have run before.
    """

    def __init__(self, findings: Findings, root: Tree, scope: Scope, earlier: frozenset[str]) -> None:
        self._found, self._root, self._scope, self._earlier = findings, root, scope, earlier
        self._name = scope.chosen["module"]
        self._tree = subtree(root, "module", self._name)

    def run(self) -> None:
        """Look at everything in the module."""
        for kind in ("file", "list", "wrapper"):
            if kind in self._tree and not isinstance(self._tree[kind], dict):
                self._error(f"{kind} is a value, but has to be a section", kind)
        execs = ExecCheck(self._found, self._tree, self._scope)
        execs.run()
        runs_itself = self._is_true(self._tree.get("noop")) or self._name == REPOSITORY_MODULE
        if not execs.names and not runs_itself:
            self._error("it has no exec section <exec_1>, so nothing can run")
        self._booleans("module", self._tree, ())
        self._loops()
        by_list_only = execs.nicks_of_lists - execs.nicks_of_files
        for section in self._sections():
            self._booleans(section.kind, section.own, section.path)
            self._patterns(section)
            self._depends(section)
            if section.kind == "file" and section.name not in by_list_only:
                self._nameless(section)
            if section.kind == "list":
                self._list(section)
        for path, text in _texts(self._tree, ()):
            for absolute in _ABSOLUTE.findall(text)[:1]:
                self._found.warning(
                    f"module {self._name}: {path[-1]} has the absolute path {absolute}, which may not be there on "
                    "every machine: name it by a variable",
                    *self._path(*path),
                )

    def _sections(self) -> Iterator[_Section]:
        for name, tree in subtree(self._tree, "file").items():
            if isinstance(tree, dict):
                yield _Section("file", name, tree, tree, ("file", name))
            elif name != "filename":  # every section below a top-level one is told its name
                self._error(f"file {name} is a value, but has to be a section", "file", name)
        for name, tree in subtree(self._tree, "list").items():
            if not isinstance(tree, dict):
                self._error(f"list {name} is a value, but has to be a section", "list", name)
                continue
            yield _Section("list", name, tree, tree, ("list", name))
            for part, own in subtree(tree, "div_list_by_col").items():
                if isinstance(own, dict):
                    yield _Section("list", part, own, {**tree, **own}, ("list", name, "div_list_by_col", part))

    def _booleans(self, kind: str, tree: Tree, path: tuple[str, ...]) -> None:
        for key in sorted(BOOLEAN_KEYS[kind] & tree.keys()):
            text = self._text(tree[key])
            if text is not None and text.strip().lower() not in TRUTHS:
                self._error(f"{self._title(path)}{key} = {text}: expected True or False", *path, key)

    def _patterns(self, section: _Section) -> None:
        for key, patterns in (("filepat", "filename_pattern"), ("dirpat", "directory_pattern")):
            name = self._text(section.own.get(key))
            known = subtree(self._root, patterns)
            if name is not None and name.lower() not in known:
                near = known_names(name, [*known], most=3)
                self._error(f"{self._title(section.path)}there is no {patterns} {name!r}{near}", *section.path, key)

    def _nameless(self, section: _Section) -> None:
        if self._is_true(section.tree.get("listonly")) or (DATA_KEYS | NAME_KEYS) & section.tree.keys():
            return
        self._error(
            f"{self._title(section.path)}nothing says which file this is: give filename, filepat, fullname, a query or "
            "depends, or listonly = True if lists bring it",
            *section.path,
        )

    def _depends(self, section: _Section) -> None:
        for key in ("depends", "depends-newname"):
            place = self._path(*section.path, key)
            for item in self._found.items(self._text(section.own.get(key)), *place):
                problem = self._dependency(item)
                if problem:
                    self._error(f"{self._title(section.path)}{key} = {item}: {problem}", *section.path, key)

    def _dependency(self, item: str) -> str | None:
        module, _, rest = item.partition(".")
        reference = parse_reference(rest)
        if reference is None:
            return "expected MODULE.file.NICK or MODULE.list.NAME.NICK"
        tree = subtree(self._root, "module").get(module)
        if not isinstance(tree, dict):
            return f"there is no module {module!r}{known_names(module, [*subtree(self._root, 'module')])}"
        if module not in self._earlier and module != self._name:
            return f"module {module} does not run before this one"
        if section_of(tree, reference) is None:
            return f"module {module} has no {reference.kind} section {reference.name!r}"
        return None

    def _list(self, section: _Section) -> None:
        title = self._title(section.path)
        text = self._text(section.own.get("format"))
        if text is not None and text.strip().lower() not in FORMATS:
            self._error(f"{title}format = {text}: expected one of {', '.join(FORMATS)}", *section.path, "format")
        if "filename" in section.own:
            self._error(f"{title}a list is named by filepat: filename is for file sections", *section.path, "filename")
        if "dirpat" in section.own:
            self._folder(section)
        files = [name for name, tree in subtree(self._tree, "file").items() if isinstance(tree, dict)]
        for column in column_names(str(section.own.get("columns", ""))):
            nick, _, key = column.rpartition(".")
            if nick and "$" not in column and nick not in files and key == "fullname":
                self._error(
                    f"{title}column {column}: there is no file section {nick!r}, which would say where its files lie"
                    f"{known_names(nick, files)}",
                    *section.path,
                    "columns",
                )

    def _folder(self, section: _Section) -> None:
        """Warn of a list that names another folder than the one to which all lists go."""
        wanted = self._runtime(str(self._text(section.own["dirpat"])).lower(), section)
        common = self._runtime("list", section)
        if wanted is not None and wanted != common:
            self._found.warning(
                f"module {self._name}: list {section.name}: lists go to {common or 'one folder'}, as directory_pattern "
                "list says, whatever their dirpat: change that pattern, or leave dirpat out",
                *self._path(*section.path, "dirpat"),
            )

    def _runtime(self, name: str, section: _Section) -> str | None:
        pattern = subtree(self._root, "directory_pattern", name).get("runtime")
        return self._found.text(pattern, self._scope.within(section.tree)) if isinstance(pattern, str) else None

    def _loops(self) -> None:
        names = self._loop_names()
        loopobj = self._text(self._scope.find("loopobj"))
        reference = parse_reference(loopobj) if loopobj is not None else None
        tree = section_of(self._tree, reference) if reference is not None else None
        if loopobj is not None and tree is None:
            self._error(f"loopobj = {loopobj}: there is no such section; expected list.NAME or file.NICK", "loopobj")
        elif loopobj is not None and tree is not None and DATA_KEYS & tree.keys():
            if names and "group_by" not in tree:
                self._same_names(names, loopobj, tree)
        elif self._scope.find("loopobj") is None or loopobj is not None:
            for name in names:
                if self._scope.find(name) is None:
                    problem = f"wrapperloop: {name} has no value, and no loopobj with data brings it"
                    self._error(problem, "wrapperloop")

    def _same_names(self, names: list[str], loopobj: str, tree: Tree) -> None:
        key = next((key for key in ("loopkey", "match", "divide_by") if key in tree), None)
        text = self._text(tree[key]) if key is not None else ""
        if text is None:
            return
        keys = self._found.items(text, *self._path("loopobj"))
        if set(keys) != set(names):
            divided = f"{key} = {', '.join(keys)}" if key is not None else "no divide_by"
            differ = ", ".join(sorted(set(keys) ^ set(names)))
            self._error(
                f"wrapperloop names {', '.join(names)}, but {loopobj} has {divided}: both must have the same names "
                f"({differ} differ)",
                "wrapperloop",
            )

    def _loop_names(self) -> list[str]:
        return self._found.items(self._text(self._scope.find("wrapperloop")), *self._path("wrapperloop"))

    def _text(self, value: object) -> str | None:
        if value is None or isinstance(value, dict):
            return None
        return self._found.text(str(value), self._scope)

    def _is_true(self, value: Value | None) -> bool:
        return TRUTHS.get((self._text(value) or "").strip().lower(), False)

    def _title(self, path: tuple[str, ...]) -> str:
        return f"{path[0]} {path[-1]}: " if path else ""

    def _path(self, *path: str) -> tuple[str, ...]:
        return ("module", self._name, *path)

    def _error(self, problem: str, *path: str) -> None:
        self._found.error(f"module {self._name}: {problem}", *self._path(*path))


def _texts(tree: Mapping[str, Value], around: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _texts(value, (*around, key))
        elif not key.startswith("version_"):
            yield (*around, key), str(value)
