"""Getting facts in: files, tables of files, calibrations, overlaps.

The names are given out on first use: a job that only reads the registry must not pay for them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbb.ingest.calibs import certify_registry, certify_table
    from dbb.ingest.files import ingest_files
    from dbb.ingest.overlaps import load_blacklist, load_overlap_table, load_visit_tags
    from dbb.ingest.table import ingest_table

__all__ = [
    "certify_registry",
    "certify_table",
    "ingest_files",
    "ingest_table",
    "load_blacklist",
    "load_overlap_table",
    "load_visit_tags",
]

_HOMES = {
    "certify_registry": "calibs",
    "certify_table": "calibs",
    "ingest_files": "files",
    "ingest_table": "table",
    "load_blacklist": "overlaps",
    "load_overlap_table": "overlaps",
    "load_visit_tags": "overlaps",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
