"""A job repository from its manifest alone: no registry, no plug-in, standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dbb.butler.build import Head, Progress, RepoReport, build_job
from dbb.butler.layout import Layout
from dbb.butler.manifest import ARRAYS, SCHEMA, read_manifest
from dbb.errors import SchemaVersionError, UsageError
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
                raise UsageError(f"{manifest} has reference catalogues, which this dbb cannot stage: use a newer dbb")
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
    layout = Layout.from_dict(data["butler"])
    return Head(
        data["mapper"], data["era"], chosen, str(data.get("created", "")), str(data.get("dbb", "")), layout, outputs
    )


def _is_output(entry: Any) -> bool:
    return isinstance(entry, Mapping) and all(isinstance(entry.get(key), str) for key in _OUTPUT)


def _layout_of(mapper: str, era: str) -> Layout:
    """Ask the camera, for a manifest that another program wrote without the part that only dbb needs."""
    from dbb.butler.camera import camera_layout
    from dbb.plugins import plugins

    return camera_layout(plugins().mapper(mapper), era)


_OUTPUT = ("dataset", "section", "template")
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
    source = entry["source"]
    if not isinstance(source, str) or "\0" in source or (is_local(source) and not local_path(source).startswith("/")):
        raise UsageError(f"{manifest}: source {source!r} must be a URL or an absolute path")
    if not isinstance(entry.get("filesize"), int | None):
        raise UsageError(f"{manifest}: filesize of {source} must be a whole number, not {entry['filesize']!r}")
    return entry
