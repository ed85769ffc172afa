"""A job repository from its manifest alone: no registry, no plug-in, standard library only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dbb.butler.build import build_job
from dbb.butler.head import Head, Progress, RepoReport
from dbb.butler.layout import Layout
from dbb.butler.linker import MOST_FOLDERS
from dbb.butler.manifest import ARRAYS, SCHEMA, read_manifest
from dbb.errors import SchemaVersionError, UnsafePathError, UsageError
from dbb.members import HEADER
from dbb.patterns import safe_path
from dbb.refcats.shards import check_name
from dbb.storage import STAGE_MODES, is_local, local_path

_ERAS = ("2017", "2021", "both")
_HEAD = ("schema", "mapper", "era", "stage", "butler")


def materialize_manifest(
    root: Path, manifest: Path, *, stage: str | None = None, dry_run: bool = False, progress: Progress | None = None
) -> RepoReport:
    """Build at `root` the repository that a manifest describes.

    Parameters
    ----------
    root
        The job's folder, which does not exist.
    manifest
        As `dbb.materialize_repo` writes it.
    stage
        Another way to stage than the manifest's.
    dry_run
        Check sources and write nothing.
    progress
        Called with the number of files staged so far.

    Raises
    ------
    UsageError
        If the manifest lacks something.
    SchemaVersionError
        If a newer dbb wrote it.
    IntegrityError
        If a file is not what the manifest says.
    """
    head = _head(manifest, stage)
    columns = list(head.layout.raw)
    with build_job(root, head, dry_run=dry_run, progress=progress) as builder:
        for key, entry in read_manifest(manifest):
            if key in {"inputs", "calibs", "files"}:
                builder.add(key, _checked(entry, key, manifest))
            elif key == "exposures":
                if not isinstance(entry, Mapping):
                    raise UsageError(f"{manifest}: an exposure must be an object: {str(entry)[:200]}")
                builder.add_exposure([entry.get(name) for name in columns])
            elif key == "refcats":
                builder.add_refcat(_checked_refcat(entry, manifest))
        return builder.finish()


def _head(manifest: Path, stage: str | None) -> Head:
    data: dict[str, Any] = {}
    for key, value in read_manifest(manifest):
        if key in ARRAYS and all(name in data for name in (*_HEAD, "outputs")):
            break  # written by us: everything that matters stands before the long parts
        if key not in ARRAYS:
            data[key] = value
    if data.get("schema", SCHEMA) != SCHEMA:
        raise SchemaVersionError(f"{manifest} has schema {data['schema']!r}, this dbb reads {SCHEMA}")
    missing = [name for name in _HEAD if name not in data]
    if missing not in ([], ["butler"]):
        raise UsageError(f"{manifest} lacks {', '.join(missing)}")
    if data["era"] not in _ERAS:
        raise UsageError(f"{manifest}: era {data['era']!r} is none of {', '.join(_ERAS)}")
    if missing:
        data["butler"] = _layout_of(str(data["mapper"]), str(data["era"])).as_dict()
    chosen = stage or str(data["stage"])
    if chosen not in STAGE_MODES:
        raise UsageError(f"stage {chosen!r} is none of {', '.join(STAGE_MODES)}")
    outputs = data.get("outputs", [])
    if not isinstance(outputs, list) or not all(_is_output(one) for one in outputs):
        raise UsageError(f"{manifest}: each of 'outputs' needs dataset, section and template")
    for one in outputs:
        _check_output(one, manifest)
    layout = Layout.from_dict(data["butler"])
    return Head(
        data["mapper"], data["era"], chosen, str(data.get("created", "")), str(data.get("dbb", "")), layout, outputs
    )


def _is_output(entry: Any) -> bool:
    return isinstance(entry, Mapping) and all(isinstance(entry.get(key), str) for key in _OUTPUT)


def _check_output(entry: Mapping[str, Any], manifest: Path) -> None:
    """Make sure that the Butler will write below its repository and finds in the policy what dbb puts there."""
    dataset, template = entry["dataset"], entry["template"]
    if _IDENTIFIER.fullmatch(dataset) is None:
        raise UsageError(f"{manifest}: {dataset!r} cannot be the name of an output's dataset type")
    if entry["section"] not in _SECTIONS:
        raise UsageError(f"{manifest}: section {entry['section']!r} of {dataset} is none of {', '.join(_SECTIONS)}")
    if "%" in _FIELD.sub("", template):
        raise UsageError(f"{manifest}: template {template!r} of {dataset} has a % that begins no %(key)s or %(key)02d")
    safe_path(_FIELD.sub(lambda field: "%" if field[0] == "%%" else "x", template), f"{dataset}: template")
    for key in ("python", "persistable", "storage"):
        value = entry.get(key) or "x"
        if not isinstance(value, str) or _DOTTED.fullmatch(value) is None:
            raise UsageError(f"{manifest}: {key} {value!r} of {dataset} is no name in Python")
    tables = entry.get("tables") or []
    if not isinstance(tables, list) or not all(isinstance(one, str) and _IDENTIFIER.fullmatch(one) for one in tables):
        raise UsageError(f"{manifest}: tables {tables!r} of {dataset} must be a list of names")


def _layout_of(mapper: str, era: str) -> Layout:
    """Ask the camera, for a manifest that another program wrote without the part that only dbb needs."""
    from dbb.butler.camera import camera_layout
    from dbb.plugins import plugins

    return camera_layout(plugins().mapper(mapper), era)


_OUTPUT = ("dataset", "section", "template")
_SECTIONS = ("exposures", "calibrations", "datasets")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_FIELD = re.compile(r"%%|%\(\w+\)[-+ #0]*[0-9]*(?:\.[0-9]+)?[A-Za-z]")
_LARGEST = 1 << 62
_SURROGATE = re.compile("[\ud800-\udfff]")
_NEEDED: dict[str, tuple[str, ...]] = {
    "inputs": ("source", "path"),
    "files": ("source", "path"),
    "calibs": ("source", "path", "dataset", "data_id", "calib_date", "valid_start", "valid_end"),
}


def _checked(entry: Any, key: str, manifest: Path) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping) or not all(entry.get(name) for name in _NEEDED[key]):
        raise UsageError(f"{manifest}: an entry of {key!r} lacks one of {', '.join(_NEEDED[key])}: {str(entry)[:200]}")
    texts = (entry["path"], entry.get("dataset", ""))
    if not all(isinstance(text, str) for text in texts) or not isinstance(entry.get("data_id", {}), Mapping):
        raise UsageError(f"{manifest}: path and dataset must be texts and data_id an object: {str(entry)[:200]}")
    _check_places(entry, manifest)
    if entry.get("offset") is not None:
        _check_extent(entry, manifest)
    if not isinstance(entry.get("filesize"), int | None) or isinstance(entry.get("filesize"), bool):
        raise UsageError(f"{manifest}: filesize of {entry['source']} must be a whole number, not {entry['filesize']!r}")
    return entry


def _check_places(entry: Mapping[str, Any], manifest: Path) -> None:
    """Make sure that source, and seek index where there is one, can be opened, and that the path is not too deep."""
    for name in ("source", "index"):
        source = entry.get(name)
        if source is None and name == "index":
            continue
        if not isinstance(source, str) or "\0" in source or _is_relative(source):
            raise UsageError(f"{manifest}: {name} {source!r} must be a URL or an absolute path")
    for text in (entry["source"], entry["path"], entry.get("index") or ""):
        if _SURROGATE.search(text):
            raise UsageError(f"{manifest}: {text!r} holds half a character (a lone surrogate)")
    if entry["path"].count("/") > MOST_FOLDERS:
        raise UsageError(f"{manifest}: path {entry['path'][:60]}… lies more than {MOST_FOLDERS} folders deep")


def _is_relative(source: str) -> bool:
    return is_local(source) and not local_path(source).startswith("/")


def _check_extent(entry: Mapping[str, Any], manifest: Path) -> None:
    """Make sure that a part of a tar is one: a header stands before its bytes."""
    for name, least in (("offset", HEADER), ("size", 0)):
        value = entry.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < _LARGEST:
            raise UsageError(
                f"{manifest}: {name} of {entry['path']} must be a whole number from {least} on, not {value!r}"
            )
    if not isinstance(entry.get("member", ""), str):
        raise UsageError(f"{manifest}: member of {entry['path']} must be a text")


def _checked_refcat(entry: Any, manifest: Path) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("members"), list):
        raise UsageError(f"{manifest}: an entry of 'refcats' needs a name and a list of members: {str(entry)[:200]}")
    name = entry.get("name")
    if not isinstance(name, str):
        raise UsageError(f"{manifest}: a reference catalogue's name must be a text, not {name!r}")
    folder = f"in/ref_cats/{check_name(name)}/"
    for member in entry["members"]:
        if not isinstance(member, Mapping) or not isinstance(member.get("path"), str):
            raise UsageError(f"{manifest}: a file of {name} must be an object with a path: {str(member)[:200]}")
        if not member["path"].startswith(folder):
            raise UnsafePathError(f"{manifest}: path {member['path']!r} of {name} does not lie below {folder}")
        _check_places(member, manifest)
        _check_extent(member, manifest)
    return entry
