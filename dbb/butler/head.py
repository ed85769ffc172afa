"""What is said of a whole job repository: before it is made, and when it is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dbb.butler.layout import Layout

Entry = Mapping[str, Any]
Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Head:
    """What holds for a whole repository; the first part of its manifest."""

    mapper: str
    era: str
    stage: str
    created: str
    dbb: str
    layout: Layout
    outputs: Sequence[Entry] = ()

    def as_dict(self, schema: int) -> dict[str, Any]:
        """Return the form that a manifest carries."""
        return {
            "schema": schema,
            "dbb": self.dbb,
            "mapper": self.mapper,
            "era": self.era,
            "stage": self.stage,
            "created": self.created,
            "butler": self.layout.as_dict(),
            "outputs": list(self.outputs),
        }


@dataclass(frozen=True, slots=True)
class RepoReport:
    """What a job repository holds.

    Parameters
    ----------
    root
        The job's folder.
    inputs, calibs, files, exposures
        How many of each; inputs that both eras name differently count once per name.
    staged
        How many files were symlinked, copied and so on.
    copied
        Bytes copied.
    dry_run
        Whether nothing was written.
    refcats
        How many files of reference catalogues.
    overlaps
        How tract and patch of exposures were found, e.g. ``"survey (table)"``; None if nobody asked.
    """

    root: str
    inputs: int
    calibs: int
    files: int
    exposures: int
    staged: Mapping[str, int] = field(default_factory=dict)
    copied: int = 0
    dry_run: bool = False
    refcats: int = 0
    overlaps: str | None = None
