"""Compiling a module: everything that is the same for all of its quanta is looked up here, once."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product

from dbb.errors import PipelineError
from dbb.pipeline.cmdline import Command, compile_command
from dbb.pipeline.defaults import REPOSITORY_MODULE
from dbb.pipeline.execs import FILE_NAME, Exec, FileRef, execs_of, inputs_of, outputs_of
from dbb.pipeline.fillers import Filler
from dbb.pipeline.lines import LineIndex, known_keys
from dbb.pipeline.listfiles import compile_list, divided
from dbb.pipeline.lists import list_items
from dbb.pipeline.model import Data, Tree, Value, subtree
from dbb.pipeline.names import DataPath, NamedFile, blamed_on, data_path, folder, named_files
from dbb.pipeline.quanta import Compiled, FilePlan, ListFilePlan, OutputTraits
from dbb.pipeline.scope import Scope
from dbb.pipeline.section import Section
from dbb.pipeline.sources import Sources
from dbb.pipeline.traits import ModuleTraits, module_traits
from dbb.pipeline.values import Hole, expand, expand_all, render, settled_text

_MOST_QUANTA = 1_000_000


class Module:
    """One module of a block, ready to be compiled.

    Parameters
    ----------
    sources
        Where data lines come from.
    scope
        What names mean in the module: its keys, its block's, and so on up.
    job_keys
        The block's ``divide_jobs_by``.
    """

    def __init__(self, sources: Sources, scope: Scope, job_keys: Sequence[str]) -> None:
        self.name = scope.chosen["module"]
        self.block = scope.chosen["block"]
        self.tree = subtree(scope.root, "module", self.name)
        self._sources = sources
        self._scope = scope
        self._job_keys = job_keys
        self._execs = execs_of(sources.pipeline, self.name, self.tree, scope)
        self._known_keys: dict[str, set[str]] = {}
        self._loop_names = tuple(name.lower() for name in list_items(self._text("wrapperloop") or "") if name)

    @property
    def is_query_only(self) -> bool:
        """Whether the module only asks its queries, for others to use."""
        return (self._text("noop") or "").strip().lower() in {"true", "t", "y", "yes", "1"}

    def sections(self) -> list[Section]:
        """Return the list and file sections in the order in which their queries are asked."""
        return [self._section(kind, name) for kind in ("list", "file") for name in self._in_order(kind)]

    def loops(self) -> list[dict[str, str]]:
        """Return the loop values of each quantum, in the order in which quanta are counted.

        Raises
        ------
        PipelineError
            If ``loopobj`` has no lines, or its keys are not those of ``wrapperloop``.
        """
        if not self._execs and self.name != REPOSITORY_MODULE:
            raise self._error("it has no exec section, so nothing can run")
        if not self._loop_names:
            return [{}]
        index = self._loop_index()
        if index is None:
            values = [self._values_of(name) for name in self._loop_names]
            if math.prod(map(len, values)) > _MOST_QUANTA:
                counts = " x ".join(str(len(one)) for one in values)
                raise self._error(f"wrapperloop has {counts} values: more than {_MOST_QUANTA} quanta", "wrapperloop")
            groups: Iterable[Sequence[str]] = dict.fromkeys(product(*values))
        else:
            places = [index.keys.index(name) for name in self._loop_names]
            groups = [[group[place] for place in places] for group in index.groups]
        ordered = sorted(groups, key=tuple)
        return [dict(zip(self._loop_names, group, strict=True)) for group in ordered]

    def compile(self, known: Mapping[str, str] | None = None) -> Compiled:
        """Look everything up; with `known`, for that one quantum only.

        Raises
        ------
        PipelineError
            For whatever is wrong in the module.
        UnsettledNameError
            If the name of a variable depends on a loop value and `known` is not given.
        """
        late = {name: Hole(name) for name in (*self._loop_names, "wrapnum", "wrapkeys")}
        naming = replace(self._scope, late=late)
        if known is not None:
            settled = {name: Data(value) for name, value in known.items()}
            naming = replace(naming, late={"wrapnum": late["wrapnum"]}, current={**naming.current, **settled})
        loop_file = self._loop_file(naming)
        whole = self._with_values_of(loop_file, naming)
        files = self._files(naming, whole)
        lists = self._lists(files, whole)
        command_late = {
            **whole.late,
            **{f"file.{nick}.fullname": Hole(f"file.{nick}.fullname") for nick in files if not files[nick].by_list},
            **{f"list.{one.name}.fullname": Hole(f"list.{one.name}.fullname") for one in lists},
        }
        inside = replace(whole, late=command_late)
        log = self._log(whole)
        return Compiled(
            module=self.name,
            block=self.block,
            files=files,
            lists=lists,
            inputs=inputs_of(self._execs),
            outputs=outputs_of(self._execs),
            renames=self._renames(files, naming),
            traits={one.nick: self._traits(files[one.nick].section) for one in outputs_of(self._execs)},
            commands=[self._command(one, inside) for one in self._execs],
            log=log[0],
            log_archive=log[1],
            job_keys={key: self._job_key(key, whole) for key in self._job_keys},
            loop_file=loop_file,
        )

    def traits(self, compiled: Compiled) -> ModuleTraits:
        """Return what holds for all of the module's quanta once they run."""
        return module_traits(self.name, compiled, self._execs, self._scope, self._sources)

    def _command(self, one: Exec, scope: Scope) -> Command:
        place = functools.partial(self._sources.pipeline.place, "module", self.name)
        wrapper, patch_style = subtree(self.tree, "wrapper"), self._text("patch_style")
        return compile_command(
            one.tree, scope, wrapper, patch_style=patch_style, name=one.name, module=self.name, place=place
        )

    def _loop_index(self) -> LineIndex | None:
        """Return the lines that ``loopobj`` names, or None where the values written in the pipeline count."""
        loopobj = self._text("loopobj")
        index = self._sources.index(self._referred(loopobj)) if loopobj is not None else None
        if index is None:
            return None
        missing = sorted(set(self._loop_names) ^ set(index.keys))
        if missing:
            raise self._error(
                f"wrapperloop names {', '.join(self._loop_names)}, but {loopobj} is divided by "
                f"{', '.join(index.keys) or 'nothing'}: both must have the same names ({', '.join(missing)} differ)",
                "wrapperloop",
            )
        return index

    def _loop_file(self, scope: Scope) -> FilePlan | None:
        loopobj = self._text("loopobj")
        if loopobj is None or not loopobj.lower().startswith("file.") or not self._loop_names:
            return None
        section = self._referred(loopobj)
        index = self._sources.index(section)
        return None if index is None else self._data_plan(section, index, scope, None)

    def _with_values_of(self, file: FilePlan | None, scope: Scope) -> Scope:
        """Return `scope` with holes for what the line of the loop's file says besides."""
        if file is None or file.index is None:
            return scope
        keys = self._keys_of(file.section)
        more = {key: Hole(key) for key in keys - {"filename", "compression"} if key not in scope.current}
        return replace(scope, late={**more, **scope.late})

    def _files(self, naming: Scope, whole: Scope) -> dict[str, FilePlan]:
        outputs = {one.nick for one in outputs_of(self._execs)}
        needed = {one.nick: one for one in (*inputs_of(self._execs), *outputs_of(self._execs))}
        # what is also asked for by itself is more than what a list brings
        asked = [one.nick for one in (*inputs_of(self._execs), *outputs_of(self._execs)) if not one.list]
        for nick in (*asked, *FILE_NAME.findall(" ".join(_texts(self.tree)).lower())):
            needed[nick] = FileRef("", nick)
        for nick in subtree(self.tree, "file"):
            needed.setdefault(nick, FileRef("*", nick))
        plans = {}
        for nick, reference in needed.items():
            plan = self._file(nick, reference, naming, whole, nick in outputs)
            if plan is not None:
                plans[nick] = plan
        return plans

    def _file(self, nick: str, reference: FileRef, naming: Scope, whole: Scope, output: bool) -> FilePlan | None:
        tree = subtree(self.tree, "file").get(nick)
        if not isinstance(tree, dict):
            raise self._error(f"{reference} is referred to, but there is no file section {nick!r}")
        section = self._section("file", nick)
        if reference.list or section.flag("listonly"):
            return self._listed(section, naming, whole, output)
        index = self._sources.index(section)
        if index is not None:
            return self._data_plan(section, index, naming, whole if output else None)
        inside = (tree,)
        named = named_files(section, replace(naming, search=inside), replace(whole, search=inside), output=output)
        return FilePlan(section, named, None, self._path_of_lines(section, named, naming), None)

    def _data_plan(self, section: Section, index: LineIndex, naming: Scope, archiving: Scope | None) -> FilePlan:
        keys = self._keys_of(section)
        archive = None
        if archiving is not None and "dirpat" in section.tree:
            holes = {key: Hole(key) for key in keys}
            archive = Filler(folder(section, replace(archiving, search=(section.tree, holes)), "ops"))
        path = data_path(section, replace(naming, search=()), keys)
        return FilePlan(section, (), index, path, archive, several=section.flag("ignore_multiple_error"))

    def _listed(self, section: Section, naming: Scope, whole: Scope, output: bool) -> FilePlan:
        """Return the plan of a file section whose files lists bring."""
        keys, inside = self._keys_of_lists(), (section.tree,)
        named: Sequence[NamedFile] = ()
        if not keys and any(key in section.tree for key in ("filename", "filepat", "fullname")):
            named = named_files(section, replace(naming, search=inside), replace(whole, search=inside), output=output)
        archive = None
        if output and "dirpat" in section.tree:
            holes = {key: Hole(key) for key in keys}
            archive = Filler(folder(section, replace(whole, search=(section.tree, holes)), "ops"))
        path = self._path_of_lines(section, named, naming)
        return FilePlan(section, named, None, path, archive, by_list=True)

    def _path_of_lines(self, section: Section, named: Sequence[NamedFile], scope: Scope) -> DataPath | None:
        """Return where a file of the section lies that a line of one of the module's lists brings."""
        if "dirpat" not in section.tree:
            return None
        keys = self._keys_of_lists() | {key for one in named for key in one.used} | set(self._loop_names)
        return data_path(section, replace(scope, search=()), keys)

    def _keys_of_lists(self) -> set[str]:
        return {key for name in self._in_order("list") for key in self._keys_of(self._section("list", name))}

    def _keys_of(self, section: Section) -> set[str]:
        """Return all keys that the lines of a section have."""
        known = self._known_keys.get(section.title)
        if known is None:
            index = self._sources.index(section)
            known = self._known_keys[section.title] = known_keys(index.lines if index is not None else ())
        return known

    def _lists(self, files: Mapping[str, FilePlan], scope: Scope) -> list[ListFilePlan]:
        plans = []
        for name in self._in_order("list"):
            section = self._section("list", name)
            if "filename" in section.tree:
                raise section.error("a list is named by filepat: filename is for file sections", "filename")
            index = self._sources.index(section)
            plans += [self._list(part, name, index, files, scope) for part in divided(section)]
        return plans

    def _list(
        self, part: Section, data: str, index: LineIndex | None, files: Mapping[str, FilePlan], scope: Scope
    ) -> ListFilePlan:
        inside = replace(scope, search=(part.tree,))
        placed = replace(part, tree={**part.tree, "dirpat": "list"})
        (own,) = named_files(placed, inside, inside, output=False, split=False)

        def fullname(nick: str, values: Mapping[str, str]) -> str:
            if nick in files:
                return files[nick].fullname(values)
            return data_path(part, replace(scope, late={}, search=()), values).fullname(values)

        text = compile_list(part, fullname)
        named = None
        if index is None:
            nicks = [nick for nick in text.nicks if nick in files]
            if len(nicks) != 1 or not files[nicks[0]].named:
                raise part.error("it has no data: give a query, depends, or columns of one file section with filepat")
            named = replace(files[nicks[0]], by_list=False)
        return ListFilePlan(part.name, data, own.fullname, text, index, named)

    def _log(self, scope: Scope) -> tuple[Filler, Filler | None]:
        section = Section("file", self.name, "log", {"filepat": "log", "dirpat": "log"}, scope, self._sources.pipeline)
        logs = named_files(section, scope, scope, output=True)
        if len(logs) != 1:
            raise self._error(f"modnamepat gives {len(logs)} names for one log: it holds a list", "modnamepat")
        return logs[0].fullname, logs[0].archivepath

    def _renames(self, files: Mapping[str, FilePlan], scope: Scope) -> dict[str, Filler]:
        found = {}
        for nick, plan in files.items():
            value = plan.section.tree.get("rename_file")
            if isinstance(value, str):
                with blamed_on(plan.section, "rename_file"):
                    found[nick] = Filler(expand(value, replace(scope, search=(plan.section.tree,))).parts)
        return found

    def _traits(self, section: Section) -> OutputTraits:
        return OutputTraits(
            filetype=section.text("filetype"),
            save=section.flag("savefiles", True),
            compress=section.flag("compress_files"),
            optional=section.flag("optional"),
        )

    def _job_key(self, key: str, scope: Scope) -> Filler:
        value = scope.find(key)
        if value is None:
            raise self._error(f"divide_jobs_by = {key}: the module knows no such value")
        return Filler(expand(f"${{{key}}}", scope).parts)

    def _values_of(self, name: str) -> list[str]:
        value = self._scope.find(name)
        if value is None or isinstance(value, dict):
            raise self._error(f"wrapperloop names {name!r}, which has no value and no loopobj brings it", "wrapperloop")
        section = Section("file", self.name, "wrapperloop", {}, self._scope, self._sources.pipeline)
        with blamed_on(section):
            return [render(text.parts, {}) for text in expand_all(f"${{{name}}}", self._scope)]

    def _referred(self, reference: str) -> Section:
        kind, _, name = reference.lower().strip().partition(".")
        if kind not in {"file", "list"} or not isinstance(subtree(self.tree, kind).get(name), dict):
            raise self._error(
                f"loopobj = {reference}: there is no such section; expected list.name or file.nick", "loopobj"
            )
        return self._section(kind, name)

    def _section(self, kind: str, name: str) -> Section:
        section = self._sources.section(self._scope, kind, name)
        if section is None:
            raise self._error(f"there is no {kind} section {name!r}")
        return section

    def _in_order(self, kind: str) -> list[str]:
        names = [name for name, tree in subtree(self.tree, kind).items() if isinstance(tree, dict)]
        first = [name.lower() for name in list_items(self._text("list_order") or "")] if kind == "list" else []
        return [name for name in first if name in names] + [name for name in names if name not in first]

    def _text(self, key: str) -> str | None:
        value: object = self._scope.find(key)
        if value is None or isinstance(value, dict):
            return None
        section = Section("file", self.name, key, {}, self._scope, self._sources.pipeline)
        with blamed_on(section):
            return settled_text(str(value), self._scope)

    def _place(self, *path: str) -> object:
        return self._sources.pipeline.place("module", self.name, *path)

    def _error(self, problem: str, key: str = "") -> PipelineError:
        return PipelineError(f"module {self.name}: {problem}", self._place(key) if key else self._place())


def _texts(tree: Tree) -> Iterable[str]:
    for value in tree.values():
        if isinstance(value, dict):
            yield from _texts(value)
        else:
            yield str(value)


def module_scope(root: Tree, module: str, block: str, chosen: Mapping[str, str]) -> Scope:
    """Return what names mean in a module."""
    everything = {**chosen, "module": module, "block": block}
    current: dict[str, Value] = {f"curr_{section}": Data(name) for section, name in everything.items()}
    return Scope(root, current=current, chosen=everything)
