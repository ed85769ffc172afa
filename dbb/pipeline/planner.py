"""From a pipeline to its workflow: block by block, module by module, quantum by quantum."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dbb.errors import ConsequenceError, DbbError, PipelineError, VariableError
from dbb.pipeline.collisions import NameBook
from dbb.pipeline.defaults import prepared
from dbb.pipeline.jobs import JobBuilder
from dbb.pipeline.lists import list_items
from dbb.pipeline.model import Pipeline, Problem, Tree, subtree
from dbb.pipeline.module import Module, module_scope
from dbb.pipeline.quanta import Quantum, QuantumMaker
from dbb.pipeline.scope import Scope
from dbb.pipeline.sources import RegistrySource, Sources
from dbb.pipeline.traits import ModuleTraits
from dbb.pipeline.values import UnsettledNameError, settled_text
from dbb.pipeline.workflow import Instance, Workflow

_RESOURCES = ("walltime", "nodeset", "priority")
_MOST_DIGITS = 9
_MOST_NAMES = 10_000_000
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
    Each section asks its query once. Time and memory grow with the number of quanta and their files. Meanwhile Python
    does not look for garbage in cycles: nothing here makes any, and looking through millions of files takes long.
    """
    with tempfile.TemporaryDirectory(prefix="dbb-plan-") as scratch, _uncollected():
        return _Planner(pipeline, registry, Path(scratch), progress).workflow()


def problems(pipeline: Pipeline, registry: RegistrySource = None, broken: Collection[str] = ()) -> list[Problem]:
    """Plan as far as that is possible, and return all that is wrong, module by module.

    Queries are asked as in `plan`. What goes wrong only because an earlier module has errors is passed over.

    Parameters
    ----------
    pipeline, registry
        As of `plan`.
    broken
        Modules of which errors are known: only their queries are asked.
    """
    with tempfile.TemporaryDirectory(prefix="dbb-check-") as scratch:
        planner = _Planner(pipeline, registry, Path(scratch), None, found=[])
        planner.sources.broken.update(broken)
        with planner.collecting():
            planner.workflow()
        return list(planner.found or ())


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector from looking through what a plan holds, again and again as it grows."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


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
        self.sources = Sources(pipeline, self._root, registry, scratch)
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
        with self.collecting():  # one is enough, as the next is likely to have the same cause
            for job in jobs.jobs:
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
            if isinstance(error, ConsequenceError):
                return
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
                    place = self._place("block", block, "modulelist")
                    raise PipelineError(f"block {block}: there is no module {name!r}", place)
                resources[name] = _resources(self._root, inside)
                parallel[name] = _parallel(inside)
                self._try_module(Module(self.sources, inside, job_keys), keys)
        jobs.add_block(block, self._instances[first:], keys, resources, parallel)

    def _try_module(self, module: Module, keys: list[Mapping[str, str]]) -> None:
        """Add a module; where errors are collected, one that has any is known as broken afterwards."""
        try:
            if self.found is not None:
                self._tell_queries(module)
            if module.name not in self.sources.broken:
                self._add_module(module, keys)
        except DbbError:
            self.sources.broken.add(module.name)
            raise

    def _tell_queries(self, module: Module) -> None:
        """Ask the queries of a module, so that the errors of all of them are told and not only the first."""
        for section in module.sections():
            with self.collecting():
                try:
                    if not section.flag("listonly"):
                        self.sources.lines(section)
                except DbbError:
                    self.sources.broken.add(module.name)
                    raise

    def _add_module(self, module: Module, keys: list[Mapping[str, str]]) -> None:
        """Add the quanta of a module, and to `keys` what tells the job of each."""
        if module.is_query_only:
            for section in module.sections():
                self.sources.lines(section)
            return
        first = len(keys)
        for quantum in self._quanta(module):
            self._names.enter(quantum.instance)
            for nick, lines in quantum.lines.items():
                for line in lines:
                    self.sources.remember(module.name, nick, line)
            self._instances.append(quantum.instance)
            keys.append(quantum.job_keys)
        self._progress(len(keys) - first)

    def _quanta(self, module: Module) -> Iterator[Quantum]:
        loops = module.loops()
        wrapnum = len(self._instances)
        try:
            compiled = module.compile()
        except UnsettledNameError:
            for number, loop in enumerate(loops, wrapnum + 1):
                compiled = module.compile(loop)
                self._modules[module.name] = module.traits(compiled)
                maker = QuantumMaker(compiled, self._wanted(module, compiled.files))
                yield self._made(module, maker, number, loop)
            return
        self._modules[module.name] = module.traits(compiled)
        names = sum(len(file.named) for file in compiled.files.values()) * len(loops)
        if names > _MOST_NAMES:
            raise PipelineError(
                f"module {module.name}: {len(loops)} quanta have {names} files with names from patterns, more than "
                f"{_MOST_NAMES}: do the lists in its file sections belong into its wrapperloop?",
                self._place("module", module.name),
            )
        maker = QuantumMaker(compiled, self._wanted(module, compiled.files))
        for number, loop in enumerate(loops, wrapnum + 1):
            yield self._made(module, maker, number, loop)

    def _made(self, module: Module, maker: QuantumMaker, number: int, loop: dict[str, str]) -> Quantum:
        try:
            return maker.make(number, loop)
        except KeyError as error:
            problem = f"${{{error.args[0]}}} is wanted, which a line that fits lacks"
        except VariableError as error:
            if error.problem.startswith("module "):
                raise
            problem = error.problem
        values = " ".join(f"{key}={value}" for key, value in loop.items())
        title = f"module {module.name} #{number}" + (f" ({values})" if values else "")
        raise VariableError(f"{title}: {problem}", self._place("module", module.name))

    def _wanted(self, module: Module, nicks: Mapping[str, object]) -> list[str]:
        return [nick for nick in nicks if self.sources.is_wanted(module.name, nick)]

    def _run(self) -> dict[str, int | str]:
        scope = Scope(self._root)
        run: dict[str, int | str] = {}
        for key in ("reqnum", "unitname", "attnum"):
            known: list[int | str] = []
            with self.collecting():
                known.append(self._run_value(key, scope))
            if not known:  # where errors are collected, the modules are not to be blamed for it
                self._root[key] = "0"
            run[key] = known[0] if known else 0
        return run

    def _run_value(self, key: str, scope: Scope) -> int | str:
        text = self._text(key, scope)
        if text is None:
            raise PipelineError(f"{key} is missing: the run has no name without it", self._place(key))
        if key == "unitname":
            return text
        if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
            raise PipelineError(f"{key} = {text}: expected a number", self._place(key))
        return int(text)

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
            return settled_text(str(value), scope)
        except VariableError as error:
            raise type(error)(f"{key}: {error.problem}", self._place(key)) from None

    def _place(self, *path: str) -> object:
        return self._pipeline.place(*path)


def _patterns(root: Tree) -> dict[tuple[str, str], str]:
    """Return for messages what names the files of each section."""
    patterns = subtree(root, "filename_pattern")
    found: dict[tuple[str, str], str] = {}
    for module, tree in subtree(root, "module").items():
        for kind, before in (("file", ""), ("list", "list ")):
            for nick, section in subtree(tree, kind).items() if isinstance(tree, dict) else ():
                if isinstance(section, dict):
                    name = section.get("filename") or patterns.get(str(section.get("filepat", "")).lower())
                    found[module, before + nick] = str(name or "")
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
            found[name] = settled_text(str(value), scope)
    return found


def _parallel(scope: Scope) -> int:
    def number(key: str) -> int:
        value: object = scope.find(key)
        text = settled_text(str(value), scope) if value is not None else "1"
        if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
            raise PipelineError(f"module {scope.chosen['module']}: {key} = {text}: expected a number")
        return int(text)

    if str(scope.find("master_use_fwthreads") or "").strip().lower() not in _TRUE:
        return 1
    return max(number("max_fwthreads"), number("fw_nmaxthread"))
