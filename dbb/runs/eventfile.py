"""Event files as a merge reads them: who wrote one, and its whole lines from a byte on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from dbb.errors import IntegrityError, NotFoundError
from dbb.registry.runs import Run

PATTERN = "events.*.jsonl"
_LONGEST_HEAD = 1 << 24
Event = dict[str, Any]
_decode = json.JSONDecoder().decode  # without the guess at an encoding, which takes as long


@dataclass(frozen=True, slots=True)
class Head:
    """What the first line of an event file says.

    Parameters
    ----------
    path
        Where it was found.
    id
        Its identity, wherever it lies.
    job, run, trynum
        Whose events they are, and of which try at the job.
    event
        The whole line.
    """

    path: Path
    id: str
    job: str
    run: Run
    trynum: int
    event: Event


@dataclass(slots=True)
class Chunk:
    """Some whole lines of an event file, in order, each with the offset behind it; None for a line that is no event."""

    head: Head
    start: int
    events: list[tuple[int, Event | None]]


def find_event_files(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Give the event files among `paths` and below the folders among them, in order of names.

    What lies below a folder with event files is a job's own, and is not looked into.

    Raises
    ------
    NotFoundError
        If a path is not there.
    """
    for given in map(Path, paths):
        if given.is_file():
            yield given
        elif not given.is_dir():
            raise NotFoundError("folder", str(given), hint="Give folders that hold event files, or such files")
        for folder, inner, names in os.walk(given):
            there = sorted(name for name in names if fnmatchcase(name, PATTERN))
            inner[:] = [] if there else sorted(inner)
            yield from (Path(folder, name) for name in there)


def read_head(path: Path) -> Head | None:
    """Read the first line of an event file; None as long as it does not end.

    Raises
    ------
    IntegrityError
        If it does not say whose events follow.
    OSError
        If the file cannot be read.
    """
    if not path.is_file():  # a pipe would keep us waiting
        raise IntegrityError("it is no file")
    with path.open("rb") as stream:
        line = stream.readline(_LONGEST_HEAD)
    if not line.endswith(b"\n"):
        return None
    event = _parse(line)
    try:
        assert event is not None
        said = event["run"]
        run = Run(str(said["unitname"]), int(said["reqnum"]), int(said["attnum"]))
        number = int(event["try"])
        assert 0 <= number < 2**31
        return Head(path, str(event["log"]), str(event["job"]), run, number, event)
    except (AssertionError, KeyError, TypeError, ValueError, OverflowError):
        raise IntegrityError(f"its first line does not say whose events follow: {line[:80]!r}") from None


def read_chunk(head: Head, start: int, most: int) -> Chunk:
    """Read at most so many whole lines from a byte on; a last line that does not end yet is left for later.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    chunk = Chunk(head, start, [])
    end = start
    with head.path.open("rb") as stream:
        stream.seek(start)
        for line in stream:
            if not line.endswith(b"\n") or len(chunk.events) == most:
                break
            end += len(line)
            chunk.events.append((end, _parse(line)))
    return chunk


def _parse(line: bytes) -> Event | None:
    try:
        event = _decode(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict):
        return None
    # what databases cannot hold: NUL, and halves of surrogate pairs, which stand for bytes of names that are no UTF-8
    return _clean(event) if b"\\u0000" in line or b"\\ud" in line or b"\\uD" in line else event


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(inner) for key, inner in value.items()}
    return [_clean(inner) for inner in value] if isinstance(value, list) else value
