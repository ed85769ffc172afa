"""Where the files of a module come from: programs, the registry, calibrations by date, plug-ins."""

from __future__ import annotations

from dbb.pipeline.inputs.hooks import group_lines
from dbb.pipeline.inputs.output import make_lines
from dbb.pipeline.inputs.sources import query_lines

__all__ = ["group_lines", "make_lines", "query_lines"]
