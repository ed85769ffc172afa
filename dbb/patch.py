"""Patch names: the Butler writes ``8,6``, file names and metadata hold ``8x6``, both mean the same."""

from __future__ import annotations

import re

_NAME = re.compile(r"([0-9]{1,6})[,x]([0-9]{1,6})")


def _split(name: str) -> tuple[str, str]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no patch name: expected '8,6' or '8x6'")
    return str(int(match[1])), str(int(match[2]))


def stored_patch(name: str) -> str:
    """Return the file-safe spelling of a patch, the one that registries and archives hold.

    Raises
    ------
    ValueError
        If `name` is neither ``"8,6"`` nor ``"8x6"``.

    Examples
    --------
    >>> stored_patch("8,6"), stored_patch("8x6")
    ('8x6', '8x6')
    """
    return "x".join(_split(name))


def butler_patch(name: str) -> str:
    """Return the spelling of a patch in Butler data ids and templates.

    Raises
    ------
    ValueError
        If `name` is neither ``"8,6"`` nor ``"8x6"``.

    Examples
    --------
    >>> butler_patch("8x6"), butler_patch("8,6")
    ('8,6', '8,6')
    """
    return ",".join(_split(name))
