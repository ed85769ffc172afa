"""A path below an archive's root, and the three columns that DESDM keeps it in: path, filename, compression."""

from __future__ import annotations

from collections.abc import Sequence

from dbb.patterns import are_safe_paths, safe_path

COMPRESSIONS = (".fz", ".gz")
HERE = "."
"""The ``path`` of a file that lies in the archive's root: never empty, so that path/filename stays relative."""


def split_relpath(relpath: str, compression: str | None = None) -> tuple[str, str, str]:
    """Split a path below an archive's root into DESDM's path, filename and compression.

    Parameters
    ----------
    relpath
        With or without the compression's suffix if `compression` is given.
    compression
        ``.fz``, ``.gz`` or none; read off `relpath` if it is not given.

    Raises
    ------
    UnsafePathError
        If `relpath` leaves its root or holds characters that the Butler globs.

    Examples
    --------
    >>> split_relpath("corr/CORR-0903334-016.fits.fz")
    ('corr', 'CORR-0903334-016.fits', '.fz')
    """
    path, _, name = safe_path(relpath, "relpath").rpartition("/")
    if compression:
        suffix = compression if compression.startswith(".") else f".{compression}"
        return path or HERE, name.removesuffix(suffix), suffix
    return path or HERE, *_split_name(name)


def _split_name(name: str) -> tuple[str, str]:
    for suffix in COMPRESSIONS:
        if name.endswith(suffix) and name != suffix:
            return name[: -len(suffix)], suffix
    return name, ""


def split_relpaths(relpaths: Sequence[str]) -> tuple[list[str], list[str], list[str]] | None:
    """Return many paths as three columns, as `split_relpath` splits one; None if one of them is unsafe."""
    if not are_safe_paths(relpaths):
        return None
    parts = [relpath.rpartition("/") for relpath in relpaths]
    paths, names = [path or HERE for path, _, _ in parts], [name for _, _, name in parts]
    if not any(name.endswith(COMPRESSIONS) for name in names):
        return paths, names, [""] * len(names)
    split = [_split_name(name) for name in names]
    return paths, [name for name, _ in split], [suffix for _, suffix in split]


def join_relpath(path: str, filename: str, compression: str) -> str:
    """Return the path below the archive's root; the inverse of `split_relpath`."""
    return f"{filename}{compression}" if path == HERE else f"{path}/{filename}{compression}"
