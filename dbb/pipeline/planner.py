"""From a pipeline to its workflow: block by block, module by module, quantum by quantum."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dbb.errors import DbbError, PipelineError, VariableError
from dbb.pipeline.collisions import NameBook
from dbb.pipeline.defaults import prepared
from dbb.pipeline.jobs import JobBuilder
from dbb.pipeline.model import Pipeline, Problem, Tree, subtree
from dbb.pipeline.module import Module, module_scope
from dbb.pipeline.quanta import Quantum, QuantumMaker
from dbb.pipeline.scope import Scope
from dbb.pipeline.sources import RegistrySource, Sources
from dbb.pipeline.traits import ModuleTraits
from dbb.pipeline.values import UnsettledNameError, expand, list_items, render
from dbb.pipeline.workflow import Instance, Workflow

_RESOURCES = ("walltime", "nodeset", "priority")
_MOST_DIGITS = 9
_TRUE = {"true", "t", "y", "yes", "1"}


def plan(
    pipeline: Pipeline, registry: RegistrySource = None, *, progress: Callable[[int], None] | None = None
) -> Workflow:
    """Turn a pipeline into a workflow; nothing but what query programs do is written anywhere.

    Parameters
    ----------
    pipeline
        What to plan.
    registry
        Asked by sections with ``where``, ``query_fields`` and the like; or what opens it, called when one does.
    progress
        Called with the number of quanta made since the last call.

    Raises
    ------
    PipelineError
        If something is missing or wrong, with the place where it is written.
    CollidingOutputsError
        If two quanta would write one file.

    Notes
    -----
    Each section asks its query once. Time and memory grow with the number of quanta and their files.
    """
    with tempfile.TemporaryDirectory(prefix="dbb-plan-") as scratch:
        return _Planner(pipeline, registry, Path(scratch), progress).workflow()


def problems(pipeline: Pipeline, registry: RegistrySource = None) -> list[Problem]:
    """Plan as far as that is possible, and return all that is wrong, module by module.

    Queries are asked as in `plan`.
    """
    with tempfile.TemporaryDirectory(prefix="dbb-check-") as scratch:
        planner = _Planner(pipeline, registry, Path(scratch), None, found=[])
        with planner.collecting():
            planner.workflow()
        return list(planner.found or ())


class _Planner:
    """Makes one workflow; with `found`, errors are collected there and the rest goes on."""

    def __init__(
        self,
        pipeline: Pipeline,
        registry: RegistrySource,
        scratch: Path,
        progress: Callable[[int], None] | None,
        found: list[Problem] | None = None,
    ) -> None:
        self.found = found
        self._pipeline = pipeline
        self._root = prepared(pipeline.tree)
        self._sources = Sources(pipeline, self._root, registry, scratch)
        self._progress = progress or (lambda _: None)
        self._instances: list[Instance] = []
        self._modules: dict[str, ModuleTraits] = {}
        self._names = NameBook(_patterns(self._root))

    def workflow(self) -> Workflow:
        run = self._run()
        name = f"{run['unitname']}_r{run['reqnum']}p{int(run['attnum']):02d}"
        jobs = JobBuilder(name)
        for block in self._names_of("blocklist", Scope(self._root), ()):
            with self.collecting():
                self._add_block(block, jobs)
        for job in jobs.jobs:
            with self.collecting():
                self._names.check_job(job, [self._instances[wrapnum - 1] for wrapnum in job.wrapnums])
        return Workflow(run, self._instances, jobs.jobs, self._modules)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Collect an error instead of raising it, where that is wanted."""
        try:
            yield
        except DbbError as error:
            if self.found is None:
                raise
            place = error.place if isinstance(error, PipelineError) else None
            text = error.problem if isinstance(error, PipelineError) else str(error)
            self.found.append(Problem(text, place))  # type: ignore[arg-type]  # whoever raises it gives a Place

    def _add_block(self, block: str, jobs: JobBuilder) -> None:
        tree = subtree(self._root, "block").get(block)
        if not isinstance(tree, dict):
            raise PipelineError(f"blocklist names {block!r}, but there is no such block", self._place("blocklist"))
        scope = Scope(self._root, chosen={**self._chosen(), "block": block})
        first = len(self._instances)
        keys: list[Mapping[str, str]] = []
        resources: dict[str, Mapping[str, str]] = {}
        parallel: dict[str, int] = {}
        job_keys = [key.lower() for key in self._names_of("divide_jobs_by", scope, ("block", block), needed=False)]
        for name in self._names_of("modulelist", scope, ("block", block)):
            with self.collecting():
                inside = module_scope(self._root, name, block, self._chosen())
                if name not in subtree(self._root, "module"):
                    raise PipelineError(f"block {block}: there is no module {name!r}", self._place("block", block))
                resources[name] = _resources(self._root, inside)
                parallel[name] = _parallel(inside)
                keys += self._add_module(Module(self._sources, inside, job_keys))
        jobs.add_block(block, self._instances[first:], keys, resources, parallel)

    def _add_module(self, module: Module) -> list[Mapping[str, str]]:
        if module.is_query_only:
            module.ask_queries()
            return []
        keys: list[Mapping[str, str]] = []
        for quantum in self._quanta(module):
            self._names.enter(quantum.instance)
            for nick, lines in quantum.lines.items():
                for line in lines:
                    self._sources.remember(module.name, nick, line)
            self._instances.append(quantum.instance)
            keys.append(quantum.job_keys)
        self._progress(len(keys))
        return keys

    def _quanta(self, module: Module) -> Iterator[Quantum]:
        loops = module.loops()
        wrapnum = len(self._instances)
        try:
            compiled = module.compile()
        except UnsettledNameError:
            for number, loop in enumerate(loops, wrapnum + 1):
                compiled = module.compile(loop)
                self._modules[module.name] = module.traits(compiled)
                yield QuantumMaker(compiled, self._wanted(module, compiled.files)).make(number, loop)
            return
        self._modules[module.name] = module.traits(compiled)
        maker = QuantumMaker(compiled, self._wanted(module, compiled.files))
        for number, loop in enumerate(loops, wrapnum + 1):
            yield maker.make(number, loop)

    def _wanted(self, module: Module, nicks: Mapping[str, object]) -> list[str]:
        return [nick for nick in nicks if self._sources.is_wanted(module.name, nick)]

    def _run(self) -> dict[str, int | str]:
        scope = Scope(self._root)
        run: dict[str, int | str] = {}
        for key in ("reqnum", "unitname", "attnum"):
            text = self._text(key, scope)
            if text is None:
                raise PipelineError(f"{key} is missing: the run has no name without it", self._place(key))
            if key != "unitname" and not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
                raise PipelineError(f"{key} = {text}: expected a number", self._place(key))
            run[key] = text if key == "unitname" else int(text)
        return run

    def _chosen(self) -> dict[str, str]:
        scope = Scope(self._root)
        site, archive = self._text("target_site", scope), self._text("home_archive", scope)
        return {key: name for key, name in (("site", site), ("archive", archive)) if name is not None}

    def _names_of(self, key: str, scope: Scope, path: tuple[str, ...], *, needed: bool = True) -> list[str]:
        text = self._text(key, scope)
        names = [name for name in list_items(text or "") if name]
        if not names and needed:
            where = f"{' '.join(path)}: " if path else ""
            raise PipelineError(f"{where}{key} is missing or empty", self._place(*path))
        return [name.lower() for name in names]

    def _text(self, key: str, scope: Scope) -> str | None:
        value: object = scope.find(key)
        if value is None or isinstance(value, dict):
            return None
        try:
            return render(expand(str(value), scope).parts, {})
        except VariableError as error:
            raise type(error)(f"{key}: {error.problem}", self._place(key)) from None

    def _place(self, *path: str) -> object:
        return self._pipeline.place(*path)


def _patterns(root: Tree) -> dict[tuple[str, str], str]:
    """Return for messages what names the files of each section."""
    patterns = subtree(root, "filename_pattern")
    found: dict[tuple[str, str], str] = {}
    for module, tree in subtree(root, "module").items():
        for nick, section in subtree(tree, "file").items() if isinstance(tree, dict) else ():
            if isinstance(section, dict):
                name = section.get("filename") or patterns.get(str(section.get("filepat", "")).lower())
                found[module, nick] = str(name or "")
        if isinstance(tree, dict):
            found[module, "log"] = str(tree.get("modnamepat") or root.get("modnamepat") or "")
    return found


def _resources(root: Tree, scope: Scope) -> dict[str, str]:
    trees = [root, subtree(root, "block", scope.chosen["block"]), subtree(root, "module", scope.chosen["module"])]
    names = dict.fromkeys(name for tree in trees for name in tree if name.startswith("request_") or name in _RESOURCES)
    found = {}
    for name in sorted(names):
        value: object = scope.find(name)
        if value is not None and not isinstance(value, dict):
            found[name] = render(expand(str(value), scope).parts, {})
    return found


def _parallel(scope: Scope) -> int:
    def number(key: str) -> int:
        value: object = scope.find(key)
        text = render(expand(str(value), scope).parts, {}) if value is not None else "1"
        if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
            raise PipelineError(f"module {scope.chosen['module']}: {key} = {text}: expected a number")
        return int(text)

    if str(scope.find("master_use_fwthreads") or "").strip().lower() not in _TRUE:
        return 1
    return max(number("max_fwthreads"), number("fw_nmaxthread"))
