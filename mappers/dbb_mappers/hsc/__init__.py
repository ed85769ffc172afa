"""Hyper Suprime-Cam: the camera as data (``mapper.toml``, ``filetypes.toml``) and what its raw headers mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dbb.hookspecs import hookimpl
from dbb.jobs.messages import MessagePattern, load_patterns
from dbb.mapper import Mapper
from dbb_mappers.hsc.headers import derive, translate

__all__ = ["dbb_mappers", "dbb_message_patterns", "dbb_translate_header"]

_RAW = "hsc_raw"


@hookimpl
def dbb_mappers() -> Sequence[Mapper]:
    """Add the camera ``hsc``."""
    return [Mapper("hsc", Path(__file__).parent, translate, derive)]


@hookimpl
def dbb_translate_header(header: Mapping[str, object], filetype: str) -> dict[str, object] | None:
    """Translate the header of an HSC raw; other filetypes are passed on."""
    return translate(header) if filetype == _RAW else None


@hookimpl
def dbb_message_patterns() -> Sequence[MessagePattern]:
    """Add what programs of the LSST stack print when something is wrong."""
    return load_patterns(Path(__file__).parent / "messages.toml")
