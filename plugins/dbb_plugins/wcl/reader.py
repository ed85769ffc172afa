"""Reads WCL: line by line into nested sections, each key and section with its place, all errors at once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dbb.errors import PipelineError, VariableError
from dbb.pipeline.model import Pipeline, Place, Problem, Tree
from dbb.pipeline.scope import Scope
from dbb.pipeline.values import settled_text
from dbb_plugins.wcl.lines import logical_lines, read_text
from dbb_plugins.wcl.settings import KEEP_CASE, apply_settings

_DIRECTIVE = re.compile(r"<<\s*(include|inclfunc)\b", re.IGNORECASE)
_INCLUDE = re.compile(r"<<\s*include\s+([^<>]+?)\s*>>", re.IGNORECASE)
_FUNCTION = re.compile(r"<<\s*inclfunc\b", re.IGNORECASE)
_OPEN = re.compile(r"<([^\s<>/][^\s<>]*)(?:\s+([^\s<>]+))?\s*>")
_CLOSE = re.compile(r"</([^\s<>]+)\s*>")
_ENVIRONMENT = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_MOST_ERRORS = 100
_MOST_INCLUDES = 1000
_DEEPEST_INCLUDE = 20
DEEPEST_SECTION = 50


def is_directive(text: str) -> bool:
    """Tell whether a line would be taken for ``<<include …>>`` or ``<<inclfunc …>>``."""
    return _DIRECTIVE.search(text) is not None


def read_wcl(path: Path, settings: Mapping[str, str] | None = None) -> Pipeline:
    """Read a submit file and all that it includes.

    Parameters
    ----------
    path
        The file.
    settings
        Values that win over the file's; a dotted key reaches into sections.

    Raises
    ------
    PipelineError
        If a file cannot be read, or with all syntax errors, each with file, line and what was expected.
    """
    reader = _Reader(settings or {})
    reader.read(path)
    return reader.pipeline(path.parent)


class _GiveUpError(Exception):
    """There is no point in reading on."""


@dataclass(frozen=True, slots=True)
class _Open:
    """A section that is open; `with_parent` if one tag opened it and the section around it."""

    path: tuple[str, ...]
    tree: Tree
    place: Place
    with_parent: bool = False

    @property
    def name(self) -> str:
        return self.path[-1] if self.path else ""


class _Reader:
    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = settings
        self._tree: Tree = {}
        self._places: dict[tuple[str, ...], Place] = {}
        self._warnings: list[Problem] = []
        self._errors: list[Problem] = []
        self._open: list[_Open] = []
        self._base = 0
        self._reading: list[Path] = []
        self._includes = 0

    def pipeline(self, folder: Path) -> Pipeline:
        """Return what was read."""
        try:
            outside = apply_settings(self._tree, self._settings)
        except PipelineError as error:
            self._errors.append(Problem(error.problem, _place(error)))
            outside = {}
        if self._errors:
            first, *others = dict.fromkeys(self._errors)
            raise PipelineError(first.text, first.place, [(other.text, other.place) for other in others])
        for path, place in outside.items():
            if not isinstance(_at(self._tree, path), dict):
                self._places[path] = place
            self._places.setdefault(path, place)
        places = {path: self._places[path] for path in _paths(self._tree, ())}
        return Pipeline(self._tree, places, folder, tuple(self._warnings))

    def read(self, path: Path) -> None:
        """Read a file into the section that is open; an included file must close what it opens, and no more."""
        text, strange = read_text(path)
        if strange is not None:
            self._warn("is not UTF-8 from here on: read as Latin-1", Place(str(path), strange))
        outer, self._base = self._base, len(self._open)
        self._reading.append(path.resolve())
        try:
            for line in logical_lines(text):
                place = Place(str(path), line.number)
                try:
                    self._line(line.text, place)
                except PipelineError as error:
                    self._fail(error.problem, _place(error) or place)
            for section in self._open[self._base :]:
                self._fail(f"<{section.name}>: expected </{section.name}> before the end of the file", section.place)
        except _GiveUpError:
            if len(self._reading) > 1:
                raise
        finally:
            del self._open[self._base :]
            self._base = outer
            self._reading.pop()

    def _fail(self, text: str, place: Place | None) -> None:
        self._errors.append(Problem(text, place))
        if len(self._errors) >= _MOST_ERRORS:
            raise _GiveUpError

    def _warn(self, text: str, place: Place) -> None:
        self._warnings.append(Problem(text, place, "warning"))

    @property
    def _section(self) -> _Open:
        return self._open[-1] if self._open else _Open((), self._tree, Place("", 0))

    def _line(self, text: str, place: Place) -> None:
        bare = text.strip()
        if is_directive(bare):
            self._include(bare, place)
        elif not bare.startswith("<"):
            self._key(text, place)
        elif match := _CLOSE.fullmatch(bare):
            self._close(match[1].lower(), place)
        elif match := _OPEN.fullmatch(bare):
            self._begin(match[1].lower(), place)
            if match[2]:
                self._begin(match[2].lower(), place, with_parent=True)
        else:
            raise PipelineError(f"{bare}: expected <name>, <name part> or </name>, alone on its line", place)

    def _begin(self, name: str, place: Place, with_parent: bool = False) -> None:
        around = self._section
        if around.name == name:
            if len(self._open) > self._base:
                self._open.pop()
            raise PipelineError(
                f"<{name}> directly inside <{name}> of {around.place}: expected </{name}> (is a slash missing?)", place
            )
        path = (*around.path, name)
        known = around.tree.get(name)
        if known is None:
            inner: Tree = {}
            around.tree[name] = inner
            self._places[path] = place
        elif isinstance(known, dict):
            inner = known
        else:
            inner = {}  # read on beside the tree, so that its closing tag fits
            self._fail(f"<{name}>: {name} is already a value, set at {self._places[path]}", place)
        if len(path) > DEEPEST_SECTION:
            self._fail(f"<{name}>: sections are nested more than {DEEPEST_SECTION} deep", place)
            raise _GiveUpError
        self._open.append(_Open(path, inner, place, with_parent))

    def _close(self, name: str, place: Place) -> None:
        mine = self._open[self._base :]
        if not mine:
            raise PipelineError(f"</{name}>: no section is open", place)
        if mine[-1].name == name:
            self._open.pop()
        elif mine[-1].with_parent and mine[-2].name == name:
            del self._open[-2:]
        else:
            expected = mine[-1]
            while any(section.name == name for section in self._open[self._base :]) and self._open.pop().name != name:
                pass
            raise PipelineError(
                f"</{name}>: expected </{expected.name}>, which closes <{expected.name}> of {expected.place}", place
            )

    def _key(self, text: str, place: Place) -> None:
        bare = text.strip()
        run, rest = (*bare.split(None, 1), "")[:2]
        if "=" not in run and not rest.startswith("="):
            self._key_without_sign(run, rest, place)
            return
        key, _, value = (part.strip() for part in bare.partition("="))
        if not key:
            raise PipelineError(f"{bare}: expected a key before '='", place)
        if run.count("=") > 1 or ("=" in run and rest.startswith("=")):
            self._warn(f"{bare}: cut at the first '=': {key} is {value!r}; write blanks around that '='", place)
        if value or text[-1].isspace():  # before a comment a blank is left, and says that empty is meant
            self._set(key, value, place)
        else:
            self._warn(f"{key}: ignored, as it has no value; for an empty text write '{key} = #'", place)

    def _key_without_sign(self, key: str, value: str, place: Place) -> None:
        if value:
            self._warn(f"{key} {value}: expected '{key} = {value}', and taken as such", place)
            self._set(key, value, place)
        else:
            self._warn(f"{key}: ignored; expected 'key = value', a section or an include", place)

    def _set(self, key: str, value: str, place: Place) -> None:
        section = self._section
        key = key if not KEEP_CASE.isdisjoint(section.path) else key.lower()
        path = (*section.path, key)
        if isinstance(section.tree.get(key), dict):
            self._warn(f"{key} = {value} replaces the section <{key}> of {self._places[path]}", place)
        section.tree[key] = value
        self._places[path] = place

    def _include(self, bare: str, place: Place) -> None:
        match = _INCLUDE.fullmatch(bare)
        if _FUNCTION.search(bare):
            raise PipelineError(
                f"{bare}: dbb runs no function that a file names; include a file with the values", place
            )
        if match is None:
            raise PipelineError(f"{bare}: expected <<include FILE>>, alone on its line", place)
        path = self._included(match[1], place)
        if path.resolve() in self._reading:
            raise PipelineError(f"{bare}: {path} is being read: includes are circular", place)
        self._includes += 1
        if len(self._reading) > _DEEPEST_INCLUDE or self._includes > _MOST_INCLUDES:
            self._fail(
                f"{bare}: more than {_MOST_INCLUDES} includes, or {_DEEPEST_INCLUDE} of them inside each other", place
            )
            raise _GiveUpError
        self.read(path)

    def _included(self, name: str, place: Place) -> Path:
        """Return the file that an include names: relative to the including file, else to the current folder."""
        if "$" in name:
            root = _copied(self._tree)
            apply_settings(root, self._settings)
            try:
                name = settled_text(name, Scope(root))
            except VariableError as error:
                raise PipelineError(f"<<include {name}>>: {error.problem}", place) from None
            name = _ENVIRONMENT.sub(lambda match: _environment(match[1], place), name)
        try:
            path = Path(name).expanduser()
            places = [Path(place.file).parent / path, path]
            found = next((one for one in places if one.is_file()), None)
        except (OSError, ValueError, RuntimeError) as error:
            raise PipelineError(f"<<include {name}>>: {error}", place) from None
        if found is None:
            tried = " or ".join(dict.fromkeys(map(str, places)))
            raise PipelineError(f"<<include {name}>>: expected a file, but there is no {tried}", place)
        return found


def _environment(name: str, place: Place) -> str:
    if name not in os.environ:
        raise PipelineError(f"<<include …>>: the environment variable ${name} is not set", place)
    return os.environ[name]


def _place(error: PipelineError) -> Place | None:
    return error.place if isinstance(error.place, Place) else None


def _copied(tree: Tree) -> Tree:
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in tree.items()}


def _at(tree: Tree, path: tuple[str, ...]) -> object:
    value: object = tree
    for name in path:
        value = value[name] if isinstance(value, dict) else None
    return value


def _paths(tree: Tree, around: tuple[str, ...]) -> list[tuple[str, ...]]:
    paths = []
    for key, value in tree.items():
        paths.append((*around, key))
        if isinstance(value, dict):
            paths += _paths(value, paths[-1])
    return paths
