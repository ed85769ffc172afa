"""The hook by which dbb reads WCL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dbb.hookspecs import hookimpl
from dbb.pipeline.model import Pipeline
from dbb_plugins.wcl.reader import read_wcl

SUFFIXES = (".wcl", ".des")


@hookimpl
def dbb_read_pipeline(path: Path, settings: Mapping[str, str]) -> Pipeline | None:
    """Read files whose name ends in ``.wcl`` or ``.des``."""
    return read_wcl(path, settings) if path.suffix.lower() in SUFFIXES else None
