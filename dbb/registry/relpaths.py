"""A path below an archive's root, and the three columns that DESDM keeps it in: path, filename, compression."""

from __future__ import annotations

from dbb.patterns import safe_path

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
    for suffix in COMPRESSIONS:
        if name.endswith(suffix) and name != suffix:
            return path or HERE, name[: -len(suffix)], suffix
    return path or HERE, name, ""


def join_relpath(path: str, filename: str, compression: str) -> str:
    """Return the path below the archive's root; the inverse of `split_relpath`."""
    return f"{filename}{compression}" if path == HERE else f"{path}/{filename}{compression}"
