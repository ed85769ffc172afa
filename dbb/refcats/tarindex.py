"""What is in a tar, read once, by headers alone; a tar that could do harm is refused as a whole."""

from __future__ import annotations

import tarfile
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, cast

from dbb.errors import IntegrityError, UnsafePathError
from dbb.members import HEADER, Member
from dbb.patterns import safe_path

MOST_MEMBERS = 4_000_000
_MOST_FOLDERS = 50
_LONGEST_READ = 1 << 20
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a fifo",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


def read_members(stream: IO[bytes], name: str) -> list[Member]:
    """Return the files of a tar in their order there.

    Parameters
    ----------
    stream
        The tar, uncompressed or so by reading it; can be told to seek.
    name
        What it is called, for messages.

    Raises
    ------
    UnsafePathError
        If a member has a path that is absolute, climbs, or holds characters that the Butler globs; is a link, a device
        or sparse; or shares its path, perhaps in another case, with another one.
    IntegrityError
        If it is no tar, is cut off, or is broken in the middle.

    Notes
    -----
    Reads 512 bytes for each member. Links are refused even where they stay inside: a catalogue needs none.
    """
    names = _Names(name)
    found: list[Member] = []
    for info in _headers(stream, name):
        path = _checked(info, name)
        if path is None:
            continue
        names.add(path, is_folder=info.isdir())
        if info.isreg():
            found.append(Member(path, info.offset_data, info.size))
        if len(found) > MOST_MEMBERS:
            raise IntegrityError(f"{name}: {path} is member {len(found)}: more than {MOST_MEMBERS} are not taken")
    return found


def _headers(stream: IO[bytes], name: str) -> Iterator[tarfile.TarInfo]:
    guarded = cast("IO[bytes]", _Guarded(stream))
    last, at = "", -1
    try:
        stream.seek(0)
        with tarfile.open(fileobj=guarded, mode="r:", encoding="utf-8") as tar:
            while (info := tar.next()) is not None:
                if info.size < 0 or info.offset_data <= at:
                    raise IntegrityError(f"{name}: {info.name!r} has an impossible size")
                last, at = info.name, info.offset_data
                tar.members.clear()  # type: ignore[attr-defined]  # undocumented: it would keep them all
                yield info
            end = tar.offset
        # the library takes a header that it cannot read for the end
        stream.seek(end)
        if stream.read(HEADER) != bytes(HEADER):
            raise IntegrityError(f"{name}: it is cut off or broken after {last!r}")
    except (tarfile.TarError, RecursionError, EOFError, ValueError) as error:
        if isinstance(error, UnsafePathError):
            raise
        where = f"after {last!r}" if last else "at its beginning"
        raise IntegrityError(f"{name} cannot be read as a tar {where}: {error}") from error


def _checked(info: tarfile.TarInfo, name: str) -> str | None:
    """Return a member's path without a leading ``./``, or None for the folder that holds everything."""
    path = info.name.removeprefix("./")
    if path in {"", "."} and info.isdir():
        return None
    kind = "a sparse file" if info.issparse() else _KINDS.get(info.type)
    if kind is None and not info.isreg() and not info.isdir():
        kind = f"of the unknown type {info.type!r}"
    if kind is not None:
        raise UnsafePathError(f"{name}: {path!r} is {kind}: only files and folders are taken; pack it anew without")
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UnsafePathError(f"{name}: {path!r} is refused: its name is not UTF-8") from error
    if path.count("/") > _MOST_FOLDERS:
        raise UnsafePathError(f"{name}: {path[:60]}… lies more than {_MOST_FOLDERS} folders deep")
    return safe_path(path, f"{name}: member")


class _Names:
    """The paths so far, compared as a file system that ignores case would."""

    def __init__(self, tar: str) -> None:
        self._tar = tar
        self._files: dict[str, str] = {}
        self._folders: dict[str, str] = {}

    def add(self, path: str, *, is_folder: bool) -> None:
        folder = path if is_folder else path.rpartition("/")[0]
        while folder and self._folders.get(_folded(folder)) != folder:
            self._note(folder, self._folders, self._files)
            folder = folder.rpartition("/")[0]
        if not is_folder:
            if _folded(path) in self._files:
                self._refuse(path, self._files[_folded(path)])
            self._note(path, self._files, self._folders)

    def _note(self, path: str, same: dict[str, str], others: dict[str, str]) -> None:
        key = _folded(path)
        for known in (same, others):
            if key in known:
                self._refuse(path, known[key])
        same[key] = path

    def _refuse(self, path: str, other: str) -> None:
        how = "twice" if path == other else f"and {other!r}, which differ only in case or spelling"
        raise UnsafePathError(f"{self._tar}: it holds {path!r} {how}: one would overwrite the other; pack it anew")


def _folded(path: str) -> str:
    return (
        path.lower() if path.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
    )


class _Guarded:
    """Gives a tar's headers, and never more at once than an honest header has."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, count: int) -> bytes:
        if not 0 <= count <= _LONGEST_READ:
            raise tarfile.ReadError(f"a header wants {count} bytes")
        with self._in_words():
            return self._stream.read(count)

    def seek(self, offset: int, whence: int = 0) -> int:
        with self._in_words():
            return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """Make errors of reading into those that tell after which member they came."""
        try:
            yield
        except OSError as error:
            raise tarfile.ReadError(f"it is broken or cannot be read ({error.strerror or error})") from error


def leading_folder(names: Sequence[str]) -> str:
    """Return the one folder that holds all members, with its slash; an empty text if there is none.

    Examples
    --------
    >>> leading_folder(["ps1/config.py", "ps1/189584.fits"])
    'ps1/'
    """
    if not names:
        return ""
    folder, slash, _ = min(names).partition("/")
    return folder + slash if slash and max(names).startswith(folder + slash) else ""
