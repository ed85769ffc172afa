"""What a job wrote below ``out/``: found by reading its names backwards, with what the job knew of its exposures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbb.butler.chain import CALIB_REGISTRY, REGISTRY
from dbb.butler.config import CONFIG_NAME
from dbb.butler.inversion import Inverter, Reading, inverter_of
from dbb.butler.manifest import ARRAYS, SCHEMA, read_manifest
from dbb.errors import DbbError, MissingError, SchemaVersionError, UsageError
from dbb.filetypes import Filetype
from dbb.mapper import Mapper
from dbb.plugins import plugins

_OWN = frozenset({CONFIG_NAME, REGISTRY, CALIB_REGISTRY, "_mapper", "_parent"})
"""What lies in the top of a repository and is no dataset."""


@dataclass(frozen=True, slots=True)
class Output:
    """A file that the job wrote: its path below ``out/``, where it is, and what the path says."""

    relpath: str
    source: str
    reading: Reading


@dataclass(frozen=True, slots=True)
class Stray:
    """Something below ``out/`` that cannot be harvested, and why."""

    relpath: str
    why: str


@dataclass(slots=True)
class Job:
    """What the manifest of a job says that its outputs need.

    Parameters
    ----------
    root
        The job's folder.
    camera, era
        Whose templates count.
    digest
        MD5 sum of the manifest.
    overrides
        Templates of the outputs by dataset type.
    sources
        URLs of all files that the job was given, each once.
    """

    root: Path
    camera: Mapper
    era: str
    digest: str
    overrides: dict[str, str]
    sources: dict[str, None] = field(default_factory=dict)
    _exposures: dict[tuple[object, ...], Mapping[str, Any]] = field(default_factory=dict)
    _visits: dict[object, Mapping[str, Any]] = field(default_factory=dict)

    def add_exposure(self, row: Mapping[str, Any]) -> None:
        """Note a row of the job's registry of exposures; as there, the first of a visit stands for it."""
        self._exposures[tuple(row.get(key) for key in self.camera.exposure_keys)] = row
        visit, *columns = self.camera.visit_columns
        self._visits.setdefault(row.get(visit), {name: row.get(name) for name in (visit, *columns)})

    def exposure(self, reading: Reading) -> Mapping[str, Any] | None:
        """Return the row of the one exposure that an output belongs to; None if there is none."""
        return self._exposures.get(tuple(reading.data_id.get(key) for key in self.camera.exposure_keys))

    def metadata(self, reading: Reading, filetype: Filetype) -> dict[str, object]:
        """Return what the job knows of an output: of its exposure, or visit, and what its path says."""
        said = reading.data_id
        known = {**(self.exposure(reading) or self._visits.get(said.get(self.camera.visit_columns[0]), {})), **said}
        return {name: value for name, value in known.items() if name in filetype.types and value is not None}

    def inverter(self) -> Inverter:
        """Return what reads the names below ``out/``."""
        return inverter_of(self.camera, self.era, self.overrides)


def read_job(root: Path) -> Job:
    """Read the manifest of the job at `root`.

    Raises
    ------
    NotFoundError
        If there is none, or no plug-in has its camera.
    MissingError
        If the job has no folder ``out``.
    UsageError, ParseError, SchemaVersionError
        If the manifest cannot be used.
    """
    path = root / "manifest.json"
    head: dict[str, Any] = {}
    exposures: list[Mapping[str, Any]] = []
    sources: dict[str, None] = {}
    for key, value in read_manifest(path):
        if key not in ARRAYS:
            head[key] = value
        elif not isinstance(value, Mapping):
            raise UsageError(f"{path}: an entry of {key!r} must be an object: {str(value)[:200]}")
        elif key == "exposures":
            exposures.append(value)
        else:
            sources.update(dict.fromkeys(_sources(value)))
    if head.get("schema", SCHEMA) != SCHEMA:
        raise SchemaVersionError(f"{path} has schema {head['schema']!r}, this dbb reads {SCHEMA}")
    if not isinstance(head.get("mapper"), str) or not isinstance(head.get("era"), str):
        raise UsageError(f"{path} lacks mapper or era")
    if not (root / "out").is_dir():
        raise MissingError(f"{root} has no folder out: nothing was written by this job, or it is no job's folder")
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    camera = plugins().mapper(head["mapper"])
    job = Job(root, camera, head["era"], digest, _overrides(head.get("outputs", []), path), sources)
    try:
        for row in exposures:
            job.add_exposure(row)
    except TypeError as error:
        raise UsageError(f"{path}: an exposure has a key that is neither number nor text") from error
    return job


def _sources(entry: Mapping[str, Any]) -> Iterator[str]:
    members = entry.get("members")
    for one in [entry, *(members if isinstance(members, list) else [])]:
        if isinstance(one, Mapping) and isinstance(one.get("source"), str):
            yield one["source"]


def _overrides(outputs: Any, path: Path) -> dict[str, str]:
    names = ("dataset", "template")
    if not isinstance(outputs, list) or not all(
        isinstance(one, Mapping) and all(isinstance(one.get(name), str) for name in names) for one in outputs
    ):
        raise UsageError(f"{path}: each of 'outputs' needs dataset and template")
    return {one["dataset"]: one["template"] for one in outputs}


def find_outputs(job: Job) -> Iterator[Output | Stray]:
    """Give every file below ``out/``, in order of paths.

    Left out is what the repository itself consists of, and links to what the job was given. Anything else that is no
    file, and a name that has no reading or several, is a `Stray`.
    """
    inverter, top = job.inverter(), job.root / "out"
    given = Path(os.path.realpath(job.root / "in"))
    for relpath, entry in _walk(str(top)):
        if isinstance(entry, OSError):
            yield Stray(relpath, f"the folder cannot be listed: {entry.strerror}")
        elif entry.is_symlink():
            link = Path(entry.path)
            target = link.readlink()
            # what lies in in/ is mostly links itself: not where they end counts, but that this one leads there
            place = os.path.realpath(link.parent / target.parent)
            if not (Path(place) / target.name).is_relative_to(given):
                yield Stray(relpath, f"it is a link to {target}, not a file that the job wrote")
        elif not entry.is_file():
            yield Stray(relpath, "it is no file")
        elif relpath not in _OWN:
            try:
                yield Output(relpath, entry.path, inverter.read(relpath))
            except DbbError as error:
                yield Stray(relpath, str(error))


def _walk(top: str) -> Iterator[tuple[str, os.DirEntry[str] | OSError]]:
    """Give what is below a folder and is no folder, in order of paths, and for a folder that cannot be listed why."""
    # a stack of its own: folders may be deeper than Python's
    stack = [("", iter(listed(top)))]
    while stack:
        below, entries = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
        elif entry.is_dir(follow_symlinks=False):
            try:
                stack.append((f"{below}{entry.name}/", iter(listed(entry.path))))
            except OSError as error:
                yield f"{below}{entry.name}", error
        else:
            yield f"{below}{entry.name}", entry


def listed(folder: str) -> list[os.DirEntry[str]]:
    """Return what is in a folder by name."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)
