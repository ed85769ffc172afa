"""The exec sections of a module: in which order, and which files they read and write."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dbb.errors import PipelineError
from dbb.pipeline.lists import list_items
from dbb.pipeline.model import Pipeline, Tree, Value
from dbb.pipeline.scope import Scope
from dbb.pipeline.values import settled_text

FILE_NAME = re.compile(r"\$\{file\.([^.${}]+)\.fullname[:}]", re.IGNORECASE)
"""Where a text asks for the path of a file section's files."""
_EXEC = re.compile(r"exec_([0-9]{1,9})")


@dataclass(frozen=True, slots=True, order=True)
class FileRef:
    """``file.nick``, or ``list.name.nick``: all files of that nickname that a list brings."""

    list: str
    nick: str

    def __str__(self) -> str:
        return f"list.{self.list}.{self.nick}" if self.list else f"file.{self.nick}"


@dataclass(frozen=True, slots=True)
class Exec:
    """One ``<exec_N>`` section.

    Parameters
    ----------
    name
        ``exec_1``.
    tree
        Its keys as written.
    used, generated
        What it reads and writes.
    """

    name: str
    tree: Tree
    used: tuple[FileRef, ...]
    generated: tuple[FileRef, ...]


def execs_of(pipeline: Pipeline, module: str, tree: Mapping[str, Value], scope: Scope) -> list[Exec]:
    """Return the exec sections of a module by number.

    Raises
    ------
    PipelineError
        If a reference is neither ``file.nick`` nor ``list.name.nick``.
    """
    numbered = sorted(
        (int(match[1]), name) for name, value in tree.items() if (match := _EXEC.fullmatch(name)) and _is_tree(value)
    )
    found = []
    for _, name in numbered:
        section = tree[name]
        assert isinstance(section, dict)
        found.append(
            Exec(
                name,
                section,
                _references(pipeline, module, name, section, "used", scope),
                _references(pipeline, module, name, section, "was_generated_by", scope),
            )
        )
    return found


def file_reference(text: str) -> FileRef | None:
    """Return what ``file.nick`` or ``list.name.nick`` refers to, or None for any other text."""
    parts = text.strip().lower().split(".")
    if parts[0] == "file" and len(parts) >= 2:
        return FileRef("", parts[1])  # real files also write file.nick.fullname
    if parts[0] == "list" and len(parts) >= 3:
        return FileRef(parts[1], parts[2])
    return None


def inputs_of(execs: Sequence[Exec]) -> list[FileRef]:
    """Return what a module reads and neither the same nor an earlier exec of it has written."""
    written: set[FileRef] = set()
    inputs: dict[FileRef, None] = {}
    for one in execs:
        written.update(one.generated)
        inputs |= {reference: None for reference in one.used if reference not in written}
    return list(inputs)


def outputs_of(execs: Sequence[Exec]) -> list[FileRef]:
    """Return all that a module writes."""
    return list(dict.fromkeys(reference for one in execs for reference in one.generated))


def _references(pipeline: Pipeline, module: str, name: str, tree: Tree, key: str, scope: Scope) -> tuple[FileRef, ...]:
    value = tree.get(key)
    if value is None or isinstance(value, dict):
        return ()
    text = settled_text(str(value), scope)
    found = []
    for item in list_items(text):
        reference = file_reference(item)
        if reference is not None:
            found.append(reference)
        elif item:
            raise PipelineError(
                f"module {module}, {name}, {key}: {item!r} is neither file.nick nor list.name.nick",
                pipeline.place("module", module, name, key),
            )
    return tuple(dict.fromkeys(found))


def _is_tree(value: Value) -> bool:
    return isinstance(value, dict)
