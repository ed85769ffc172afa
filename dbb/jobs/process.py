"""Running one program: in a session of its own, its output taken as it comes, ended with all its children."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_TICK = 0.25  # seconds between two looks at limits
_BLIND_TICK = 0.02  # the same where the system does not tell when a process ends
_GRACE = 5.0  # seconds from asking processes to end until they are killed
_PIECE = 1 << 16
_PROC = Path("/proc")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_NOT_FOUND, _NOT_RUNNABLE = 127, 126  # as shells say


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use: seconds of wall-clock time, and MB of resident memory together with its children."""

    seconds: float | None = None
    memory_mb: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended.

    Parameters
    ----------
    status
        Its exit status; 128 and the number of the signal that ended it; 127 or 126 if it could not be started.
    signal
        That signal's number, or None.
    reason
        Why it was ended or did not start; empty if it ended by itself.
    start, end
        Seconds since 1970.
    rusage
        The 16 values of ``getrusage`` with their names, for it and the children that it waited for.
    """

    status: int
    signal: int | None
    reason: str
    start: float
    end: float
    rusage: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        """Whether it ended by itself, with 0."""
        return self.status == 0 and not self.reason

    @property
    def state(self) -> str:
        """What an event calls it."""
        if self.is_good:
            return "succeeded"
        return "killed" if self.signal is not None or self.reason.startswith(_ENDED) else "failed"


_ENDED = "ended: "


class Stopper:
    """Tells running programs to end; may be called from a signal handler.

    `tell`, if it is set, is called with all process groups that run, whenever one begins or ends.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.tell: Callable[[Collection[int]], object] | None = None
        self._groups: set[int] = set()
        self._lock = threading.Lock()  # what `tell` is told last must be what holds

    @property
    def is_set(self) -> bool:
        """Whether everything is to end."""
        return self.signal is not None

    def stop(self, number: int) -> None:
        """End all programs, as asked by signal `number`; who asks again does not want to wait for them."""
        how = signal.SIGTERM if self.signal is None else signal.SIGKILL
        self.signal = number
        for group in tuple(self._groups):
            _signal_group(group, how)

    @contextlib.contextmanager
    def watching(self, group: int) -> Iterator[None]:
        """Count a process group among those to end."""
        self._change(self._groups.add, group)
        try:
            yield
        finally:
            self._change(self._groups.discard, group)

    def _change(self, how: Callable[[int], object], group: int) -> None:
        with self._lock:
            how(group)
            if self.tell is not None:
                self.tell(self._groups)


def run_process(
    argv: Sequence[str],
    take: Callable[[bytes], object],
    *,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    stopper: Stopper | None = None,
) -> Ended:
    """Run a program to its end.

    Parameters
    ----------
    argv
        The program, found on the environment's ``PATH``, and its arguments; no shell sees them.
    take
        Gets what it writes to stdout and stderr, as it comes.
    folder
        Where it runs.
    environment
        All of its environment; by default ours.
    limits
        What it may use.
    stopper
        Ends it before its time.

    Notes
    -----
    The program is the leader of a session. Whatever way this function is left, no process of the program's group is
    left behind: they get SIGTERM, and five seconds later SIGKILL. Memory is the resident one of all processes of the
    group, as ``/proc`` shows it, looked at four times a second and only where a limit is given; without ``/proc`` there
    is no such limit.
    """
    start = time.time()
    try:
        process = subprocess.Popen(  # noqa: S603  # the pipeline's program, and no shell
            argv,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        status = _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_RUNNABLE
        why = error.strerror if isinstance(error, OSError) else str(error)
        return Ended(status, None, f"{argv[0]} cannot be started: {why}", start, time.time())
    return _Watch(process, take, limits or Limits(), stopper or Stopper(), start).to_the_end()


class _Watch:
    """A running program."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        take: Callable[[bytes], object],
        limits: Limits,
        stopper: Stopper,
        start: float,
    ) -> None:
        assert process.stdout is not None
        self._process, self._group = process, process.pid
        self._output = process.stdout
        self._take, self._limits, self._stopper = take, limits, stopper
        self._start = start
        self._deadline = time.monotonic() + limits.seconds if limits.seconds is not None else None
        self._kill_at: float | None = None
        self._reason = ""
        self._open = True

    def to_the_end(self) -> Ended:
        with self._stopper.watching(self._group), self._output:
            try:
                self._watch()
                _signal_group(self._group, signal.SIGTERM)  # what it leaves behind; it itself is a zombie still
            except BaseException:
                _signal_group(self._group, signal.SIGKILL)
                self._reap()
                raise
            end = max(self._start, time.time())  # the clock may have gone back
            status, rusage = self._reap()
            self._end_children()
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        code = 128 + number if number is not None else os.WEXITSTATUS(status)
        if self._reason and code == 0:
            code = 1  # it was told to end and took that well: it is not done all the same
        return Ended(code, number, self._reason, self._start, end, rusage)

    def _watch(self) -> None:
        """Take output until the program itself has ended."""
        handle = _handle_of(self._group)
        poll = select.poll()
        poll.register(self._output, select.POLLIN)
        if handle is not None:
            poll.register(handle, select.POLLIN)
        os.set_blocking(self._output.fileno(), False)
        try:
            while True:
                ready = [number for number, _ in poll.poll(1000 * (_BLIND_TICK if handle is None else _TICK))]
                if self._open and self._output.fileno() in ready and not self._drain():
                    poll.unregister(self._output)
                if handle in ready or (handle is None and _has_ended(self._group)):
                    self._drain()
                    return
                self._look_at_limits()
        finally:
            if handle is not None:
                os.close(handle)

    def _drain(self) -> bool:
        """Take what has been written; return whether more may come."""
        for _ in range(16):  # a program that writes without end must not keep us from looking at its limits
            try:
                data = os.read(self._output.fileno(), _PIECE) if self._open else b""
            except BlockingIOError:
                return True
            if not data:
                self._open = False
                return False
            self._take(data)
        return True

    def _look_at_limits(self) -> None:
        now = time.monotonic()
        if self._kill_at is not None:
            if now >= self._kill_at:
                _signal_group(self._group, signal.SIGKILL)
            return
        if self._stopper.signal is not None:
            self._end(f"by signal {signal.Signals(self._stopper.signal).name}")
        elif self._deadline is not None and now >= self._deadline:
            self._end(f"it ran longer than {self._limits.seconds:g} seconds")
        elif self._limits.memory_mb is not None:
            used = _resident_mb(self._group)
            if used > self._limits.memory_mb:
                self._end(f"it used {used:.0f} MB of memory, more than {self._limits.memory_mb:g}")

    def _end(self, reason: str) -> None:
        self._reason = _ENDED + reason
        self._kill_at = time.monotonic() + _GRACE
        _signal_group(self._group, signal.SIGTERM)

    def _reap(self) -> tuple[int, dict[str, float]]:
        _, status, used = os.wait4(self._group, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)  # it need not wait for it again
        if self._stopper.signal is not None and not self._reason:
            self._reason = f"{_ENDED}by signal {signal.Signals(self._stopper.signal).name}"
        names = [name for name in dir(used) if name.startswith("ru_")]
        return status, {name: getattr(used, name) for name in names}

    def _end_children(self) -> None:
        """Wait until nobody of the group is left; they have been asked to end."""
        patience = time.monotonic() + _GRACE
        pause = 0.001
        while _is_alive(self._group):
            self._drain()
            if time.monotonic() >= patience:
                _signal_group(self._group, signal.SIGKILL)
                break
            time.sleep(pause)
            pause = min(2 * pause, 0.1)
        self._drain()


def _handle_of(process: int) -> int | None:
    """Return a descriptor that is readable once the process has ended, where the system has such."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(process)
    except OSError:
        return None


def _has_ended(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; return whether anybody is there."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # only processes of another user are left, which are not ours to end
        return False
    return True


def _is_alive(group: int) -> bool:
    """Whether a process group has processes other than zombies, which nobody may ever collect."""
    if not _signal_group(group, 0):
        return False
    return not _PROC.is_dir() or any(state not in {"Z", "X"} for state, _ in _members(group))


def _resident_mb(group: int) -> float:
    """Return the resident memory of all processes of a group, in MB."""
    return sum(pages for _, pages in _members(group)) * _PAGE / 1e6


def _members(group: int) -> Iterator[tuple[str, int]]:
    """Give state and resident pages of the processes of a group."""
    for folder in _PROC.iterdir() if _PROC.is_dir() else ():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):  # it may be gone
                stat = (folder / "stat").read_text(encoding="ascii", errors="replace")
                fields = stat.rpartition(")")[2].split()  # its name, in parentheses, may hold anything
                if int(fields[2]) == group:
                    yield fields[0], int(fields[21])
