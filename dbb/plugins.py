"""Finding and loading plug-ins one by one, so that a broken one neither stops the others nor hides.

``DBB_PLUGINS=none`` loads none, ``DBB_PLUGINS=generic,fits`` only those named.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pluggy

from dbb import hookspecs
from dbb.errors import DbbError, NotFoundError, PluginError
from dbb.filetypes import Filetype, load_filetypes
from dbb.headers import apply_rules
from dbb.mapper import Mapper

GROUP = "dbb"
CORE_FILETYPES = Path(__file__).with_name("filetypes.toml")
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


class Plugins:
    """The plug-ins of this process, loaded when one of them is first needed.

    Parameters
    ----------
    points
        The entry points to load, by name.
    """

    def __init__(self, points: Mapping[str, EntryPoint]) -> None:
        self._manager = pluggy.PluginManager("dbb")
        self._manager.add_hookspecs(hookspecs)
        self._waiting = dict(points)
        self._infos: dict[str, PluginInfo] = {}
        self._mappers: dict[str, Mapper] = {}
        self._own_mappers: dict[str, Mapper] = {}
        self._all_mappers = False

    @property
    def manager(self) -> pluggy.PluginManager:
        """The manager, with every plug-in loaded; asks hooks of which the first answer wins."""
        for name in sorted(self._waiting):
            self._load(name)
        return self._manager

    @property
    def infos(self) -> dict[str, PluginInfo]:
        """What was found, by name."""
        return dict(sorted(self._infos.items())) if self.manager else {}

    @property
    def hook(self) -> Any:
        """The hooks, to call one whose first answer wins."""
        return self.manager.hook

    def each(self, hook: str, **arguments: object) -> Iterator[tuple[str, Any]]:
        """Call one hook plug-in by plug-in; a plug-in that raises is recorded as broken and passed over."""
        yield from self._each(getattr(self.manager.hook, hook).get_hookimpls(), arguments)

    def _each(
        self, implementations: Iterable[pluggy.HookImpl], arguments: Mapping[str, object]
    ) -> Iterator[tuple[str, Any]]:
        for implementation in implementations:
            name = implementation.plugin_name
            try:
                yield name, implementation.function(*(arguments[key] for key in implementation.argnames))
            except Exception as error:  # noqa: BLE001  # whatever a plug-in raises must not stop the others
                self.record_failure(name, error)

    def record_failure(self, name: str, error: BaseException) -> None:
        """Note that a plug-in is broken, and say so once in the log."""
        info = self._infos[name]
        reason = f"{type(error).__name__}: {error}"
        self._infos[name] = PluginInfo(info.name, info.module, info.distribution, info.version, info.hooks, reason)
        _log.warning("plug-in %s (%s, from %s) does not work: %s", name, info.module, info.distribution, reason)

    def mappers(self) -> dict[str, Mapper]:
        """Return all cameras by name."""
        if not self._all_mappers:
            for _, mappers in self.each("dbb_mappers"):
                self._remember(mappers)
            self._all_mappers = True
        return self._mappers

    def _remember(self, mappers: Iterable[Mapper]) -> None:
        for mapper in mappers:
            self._mappers.setdefault(mapper.name, mapper)  # a mapper keeps what it has read of its files

    def mapper(self, name: str) -> Mapper:
        """Return one camera, a plug-in's by its name or the user's own by its TOML file.

        Raises
        ------
        PluginError
            If the plug-in of that name is broken.
        NotFoundError
            If nobody has such a camera, or the file is not there.
        """
        if name.endswith(".toml"):
            return self._own_mapper(Path(name).absolute())
        if name not in self._mappers:
            self._ask_its_namesake(name)
        found = self._mappers.get(name) or self.mappers().get(name)
        if found is not None:
            return found
        if name in self.infos and self.infos[name].error:
            raise PluginError(f"mapper {name!r}: its plug-in is broken: {self.infos[name].error}; see 'dbb plugins'")
        raise NotFoundError("mapper", name, self.mappers(), "See 'dbb plugins'")

    def _own_mapper(self, path: Path) -> Mapper:
        """Return the camera of a file; its name is the absolute path, so that a registry finds it again."""
        name = str(path)
        if name not in self._own_mappers:
            if not path.is_file():
                raise NotFoundError("mapper", name, hint="There is no such file: bring it back to that place")
            self._own_mappers[name] = Mapper(name, path)
        return self._own_mappers[name]

    def _ask_its_namesake(self, name: str) -> None:
        """Look into the plug-in that is called as the camera, which spares a short job loading all others."""
        self._load(name)
        implementations = self._manager.hook.dbb_mappers.get_hookimpls()
        for _, mappers in self._each((one for one in implementations if one.plugin_name == name), {}):
            self._remember(mappers)

    def filetypes(self) -> dict[str, Filetype]:
        """Return the filetypes that belong to no camera, by name: dbb's own and those of plug-ins."""
        given = {
            name: filetype
            for _, paths in self.each("dbb_filetypes")
            for path in paths
            for name, filetype in load_filetypes(path).items()
        }
        return given | load_filetypes(CORE_FILETYPES)

    def _load(self, name: str) -> None:
        point = self._waiting.pop(name, None)
        if point is None:
            return
        origin = point.dist
        distribution, version = (origin.name, origin.version) if origin is not None else ("?", "?")
        self._infos[name] = PluginInfo(name, point.value, distribution, version)
        try:
            module = point.load()
            self._manager.register(module, name)
            self._manager.check_pending()
        except Exception as error:  # noqa: BLE001  # whatever a plug-in raises must not stop the others
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            self.record_failure(name, error)
            return
        hooks = tuple(sorted(caller.name for caller in self._manager.get_hookcallers(module) or ()))
        self._infos[name] = PluginInfo(name, point.value, distribution, version, hooks)


def load_plugins() -> Plugins:
    """Find the plug-ins that ``DBB_PLUGINS`` allows."""
    allowed = os.environ.get("DBB_PLUGINS")
    names = None if allowed is None else {name.strip() for name in allowed.split(",")} - {"none", ""}
    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        if names is None or point.name in names:
            name = point.name if point.name not in points else f"{point.name} of {point.dist and point.dist.name}"
            points[name] = point
    return Plugins(points)


@functools.cache
def plugins() -> Plugins:
    """Return the plug-ins of this process, loaded at the first call."""
    return load_plugins()


def translate_header(header: dict[str, object], filetype: Filetype) -> dict[str, object] | None:
    """Ask the filetype's camera what a raw header means, by its rules or else its plug-in; None if nobody knows.

    Raises
    ------
    HeaderError
        If the header lacks a key.
    PluginError
        If a plug-in fails in a way it must not.
    """
    rules = plugins().mapper(filetype.mapper).header_rules if filetype.mapper is not None else {}
    if rules:
        return apply_rules(rules, header, filetype)
    name = filetype.name
    try:
        found: dict[str, object] | None = plugins().hook.dbb_translate_header(header=header, filetype=name)
    except DbbError:
        raise
    except Exception as error:
        raise PluginError(
            f"a plug-in failed on a header of filetype {name}: {type(error).__name__}: {error}"
        ) from error
    return found
