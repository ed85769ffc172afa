"""The junk tarball: what a job leaves behind and nobody declared, for whoever wants to know why it failed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from dbb.storage import new_file


def junk_of(work: Path, known: Collection[str]) -> list[str]:
    """Return the paths of files in the work folder that are not known, in order; links do not count."""
    top = os.path.realpath(work)
    there = {os.path.realpath(f"{top}/{path}") for path in known}  # a known path may lead through links of folders
    return sorted(path for path in files_of(work) if f"{top}/{path}" not in there)


def files_of(folder: Path) -> Iterator[str]:
    """Give the paths of all regular files below a folder, relative to it."""
    top = str(folder)
    for place, _, names in os.walk(top):
        for name in names:
            path = f"{place}/{name}"
            if os.path.isfile(path) and not os.path.islink(path):  # noqa: PTH113, PTH114  # many files: os.path is faster
                yield path[len(top) + 1 :]


def pack_junk(work: Path, paths: Collection[str], target: Path) -> None:
    """Write files into a compressed tar, which appears whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    import tarfile  # few jobs leave junk

    with new_file(target) as stream, tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for path in paths:
            tar.add(work / path, path, recursive=False)
