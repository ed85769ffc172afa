"""Making a tarball of a reference catalogue: uncompressed, in a fixed order, the same bytes for the same files."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import BinaryIO

from dbb.errors import ConflictError, DbbError, NotFoundError, UnsafePathError, UsageError
from dbb.patterns import safe_path
from dbb.refcats.shards import GENERAL, README, shard_depth, shard_trixel
from dbb.refcats.tarindex import read_members
from dbb.storage import digest_file, scratch_folder


def pack_folder(folder: Path, tarball: Path, *, dry_run: bool = False) -> int:
    """Pack the files of a reference catalogue and return how many they are.

    Parameters
    ----------
    folder
        Holds ``config.py``, ``master_schema.fits`` and shards such as ``189584.fits``; no folders and no links.
    tarball
        The tar to write; appears whole or not at all.
    dry_run
        Look and write nothing.

    Raises
    ------
    NotFoundError
        If there is no such folder.
    UnsafePathError
        If something in it is no regular file or has an unusable name.
    IntegrityError
        If it holds no shard, or shards of several depths.
    UsageError
        If the name of `tarball` does not end in ``.tar``, or it is a folder or would lie in `folder`.
    ConflictError
        If `tarball` exists with other bytes.
    DbbError
        If something cannot be read or written.

    Notes
    -----
    Times, owners and permissions are left out, so that equal files give equal tars.
    """
    if not folder.is_dir():
        raise NotFoundError("folder", str(folder), hint="There is no such folder")
    with os.scandir(folder) as entries:
        names = sorted((_checked(entry) for entry in entries), key=_order)
    shard_depth(names, str(folder))
    target = _target(tarball, folder)
    if dry_run:
        return len(names)
    try:
        with scratch_folder(target) as scratch:
            made = scratch / "tar"
            with made.open("xb") as stream:
                _write(stream, folder, names)
            with made.open("rb") as stream:
                read_members(stream, str(folder))  # what a registry would refuse is not made
            _publish(made, target)
    except OSError as error:
        raise DbbError(f"{error.filename or target}: {error.strerror}; nothing was made of {tarball}") from error
    return len(names)


def _target(tarball: Path, folder: Path) -> Path:
    target = Path(os.path.realpath(tarball))
    if not target.name.endswith(".tar"):
        raise UsageError(f"{tarball}: a tar of a catalogue is uncompressed: give it a name that ends in .tar")
    if target.is_dir():
        raise UsageError(f"{tarball} is a folder: name the tar to make in it")
    if not target.parent.is_dir():
        raise NotFoundError("folder", str(target.parent), hint="Make it first")
    if target.parent == Path(os.path.realpath(folder)):
        raise UsageError(f"{tarball} would lie in the folder that is packed: put it elsewhere")
    return target


def _checked(entry: os.DirEntry[str]) -> str:
    if not entry.is_file(follow_symlinks=False):
        what = "a symbolic link" if entry.is_symlink() else "a folder" if entry.is_dir() else "no regular file"
        raise UnsafePathError(f"{entry.path} is {what}: a reference catalogue is a flat folder of files")
    return safe_path(entry.name, f"{entry.path}: name")


def _order(name: str) -> tuple[int, int, str]:
    first = GENERAL.index(name) if name in GENERAL else 2 if name.startswith(README) else 3
    return first, shard_trixel(name) or 0, name


def _write(stream: BinaryIO, folder: Path, names: list[str]) -> None:
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in names:
            with (folder / name).open("rb") as source:
                info = tarfile.TarInfo(name)
                info.size, info.mode = os.fstat(source.fileno()).st_size, 0o644
                tar.addfile(info, source)


def _publish(made: Path, target: Path) -> None:
    try:
        os.link(made, target)
    except FileExistsError:
        if digest_file(target) != digest_file(made):
            raise ConflictError(
                f"{target} exists with other contents: choose another name or remove it first"
            ) from None
    except OSError:  # a file system without hard links
        if target.exists():
            raise ConflictError(f"{target} exists: choose another name or remove it first") from None
        made.rename(target)
