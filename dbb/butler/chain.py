"""A Gen2 repository and its parents in the order in which the Butler searches them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dbb.butler.config import RepositoryConfig, read_config
from dbb.errors import MissingError, NotFoundError, UsageError
from dbb.mapper import Mapper

REGISTRY, CALIB_REGISTRY = "registry.sqlite3", "calibRegistry.sqlite3"


@dataclass(frozen=True, slots=True)
class Link:
    """One repository of the chain.

    Parameters
    ----------
    root
        Its absolute path.
    config
        What it says of itself.
    mapper
        Its camera.
    registry
        Its ``registry.sqlite3``, or that of the first parent with the same mapper that has one.
    calib_root
        What its calibration templates are relative to.
    """

    root: Path
    config: RepositoryConfig
    mapper: Mapper
    registry: Path | None
    calib_root: Path


def load_chain(path: Path, mapper: Mapper | None = None) -> tuple[Link, ...]:
    """Return the repository at the absolute `path`, then its parents depth first, each once.

    Parameters
    ----------
    path
        The folder.
    mapper
        The camera of all of them; by default each one's configuration names it.

    Raises
    ------
    MissingError
        If the folder or a parent is no repository.
    NotFoundError
        If no plug-in has a camera with the Butler class that is named.
    UsageError
        If a configuration cannot be used, or a repository is its own ancestor.
    """
    found: dict[str, Link | None] = {}
    _load(path, mapper, found)
    return tuple(link for link in found.values() if link is not None)


def is_same_class(one: str, other: str) -> bool:
    """Return whether two dotted names are one class, where a package may re-export what its module has.

    Examples
    --------
    >>> is_same_class("lsst.obs.camera.MyMapper", "lsst.obs.camera.myMapper.MyMapper")
    True
    """
    (*short, first), (*long, second) = sorted((one.split("."), other.split(".")), key=len)
    return first == second and short == long[: len(short)] and len(long) - len(short) <= 1


def camera_of(butler_class: str) -> Mapper:
    """Return the camera among the plug-ins that has this Butler class.

    Raises
    ------
    NotFoundError
        If there is none.
    """
    from dbb.plugins import plugins  # here, so that what is written for jobs needs the standard library only

    mappers = plugins().mappers().values()
    for mapper in mappers:
        if is_same_class(mapper.butler_class, butler_class):
            return mapper
    known = [mapper.butler_class for mapper in mappers]
    raise NotFoundError("mapper class", butler_class, known, "A plug-in must bring the camera; see 'dbb plugins'")


def _load(root: Path, mapper: Mapper | None, found: dict[str, Link | None]) -> Link:
    real = os.path.realpath(root)
    if real in found:
        done = found[real]
        if done is None:
            raise UsageError(f"the repository {root} is its own ancestor: correct _parents in its repositoryCfg.yaml")
        return done
    found[real] = None  # its place in the order of search is before its parents
    config = read_config(root)
    camera = mapper or camera_of(config.mapper_class)
    registry = root / REGISTRY if os.path.lexists(root / REGISTRY) else None
    for written in config.parents:
        try:
            parent = _load(_beside(real, written), mapper, found)
        except MissingError as error:
            raise MissingError(f"parent {written!r} of {root}: {error}") from error
        if registry is None and is_same_class(config.mapper_class, parent.config.mapper_class):
            registry = parent.registry
    link = found[real] = Link(root, config, camera, registry, _calib_root(root, config))
    return link


def _beside(real: str, written: str) -> Path:
    return Path(os.path.normpath(Path(real, written)))  # as the Butler: what is written counts from the real folder


def _calib_root(root: Path, config: RepositoryConfig) -> Path:
    written = config.mapper_args.get("calibRoot")
    if isinstance(written, str) and written:
        return _beside(os.path.realpath(root), written)
    places = (root / "CALIB", root)
    with_registry = (place for place in places if os.path.lexists(place / CALIB_REGISTRY))
    return next(with_registry, next((place for place in places if place.is_dir()), root))
