"""The events of a job: one JSON object per line, appended as things happen, and read while the job still writes."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dbb.errors import ConflictError, DbbError, IntegrityError
from dbb.locks import hold

Event = dict[str, Any]


class EventLog:
    """Appends events to a file that only this process writes.

    An event is one line, written with one call and thus seen by readers, and kept if this process is killed, as soon as
    `append` returns. Its time ``t`` never goes back, even if the machine's clock does. Threads may share a log.

    Parameters
    ----------
    path
        The file, which must not exist.
    job
        The job's name, which every event carries.

    Raises
    ------
    ConflictError
        If the file exists: it is the record of another try.
    """

    def __init__(self, path: Path, job: str) -> None:
        self._path, self._job = path, job
        self._lock = threading.Lock()
        self._last = 0.0
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            raise ConflictError(f"{path} is the record of another try: number this one differently") from None
        except OSError as error:
            raise DbbError(f"{path} cannot be written: {error.strerror}") from error
        hold(self._file)  # by which others see that this job is alive

    def append(self, step: int | None, /, **fields: object) -> None:
        """Write one event of a step, or of the job itself (None).

        Raises
        ------
        DbbError
            If it cannot be written.
        """
        with self._lock:
            self._last = max(self._last, time.time())
            event = {"t": self._last, "job": self._job, "step": step, **fields}
            data = json.dumps(event, separators=(",", ":"), default=str).encode() + b"\n"
            try:
                while data:  # the loop is for a disk that is nearly full
                    data = data[os.write(self._file, data) :]
            except OSError as error:
                raise DbbError(f"{self._path} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Make sure that all is on disk, and close the file."""
        try:
            os.fsync(self._file)
        except OSError as error:
            raise DbbError(f"{self._path} cannot be written: {error.strerror}") from error
        finally:
            os.close(self._file)

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[int, Event]]:
    """Give the events of a file from a byte on, each with the offset behind it, at which reading can go on.

    The last line is left out as long as it does not end: its writer is not done, or was killed.

    Raises
    ------
    IntegrityError
        If a line that ends is no event.
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as stream:
        stream.seek(offset)
        for line in stream:
            if not line.endswith(b"\n"):
                return
            start, offset = offset, offset + len(line)
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                event = None
            if not isinstance(event, dict):
                raise IntegrityError(f"{path}: what begins at byte {start} is no event: {line[:80]!r}")
            yield offset, event
