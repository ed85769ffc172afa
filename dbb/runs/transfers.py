"""Copying files between archives: a few at once, each checked while its bytes pass, and there whole or not at all."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from dbb.errors import DbbError
from dbb.staging import stage_in, stage_out
from dbb.storage import Digest, SaveRequest, StageRequest, digest_file, is_local, local_path, scratch_folder

Key = tuple[str, str]
"""A file's path and the archive that it goes to."""
_MOST_TOGETHER = 16
_TICK = 0.2
_LEAVE = 2.0


@dataclass(frozen=True, slots=True)
class Transfer:
    """One registered file to be copied from one archive to another, under the same path.

    Parameters
    ----------
    file
        Its number in the registry.
    relpath
        Its path in both archives.
    source, target
        The names of the archives.
    filesize, md5sum, sha256
        What is registered of it; None where nothing is.
    replaces
        MD5 sums of files that may lie in its place and are replaced.
    """

    file: int
    relpath: str
    source: str
    target: str
    filesize: int | None = None
    md5sum: str | None = None
    sha256: str | None = None
    replaces: frozenset[str] = frozenset()

    @property
    def key(self) -> Key:
        """What it is known by."""
        return self.relpath, self.target


class Transfers:
    """Copies files in the background, in the order in which they are added.

    Parameters
    ----------
    roots
        The URLs of archives by name.
    at_once
        How many files are copied at the same time.

    Notes
    -----
    What fails for reasons that may pass is tried again by the plug-ins that copy. Two that copy one file at once, here
    or in two processes, do not disturb each other: it appears in one step, and the second finds it by its checksum.
    """

    def __init__(self, roots: Mapping[str, str], at_once: int) -> None:
        self._roots, self._at_once = roots, at_once
        self._changed = threading.Condition()
        self._queue: deque[Transfer] = deque()
        self._known: dict[Key, str | None] = {}
        self._threads: list[threading.Thread] = []
        self._stopped = False

    def add(self, transfers: Iterable[Transfer], *, first: bool = False) -> None:
        """Let files be copied that are not on their way yet; those that are needed `first` before all others."""
        with self._changed:
            wanted = {one.key: one for one in transfers}
            new = [one for key, one in wanted.items() if key not in self._known]
            self._known |= dict.fromkeys(one.key for one in new)
            if first and any(self._known[key] is None for key in wanted):
                ahead = [one for one in self._queue if one.key in wanted]
                self._queue = deque([*ahead, *new, *(one for one in self._queue if one.key not in wanted)])
            else:
                self._queue += new
            while len(self._threads) < min(self._at_once, len(self._queue)):
                thread = threading.Thread(target=self._work, daemon=True)  # nobody waits for a server that is silent
                self._threads.append(thread)
                thread.start()
            self._changed.notify_all()

    def wait(self, keys: Collection[Key], given_up: Callable[[], bool]) -> None:
        """Wait until files are copied or cannot be, or nobody wants them any more."""
        left = deque(keys)
        with self._changed:
            while left and not given_up():
                while left and self._known.get(left[0], "") is not None:
                    left.popleft()
                if left:
                    self._changed.wait(_TICK)

    def take(self, keys: Collection[Key]) -> dict[Key, str]:
        """Return why files could not be copied, or an empty text, and forget them; those under way are left out."""
        with self._changed:
            over = {key: why for key in keys if (why := self._known.get(key)) is not None}
            for key in over:
                del self._known[key]
            return over

    def stop(self) -> None:
        """Begin no more copies, and give those that are under way a moment."""
        with self._changed:
            self._stopped = True
            self._queue.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_LEAVE / len(self._threads))

    def _work(self) -> None:
        while some := self._next():
            try:
                errors = copy_files(self._roots, some)
            except Exception as error:  # noqa: BLE001  # whoever waits must hear of it, whatever it is
                errors = [f"{type(error).__name__}: {error}"] * len(some)
            with self._changed:
                self._known |= {one.key: why for one, why in zip(some, errors, strict=True)}
                self._changed.notify_all()

    def _next(self) -> list[Transfer]:
        with self._changed:
            while not self._queue and not self._stopped:
                self._changed.wait()
            # many small files together cost less, but the last ones are shared
            count = max(1, min(_MOST_TOGETHER, len(self._queue) // (2 * self._at_once)))
            return [self._queue.popleft() for _ in range(min(count, len(self._queue)))]


def copy_files(roots: Mapping[str, str], transfers: Sequence[Transfer]) -> list[str]:
    """Copy files one after the other; return for each why it could not be copied, or an empty text."""
    errors: list[str] = []
    for (source, target), some in groupby(transfers, lambda one: (one.source, one.target)):
        if is_local(roots[source]):
            errors += _save([(one, local_path(f"{roots[source]}/{one.relpath}")) for one in some], roots[target])
        else:
            errors += [_fetch(one, roots) for one in some]
    return errors


def _save(files: Sequence[tuple[Transfer, str]], root: str) -> list[str]:
    """Put local files into an archive."""
    errors: dict[int, str] = {}
    requests: dict[int, SaveRequest] = {}
    for number, (one, path) in enumerate(files):
        try:
            requests[number] = SaveRequest(path, root, one.relpath, _digest(one, path, root), one.replaces)
        except OSError as error:
            errors[number] = f"{path}: {error.strerror or error}"
        except DbbError as error:
            errors[number] = str(error)
    if requests:
        try:
            outcomes = [one.error for one in stage_out(list(requests.values()))]
        except DbbError as error:
            outcomes = [str(error)] * len(requests)
        errors |= zip(requests, outcomes, strict=True)
    return [errors[number] for number in range(len(files))]


def _digest(one: Transfer, path: str, root: str) -> Digest:
    """Return what a file must be; it is read for that if nothing tells, or nobody reads it while it is copied.

    Raises
    ------
    OSError
        If it cannot be read.
    DbbError
        If it is not what is registered.
    """
    size = os.stat(path).st_size  # noqa: PTH116  # a text, not a path
    known = Digest(size if one.filesize is None else one.filesize, one.md5sum or "", one.sha256 or "")
    if size != known.filesize:
        raise DbbError(f"{path}: filesize is {size}, registered as {known.filesize}; see 'dbb verify'")
    if is_local(root) and (one.md5sum or one.sha256):
        return known
    found = digest_file(path)
    if not known.fits(found):
        raise DbbError(f"{path}: md5sum is {found.md5sum}, registered as {one.md5sum or one.sha256}; see 'dbb verify'")
    return found


def _fetch(one: Transfer, roots: Mapping[str, str]) -> str:
    """Bring a file that lies elsewhere; return why not, or an empty text."""
    root = roots[one.target]
    if is_local(root) and _is_there(one, Path(local_path(root), one.relpath)):
        return ""
    try:
        with _scratch(root) as folder:
            aside = str(folder / "copy")
            facts = one.filesize, one.md5sum, one.sha256
            outcome = stage_in([StageRequest(f"{roots[one.source]}/{one.relpath}", aside, *facts)])[0]
            return outcome.error or _save([(one, aside)], root)[0]
    except OSError as error:
        return f"{root}/{one.relpath}: {error.strerror or error}"
    except DbbError as error:
        return str(error)


def _is_there(one: Transfer, path: Path) -> bool:
    try:
        if not (one.md5sum or one.sha256) or path.stat().st_size != one.filesize:
            return False
        return Digest(one.filesize, one.md5sum or "", one.sha256 or "").fits(digest_file(path))
    except OSError:
        return False


@contextmanager
def _scratch(root: str) -> Iterator[Path]:
    """Give a folder for a file on its way, on the disk that it goes to if that is here."""
    if is_local(root):
        with scratch_folder(Path(local_path(root), f"stage-{os.uname().nodename}")) as folder:
            yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="dbb-stage-") as name:
            yield Path(name)
