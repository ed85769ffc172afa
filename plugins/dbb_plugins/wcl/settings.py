"""Values from outside (``--set key=value``) that win over those of the file."""

from __future__ import annotations

from collections.abc import Mapping

from dbb.errors import PipelineError
from dbb.pipeline.model import Place, Tree

KEEP_CASE = frozenset({"cmdline", "replace"})
"""Sections in which the case of keys is kept, at any depth: programs tell ``-c`` from ``-C``."""


def apply_settings(tree: Tree, settings: Mapping[str, str]) -> dict[tuple[str, ...], Place]:
    """Put `settings` into `tree`; a dotted key reaches into sections, which are made where they lack.

    Returns
    -------
    dict
        The place of each, by its path: ``--set:N`` for the Nth.

    Raises
    ------
    PipelineError
        If a key is malformed, or would make a section of a value or a value of a section.
    """
    places: dict[tuple[str, ...], Place] = {}
    for number, (name, value) in enumerate(settings.items(), 1):
        place = Place("--set", number)
        path = _path(name, place)
        section = tree
        for depth, part in enumerate(path[:-1], 1):
            inner = section.setdefault(part, {})
            if not isinstance(inner, dict):
                raise PipelineError(f"{name}: {'.'.join(path[:depth])} is a value, not a section", place)
            places[path[:depth]] = place
            section = inner
        if isinstance(section.get(path[-1]), dict):
            raise PipelineError(f"{name}: is a section, not a value; name a key in it: {name}.KEY={value}", place)
        section[path[-1]] = value
        places[path] = place
    return places


def _path(name: str, place: Place) -> tuple[str, ...]:
    path: list[str] = []
    for part in name.strip().split("."):
        if not part or part.split() != [part]:
            raise PipelineError(f"{name!r}: expected a key, or sections and a key joined by dots", place)
        path.append(part.lower() if KEEP_CASE.isdisjoint(path) else part)
    return tuple(path)
