"""Tars by URL, plain or gzip-compressed: what is in one, found once and kept."""

from __future__ import annotations

from contextlib import closing
from typing import IO, cast

from dbb.errors import IntegrityError, UsageError
from dbb.members import Member
from dbb.refcats.tarindex import read_members
from dbb.storage import is_local, local_path

SIDECAR = ".gzidx"
"""What follows the name of a compressed tar in that of its seek index, which lies beside it."""
_GZIP, _BLOCK = b"\x1f\x8b", 1 << 20
_OTHERS = {b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


def index_tar(url: str) -> tuple[list[Member], bytes | None]:
    """Return the members of a tar, and its seek index if it is gzip-compressed.

    Raises
    ------
    UnsafePathError, IntegrityError
        If the tar is refused; see `dbb.refcats.tarindex.read_members`.
    UsageError
        If it is compressed in another way.
    DbbError
        If it is gzip-compressed and indexed-gzip is not installed.
    """
    try:
        with closing(open_url(url)) as stream:
            first = stream.read(6)
            other = next((how for magic, how in _OTHERS.items() if first.startswith(magic)), None)
            if other is not None:
                raise UsageError(
                    f"{url} is compressed by {other}: unpack it and run 'dbb refcat pack', which stores as is"
                )
            if not first.startswith(_GZIP):
                return read_members(stream, url), None
            from dbb.refcats.gz import index_gzip

            return index_gzip(stream, url)
    except OSError as error:
        raise IntegrityError(f"{url} cannot be read: {error.strerror or error}") from error


def open_url(url: str) -> IO[bytes]:
    """Open a file, here or elsewhere, to be read in pieces; the caller closes it."""
    if is_local(url):
        return open(local_path(url), "rb")  # noqa: PTH123  # a path given as text; closed by the caller
    import fsspec

    files, path = fsspec.core.url_to_fs(url)
    return cast("IO[bytes]", files.open(path, "rb", block_size=_BLOCK))


def is_compressed(name: str) -> bool:
    """Whether a tar of this name is gzip-compressed.

    Examples
    --------
    >>> [is_compressed(name) for name in ("ps1.tar", "ps1.tar.gz", "ps1.tgz")]
    [False, True, True]
    """
    return name.endswith((".gz", ".tgz"))
