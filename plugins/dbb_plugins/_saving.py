"""Saves files in archives, here or wherever fsspec can write: whole or not at all, and nothing else is overwritten."""

from __future__ import annotations

import itertools
import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dbb.errors import DbbError, IntegrityError
from dbb.hookspecs import hookimpl
from dbb.ingest.transfer import publish, url_digest
from dbb.patterns import safe_path
from dbb.storage import SaveOutcome, SaveRequest, copy_stream, digest_file, is_local, local_path, scratch_folder
from dbb_plugins._retry import ShortError, most_tries, pause_after

__all__ = ["dbb_stage_out"]


@hookimpl
def dbb_stage_out(requests: Sequence[SaveRequest]) -> Sequence[SaveOutcome] | None:
    """Save files in a local archive, or in one that fsspec can reach; None for other schemes."""
    root = requests[0].root
    if is_local(root):
        return _save_here(requests, Path(local_path(root)))
    import fsspec

    if fsspec.utils.get_protocol(root) not in fsspec.available_protocols():
        return None
    return [_outcome(request, _upload) for request in requests]


def _outcome(request: SaveRequest, save: Any, *arguments: object) -> SaveOutcome:
    """Save one file, again if that may help; whatever goes wrong is the outcome."""
    for attempt in itertools.count(1):
        try:
            safe_path(request.relpath, "path in the archive")
            return SaveOutcome(request, bool(save(request, *arguments)))
        except Exception as error:  # noqa: BLE001  # every file system has errors of its own
            if attempt >= most_tries(error):
                return SaveOutcome(request, error=_reason(error, request))
        time.sleep(pause_after(attempt))
    raise AssertionError("unreachable: the last try returns")


def _reason(error: Exception, request: SaveRequest) -> str:
    if isinstance(error, DbbError):
        return str(error)
    if isinstance(error, OSError):
        return f"{request.target}: {error.strerror or error}"
    return f"{request.target}: {type(error).__name__}: {error}"


def _save_here(requests: Sequence[SaveRequest], folder: Path) -> list[SaveOutcome]:
    try:
        # swept by this machine only: on some network file systems another cannot see that its owner lives
        with scratch_folder(folder / f"save-{os.uname().nodename}") as scratch:
            return [_outcome(request, _put, folder / request.relpath, scratch) for request in requests]
    except OSError as error:
        why = f"nothing can be written to the archive at {folder}: {error.strerror}"
        return [SaveOutcome(request, error=why) for request in requests]


def _put(request: SaveRequest, target: Path, scratch: Path) -> bool:
    """Put one file in its place; return False if it is there already."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target) and not _may_replace(request, target):
        return False
    if target.parent.stat().st_dev != scratch.stat().st_dev:  # part of the archive lies on another disk
        with scratch_folder(target) as beside:
            return _copy_in(request, target, beside)
    return _copy_in(request, target, scratch)


def _copy_in(request: SaveRequest, target: Path, scratch: Path) -> bool:
    aside = scratch / "copy"
    try:
        with open(request.source, "rb") as source, aside.open("xb") as copy:  # noqa: PTH123  # a text, not a path
            if not request.digest.fits(copy_stream(source, copy, sha256=bool(request.digest.sha256))):
                raise IntegrityError(f"{request.source} is not, or no longer, the file that was registered")
            copy.flush()
            os.fsync(copy.fileno())  # the work folder will be removed: the copy must outlive a crash of the machine
        try:
            publish(aside, target)
        except FileExistsError:
            if not _may_replace(request, target):
                return False
            aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    return True


def _may_replace(request: SaveRequest, target: Path) -> bool:
    """Decide about a file that has the name already: False if it is the same.

    Raises
    ------
    DbbError
        If it is somebody else's.
    """
    there = digest_file(target) if target.is_file() else None
    if there is not None and request.digest.fits(there):
        return False
    if there is None or there.md5sum not in request.replaces:
        raise _refusal(request)
    return True


def _refusal(request: SaveRequest) -> DbbError:
    return DbbError(
        f"{request.target} lies in the archive with other bytes than {request.source}: it was left as it is; two jobs"
        " may write one name"
    )


def _upload(request: SaveRequest) -> bool:
    import fsspec

    files, path = fsspec.core.url_to_fs(request.target)
    if files.exists(path):
        there = url_digest(request.target)
        if request.digest.fits(there):
            return False
        if there.md5sum not in request.replaces:
            raise _refusal(request)
    folder, _, name = path.rpartition("/")
    aside = f"{folder}/.{name}.dbb-{secrets.token_hex(4)}"
    try:
        files.makedirs(folder, exist_ok=True)
        files.put_file(request.source, aside)
        if files.size(aside) != request.digest.filesize:
            raise ShortError(f"{request.target}: the copy is incomplete")
        if files.exists(path):  # some file systems do not move onto a file
            files.rm_file(path)
        files.mv(aside, path)
    finally:
        with suppress(Exception):  # what is the matter with the store is known already
            if files.exists(aside):
                files.rm_file(aside)
    return True
