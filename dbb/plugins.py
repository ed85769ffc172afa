"""Finding and loading plug-ins one by one, so that a broken one neither stops the others nor hides.

``DBB_PLUGINS=none`` loads none, ``DBB_PLUGINS=hsc,fits`` only those named.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from dbb import hookspecs
from dbb.errors import DbbError, NotFoundError, PluginError
from dbb.filetypes import Filetype, load_filetypes
from dbb.mapper import Mapper

GROUP = "dbb"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One plug-in as found: `error` is why it could not be loaded or used, empty where all is well."""

    name: str
    module: str
    distribution: str
    version: str
    hooks: tuple[str, ...] = ()
    error: str = ""


@dataclass(slots=True)
class Plugins:
    """The plug-ins of this process.

    Parameters
    ----------
    manager
        Asks hooks of which the first answer wins.
    infos
        What was found, by name.
    """

    manager: pluggy.PluginManager
    infos: dict[str, PluginInfo]
    _mappers: dict[str, Mapper] | None = field(default=None)

    @property
    def hook(self) -> Any:
        """The hooks, to call one whose first answer wins."""
        return self.manager.hook

    def each(self, hook: str, **arguments: object) -> Iterator[tuple[str, Any]]:
        """Call one hook plug-in by plug-in; a plug-in that raises is recorded as broken and passed over."""
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            name = implementation.plugin_name
            try:
                yield name, implementation.function(*(arguments[key] for key in implementation.argnames))
            except Exception as error:  # noqa: BLE001  whatever a plug-in raises must not stop the others
                self.record_failure(name, error)

    def record_failure(self, name: str, error: BaseException) -> None:
        """Note that a plug-in is broken, and say so once in the log."""
        info = self.infos[name]
        reason = f"{type(error).__name__}: {error}"
        self.infos[name] = PluginInfo(info.name, info.module, info.distribution, info.version, info.hooks, reason)
        _log.warning("plug-in %s (%s, from %s) does not work: %s", name, info.module, info.distribution, reason)

    def mappers(self) -> dict[str, Mapper]:
        """Return all cameras by name."""
        if self._mappers is None:
            self._mappers = {mapper.name: mapper for _, mappers in self.each("dbb_mappers") for mapper in mappers}
        return self._mappers

    def mapper(self, name: str) -> Mapper:
        """Return one camera.

        Raises
        ------
        PluginError
            If the plug-in of that name is broken.
        NotFoundError
            If nobody has such a camera.
        """
        found = self.mappers().get(name)
        if found is not None:
            return found
        if name in self.infos and self.infos[name].error:
            raise PluginError(f"mapper {name!r}: its plug-in is broken: {self.infos[name].error}; see 'dbb plugins'")
        raise NotFoundError("mapper", name, self.mappers(), "See 'dbb plugins'")

    def filetypes(self) -> dict[str, Filetype]:
        """Return the filetypes that belong to no camera, by name."""
        return {
            name: filetype
            for _, paths in self.each("dbb_filetypes")
            for path in paths
            for name, filetype in load_filetypes(path).items()
        }


def load_plugins() -> Plugins:
    """Find and load the plug-ins that ``DBB_PLUGINS`` allows."""
    manager = pluggy.PluginManager("dbb")
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager, {})
    allowed = os.environ.get("DBB_PLUGINS")
    names = None if allowed is None else {name.strip() for name in allowed.split(",")} - {"none", ""}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        if names is None or point.name in names:
            _load_one(plugins, point)
    return plugins


def _load_one(plugins: Plugins, point: EntryPoint) -> None:
    origin = point.dist
    distribution, version = (origin.name, origin.version) if origin is not None else ("?", "?")
    plugins.infos[point.name] = PluginInfo(point.name, point.value, distribution, version)
    try:
        module = point.load()
        plugins.manager.register(module, point.name)
        plugins.manager.check_pending()
    except Exception as error:  # noqa: BLE001  whatever a plug-in raises must not stop the others
        if plugins.manager.has_plugin(point.name):
            plugins.manager.unregister(name=point.name)
        plugins.record_failure(point.name, error)
        return
    hooks = tuple(sorted(caller.name for caller in plugins.manager.get_hookcallers(module) or ()))
    plugins.infos[point.name] = PluginInfo(point.name, point.value, distribution, version, hooks)


@functools.cache
def plugins() -> Plugins:
    """Return the plug-ins of this process, loaded at the first call."""
    return load_plugins()


def translate_header(header: dict[str, object], filetype: str) -> dict[str, object] | None:
    """Ask the cameras what a raw header means; None if no plug-in knows the filetype.

    Raises
    ------
    HeaderError
        If the header lacks a key.
    PluginError
        If a plug-in fails in a way it must not.
    """
    try:
        found: dict[str, object] | None = plugins().hook.dbb_translate_header(header=header, filetype=filetype)
    except DbbError:
        raise
    except Exception as error:
        raise PluginError(
            f"a plug-in failed on a header of filetype {filetype}: {type(error).__name__}: {error}"
        ) from error
    return found
