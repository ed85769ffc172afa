"""The data lines of a section, from the one source that it names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dbb.pipeline.inputs.hooks import plugin_lines
from dbb.pipeline.inputs.problems import explained
from dbb.pipeline.inputs.program import program_lines
from dbb.pipeline.section import Line, Section

if TYPE_CHECKING:
    from dbb.api import Registry

_SOURCES = {
    "exec": "exec",
    "query_fields": "query_fields",
    "where": "where",
    "id": "where",
    "query": "query",
    "calibs": "calibs",
}
"""Keys that say where data come from, each with its source."""


def query_lines(
    section: Section, registry: Registry | None, scratch: Path, known: Callable[[str], Sequence[Line]]
) -> Sequence[Line] | None:
    """Return the data lines of a section that has data of its own, or None if it has none.

    Parameters
    ----------
    section
        The ``<file>`` or ``<list>`` section.
    registry
        Asked by ``query_fields``, ``where``, ``id`` and ``calibs``, given to plug-ins and named to programs; None if
        there is none.
    scratch
        The folder in which programs run; made if it is not there.
    known
        Gives the data lines of another section of the module by ``file.x`` or ``list.x``.

    Raises
    ------
    PipelineError
        If the section names two sources, lacks what its source needs, or the source gives no line or what cannot be
        used. Names the section; the exit code is that of the cause.
    """
    sources = {source: key for key, source in _SOURCES.items() if key in section.tree}
    if not sources:
        return None
    if len(sources) > 1:
        named = " and ".join(key for key in _SOURCES if key in section.tree)
        raise section.error(f"{named} each say where the files come from: keep one of them")
    [(source, key)] = sources.items()
    with explained(section, key):
        if source == "exec":
            return program_lines(section, scratch, registry)
        if source == "query":
            return plugin_lines(section, registry)
        return _registered_lines(source, section, registry, known)


def _registered_lines(
    source: str, section: Section, registry: Registry | None, known: Callable[[str], Sequence[Line]]
) -> Sequence[Line]:
    if registry is None:
        raise section.error(f"{source} asks the registry: name one with --registry or $DBB_REGISTRY", source)
    # what follows needs SQLAlchemy, which a pipeline without a registry does not
    from dbb.pipeline.inputs import calibs, conditions, rows

    if source == "calibs":
        return calibs.calibration_lines(section, registry, known)
    fields = source == "query_fields"
    query = conditions.fields_query(section, registry) if fields else conditions.where_query(section)
    return rows.registered_lines(section, registry, query)
