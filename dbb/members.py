"""Members of a tar, copied by their place in it without reading the rest. Standard library only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO

from dbb.errors import IntegrityError
from dbb.storage import CHUNK, Hasher, StageRequest, local_path, mismatch

HEADER = 512
"""Bytes before a member's data that say its name and size."""
STALE = (
    "the index of this tar no longer fits it: get the tar that was indexed, or run 'dbb refcat add --reindex' if it is"
    " that of a reference catalogue"
)
_LONGEST_NAME = 100
_LARGEST_SIZE = 8**11


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar: its path there, where its bytes begin (after decompression), and how many they are."""

    name: str
    position: int
    size: int


@dataclass(frozen=True, slots=True)
class MemberRequest(StageRequest):
    """A member of a tar to bring to this machine.

    Parameters
    ----------
    name
        What it is called in the tar.
    index
        URL of the seek index if the tar is compressed; the offset is then one after decompression.
    """

    name: str = ""
    index: str | None = None


def header_problem(block: bytes, name: str, size: int) -> str:
    """Return why `block`, the 512 bytes before some data, is no header of `size` bytes called `name`; or nothing.

    Only the last part of the name counts. Where a header cannot hold it, an extra one before it does, which is not
    looked at.
    """
    import tarfile  # every job loads this module, and few have tars

    wanted = name.rpartition("/")[2]
    try:
        found = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return f"there is no tar header where {wanted} should begin; {STALE}"
    shown = found.name.rpartition("/")[2]
    told = len(found.name) < _LONGEST_NAME and wanted.isascii()
    if not found.isreg() or (told and shown != wanted):
        return f"{shown!r} is where {wanted} should be; {STALE}"
    if found.size != size and size < _LARGEST_SIZE:
        return f"{wanted} has {found.size} bytes, indexed with {size}; {STALE}"
    return ""


def member_problem(request: MemberRequest) -> str:
    """Return what is wrong with a member of a local tar, by its header and the length of the tar; or nothing."""
    offset, size = _extent(request)
    try:
        with open(local_path(request.source), "rb", buffering=0) as stream:
            block = os.pread(stream.fileno(), HEADER, offset - HEADER)
            length = os.fstat(stream.fileno()).st_size
    except OSError as error:
        return f"{request.source} is registered but cannot be read: {error.strerror}"
    wrong = header_problem(block, request.name, size) or _too_short(length, request.name, offset, size)
    return wrong and f"{request.source}: {wrong}"


def _extent(request: StageRequest) -> tuple[int, int]:
    assert request.offset is not None
    assert request.filesize is not None
    return request.offset, request.filesize


def _too_short(length: int, name: str, offset: int, size: int) -> str:
    if offset + size <= length:
        return ""
    return f"{name.rpartition('/')[2]} would end at byte {offset + size} of {length}: it is cut off; {STALE}"


def copy_member(request: MemberRequest) -> int:
    """Copy one member of a local tar to ``request.target``, which must not exist, and return its size.

    Raises
    ------
    IntegrityError
        If the tar has another file there, or size or a checksum is another one; no target is left then.
    OSError
        If the tar cannot be read, or the target not written.

    Notes
    -----
    Bytes go from file to file inside the kernel, unless a checksum is known: then they are read once and checked.
    """
    offset, size = _extent(request)
    with open(local_path(request.source), "rb", buffering=0) as source:
        block = os.pread(source.fileno(), HEADER, offset - HEADER)
        wrong = header_problem(block, request.name, size)
        if wrong:
            raise IntegrityError(f"{request.source}: {wrong}")
        with open(request.target, "xb", buffering=0) as target:
            checked = request.md5sum is not None or request.sha256 is not None
            source.seek(offset)
            copied = 0 if checked else _copy_inside(source, target, size)
            wrong = _copy_checked(source, target, request) if checked or copied < size else ""
    if wrong:
        os.unlink(request.target)
        raise IntegrityError(f"{request.source}: {request.name.rpartition('/')[2]}: {wrong}; {STALE}")
    return size


def _copy_inside(source: BinaryIO, target: BinaryIO, size: int) -> int:
    """Copy without bringing the bytes here; return how many went, none where the file system cannot."""
    done, start = 0, source.tell()
    while done < size:
        try:
            count = os.copy_file_range(source.fileno(), target.fileno(), size - done, start + done)
        except OSError:
            break
        if not count:
            break
        done += count
    if done < size:
        target.seek(0)
        target.truncate()
    return done


def _copy_checked(source: BinaryIO, target: BinaryIO, request: StageRequest) -> str:
    hasher, left = Hasher(), request.filesize or 0
    while left and (data := source.read(min(CHUNK, left))):
        hasher.update(data)
        target.write(data)
        left -= len(data)
    return mismatch(hasher.digest(), request)
