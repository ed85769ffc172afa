"""A camera to start from: copy ``generic.toml``, change what differs and give it to ``--mapper``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dbb.hookspecs import hookimpl
from dbb.mapper import Mapper

__all__ = ["dbb_mappers"]


@hookimpl
def dbb_mappers() -> Sequence[Mapper]:
    """Add the camera ``generic``."""
    return [Mapper("generic", Path(__file__).parent / "generic.toml")]
