"""Bringing files to their place in an archive: no registered file is replaced, and none appears before it is whole."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbb.errors import ConflictError, DbbError, IntegrityError, UsageError
from dbb.storage import CHUNK, Digest, Hasher, copy_stream, digest_file, is_local, local_path, scratch_folder

TRANSFERS = ("direct", "copy", "move", "symlink", "relsymlink", "hardlink")
_NO_HARD_LINKS = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


@dataclass(frozen=True, slots=True)
class Found:
    """A file that was looked into: where it is, where it shall be, and its row."""

    source: str
    relpath: str
    row: Mapping[str, Any]
    digest: Digest


def check_places(sources: Sequence[str], root: str, transfer: str) -> None:
    """Raise UsageError if `transfer` cannot reach from the sources to the archive."""
    remote = next((source for source in sources if not is_local(source)), None)
    if remote is not None:
        raise UsageError(f"{remote} is not on this machine: only --transfer direct is possible")
    if not is_local(root) and transfer not in {"copy", "move"}:
        raise UsageError(
            f"the archive at {root} is not on this machine: --transfer {transfer} cannot reach it, copy can"
        )


def remove_sources(found: Sequence[Found], root: str) -> None:
    """Remove what was moved."""
    for one in found:
        source = local_path(one.source)
        # a file that lies in its place already, or that the archive has a link to, is the archive's own
        if not is_local(root) or os.path.realpath(source) != os.path.realpath(f"{local_path(root)}/{one.relpath}"):
            Path(source).unlink(missing_ok=True)


def url_digest(url: str) -> Digest:
    """Read a file, here or elsewhere, and return its size and checksums."""
    if is_local(url):
        return digest_file(local_path(url))
    import fsspec

    hasher = Hasher()
    with fsspec.open(url, "rb") as stream:
        while data := stream.read(CHUNK):
            hasher.update(data)
    return hasher.digest()


def absent(found: Sequence[Found], root: str, registered: Collection[str]) -> list[Found]:
    """Return the files that the archive lacks.

    Raises
    ------
    ConflictError
        If it has other bytes in the place of one. In a remote archive this holds for `registered` places only: what
        else lies there may be half of a file that an ingest left when it was killed.
    """
    return [one for one in found if not _is_there(one, root, one.relpath in registered)]


def _is_there(one: Found, root: str, registered: bool) -> bool:
    url = f"{root}/{one.relpath}"
    if is_local(url):
        there, whole = os.path.lexists(local_path(url)), Path(local_path(url)).is_file()
    else:
        import fsspec

        files, path = fsspec.core.url_to_fs(url)
        there = whole = files.exists(path)
    if not there:
        return False
    if whole and url_digest(url) == one.digest:
        return True
    if is_local(url) or registered:
        raise _conflict(one, url)
    return False


def _conflict(one: Found, url: str) -> ConflictError:
    return ConflictError(
        f"{local_path(url)} lies in the archive with other bytes than {one.source}: nothing was changed"
    )


def bring(waiting: Sequence[Found], root: str, transfer: str, undo: Callable[[Sequence[Found]], None]) -> list[Found]:
    """Put files into an archive and return those that were not there; if one fails, `undo` is called with these.

    Raises
    ------
    ConflictError
        If other bytes appeared meanwhile in the place of one.
    IntegrityError
        If a file changed while it was copied, or a remote copy is incomplete.
    """
    if not waiting:
        return []
    brought: list[Found] = []
    try:
        if not is_local(root):
            for one in waiting:
                try:
                    _upload(one, root)
                except DbbError:
                    raise
                except Exception as error:  # each file system has errors of its own
                    why = str(error) or type(error).__name__
                    raise DbbError(f"{one.source} cannot be copied to {root}/{one.relpath}: {why}") from error
                brought.append(one)
        else:
            folder = Path(local_path(root))
            with scratch_folder(folder / "ingest") as scratch:
                for one in waiting:
                    if _put(one, folder / one.relpath, transfer, scratch):
                        brought.append(one)  # noqa: PERF401  # it must be known when a later one fails
    except BaseException:
        undo(brought)
        raise
    return brought


def _put(one: Found, target: Path, transfer: str, scratch: Path) -> bool:
    """Put one file in its place; return False if another writer put the same bytes there."""
    source = Path(local_path(one.source))
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if transfer == "symlink":
            target.symlink_to(source.resolve())
        elif transfer == "relsymlink":
            target.symlink_to(os.path.relpath(source.resolve(), target.parent.resolve()))
        elif transfer == "hardlink":
            os.link(source, target)
        elif target.parent.stat().st_dev == scratch.stat().st_dev:
            _copy(one, scratch / target.name, target, sync=transfer == "move")
        else:  # part of the archive lies on another disk
            with scratch_folder(target) as beside:
                _copy(one, beside / target.name, target, sync=transfer == "move")
    except FileExistsError:
        if target.is_file() and digest_file(target) == one.digest:
            return False
        raise _conflict(one, str(target)) from None
    return True


def _copy(one: Found, aside: Path, target: Path, *, sync: bool) -> None:
    source = Path(local_path(one.source))
    with source.open("rb") as stream, aside.open("xb") as copy:
        if copy_stream(stream, copy) != one.digest:
            raise IntegrityError(f"{source} changed while it was being copied")
        if sync:  # the source will be removed: the copy must outlive a crash of the machine
            copy.flush()
            os.fsync(copy.fileno())
    try:
        publish(aside, target)
    finally:
        aside.unlink(missing_ok=True)


def publish(aside: Path, target: Path) -> None:
    """Give a finished file its name; raise FileExistsError if something has it."""
    try:
        os.link(aside, target)  # unlike a rename, it fails if another writer was faster
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # A file system without hard links, and Python has no renameat2(RENAME_NOREPLACE): a writer that comes between
        # the look and the rename loses its file. Nothing better exists there.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "exists", str(target)) from error
        aside.rename(target)


def _upload(one: Found, root: str) -> None:
    import fsspec

    files, path = fsspec.core.url_to_fs(f"{root}/{one.relpath}")
    folder, _, name = path.rpartition("/")
    aside = f"{folder}/.{name}.dbb-{secrets.token_hex(4)}"
    try:
        files.put_file(local_path(one.source), aside)
        if files.size(aside) != one.digest.filesize:
            raise IntegrityError(f"{root}/{one.relpath}: the copy is incomplete")
        if files.exists(path):  # not registered, see `absent`; some file systems do not move onto a file
            files.rm_file(path)
        files.mv(aside, path)
    finally:
        if files.exists(aside):
            files.rm_file(aside)
