"""Files that are to be registered: one by one as a program meets them, and many as columns, which is how they go in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, Self, TypeVar

from dbb.registry.relpaths import join_relpath

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NewFile:
    """What is said of a file to be registered; `values` are its metadata in the order of the filetype's columns.

    `run_id` and `task_id` are the attempt and the task that made it, `corners` the fields of `dbb.sky.Corners`.
    """

    path: str
    filename: str
    compression: str
    filetype: str
    filesize: int | None
    md5sum: str | None
    sha256: str | None
    run_id: int | None
    values: tuple[object, ...]
    corners: tuple[float, ...] | None = None
    task_id: int | None = None

    @property
    def relpath(self) -> str:
        """Path below the archive's root."""
        return join_relpath(self.path, self.filename, self.compression)


@dataclass(frozen=True, slots=True)
class NewFiles:
    """Files of one filetype as columns of equal length; `corners` by place, for those that have some.

    `metadata` has a column for each of the filetype's, in that order.
    """

    filetype: str
    paths: Sequence[str]
    filenames: Sequence[str]
    compressions: Sequence[str]
    filesizes: Sequence[int | None]
    md5sums: Sequence[str | None]
    sha256s: Sequence[str | None]
    run_ids: Sequence[int | None]
    task_ids: Sequence[int | None]
    metadata: Sequence[Sequence[Any]]
    corners: Mapping[int, tuple[float, ...]]

    @classmethod
    def of(cls, files: Sequence[NewFile]) -> list[Self]:
        """Return files by filetype, in their order."""
        return [
            cls._of_one(kind, [file for file in files if file.filetype == kind])
            for kind in dict.fromkeys(file.filetype for file in files)
        ]

    @classmethod
    def _of_one(cls, filetype: str, files: Sequence[NewFile]) -> Self:
        return cls(
            filetype,
            [file.path for file in files],
            [file.filename for file in files],
            [file.compression for file in files],
            [file.filesize for file in files],
            [file.md5sum for file in files],
            [file.sha256 for file in files],
            [file.run_id for file in files],
            [file.task_id for file in files],
            list(zip(*(file.values for file in files), strict=True)),
            {n: file.corners for n, file in enumerate(files) if file.corners is not None},
        )

    def __len__(self) -> int:
        return len(self.paths)

    def keys(self) -> list[tuple[str, str, str]]:
        """Return path, filename and compression of each."""
        return list(zip(self.paths, self.filenames, self.compressions, strict=True))

    def relpath(self, n: int) -> str:
        """Return the path below the archive's root of one."""
        return join_relpath(self.paths[n], self.filenames[n], self.compressions[n])

    def chosen(self, wanted: Sequence[bool]) -> NewFiles:
        """Return the files that are wanted."""

        def some(column: Sequence[T]) -> list[T]:
            return list(compress(column, wanted))

        places = [n for n, one in enumerate(wanted) if one]
        return NewFiles(
            self.filetype,
            some(self.paths),
            some(self.filenames),
            some(self.compressions),
            some(self.filesizes),
            some(self.md5sums),
            some(self.sha256s),
            some(self.run_ids),
            some(self.task_ids),
            [some(column) for column in self.metadata],
            {new: self.corners[old] for new, old in enumerate(places) if old in self.corners},
        )
