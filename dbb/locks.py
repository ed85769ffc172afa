"""Files that are locked as long as whoever wrote them is alive: a lock ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

_LOOKS, _BETWEEN_LOOKS = 5, 0.05


def hold(file: int) -> None:
    """Lock an open file until all processes have closed it that have it open from here.

    A file system without locks is no error: then nobody can tell.
    """
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_SH)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Lock a file inside the block."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        hold(file)
        yield
    finally:
        os.close(file)


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Lock a file for this process alone inside the block; give whether that went.

    A file system without locks gives True: then nobody can tell.
    """
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield _claim(file)
    finally:
        os.close(file)


def _claim(file: int) -> bool:
    for _ in range(_LOOKS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # perhaps by somebody who is just looking whether it is locked
            time.sleep(_BETWEEN_LOOKS)
        except OSError:
            return True
        else:
            return True
    return False


def is_held(path: Path) -> bool:
    """Whether a file is there and some process holds it."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(file)
    return False
