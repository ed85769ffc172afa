"""WCL, the submit language of DESDM: read as a pipeline, and written."""

from __future__ import annotations

from dbb_plugins.wcl.plugin import dbb_read_pipeline
from dbb_plugins.wcl.reader import read_wcl
from dbb_plugins.wcl.writer import write_wcl

__all__ = ["dbb_read_pipeline", "read_wcl", "write_wcl"]
