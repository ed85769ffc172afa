"""Getting facts in: files, tables of files, calibrations, overlaps.

The names are given out on first use: a job that only reads the registry must not pay for them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbb.ingest.calibs import certify_registry, certify_table
    from dbb.ingest.files import ingest_files
    from dbb.ingest.overlaps import (
        compute_overlaps,
        load_blacklist,
        load_overlap_table,
        load_visit_tags,
        register_live_overlaps,
    )
    from dbb.ingest.packed import ingest_packed
    from dbb.ingest.refcats import add_refcat, list_refcats
    from dbb.ingest.table import ingest_table

__all__ = [
    "add_refcat",
    "certify_registry",
    "certify_table",
    "compute_overlaps",
    "ingest_files",
    "ingest_packed",
    "ingest_table",
    "list_refcats",
    "load_blacklist",
    "load_overlap_table",
    "load_visit_tags",
    "register_live_overlaps",
]

_HOMES = {
    "add_refcat": "refcats",
    "certify_registry": "calibs",
    "certify_table": "calibs",
    "compute_overlaps": "overlaps",
    "ingest_files": "files",
    "ingest_packed": "packed",
    "ingest_table": "table",
    "list_refcats": "refcats",
    "load_blacklist": "overlaps",
    "load_overlap_table": "overlaps",
    "load_visit_tags": "overlaps",
    "register_live_overlaps": "overlaps",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
