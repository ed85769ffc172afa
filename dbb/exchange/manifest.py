"""What an exported folder says of itself: which registry it is of, and each of its files with size and checksum."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dbb import __version__
from dbb.errors import IntegrityError, NotFoundError, SchemaVersionError, TableError
from dbb.filetypes import Filetype, filetype_from_dict
from dbb.registry._tables import SCHEMA_VERSION
from dbb.storage import digest_file, new_file

NAME = "manifest.json"
FORMAT = "dbb registry"
NO_RUN = "__HIVE_DEFAULT_PARTITION__"
"""What stands for no value where folders are called after values, as Hive and Arrow have it."""
_PATH = re.compile(r"([a-z][a-z0-9_]{0,62})/(?:run=[A-Za-z0-9_][A-Za-z0-9.+_-]{0,199}/)?part\.parquet")
_MOST_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Part:
    """A file of an exported folder: where it is in it, how many rows of a table it has, its size and checksum."""

    path: str
    rows: int
    filesize: int
    sha256: str

    @property
    def table(self) -> str:
        """The table whose rows it has."""
        return self.path.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an exported folder is: the schema of its registry, who wrote it, the camera, the filetypes, the files."""

    schema: int
    dbb: str
    mapper: str | None
    filetypes: Mapping[str, Filetype]
    parts: tuple[Part, ...]


def write_manifest(folder: Path, mapper: str | None, filetypes: Mapping[str, Filetype], parts: list[Part]) -> None:
    """Write the manifest, as the last file of a folder."""
    said = {
        "format": FORMAT,
        "schema": SCHEMA_VERSION,
        "dbb": __version__,
        "mapper": mapper,
        "filetypes": {name: filetype.as_dict() for name, filetype in sorted(filetypes.items())},
        "files": [asdict(part) for part in sorted(parts, key=lambda part: part.path)],
    }
    with new_file(folder / NAME) as stream:
        stream.write((json.dumps(said, indent=1, ensure_ascii=False) + "\n").encode())


def describe_part(folder: Path, path: str, rows: int) -> Part:
    """Return what the manifest says of a file that was written."""
    found = digest_file(folder / path)
    return Part(path, rows, found.filesize, found.sha256)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder, and make sure that the folder is what it says.

    Raises
    ------
    NotFoundError
        If there is none.
    TableError
        If it is not the manifest of a registry, or malformed.
    SchemaVersionError
        If the registry had another schema.
    IntegrityError
        If a file is absent, or is not the one that was written.
    """
    path = folder / NAME
    if not path.is_file():
        raise NotFoundError("folder of a registry", str(folder), hint=f"There is no {NAME} in it: see 'dbb export'")
    if path.stat().st_size > _MOST_BYTES:
        raise TableError(f"{path}: it is larger than any manifest")
    try:
        said = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise TableError(f"{path} cannot be read: {error}") from error
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise TableError(f"{path}: this is not the manifest of an exported registry")
    manifest = _read(path, said)
    for part in manifest.parts:
        _check(folder, part)
    return manifest


def _read(path: Path, said: Mapping[str, Any]) -> Manifest:
    schema, version, mapper = said.get("schema"), said.get("dbb"), said.get("mapper")
    if not isinstance(schema, int) or not isinstance(version, str) or not isinstance(mapper, str | None):
        raise TableError(f"{path}: schema, dbb or mapper is missing or no such value")
    if schema > SCHEMA_VERSION:
        raise SchemaVersionError(
            f"{path}: the registry had schema {schema}, this dbb {__version__} reads {SCHEMA_VERSION}:"
            f" use dbb {version} or newer"
        )
    if schema < SCHEMA_VERSION:
        raise SchemaVersionError(
            f"{path}: the registry had schema {schema}, this dbb reads {SCHEMA_VERSION}: import it with dbb {version}"
            " into a new registry, run 'dbb migrate' of this dbb on that, and export it again"
        )
    entries, listed = said.get("filetypes"), said.get("files")
    if not isinstance(entries, dict) or not isinstance(listed, list):
        raise TableError(f"{path}: filetypes or files are missing")
    filetypes = {name: filetype_from_dict(name, entry) for name, entry in entries.items()}
    parts = tuple(_part(path, one) for one in listed)
    if len({part.path for part in parts}) < len(parts):
        raise TableError(f"{path}: a file is listed twice")
    return Manifest(schema, version, mapper, filetypes, parts)


def _part(path: Path, said: object) -> Part:
    kinds = {"path": str, "rows": int, "filesize": int, "sha256": str}
    if not isinstance(said, dict) or said.keys() != kinds.keys():
        raise TableError(f"{path}: a file is listed without {', '.join(kinds)}, or with more")
    if any(type(said[name]) is not kind for name, kind in kinds.items()) or not _PATH.fullmatch(said["path"]):
        raise TableError(f"{path}: the file {str(said['path'])[:80]!r} is none that an export has")
    return Part(**said)


def _check(folder: Path, part: Part) -> None:
    path = folder / part.path
    if not path.is_file():
        raise IntegrityError(f"{path} is absent: the folder is not complete")
    if path.stat().st_size != part.filesize:
        raise IntegrityError(f"{path} has {path.stat().st_size} bytes, the manifest says {part.filesize}: it is broken")
    if digest_file(path).sha256 != part.sha256:
        raise IntegrityError(f"{path} is not the file that was written: its checksum is another one")
