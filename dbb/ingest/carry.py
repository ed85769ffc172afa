"""Looking into many files, and copying them, by several processes: each file is read once, and digested meanwhile.

Headers are read by Python code that holds its lock, so threads would wait for each other; a process for each core does
not. Few files are done here, which is quicker than starting a process.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
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
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from dbb.ingest.carry import serve; serve()"


@dataclass(frozen=True, slots=True)
class Errand:
    """One local file to look into, and to copy to `target` if one is given."""

    source: str
    filetype: Filetype
    target: str | None = None


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
        Whether the copy is new; false too where the same bytes had the name already.
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
    errands: Sequence[Errand], scratch: Path | None, progress: Callable[[int], object] | None = None
) -> list[Outcome]:
    """Do errands and return what became of each; if one cannot be done at all, the copies made are removed.

    Parameters
    ----------
    errands
        Files, and where copies shall be.
    scratch
        A folder in the archive, for copies in the making; None if nothing is copied.
    progress
        Called with the number of files done.

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
            for number, errand in enumerate(errands):
                note(number, do(errand, scratch))
                if failures:
                    break
        else:
            _share(errands, scratch, processes, note)
        if failures:
            raise failures[0]
    except BaseException:
        take_away(errands[number] for number, outcome in outcomes.items() if outcome.made)
        raise
    return [outcomes[number] for number in range(len(errands))]


def take_away(errands: Iterable[Errand]) -> None:
    """Remove copies."""
    for errand in errands:
        if errand.target is not None:
            Path(errand.target).unlink(missing_ok=True)


def do(errand: Errand, scratch: Path | None) -> Outcome | DbbError:
    """Do one errand; an error is why all must stop, not only this one."""
    try:
        metadata = gather_metadata(errand.source, errand.filetype)
        corners = metadata.pop("corners", None)
        source = open(errand.source, "rb", buffering=0)  # noqa: PTH123, SIM115  called per file; closed below
    except PluginError as error:
        return error
    except (DbbError, OSError, UnicodeError) as error:
        return Outcome(why=str(error))
    with source:
        try:
            if errand.target is None or scratch is None:
                return Outcome(*_pass_bytes(source, None), metadata, corners)
            try:
                return Outcome(*_copy(source, Path(errand.target), scratch), metadata, corners, made=True)
            except FileExistsError:
                return _adopted(errand, metadata, corners)
        except OSError as error:
            return DbbError(f"{errand.source} cannot be copied to {errand.target}: {error.strerror}")


def _adopted(errand: Errand, metadata: Mapping[str, Any], corners: Corners | None) -> Outcome | DbbError:
    found, there = md5_of(errand.source), md5_of(str(errand.target))
    if found != there:
        return ConflictError(
            f"{errand.target} lies in the archive with other bytes than {errand.source}: nothing was changed"
        )
    return Outcome(*found, metadata, corners)


def md5_of(path: str) -> tuple[int, str]:
    """Return size and MD5 sum of a local file."""
    with open(path, "rb", buffering=0) as stream:  # noqa: PTH123  called per file
        return _pass_bytes(stream, None)


def _pass_bytes(source: IO[bytes], target: IO[bytes] | None) -> tuple[int, str]:
    digest, size = hashlib.md5(usedforsecurity=False), 0
    room = memoryview(bytearray(CHUNK))
    while count := source.readinto(room):  # type: ignore[attr-defined]  # a raw stream has it
        piece = room[:count]
        digest.update(piece)
        size += count
        while target is not None and piece:
            piece = piece[target.write(piece) :]
    return size, digest.hexdigest()


def _copy(source: IO[bytes], target: Path, scratch: Path) -> tuple[int, str]:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.parent.stat().st_dev == scratch.stat().st_dev:
        return _copy_by(source, target, scratch)
    with scratch_folder(target) as beside:  # part of the archive lies on another disk
        return _copy_by(source, target, beside)


def _copy_by(source: IO[bytes], target: Path, scratch: Path) -> tuple[int, str]:
    aside = scratch / "copy"  # one at a time, and each process has a folder of its own
    try:
        with aside.open("xb", buffering=0) as copy:
            found = _pass_bytes(source, copy)
        publish(aside, target)
    finally:
        aside.unlink(missing_ok=True)
    return found


def _share(
    errands: Sequence[Errand], scratch: Path | None, processes: int, note: Callable[[int, Outcome | DbbError], None]
) -> None:
    """Let processes do errands, each every n-th."""
    lock = threading.Lock()
    with contextlib.ExitStack() as stack:
        workers = []
        for first in range(processes):
            numbers = range(first, len(errands), processes)
            requests = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
            _write_requests(requests, [errands[number] for number in numbers], scratch)
            worker = subprocess.Popen(  # noqa: S603  our own interpreter, and no shell
                [sys.executable, "-c", _START, json.dumps(sys.path)],
                stdin=requests,
                stdout=subprocess.PIPE,
                text=True,
                close_fds=False,  # it holds the lock of the scratch folder as long as it lives
                process_group=0,  # an interrupt from the keyboard is for this process, which ends the others
            )
            stack.callback(_end, worker)
            workers.append((worker, numbers))

        def listen(worker: subprocess.Popen[str], numbers: Sequence[int]) -> None:
            assert worker.stdout is not None
            left = iter(numbers)
            for line in worker.stdout:
                outcome = _read_reply(line)
                with lock:
                    note(next(left), outcome)
                if isinstance(outcome, DbbError):
                    for other, _ in workers:
                        other.kill()
            if worker.wait() or next(left, None) is not None:
                with lock:
                    note(-1, DbbError(f"a process that copies died (exit status {worker.returncode}): run it again"))

        listeners = [threading.Thread(target=listen, args=worker, daemon=True) for worker in workers]
        for listener in listeners:
            listener.start()
        for listener in listeners:
            listener.join()


def _end(worker: subprocess.Popen[str]) -> None:
    worker.kill()
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
        stream.write(json.dumps([errand.source, errand.filetype.name, errand.target]) + "\n")
    stream.flush()
    stream.seek(0)


def serve() -> None:
    """Do the errands that stdin lists and reply to each with a line on stdout; stop at the first that fails."""
    lines = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  stdin, whatever the locale
    head = json.loads(next(lines))
    kinds = {
        name: Filetype(name, what["dataset"], name, tuple(Column(*one) for one in what["columns"]), tuple(what["keys"]))
        for name, what in head["filetypes"].items()
    }
    scratch = Path(tempfile.mkdtemp(dir=head["scratch"])) if head["scratch"] else None
    for line in lines:
        source, kind, target = json.loads(line)
        outcome = do(Errand(source, kinds[kind], target), scratch)
        try:
            sys.stdout.write(json.dumps(_reply(outcome), default=str) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:  # whoever asked is gone
            os._exit(errno.EPIPE)
        if isinstance(outcome, DbbError):
            break


def _reply(outcome: Outcome | DbbError) -> dict[str, Any]:
    if isinstance(outcome, DbbError):
        return {"error": str(outcome), "conflict": isinstance(outcome, ConflictError)}
    names = ("filesize", "md5sum", "metadata", "made", "why")
    return {name: getattr(outcome, name) for name in names} | {
        "corners": None if outcome.corners is None else astuple(outcome.corners)
    }


def _read_reply(line: str) -> Outcome | DbbError:
    reply = json.loads(line)
    if "error" in reply:
        return (ConflictError if reply["conflict"] else DbbError)(reply["error"])
    corners = reply.pop("corners")
    return Outcome(**reply, corners=None if corners is None else Corners(*corners))
