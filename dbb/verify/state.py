"""What a verification has found out so far, in memory and in a file from which a killed one goes on."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from dbb.errors import ConflictError, UsageError

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an archive.

    Parameters
    ----------
    archive, relpath
        Where; the path is empty if the whole archive is meant.
    problem
        ``lost``, ``dark``, ``wrong size``, ``wrong checksum``, ``unreadable`` or ``unreachable``.
    expected, found
        What the registry says and what is there.
    repair
        What repair does about it, or why nothing; empty where it was not asked for.
    repaired
        Whether the registry and the archive agree now.
    """

    archive: str
    relpath: str
    problem: str
    expected: str = ""
    found: str = ""
    repair: str = ""
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found out by a verification or a part of one.

    Parameters
    ----------
    problems
        In the order of the registry, then of the archive's folders.
    checked
        Number of registered files that were looked at.
    read
        Bytes read for checksums.
    unfilled
        Number of intact files of which the registry lacks something that was found out (size, with checksums md5 or
        sha256).
    filled
        How many of them were filled.
    unread
        Members of compressed tars: their bytes were not read, only their tar's.
    unlisted
        Archives that were not searched for what nobody registered: a web server cannot be listed.
    """

    problems: tuple[Problem, ...] = ()
    checked: int = 0
    read: int = 0
    unfilled: int = 0
    filled: int = 0
    unread: int = 0
    unlisted: int = 0


class Progress:
    """Where a verification is: what it found, and how far it came in each step of each archive.

    Parameters
    ----------
    stream
        Where each step forward is written, or None.
    """

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream
        self._problems: list[Problem] = []
        self._counts = dict.fromkeys(("checked", "read", "unfilled", "filled", "unread", "unlisted"), 0)
        self._reached: dict[tuple[str, str], Any] = {}
        self._done: set[tuple[str, str]] = set()

    @property
    def findings(self) -> Findings:
        """All findings so far."""
        return Findings(tuple(self._problems), **self._counts)

    @property
    def checked(self) -> int:
        """Number of registered files looked at so far."""
        return self._counts["checked"]

    def reached(self, archive: str, step: str) -> Any:
        """Return where a step of an archive goes on; None at its beginning."""
        return self._reached.get((archive, step))

    def is_done(self, archive: str, step: str) -> bool:
        """Whether nothing is left of a step."""
        return (archive, step) in self._done

    def note(self, problem: Problem) -> None:
        """Keep a problem that need not hold when the verification goes on."""
        self._problems.append(problem)

    def add(self, archive: str, step: str, reached: Any, found: Findings) -> None:
        """Note what a piece of a step found; it ends at `reached`, or is the last one if that is None."""
        line = {"archive": archive, "step": step, "reached": reached, **asdict(found)}
        self.take(line)
        if self._stream is not None:
            self._stream.write(json.dumps(line).encode() + b"\n")
            self._stream.flush()

    def take(self, line: Mapping[str, Any]) -> None:
        """Take over one line of a state file."""
        key = (line["archive"], line["step"])
        if line["reached"] is None:
            self._done.add(key)
        self._reached[key] = line["reached"]
        self._problems += [Problem(**one) for one in line["problems"]]
        for name in self._counts:
            self._counts[name] += line[name]


@contextmanager
def progress_file(path: Path | None, question: Mapping[str, object]) -> Iterator[Progress]:
    """Open a state file, new or of a verification that was stopped, and give what it says.

    Raises
    ------
    UsageError
        If it belongs to another question, or is no state file.
    ConflictError
        If another process is at work with it.
    """
    if path is None:
        yield Progress()
        return
    head = json.dumps({"dbb verify": _FORMAT, **question}, sort_keys=True).encode() + b"\n"
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConflictError(f"{path}: another process is verifying with it") from error
        text = stream.read()
        whole = text[: text.rfind(b"\n") + 1]  # the last line of a killed process may be cut
        lines = whole.splitlines(keepends=True)
        if text and not (lines and lines[0] == head) and not head.startswith(text):
            raise UsageError(f"{path} is not the state of this verification: give the same options, or another file")
        progress = Progress(stream)
        try:
            for line in lines[1:]:
                progress.take(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is damaged: remove it and verify anew ({error})") from error
        stream.seek(len(whole))
        stream.truncate()
        if not lines:
            stream.write(head)
            stream.flush()
        yield progress
