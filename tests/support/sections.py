"""A section of a pipeline by itself, as tests of inputs need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dbb.pipeline import Pipeline, Tree
from dbb.pipeline.model import subtree
from dbb.pipeline.scope import Scope
from dbb.pipeline.section import Line, Section, section_of


def section(
    kind: str = "list",
    *,
    folder: Path | str = ".",
    top: Mapping[str, object] | None = None,
    module: Mapping[str, object] | None = None,
    block: Mapping[str, object] | None = None,
    **keys: object,
) -> Section:
    """Return the section ``imgs`` of the module ``warp`` with these keys."""
    tree = {**(top or {}), "block": {"b1": block or {}}, "module": {"warp": {**(module or {}), kind: {"imgs": keys}}}}
    pipeline = Pipeline.of(tree, folder)
    return first_section(pipeline, "warp", kind, "imgs")


def first_section(pipeline: Pipeline, module: str, kind: str, name: str, **current: str) -> Section:
    """Return one section of a pipeline, in its first block."""
    block = next(iter(subtree(pipeline.tree, "block")), "b1")
    own: Tree = subtree(pipeline.tree, "module", module, kind, name)
    scope = Scope(pipeline.tree, current=current, chosen={"module": module, "block": block})
    return section_of(pipeline, scope, kind, name, own)


def unknown(name: str) -> Sequence[Line]:
    """Stand for the other sections of a module that has none."""
    raise AssertionError(f"{name} was asked for")
