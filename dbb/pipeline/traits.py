"""What holds for all quanta of a module and matters once they run: its programs, its repository, names of outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dbb.errors import PipelineError, UsageError
from dbb.patterncost import compile_search
from dbb.pipeline.defaults import REPOSITORY_MODULE
from dbb.pipeline.execs import FILE_NAME, Exec, FileRef, file_reference
from dbb.pipeline.lists import list_items
from dbb.pipeline.model import Value, subtree
from dbb.pipeline.quanta import Compiled
from dbb.pipeline.scope import Scope
from dbb.pipeline.sources import Sources
from dbb.pipeline.values import Hole, Parts, settled_text

_REPOSITORY = ("mapper", "job_repo_dir", "calibs", "calib_types", "ref_cats", "era", "overlaps")
_OWN = ("butler_registry", "butler_template")


@dataclass(frozen=True, slots=True)
class ExecTraits:
    """One exec of a module.

    Parameters
    ----------
    name
        ``exec_1``.
    execname
        What it runs, or None where each quantum has its own.
    version_flag, version_pattern
        How it is asked for its version, and what finds that in its answer.
    used, generated
        Nicknames of what it reads and writes.
    ancestry
        Which nicknames derive from which: pairs of parent and child.
    """

    name: str
    execname: str | None
    version_flag: str | None
    version_pattern: str | None
    used: tuple[str, ...]
    generated: tuple[str, ...]
    ancestry: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ModuleTraits:
    """What holds for all quanta of a module.

    Parameters
    ----------
    execs
        Its programs in order.
    repository
        What its ``wrapper`` section, or the pipeline around it, says of the Butler repository: ``mapper``,
        ``job_repo_dir``, ``calibs`` and the like; empty if it needs none.
    patch_style
        How its command lines spell patches, or None for as they are stored.
    patterns
        By nickname of an output the path in the job that its names follow from, as ``${key:N}``.
    untar
        Nicknames of inputs that are tars to be unpacked.
    own
        Nicknames of inputs that dbb writes itself where it makes the repository: the Butler's registry and template.
    """

    execs: Sequence[ExecTraits] = ()
    repository: Mapping[str, str] = field(default_factory=dict)
    patch_style: str | None = None
    patterns: Mapping[str, str] = field(default_factory=dict)
    untar: tuple[str, ...] = ()
    own: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Return what JSON holds."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModuleTraits:
        """Make traits of what JSON made of `as_dict`.

        Raises
        ------
        KeyError, TypeError
            If it is something else.
        """
        execs = [
            ExecTraits(
                **{
                    **one,
                    "used": tuple(one["used"]),
                    "generated": tuple(one["generated"]),
                    "ancestry": tuple((parent, child) for parent, child in one["ancestry"]),
                }
            )
            for one in data["execs"]
        ]
        return cls(**{**data, "execs": execs, "untar": tuple(data["untar"]), "own": tuple(data["own"])})


def module_traits(name: str, compiled: Compiled, execs: Sequence[Exec], scope: Scope, sources: Sources) -> ModuleTraits:
    """Return the traits of a compiled module.

    Raises
    ------
    PipelineError
        If an ``ancestry`` is no list of ``parent:child`` pairs, or a ``version_pattern`` cannot be searched for.
    """
    repository = _repository(name, scope)
    return ModuleTraits(
        execs=[_exec(name, one, scope) for one in execs],
        repository=repository,
        patch_style=_text(scope, "patch_style"),
        patterns={one.nick: _pattern(parts) for one in compiled.outputs if (parts := _parts(compiled, one, sources))},
        untar=_untar(scope),
        own=tuple(dict.fromkeys((*_OWN, *_template_of(name, scope)))),
    )


def _exec(module: str, one: Exec, scope: Scope) -> ExecTraits:
    execname = one.tree.get("execname")
    name = _settled(str(execname), scope) if isinstance(execname, str) else None
    known = subtree(scope.root, "exec_def", (name or "").lower())
    inside = {**known, **one.tree}
    return ExecTraits(
        one.name,
        name,
        _plain(inside.get("version_flag")),
        _version_pattern(f"module {module}, {one.name}", _plain(inside.get("version_pattern"))),
        _nicks(one.used),
        _nicks(one.generated),
        tuple(_ancestry(module, one, scope)),
    )


def _version_pattern(title: str, pattern: str | None) -> str | None:
    if pattern is not None:
        try:
            compile_search(pattern, f"{title}, version_pattern")
        except UsageError as error:
            raise PipelineError(str(error)) from error
    return pattern


def _ancestry(module: str, one: Exec, scope: Scope) -> Iterable[tuple[str, str]]:
    value = one.tree.get("ancestry")
    for item in list_items(_settled(str(value), scope) or "") if isinstance(value, str) else ():
        pair = [file_reference(side) for side in item.split(":")]
        if len(pair) != 2 or pair[0] is None or pair[1] is None:
            raise PipelineError(f"module {module}, {one.name}, ancestry: {item!r} is not parent:child")
        yield pair[0].nick, pair[1].nick


def _repository(module: str, scope: Scope) -> dict[str, str]:
    inside = scope.within(subtree(scope.root, "module", scope.chosen["module"], "wrapper"))
    found = {key: text for key in _REPOSITORY if (text := _text(inside, key)) is not None}
    wanted = "mapper" in subtree(scope.root, "module", module, "wrapper") or module == REPOSITORY_MODULE
    return found if wanted else {}


def _untar(scope: Scope) -> tuple[str, ...]:
    inside = scope.within(subtree(scope.root, "module", scope.chosen["module"], "wrapper"))
    references = (file_reference(item) for item in list_items(_text(inside, "untar_files") or ""))
    return tuple(one.nick for one in references if one is not None)


def _template_of(module: str, scope: Scope) -> list[str]:
    value = subtree(scope.root, "module", module, "wrapper").get("butler_template")
    return FILE_NAME.findall(value) if isinstance(value, str) else []


def _parts(compiled: Compiled, one: FileRef, sources: Sources) -> Parts:
    """Return what the path of an output is made from, if that is one pattern."""
    named = compiled.files[one.nick].named
    renamed = sources.new_name(compiled.module, one.nick)
    return named[0].fullname.parts if len(named) == 1 else renamed.parts if renamed is not None else ()


def _pattern(parts: Parts) -> str:
    words = []
    for part in parts:
        if isinstance(part, str):
            words.append(part)
        elif isinstance(part, Hole):
            words.append(f"${{{part.name}:{part.width}}}" if part.width else f"${{{part.name}}}")
        else:
            return ""
    return "".join(words)


def _nicks(references: Iterable[FileRef]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.nick for one in references))


def _text(scope: Scope, key: str) -> str | None:
    value: object = scope.find(key)
    return None if value is None or isinstance(value, dict) else _settled(str(value), scope)


def _settled(text: str, scope: Scope) -> str | None:
    """Return a text with its variables replaced, or None where a loop value is needed for that."""
    try:
        return settled_text(text, scope)
    except PipelineError:
        return None


def _plain(value: Value | None) -> str | None:
    return value if isinstance(value, str) else None
