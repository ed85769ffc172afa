"""Looking into many files, and copying or linking them, by several processes: each is read once, for its checksum too.

Headers are read by Python code that holds its lock, so threads would wait for each other; a process for each core does
not. Few files are done here, which is quicker than starting a process.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from operator import attrgetter
from pathlib import Path
from typing import IO, Any

from dbb.errors import ConflictError, DbbError, PluginError
from dbb.filetypes import Column, Filetype
from dbb.ingest.gather import gather_metadata
from dbb.ingest.transfer import publish
from dbb.sky import Corners
from dbb.storage import CHUNK, scratch_folder

FEW = 64
"""Up to so many files are done without another process."""
_PAUSE = 0.05
"""Seconds between the messages of a process."""
_PATIENCE = 10.0
"""Seconds that a process is given to end with what it has in hand."""
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from dbb.ingest.carry import serve; serve()"


@dataclass(frozen=True, slots=True)
class Errand:
    """One local file to look into, and to copy or link (`transfer`) to `target` if one is given."""

    source: str
    filetype: Filetype
    target: str | None = None
    transfer: str = "copy"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an errand.

    Parameters
    ----------
    filesize, md5sum
        Of the file.
    metadata
        What the file says of its columns.
    corners
        Where on the sky it is, if it says so.
    made
        Whether the copy or link is new; false too where the same bytes had the name already.
    why
        Why the file is no good; nothing was copied then, and the rest means nothing.
    """

    filesize: int = 0
    md5sum: str = ""
    metadata: Mapping[str, Any] | None = None
    corners: Corners | None = None
    made: bool = False
    why: str = ""


def carry(
    errands: Sequence[Errand],
    scratch: Path | None,
    progress: Callable[[int], object] | None,
    undo: Callable[[Sequence[Errand]], None],
) -> list[Outcome]:
    """Do errands and return what became of each.

    Parameters
    ----------
    errands
        Files, and where copies or links shall be.
    scratch
        A folder in the archive, for copies in the making; None if nothing is copied.
    progress
        Called with the number of files done.
    undo
        Called, if an errand cannot be done at all, with those whose copies or links were made.

    Raises
    ------
    ConflictError
        If other bytes have the name of a copy.
    DbbError
        If a copy cannot be written, a process dies, or a plug-in is broken.
    """
    outcomes: dict[int, Outcome] = {}
    failures: list[DbbError] = []

    def note(number: int, outcome: Outcome | DbbError) -> None:
        if isinstance(outcome, Outcome):
            outcomes[number] = outcome
        else:
            failures.append(outcome)
        if progress is not None:
            progress(len(outcomes))

    processes = min(os.cpu_count() or 1, len(errands) // FEW)
    try:
        if processes < 2:
            carrier = _Carrier(scratch)
            for number, errand in enumerate(errands):
                note(number, carrier.do(errand))
                if failures:
                    break
        else:
            _share(errands, scratch, processes, note)
        if failures:
            raise failures[0]
    except BaseException:
        undo([errands[number] for number, outcome in outcomes.items() if outcome.made])
        raise
    return [outcomes[number] for number in range(len(errands))]


class _Carrier:
    """Does errands one after the other."""

    def __init__(self, scratch: Path | None) -> None:
        self._scratch = scratch
        self._device = scratch.stat().st_dev if scratch is not None else None
        self._room = memoryview(bytearray(CHUNK))
        self._near: dict[str, bool] = {}

    def do(self, errand: Errand) -> Outcome | DbbError:
        """Do one errand; an error is why all must stop, not only this one."""
        try:
            metadata = gather_metadata(errand.source, errand.filetype)
            corners = metadata.pop("corners", None)
            source = open(errand.source, "rb", buffering=0)  # noqa: SIM115  # closed below
        except PluginError as error:
            return error
        except (DbbError, OSError, UnicodeError) as error:
            return Outcome(why=str(error))
        with source:
            try:
                if errand.target is None:
                    return Outcome(*_pass_bytes(source, None, self._room), metadata, corners)
                try:
                    return Outcome(*self._bring(source, errand, errand.target), metadata, corners, made=True)
                except FileExistsError:
                    return _adopted(errand, metadata, corners)
            except OSError as error:
                verb = "copied" if errand.transfer == "copy" else "linked"
                why = error.strerror or str(error)
                return DbbError(f"{errand.source} cannot be {verb} to {errand.target}: {why}")

    def _bring(self, source: IO[bytes], errand: Errand, target: str) -> tuple[int, str]:
        near = self._is_near(os.path.dirname(target))
        if errand.transfer == "hardlink":
            found = _pass_bytes(source, None, self._room)
            os.link(errand.source, target)
            return found
        if near and self._scratch is not None:
            return self._copy_by(source, Path(target), self._scratch)
        with scratch_folder(Path(target)) as beside:  # part of the archive lies on another disk
            return self._copy_by(source, Path(target), beside)

    def _is_near(self, folder: str) -> bool:
        """Make a folder of the archive where it is missing; return whether it is on the disk of the scratch folder."""
        if folder not in self._near:
            os.makedirs(folder, exist_ok=True)
            self._near[folder] = os.stat(folder).st_dev == self._device
        return self._near[folder]

    def _copy_by(self, source: IO[bytes], target: Path, scratch: Path) -> tuple[int, str]:
        aside = scratch / "copy"  # one at a time, and each process has a folder of its own
        try:
            with aside.open("xb", buffering=0) as copy:
                found = _pass_bytes(source, copy, self._room)
            publish(aside, target)
        finally:
            aside.unlink(missing_ok=True)
        return found


def _adopted(errand: Errand, metadata: Mapping[str, Any], corners: Corners | None) -> Outcome | DbbError:
    found, there = md5_of(errand.source), md5_of(str(errand.target))
    if found != there:
        return ConflictError(
            f"{errand.target} lies in the archive with other bytes than {errand.source}: nothing was changed"
        )
    return Outcome(*found, metadata, corners)


def md5_of(path: str) -> tuple[int, str]:
    """Return size and MD5 sum of a local file."""
    with open(path, "rb", buffering=0) as stream:
        return _pass_bytes(stream, None, memoryview(bytearray(CHUNK)))


def _pass_bytes(source: IO[bytes], target: IO[bytes] | None, room: memoryview) -> tuple[int, str]:
    """Read a file through `room`, a buffer, and write it to `target` if there is one; return size and MD5 sum."""
    digest, size = hashlib.md5(usedforsecurity=False), 0
    while count := source.readinto(room):  # type: ignore[attr-defined]  # a raw stream has it
        piece = room[:count]
        digest.update(piece)
        size += count
        while target is not None and piece:
            piece = piece[target.write(piece) :]
    return size, digest.hexdigest()


def _share(
    errands: Sequence[Errand], scratch: Path | None, processes: int, note: Callable[[int, Outcome | DbbError], None]
) -> None:
    """Let processes do errands, each every n-th."""
    team = _Team(note)
    with contextlib.ExitStack() as stack:
        stack.callback(team.stop)
        for first in range(processes):
            numbers = range(first, len(errands), processes)
            requests = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
            _write_requests(requests, [errands[number] for number in numbers], scratch)
            team.start(requests, numbers)
        team.join()


class _Team:
    """Processes at work, and for each a thread that listens to it."""

    def __init__(self, note: Callable[[int, Outcome | DbbError], None]) -> None:
        self._note, self._lock = note, threading.Lock()
        self._workers: list[subprocess.Popen[str]] = []
        self._listeners: list[threading.Thread] = []

    def start(self, requests: IO[str], numbers: Sequence[int]) -> None:
        """Start one more process; the errands it is given have these numbers."""
        worker = subprocess.Popen(  # noqa: S603  # our own interpreter, and no shell
            [sys.executable, "-c", _START, json.dumps(sys.path)],
            stdin=requests,
            stdout=subprocess.PIPE,
            text=True,
            close_fds=False,  # it holds the lock of the scratch folder as long as it lives
            process_group=0,  # an interrupt from the keyboard is for this process, which ends the others
        )
        self._workers.append(worker)
        listener = threading.Thread(target=self._listen, args=(worker, numbers), daemon=True)
        listener.start()
        self._listeners.append(listener)

    def _listen(self, worker: subprocess.Popen[str], numbers: Sequence[int]) -> None:
        assert worker.stdout is not None
        left = iter(numbers)
        for line in worker.stdout:
            outcome = _read_reply(line)
            with self._lock:
                self._note(next(left), outcome)
            if isinstance(outcome, DbbError):
                self._terminate()
        if worker.wait() or next(left, None) is not None:
            with self._lock:
                self._note(-1, DbbError(f"a process that copies died (exit status {worker.returncode}): run it again"))

    def _terminate(self) -> None:
        for worker in self._workers:
            worker.terminate()

    def join(self) -> None:
        """Wait until all is done, or one errand failed and all have stopped."""
        for listener in self._listeners:
            listener.join()

    def stop(self) -> None:
        """End what is still at work, each with the file that it has in hand, so that all that was done is known."""
        self._terminate()
        for worker in self._workers:
            try:
                worker.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                worker.kill()
        self.join()
        for worker in self._workers:
            worker.wait()
            if worker.stdout is not None:
                worker.stdout.close()


def _write_requests(stream: IO[str], errands: Sequence[Errand], scratch: Path | None) -> None:
    kinds = {errand.filetype.name: errand.filetype for errand in errands}
    described = {
        name: {"columns": [astuple(column) for column in kind.columns], "keys": kind.keys, "dataset": kind.dataset}
        for name, kind in kinds.items()
    }
    stream.write(json.dumps({"scratch": scratch and str(scratch), "filetypes": described}) + "\n")
    for errand in errands:
        stream.write(json.dumps([errand.source, errand.filetype.name, errand.target, errand.transfer]) + "\n")
    stream.flush()
    stream.seek(0)


def serve() -> None:
    """Do the errands that stdin lists and reply to each with a line on stdout; stop at the first that fails.

    Told to end, it ends with the errand that it has in hand.
    """
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    lines = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # stdin, whatever the locale
    head = json.loads(next(lines))
    kinds = {
        name: Filetype(name, what["dataset"], name, tuple(Column(*one) for one in what["columns"]), tuple(what["keys"]))
        for name, what in head["filetypes"].items()
    }
    carrier = _Carrier(Path(tempfile.mkdtemp(dir=head["scratch"])) if head["scratch"] else None)
    encode = json.JSONEncoder(default=str).encode
    waiting, since = [], time.monotonic()
    for line in lines:
        source, kind, target, transfer = json.loads(line)
        outcome = carrier.do(Errand(source, kinds[kind], target, transfer))
        waiting.append(encode(_reply(outcome)) + "\n")
        last = isinstance(outcome, DbbError) or bool(told)
        if last or time.monotonic() > since + _PAUSE:  # a reply at a time would cost as much as the errand
            _send(waiting)
            waiting, since = [], time.monotonic()
        if last:
            break
    _send(waiting)


def _send(replies: Sequence[str]) -> None:
    try:
        sys.stdout.write("".join(replies))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever asked is gone
        os._exit(errno.EPIPE)


_corner_values = attrgetter(*Corners.__dataclass_fields__)


def _reply(outcome: Outcome | DbbError) -> dict[str, Any]:
    if isinstance(outcome, DbbError):
        return {"error": str(outcome), "conflict": isinstance(outcome, ConflictError)}
    return {
        "filesize": outcome.filesize, "md5sum": outcome.md5sum, "metadata": outcome.metadata, "made": outcome.made,
        "why": outcome.why, "corners": None if outcome.corners is None else _corner_values(outcome.corners),
    }  # fmt: skip


def _read_reply(line: str) -> Outcome | DbbError:
    reply = json.loads(line)
    if "error" in reply:
        return (ConflictError if reply["conflict"] else DbbError)(reply["error"])
    corners = reply.pop("corners")
    return Outcome(**reply, corners=None if corners is None else Corners(*corners))
