"""Files on disk: stage modes, checksums in one pass, folders and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dbb.errors import ConflictError, DbbError, IntegrityError, UnsafePathError

STAGE_MODES = ("auto", "symlink", "relsymlink", "hardlink", "copy")
CHUNK = 1 << 20
_LOCAL = "file://"
# NFS has no locks for folders, and Lustre often none at all: what a killed process leaves there is never swept.
_NO_LOCKS = {errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@dataclass(frozen=True, slots=True)
class StageRequest:
    """One remote file to bring to this machine.

    Parameters
    ----------
    source
        An fsspec URL.
    target
        Local path; its folder exists, it does not.
    filesize, md5sum, sha256
        What the registry says of the file; None where it says nothing.
    offset
        Where the file begins in the source, of which it is `filesize` bytes; None if it is the whole source.
    """

    source: str
    target: str
    filesize: int | None = None
    md5sum: str | None = None
    sha256: str | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """What became of one request: bytes copied, or why it failed (`error` is empty on success)."""

    request: StageRequest
    copied: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class SaveRequest:
    """One file of this machine to put into an archive.

    Parameters
    ----------
    source
        Local path.
    root
        URL of the archive.
    relpath
        Its place there.
    digest
        What it is. A checksum that is not known is empty; one at least must be known.
    replaces
        MD5 sums of files that may lie there and are replaced: earlier tries of the same job left them.
    """

    source: str
    root: str
    relpath: str
    digest: Digest
    replaces: frozenset[str] = frozenset()

    @property
    def target(self) -> str:
        """URL of its place."""
        return f"{self.root}/{self.relpath}"


@dataclass(frozen=True, slots=True)
class SaveOutcome:
    """What became of one request: whether the file is new there, or why it failed (`error` is empty on success)."""

    request: SaveRequest
    made: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Digest:
    """Size in bytes and checksums (hexadecimal) of a file."""

    filesize: int
    md5sum: str
    sha256: str

    def fits(self, found: Digest) -> bool:
        """Whether a file that was read is what this says, as far as it says something: a checksum may be empty."""
        pairs = ((self.md5sum, found.md5sum), (self.sha256, found.sha256))
        return self.filesize == found.filesize and all(mine in {"", its} for mine, its in pairs)


class Hasher:
    """Takes the bytes of a file as they pass and gives its `Digest`; one without `sha256` is half the work."""

    def __init__(self, *, sha256: bool = True) -> None:
        self._size = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256() if sha256 else None

    def update(self, data: bytes) -> None:
        """Count and digest one piece."""
        self._size += len(data)
        self._md5.update(data)
        if self._sha256 is not None:
            self._sha256.update(data)

    def digest(self) -> Digest:
        """Return what has passed so far."""
        return Digest(self._size, self._md5.hexdigest(), self._sha256.hexdigest() if self._sha256 is not None else "")


def digest_file(path: str | os.PathLike[str]) -> Digest:
    """Read a file once and return its size and checksums."""
    with open(path, "rb") as stream:
        return copy_stream(stream, None)


def copy_stream(source: BinaryIO, target: BinaryIO | None, *, sha256: bool = True) -> Digest:
    """Copy everything from `source` to `target` (or only read it) and return what passed."""
    hasher = Hasher(sha256=sha256)
    while data := source.read(CHUNK):
        hasher.update(data)
        if target is not None:
            target.write(data)
    return hasher.digest()


def mismatch(found: Digest, wanted: StageRequest) -> str:
    """Return how `found` differs from what the registry says, or an empty text."""
    for name in ("filesize", "md5sum", "sha256"):
        expected, actual = getattr(wanted, name), getattr(found, name)
        if expected is not None and expected != actual:
            return f"{name} is {actual}, registered as {expected}"
    return ""


def copy_checked(request: StageRequest) -> int:
    """Copy a local file to ``request.target`` and return its size; the target is removed if the bytes are wrong.

    Raises
    ------
    IntegrityError
        If size or a checksum differs from the registered one.
    """
    with open(local_path(request.source), "rb") as source, open(request.target, "xb") as target:
        found = copy_stream(source, target, sha256=request.sha256 is not None)
    wrong = mismatch(found, request)
    if wrong:
        Path(request.target).unlink()
        raise IntegrityError(f"{request.source}: {wrong}; it is not the file that was registered")
    return found.filesize


def is_local(url: str) -> bool:
    """Whether `url` names something on this machine's file systems."""
    return url.startswith(_LOCAL) or "://" not in url


def local_path(url: str) -> str:
    """Return the path that a local URL names (fsspec's convention: nothing is percent-encoded)."""
    return url.removeprefix(_LOCAL)


def root_url(text: str) -> str:
    """Return an archive root as a URL without a final slash; a plain path becomes an absolute ``file://`` URL.

    Raises
    ------
    UnsafePathError
        If `text` names no place (empty, or only a scheme), if a ``file://`` root is not absolute, or if a local root
        contains ``[``, ``]``, ``*`` or ``?``, which the Butler globs.
    """
    if not is_local(text):
        if not text.partition("://")[2].strip("/"):
            raise UnsafePathError(f"archive root {text!r} names no place: write a URL with a bucket, host or folder")
        return text.rstrip("/")
    if not text:
        raise UnsafePathError("archive root '' is empty: write a folder or a URL")
    path = local_path(text)
    if text.startswith(_LOCAL) and not path.startswith("/"):
        raise UnsafePathError(f"archive root {text!r}: write file:///absolute/path")
    path = os.path.abspath(path)
    if any(char in path for char in "[]*?"):
        raise UnsafePathError(f"archive root {path!r}: the Butler globs [ ] * ?, choose a folder without them")
    return _LOCAL + path


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Build a folder aside and move it to `path` in one step.

    Yields
    ------
    Path
        An empty folder beside `path`, on the same file system. If the block raises, it is removed and `path` never
        exists; what a killed process left is removed by the next call for the same `path`.

    Raises
    ------
    ConflictError
        If `path` is there already; nothing is written then.
    DbbError
        If nothing can be made there.
    """
    if os.path.lexists(path):
        raise ConflictError(f"{path} exists: choose another folder or remove it first")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        aside, lock = _locked_folder(path)
    except OSError as error:
        raise DbbError(f"folder {path} cannot be made: {error}. Choose another") from error
    try:
        yield aside
        try:
            os.rename(aside, path)
        except OSError as error:
            raise ConflictError(f"{path} appeared while it was being made: nothing was changed") from error
    finally:
        os.close(lock)
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Give a folder for things in the making, and remove it with what is left in it.

    Yields
    ------
    Path
        An empty folder beside `path`, on the same file system. What a killed process left is removed by the next call
        for the same `path`; the folder of a process that still works is left alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    aside, lock = _locked_folder(path)
    try:
        yield aside
    finally:
        os.close(lock)
        shutil.rmtree(aside, ignore_errors=True)


def _locked_folder(path: Path) -> tuple[Path, int]:
    # The lock dies with its process: whoever can take it knows that the folder is abandoned.
    while True:
        aside = path.with_name(f".{path.name}.dbb-{secrets.token_hex(4)}")
        aside.mkdir()
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(aside, os.O_RDONLY)
            os.set_inheritable(lock, True)  # a process that helps to fill the folder holds the lock as long as it lives
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
            if aside.exists():  # another process may have swept it between mkdir and flock
                return aside, lock
            os.close(lock)


def _sweep(path: Path) -> None:
    for left in path.parent.glob(f".{path.name}.dbb-*"):
        try:
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # another process is at work in it
        else:
            shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(lock)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file aside and move it to `path` in one step; a file or link there is replaced, not written through."""
    aside = path.with_name(f".{path.name}.dbb-{secrets.token_hex(4)}")
    try:
        with open(aside, "xb") as stream:
            yield stream
        os.replace(aside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()
