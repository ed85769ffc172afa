"""Which workflow engine runs a run: by the name that an operator gives, or that the registry remembers."""

from __future__ import annotations

from dbb.engine import Engine
from dbb.errors import NotFoundError, PluginError
from dbb.plugins import plugins
from dbb.registry import Database
from dbb.runs.begin import attempt_values

ENGINE = "engine"
"""The setting of an attempt that says which engine runs it."""


def find_engine(name: str) -> Engine:
    """Return the engine called `name`.

    Raises
    ------
    NotFoundError
        If no plug-in brings it.
    PluginError
        If a plug-in gives something else than engines.
    """
    known: dict[str, Engine] = {}
    for plugin, engines in plugins().each("dbb_engines"):
        for engine in engines:
            if not isinstance(engine, Engine):
                raise PluginError(f"plug-in {plugin} gives {engine!r:.60} as an engine")
            known[engine.name] = engine
    if name not in known:
        raise NotFoundError("engine", name, known, "Engines come from plug-ins: 'dbb plugins' lists them")
    return known[name]


def engine_of(db: Database, run: str) -> Engine | None:
    """Return the engine of a run, or None if it is not known here, as one that a program brought itself.

    Raises
    ------
    NotFoundError, AmbiguousError, UsageError
        If `run` is none, or several.
    """
    name = attempt_values(db, run).get(ENGINE)
    if name is None:
        return None
    try:
        return find_engine(name)
    except NotFoundError:
        return None
