"""Files that steps write: what they are is noted at once, whether or not they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from dbb.errors import DbbError
from dbb.filetypes import CONVERTERS, Filetype
from dbb.jobs.jobfile import Output
from dbb.storage import Digest, digest_file

_COMPRESSIONS = (".fz", ".gz")


@dataclass(frozen=True, slots=True)
class Made:
    """A file that is there.

    Parameters
    ----------
    output
        What the workflow says of it.
    path
        Where it is.
    digest
        Its size and checksums.
    event
        What events say of it.
    problem
        Why it cannot be registered as what it should be; empty if all is well.
    """

    output: Output
    path: Path
    digest: Digest
    event: Mapping[str, Any]
    problem: str = ""


def split_name(name: str) -> dict[str, str]:
    """Part a file name from the suffix of its compression, which tables keep by itself.

    Examples
    --------
    >>> split_name("a.fits.fz")
    {'filename': 'a.fits', 'compression': '.fz'}
    """
    stem, dot, suffix = name.rpartition(".")
    if f".{suffix}" in _COMPRESSIONS and "." in stem.lstrip(".") and dot:
        return {"filename": stem, "compression": f".{suffix}"}
    return {"filename": name, "compression": ""}


def look_at(filetype: Filetype | None, output: Output, path: Path) -> Made:
    """Find out what a file is: size, checksums, and the metadata that its filetype wants, if that is known.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    metadata, corners, problem = _metadata(filetype, output, path)
    digest = digest_file(path)
    event = {
        **split_name(output.filename),
        "filetype": output.filetype,
        "filesize": digest.filesize,
        "md5sum": digest.md5sum,
        "sha256": digest.sha256,
        "metadata": metadata,
        "nick": output.nick,
    }
    return Made(output, path, digest, event | ({"corners": corners} if corners else {}), problem)


def _metadata(filetype: Filetype | None, output: Output, path: Path) -> tuple[dict[str, Any], Any, str]:
    if filetype is None:
        return dict(output.metadata), None, ""
    problem = ""
    found: dict[str, Any] = _from_name(filetype, output)
    try:
        if any(column.source != "name" for column in filetype.columns):
            from dbb.ingest.gather import gather_metadata

            found |= gather_metadata(str(path), filetype)
    except DbbError as error:
        problem = str(error)
    corners = found.pop("corners", None)
    found |= _given(filetype, output.metadata)
    found = _derived(filetype, found)
    metadata, wrong = _converted(filetype, found)
    return metadata, None if corners is None else astuple(corners), problem or wrong


def _from_name(filetype: Filetype, output: Output) -> dict[str, Any]:
    if filetype.name_pattern is None:
        return {}
    name = split_name(output.filename)["filename"]
    values = filetype.name_pattern.invert(name, {**filetype.types, "reqnum": "int", "attnum": "int"}) or {}
    return {key: value for key, value in values.items() if key in filetype.types}


def _given(filetype: Filetype, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the workflow says, by the names of columns, which differ in case only."""
    columns = {column.name.lower(): column.name for column in filetype.columns}
    return {columns[key.lower()]: value for key, value in metadata.items() if key.lower() in columns}


def _derived(filetype: Filetype, found: dict[str, Any]) -> dict[str, Any]:
    """Add what the camera knows from the rest."""
    if filetype.mapper is None or all(column.name in found for column in filetype.columns):
        return found
    from dbb.plugins import plugins

    try:
        more = plugins().mapper(filetype.mapper).derive(found)
    except Exception:  # noqa: BLE001  # the camera may be broken or not there; what it would add is missing then
        return found
    return {name: value for name, value in more.items() if name in filetype.types} | found


def _converted(filetype: Filetype, found: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    metadata: dict[str, Any] = {}
    problem = ""
    for column in filetype.columns:
        value = found.get(column.name)
        try:
            if value is not None:
                metadata[column.name] = CONVERTERS[column.type](value)
            elif column.required:
                problem = problem or f"column {column.name}: nothing says it ({column.source})"
        except (ValueError, OverflowError) as error:
            problem = problem or f"column {column.name}: {value!r}: {error}"
    return metadata, problem
