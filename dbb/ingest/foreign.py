"""SQLite files that others made: read as they are, without a trace in them or beside them."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from dbb.errors import IntegrityError

_LOGS = ("-wal", "-journal")


@contextmanager
def open_foreign(path: Path) -> Iterator[sqlite3.Connection]:
    """Open an SQLite file to read it.

    Raises
    ------
    IntegrityError
        If it is no regular file (SQLite would wait for somebody to write into a pipe), cannot be read, or is being
        written.
    sqlite3.Error
        From whatever is done with the connection, if it is no SQLite file.

    Notes
    -----
    What a log beside it holds counts. SQLite would write there to look into one, so file and log are copied then.
    """
    with ExitStack() as stack:
        try:
            if not path.is_file():
                raise IntegrityError(f"{path} is no regular file, so it cannot be an SQLite file")
            place = path.resolve()
            logs = [log for end in _LOGS if (log := place.with_name(place.name + end)).is_file() and log.stat().st_size]
            if logs:
                place = _copied(place, logs, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dbb-"))))
        except OSError as error:
            raise IntegrityError(f"{path} cannot be read: {error.strerror}") from error
        # immutable: a file on a read-only disk cannot get the files that SQLite would put beside it
        options = "mode=rw" if logs else "mode=ro&immutable=1"
        yield stack.enter_context(closing(sqlite3.connect(f"file:{quote(str(place))}?{options}", uri=True)))


def _copied(file: Path, logs: list[Path], folder: Path) -> Path:
    both = [file, *logs]
    before = [(one.stat().st_size, one.stat().st_mtime_ns) for one in both]
    for one in both:
        shutil.copyfile(one, folder / one.name)
    if [(one.stat().st_size, one.stat().st_mtime_ns) for one in both] != before:
        raise IntegrityError(f"{file} is being written: repeat this when that is done")
    return folder / file.name
