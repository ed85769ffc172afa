"""The Dark Energy Camera: the camera as data (``mapper.toml``, ``filetypes.toml``), header rules included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dbb.hookspecs import hookimpl
from dbb.mapper import Mapper

__all__ = ["dbb_mappers"]


@hookimpl
def dbb_mappers() -> Sequence[Mapper]:
    """Add the camera ``decam``."""
    return [Mapper("decam", Path(__file__).parent)]
