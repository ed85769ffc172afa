"""The plain values at the top of a pipeline, for those who run it."""

from __future__ import annotations

from contextlib import suppress

from dbb.errors import VariableError
from dbb.pipeline.defaults import prepared
from dbb.pipeline.model import Pipeline, Tree, subtree
from dbb.pipeline.scope import Scope
from dbb.pipeline.values import settled_text


def settings_of(pipeline: Pipeline) -> dict[str, str]:
    """Return the values at top level with their variables replaced; those that need a module are left out."""
    scope = Scope(prepared(pipeline.tree))
    found = {}
    for key, value in scope.root.items():
        if not isinstance(value, dict):
            try:
                found[key] = settled_text(str(value), scope)
            except VariableError:
                continue
    return found


def message_section(pipeline: Pipeline) -> Tree:
    """Return the section ``qcf``: patterns for messages in what programs print."""
    return subtree(pipeline.tree, "qcf")


def sites_of(pipeline: Pipeline) -> dict[str, str]:
    """Return where the jobs of each block run: its ``target_site``, or that at top level; of some nothing is said."""
    root = prepared(pipeline.tree)
    found = {}
    for block in subtree(pipeline.tree, "block"):
        scope = Scope(root, chosen={"block": block})
        value: object = scope.find("target_site")
        if isinstance(value, str):
            with suppress(VariableError):
                found[block] = settled_text(value, scope)
    return found
