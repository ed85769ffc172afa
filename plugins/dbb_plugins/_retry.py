"""When a transfer that failed is worth another try, and how long to wait before it."""

from __future__ import annotations

import errno
import random

from dbb.errors import DbbError, IntegrityError

TRIES = 3
_PAUSE = 0.2  # seconds before the second try, four times that before the third
_FINAL = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ImportError,
    NotImplementedError,
    TypeError,
    ValueError,
)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG}
_BUSY = {408, 425, 429}  # the only refusals of a web server that pass by themselves


class StoppedError(Exception):
    """The transfer was told to stop."""


class ShortError(IntegrityError):
    """Too few or too many bytes came: perhaps the connection broke unnoticed."""


def most_tries(error: Exception) -> int:
    """Return how many tries an error of this kind is worth."""
    if isinstance(error, ShortError):
        return 2
    status = getattr(error, "status", None)
    refused = isinstance(status, int) and 400 <= status < 500 and status not in _BUSY
    final = isinstance(error, (*_FINAL, DbbError, StoppedError))
    full = isinstance(error, OSError) and error.errno in _FULL
    return 1 if refused or final or full else TRIES


def pause_after(attempt: int) -> float:
    """Return the seconds to wait after the first, second, … try."""
    jitter = random.uniform(0.5, 1.5)  # noqa: S311  # only to spread the load
    return float(_PAUSE * 4 ** (attempt - 1) * jitter)
