"""Daemons that leave nothing behind: a small process, the keeper, starts them and adopts whatever they leave.

A batch system starts processes that start processes, and some put themselves into groups and sessions of their own.
The keeper is their reaper of last resort (``prctl``, so Linux only): whose parent ends becomes its child. When the
daemon that it started ends, or the process that asked for a lifeline is gone, it ends all that is left.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_GRACE = 5.0  # seconds between being asked to end and being killed


class EngineError(Exception):
    """A service cannot be started here, or does not do what it should; the text says what to do."""


class Kept:
    """A daemon and all its descendants.

    Parameters
    ----------
    folder
        Where it remembers the keeper, and where the output of the daemon goes (``daemon.out``).
    """

    def __init__(self, folder: Path) -> None:
        self._note, self.output = folder / "keeper.json", folder / "daemon.out"
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the keeper, or None when nothing runs."""
        try:
            noted = json.loads(self._note.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return int(noted["pid"]) if _birth(noted["pid"]) == noted["birth"] else None

    def start(self, command: Sequence[str], environ: Mapping[str, str], *, lifeline: bool = False) -> None:
        """Start ``command``; with ``lifeline`` it lives no longer than this process, however this one ends."""
        tie, stdin = ("lifeline", subprocess.PIPE) if lifeline else ("detached", subprocess.DEVNULL)
        keep = [sys.executable, "-I", __file__, tie, *command]
        with self.output.open("ab") as output:
            keeper = subprocess.Popen(
                keep, env=dict(environ), start_new_session=True, stdin=stdin, stdout=output, stderr=output
            )
        aside = self._note.with_suffix(".new")
        aside.write_text(json.dumps({"pid": keeper.pid, "birth": _birth(keeper.pid)}))
        aside.replace(self._note)
        self._keeper = keeper

    def wait_until(self, is_up: Callable[[], bool], seconds: float) -> None:
        """Wait until the daemon does its work; end all if it does not."""
        deadline = time.monotonic() + seconds
        while not is_up():
            if self.wait(0) or time.monotonic() > deadline:
                self.kill()
                said = self.output.read_text(errors="replace").strip()
                raise EngineError(f"{self.output.parent}: the daemons do not come up. Their logs are there. {said}")
            time.sleep(0.1)

    def members(self) -> list[int]:
        """Return the process ids of the keeper and of all that descend from it, parents first."""
        return [] if self.pid is None else family(self.pid)

    def ask(self, name: str, what: str) -> None:
        """Send the signal ``SIG`` + ``what`` to the members whose program is called ``name``."""
        for one in self.members():
            if _name(one) == name:
                _send(one, signal.Signals[f"SIG{what}"])

    def wait(self, seconds: float) -> bool:
        """Wait until all has ended; return whether it has."""
        deadline = time.monotonic() + seconds
        while self.pid is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        self._reap()
        return self.pid is None

    def kill(self) -> None:
        """End all at once with SIGKILL, as a machine does that loses its power."""
        left = kill_family(self.pid)
        deadline = time.monotonic() + _GRACE
        while left := {one for one in left if _birth(one)}:
            if time.monotonic() > deadline:
                raise EngineError(f"processes {sorted(left)} cannot be killed")
            time.sleep(0.02)
        self._reap()

    def _reap(self) -> None:
        """Take note of the end of a keeper that this process started."""
        if self._keeper is not None and self.pid is None:
            self._keeper.wait()
            if self._keeper.stdin is not None:
                self._keeper.stdin.close()
            self._keeper = None


def run(command: Sequence[str], environ: Mapping[str, str]) -> str:
    """Run a command and return what it prints; if it fails that is an `EngineError`."""
    done = subprocess.run(command, env=dict(environ), capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def family(pid: int) -> list[int]:
    """Return ``pid`` and the ids of all processes that descend from it, parents first; ended ones are left out."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _status(int(entry.name))) and fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:  # grows while it is walked
        found += children.get(one, [])
    return found


def kill_family(pid: int | None, *, itself: bool = True) -> set[int]:
    """Stop a process and its descendants, so that none can start another meanwhile, and kill them; return which."""
    stopped: set[int] = set()
    if pid is None:
        return stopped
    while left := [one for one in family(pid) if one not in stopped and (itself or one != pid)]:
        for one in left:
            _send(one, signal.SIGSTOP)
        stopped.update(left)
    for one in stopped:
        _send(one, signal.SIGKILL)
    return stopped


def free_port(wish: int | None = None) -> int:
    """Return a port of 127.0.0.1 that nobody listens on: ``wish`` if that is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else a port is taken for a minute after use
        try:
            probe.bind(("127.0.0.1", wish or 0))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _status(pid: int) -> list[str]:
    """Return the fields of ``/proc/PID/stat`` that follow the name: state, parent ...; none if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _birth(pid: int) -> str | None:
    """Return when a process was started, in ticks since the machine was; None if it is gone or ended."""
    fields = _status(pid)
    return fields[19] if fields and fields[0] != "Z" else None


def _send(pid: int, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # ended meanwhile
        os.kill(pid, what)


def _keep(tie: str, *command: str) -> None:
    """Be the keeper; the tie is ``lifeline`` if it ends when its standard input does."""
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise EngineError(f"prctl: {os.strerror(ctypes.get_errno())}")
    daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL).pid
    if tie == "lifeline":
        threading.Thread(target=_end_with_lifeline, daemon=True).start()
    while os.wait()[0] != daemon:
        pass
    deadline = time.monotonic() + _GRACE
    asked: set[int] = set()
    while (left := family(os.getpid())[1:]) and time.monotonic() < deadline:
        for one in set(left) - asked:
            _send(one, signal.SIGTERM)
        asked.update(left)
        time.sleep(0.05)
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    kill_family(os.getpid(), itself=False)


def _end_with_lifeline() -> None:
    os.read(0, 1)  # nobody writes: it returns when the other end is closed
    kill_family(os.getpid(), itself=False)
    os._exit(1)


if __name__ == "__main__":
    _keep(*sys.argv[1:])
