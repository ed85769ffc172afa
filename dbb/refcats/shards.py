"""The files of a reference catalogue by their names: shards of HTM trixels, and what belongs to the whole."""

from __future__ import annotations

import re
from collections.abc import Iterable

from dbb.errors import IntegrityError, UsageError

GENERAL = ("config.py", "master_schema.fits")
README = "README"
"""Files that begin so go with every job, as those of `GENERAL` do."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_SHARD = re.compile(r"([1-9][0-9]*)\.fits")
_DEEPEST = 20


def check_name(name: str) -> str:
    """Return the name of a catalogue if it can be the name of a folder.

    Raises
    ------
    UsageError
        If it cannot.
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(f"{name[:60]!r} is no name of a reference catalogue: use letters, digits and _ . + -")
    return name


def shard_name(trixel: int) -> str:
    """Return the file of a trixel."""
    return f"{trixel}.fits"


def shard_trixel(name: str) -> int | None:
    """Return the trixel of a file, or None if it is no shard."""
    found = _SHARD.fullmatch(name)
    return int(found[1]) if found else None


def shard_depth(names: Iterable[str], where: str) -> int:
    """Return the HTM depth that the shards among `names` have.

    Raises
    ------
    IntegrityError
        If there is none, if a number belongs to no depth, or if there are several depths.
    """
    depths: dict[int, str] = {}
    for name in names:
        trixel = shard_trixel(name)
        if trixel is not None:
            depth = _depth(trixel)
            if depth is None:
                raise IntegrityError(f"{where}: {name} is not called after an HTM trixel of depth 0 to {_DEEPEST}")
            depths.setdefault(depth, name)
    if len(depths) > 1:
        (one, first), (other, second), *_ = depths.items()
        raise IntegrityError(f"{where}: {first} has depth {one}, {second} depth {other}: a catalogue has one")
    if not depths:
        raise IntegrityError(f"{where}: it holds no shard, i.e. no file such as 189584.fits")
    return next(iter(depths))


def _depth(trixel: int) -> int | None:
    """Return the depth: that of trixel 8 is 0, and each depth has two bits more."""
    depth, odd = divmod(trixel.bit_length() - 4, 2)
    return depth if not odd and 0 <= depth <= _DEEPEST else None
