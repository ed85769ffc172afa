"""Gzip-compressed tars through indexed-gzip: a seek index made once, and members read with it."""

from __future__ import annotations

import io
import os
import tarfile
from contextlib import closing
from typing import IO, Any

from dbb.errors import DbbError, IntegrityError
from dbb.members import HEADER, STALE, Member, MemberRequest, header_problem
from dbb.refcats.tarindex import read_members
from dbb.refcats.tars import open_url
from dbb.storage import CHUNK, Hasher, StageRequest, mismatch

HARMLESS = 256 << 20
"""So many bytes may come out of any archive, however small it is."""
MOST_RATIO = 100
"""Beyond that, so many times what it has: catalogues of floating-point numbers hardly reach 3."""


def _indexed_gzip() -> Any:
    try:
        import indexed_gzip
    except ImportError as error:
        raise DbbError(
            "a gzip-compressed tar needs indexed-gzip: run pip install 'mini-dbb[gzip]', or repack it with"
            " 'dbb refcat pack'"
        ) from error
    return indexed_gzip


def index_gzip(stream: IO[bytes], name: str) -> tuple[list[Member], bytes]:
    """Return the members of a compressed tar and its seek index, in one pass.

    Raises
    ------
    UnsafePathError, IntegrityError
        If the tar is refused (see `dbb.refcats.tarindex.read_members`), or unpacks to far more than it has.
    DbbError
        If indexed-gzip is not installed.

    Notes
    -----
    Everything is decompressed once, about 200 MB a second; the index takes 8 MB for each GB.
    """
    compressed = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    with closing(_indexed_gzip().IndexedGzipFile(fileobj=stream)) as file:
        members = read_members(_Limited(file, max(HARMLESS, MOST_RATIO * compressed)), name)  # type: ignore[arg-type]  # all that is used
        index = io.BytesIO()
        file.export_index(fileobj=index)
    return members, index.getvalue()


class _Limited:
    """Does not go further in a stream than an honest archive would."""

    def __init__(self, stream: Any, limit: int) -> None:
        self._stream, self._limit = stream, limit

    def read(self, count: int) -> bytes:
        data: bytes = self._stream.read(count)
        return data

    def tell(self) -> int:
        return int(self._stream.tell())

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset > self._limit:
            raise tarfile.ReadError(f"it unpacks to more than {self._limit} bytes: refused as a bomb")
        return int(self._stream.seek(offset, whence))


class GzipTars:
    """Copies members of compressed tars; each is opened, and its seek index read, once. Close it at the end."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[IO[bytes], Any]] = {}

    def copy(self, request: MemberRequest) -> int:
        """Copy a member to ``request.target``, which must not exist, and return its size.

        Raises
        ------
        IntegrityError
            If tar or index cannot be read, or do not fit; no target is left then.
        DbbError
            If indexed-gzip is not installed.
        """
        assert request.offset is not None
        try:
            file = self._file(request.source, request.index or "")
            file.seek(request.offset - HEADER)
            wrong = header_problem(file.read(HEADER), request.name, request.filesize or 0)
            if not wrong:
                wrong = self._write(file, request)
        except (FileNotFoundError, PermissionError) as error:
            raise IntegrityError(f"{error.filename or request.source} cannot be read: {error.strerror}") from error
        except _indexed_gzip().ZranError as error:
            raise IntegrityError(f"{request.source}: {error}; {STALE}") from error
        if wrong:
            raise IntegrityError(f"{request.source}: {wrong}")
        return request.filesize or 0

    def _file(self, source: str, index: str) -> Any:
        if source not in self._open:
            gzip = _indexed_gzip()
            stream = open_url(source)
            file = gzip.IndexedGzipFile(fileobj=stream)
            self._open[source] = (stream, file)
            with closing(open_url(index)) as kept:
                file.import_index(fileobj=io.BytesIO(kept.read()))
        return self._open[source][1]

    @staticmethod
    def _write(file: Any, request: StageRequest) -> str:
        hasher, left = Hasher(), request.filesize or 0
        with open(request.target, "xb") as target:  # noqa: PTH123  # a path given as text
            while left and (data := file.read(min(CHUNK, left))):
                hasher.update(data)
                target.write(data)
                left -= len(data)
        wrong = mismatch(hasher.digest(), request)
        if wrong:
            os.unlink(request.target)  # noqa: PTH108  # a path given as text
            return f"{wrong}; {STALE}"
        return ""

    def close(self) -> None:
        """Let go of the tars."""
        for stream, file in self._open.values():
            file.close()
            stream.close()
        self._open.clear()
