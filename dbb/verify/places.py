"""What lies in an archive, on this machine or elsewhere: sizes, checksums of files or parts of them, folders."""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol

from dbb.storage import CHUNK, Digest, Hasher, is_local, local_path

LOST, UNREADABLE = "lost", "unreadable"
_KEPT_NAMES = 500_000
_LISTED = 2
_NOT_THERE = {404, 410}


@dataclass(frozen=True, slots=True)
class Seen:
    """What lies at a place: its size in bytes, or else the problem and what was found instead."""

    filesize: int | None
    problem: str = ""
    found: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of a file: from `start`, counted from 0, `size` of them."""

    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of an archive (``""`` is its root) with the names of its files, or why it cannot be listed."""

    path: str
    names: tuple[str, ...]
    error: str = ""


class Places(Protocol):
    """An archive as `verify` looks at it; all paths are relative to its root."""

    can_list: bool

    def unreachable(self, in_use: bool) -> str:
        """Return why nothing can be said of the archive, or an empty text; if it is in use it cannot be empty."""

    def look(self, relpaths: Sequence[str], pool: Executor) -> list[Seen]:
        """Return what lies at each path."""

    def digest(self, relpath: str, part: Part | None = None) -> Digest:
        """Read a file, or a part of it."""

    def walk(self, after: str | None, without: Collection[str]) -> Iterator[Folder]:
        """Give the folders behind `after` (all if None), parents first, in the order of their parts."""


def open_places(root: str) -> Places:
    """Return the archive at a root URL."""
    return LocalPlaces(local_path(root)) if is_local(root) else RemotePlaces(root)


class LocalPlaces:
    """An archive on this machine's file systems.

    Notes
    -----
    One ``stat`` for each registered file: a listing would not save it, because it does not give sizes here.
    """

    can_list = True

    def __init__(self, root: str) -> None:
        self._root = root

    def unreachable(self, in_use: bool) -> str:
        """Return why nothing can be said of the archive, or an empty text."""
        try:
            with os.scandir(self._root) as entries:
                # where a disk is not mounted there is an empty folder
                empty = next(entries, None) is None
                return f"{self._root} is empty: is its disk mounted?" if empty and in_use else ""
        except OSError as error:
            return str(error)

    def look(self, relpaths: Sequence[str], pool: Executor) -> list[Seen]:
        """Return what lies at each path."""
        return list(pool.map(self._look, relpaths, chunksize=64))

    def _look(self, relpath: str) -> Seen:
        path = os.path.join(self._root, relpath)
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return Seen(None, LOST, f"a link to {os.readlink(path)}" if os.path.islink(path) else "")
        except OSError as error:
            return Seen(None, UNREADABLE, error.strerror or str(error))
        if stat.S_ISREG(status.st_mode):
            return Seen(status.st_size)
        return Seen(None, LOST, "a folder" if stat.S_ISDIR(status.st_mode) else "no plain file")

    def digest(self, relpath: str, part: Part | None = None) -> Digest:
        """Read a file, or a part of it."""
        with open(os.path.join(self._root, relpath), "rb") as stream:
            return _digest(stream, part)

    def walk(self, after: str | None, without: Collection[str]) -> Iterator[Folder]:
        """Give the folders behind `after`."""
        return _walk(self._list, after, without)

    def _list(self, path: str) -> tuple[list[str], list[str]]:
        files: list[str] = []
        folders: list[str] = []
        with os.scandir(os.path.join(self._root, path)) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif not (
                    entry.is_symlink() and os.path.isdir(entry.path)
                ):  # a linked folder may lead round in circles
                    files.append(entry.name)
        return files, folders


class RemotePlaces:
    """An archive that fsspec reaches.

    Notes
    -----
    A folder of which more than one file is asked is listed, once; the last half million names are kept. A web server
    has no listings: there each file costs one question, and what is not registered cannot be found.
    """

    def __init__(self, root: str) -> None:
        import fsspec

        self._files, path = fsspec.core.url_to_fs(root, use_listings_cache=False)
        self._root = path.rstrip("/")
        self._is_web = root.partition("://")[0] in {"http", "https"}
        self.can_list = not self._is_web
        self._sizes: OrderedDict[str, dict[str, int | None]] = OrderedDict()

    def unreachable(self, in_use: bool) -> str:
        """Return why nothing can be said of the archive, or an empty text."""
        try:
            if self._is_web:
                self._files.info(f"{self._root}/")
            elif not self._files.ls(self._root, detail=False) and in_use:
                return f"{self._root} is empty"
        except FileNotFoundError as error:
            return "" if self._is_web and self._is_absent(error) else f"{self._root}: {_reason(error)}"
        except Exception as error:  # noqa: BLE001  # each file system has errors of its own
            return f"{self._root}: {_reason(error)}"
        return ""

    def look(self, relpaths: Sequence[str], pool: Executor) -> list[Seen]:
        """Return what lies at each path."""
        by_folder: dict[str, int] = {}
        for relpath in relpaths:
            folder = relpath.rpartition("/")[0]
            by_folder[folder] = by_folder.get(folder, 0) + 1
        asked = [
            folder
            for folder, count in by_folder.items()
            if self.can_list and (count >= _LISTED or folder in self._sizes)
        ]
        listed = dict(zip(asked, pool.map(self._listing, asked), strict=True))
        seen = list(pool.map(lambda relpath: self._look(relpath, listed), relpaths))
        for folder, sizes in listed.items():
            if isinstance(sizes, dict):
                self._sizes[folder] = sizes
                self._sizes.move_to_end(folder)
        while len(self._sizes) > 1 and sum(map(len, self._sizes.values())) > _KEPT_NAMES:
            self._sizes.popitem(last=False)
        return seen

    def _listing(self, folder: str) -> dict[str, int | None] | Seen:
        if folder in self._sizes:
            return self._sizes[folder]
        try:
            entries = self._files.ls(self._at(folder), detail=True)
        except FileNotFoundError:
            return Seen(None, LOST)
        except Exception as error:  # noqa: BLE001  # each file system has errors of its own
            return Seen(None, UNREADABLE, _reason(error))
        return {_name(one["name"]): one.get("size") for one in entries if one["type"] == "file"}

    def _look(self, relpath: str, listed: dict[str, dict[str, int | None] | Seen]) -> Seen:
        folder, _, name = relpath.rpartition("/")
        sizes = listed.get(folder)
        if isinstance(sizes, Seen):
            return sizes
        if sizes is not None:
            return Seen(sizes[name]) if name in sizes else Seen(None, LOST)
        try:
            info = self._files.info(self._at(relpath))
        except Exception as error:  # noqa: BLE001  # each file system has errors of its own
            return Seen(None, LOST) if self._is_absent(error) else Seen(None, UNREADABLE, _reason(error))
        return Seen(info.get("size")) if info["type"] == "file" else Seen(None, LOST, "a folder")

    def _is_absent(self, error: Exception) -> bool:
        # fsspec says FileNotFoundError of a web server that cannot be reached, too; the cause tells
        if not isinstance(error, FileNotFoundError) or not self._is_web:
            return isinstance(error, FileNotFoundError)
        cause = error.__cause__
        return cause is None or isinstance(cause, FileNotFoundError) or getattr(cause, "status", 0) in _NOT_THERE

    def digest(self, relpath: str, part: Part | None = None) -> Digest:
        """Read a file, or a part of it."""
        with self._files.open(self._at(relpath), "rb") as stream:
            return _digest(stream, part)

    def walk(self, after: str | None, without: Collection[str]) -> Iterator[Folder]:
        """Give the folders behind `after`."""
        return _walk(self._list, after, without)

    def _list(self, path: str) -> tuple[list[str], list[str]]:
        files: list[str] = []
        folders: list[str] = []
        for one in self._files.ls(self._at(path), detail=True):
            # an object store may have an object for the folder itself
            if one["name"].strip("/") != self._at(path).strip("/"):
                (folders if one["type"] == "directory" else files).append(_name(one["name"]))
        return files, folders

    def _at(self, relpath: str) -> str:
        return f"{self._root}/{relpath}" if relpath else self._root


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return str(cause) or type(cause).__name__


def _digest(stream: Any, part: Part | None) -> Digest:
    hasher = Hasher()
    left = None if part is None else part.size
    if part is not None:
        stream.seek(part.start)
    while data := stream.read(CHUNK if left is None else min(CHUNK, left)):
        hasher.update(data)
        if left is not None:
            left -= len(data)
    return hasher.digest()


def _walk(listing: Any, after: str | None, without: Collection[str]) -> Iterator[Folder]:
    reached = None if after is None else _parts(after)
    pending = [""]
    while pending:
        path = pending.pop()
        parts = _parts(path)
        if reached is not None and parts < reached[: len(parts)]:
            continue  # it was looked through with all that is below
        try:
            files, folders = listing(path)
        except Exception as error:  # noqa: BLE001  # each file system has errors of its own
            yield Folder(path, (), _reason(error))
            continue
        if reached is None or parts > reached:
            yield Folder(path, tuple(sorted(files)))
        below = [f"{path}/{name}" if path else name for name in sorted(folders, reverse=True)]
        pending += [folder for folder in below if folder not in without]


def _parts(path: str) -> tuple[str, ...]:
    return tuple(path.split("/")) if path else ()
