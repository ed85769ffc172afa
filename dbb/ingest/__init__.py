"""Getting facts in: files, tables of files, calibrations, overlaps."""

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
