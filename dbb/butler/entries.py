"""What takes the entries of a job repository: one that makes it at once, or one that only notes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dbb.butler.head import Entry, Head
from dbb.butler.manifest import SCHEMA
from dbb.errors import AmbiguousError
from dbb.patterns import safe_path


class Entries(Protocol):
    """Takes the parts of one repository; see `dbb.butler.build.JobBuilder`."""

    def has(self, path: str) -> bool:
        """Whether something is at `path` already."""

    def add(self, array: str, entry: Entry) -> None:
        """Take an entry of ``inputs``, ``calibs`` or ``files``."""

    def add_refcat(self, entry: Entry) -> None:
        """Take an entry of ``refcats``."""

    def add_exposure(self, row: Sequence[object]) -> None:
        """Take an exposure, values in the order of the layout's columns."""


class CollectedEntries:
    """Notes entries, for a manifest in memory."""

    def __init__(self) -> None:
        self._arrays: dict[str, list[Entry]] = {"inputs": [], "calibs": [], "files": [], "refcats": []}
        self._exposures: list[Sequence[object]] = []
        self._paths: set[str] = set()

    def has(self, path: str) -> bool:
        """Whether something is at `path` already."""
        return path in self._paths

    def add(self, array: str, entry: Entry) -> None:
        """Note an entry.

        Raises
        ------
        AmbiguousError
            If something else is at its path.
        """
        self._claim(entry)
        self._arrays[array].append(entry)

    def add_refcat(self, entry: Entry) -> None:
        """Note a reference catalogue."""
        for member in entry["members"]:
            self._claim(member)
        self._arrays["refcats"].append(entry)

    def add_exposure(self, row: Sequence[object]) -> None:
        """Note an exposure."""
        self._exposures.append(tuple(row))

    def manifest(self, head: Head) -> dict[str, Any]:
        """Return the manifest of all that was noted."""
        columns = list(head.layout.raw)
        exposures = [dict(zip(columns, row, strict=False)) for row in self._exposures]
        return {**head.as_dict(SCHEMA), **self._arrays, "exposures": exposures}

    def _claim(self, entry: Mapping[str, Any]) -> None:
        path = safe_path(entry["path"])
        if path in self._paths:
            raise AmbiguousError(f"two files want to be {path}; the second is {entry['source']}")
        self._paths.add(path)
