"""A process beside this one that makes links while this one reads rows and writes the manifest."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from dbb.butler import linker
from dbb.errors import DbbError

_BATCH = 200


class LinkProcess:
    """Takes links as `dbb.butler.linker.LinkMaker` does, and says at the end what went wrong.

    Parameters
    ----------
    root
        The folder below which the links shall be.
    """

    def __init__(self, root: str) -> None:
        command = [sys.executable, "-I", "-S", str(Path(linker.__file__)), root]
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and file, and no shell
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            close_fds=False,
            process_group=0,  # an interrupt from the keyboard is for this process, which ends the other
        )
        self._pending: list[str] = []

    def link(self, source: str, filesize: int | None, target: str, path: str) -> str:
        """Ask for a link; nothing is known of it before `finish`, so the answer is always empty."""
        self._pending.append(linker.encode(source, filesize, target, path))
        if len(self._pending) == _BATCH:
            self._send()
        return ""

    def _send(self) -> None:
        assert self._process.stdin is not None
        data = memoryview(os.fsencode("".join(self._pending)))
        self._pending.clear()
        with contextlib.suppress(BrokenPipeError):  # it has seen enough problems; `finish` will hear of them
            while data:
                data = data[self._process.stdin.write(data) or 0 :]

    def finish(self) -> list[str]:
        """Wait for all links and return the problems.

        Raises
        ------
        DbbError
            If the process died.
        """
        self._send()
        problems, _ = self._process.communicate()
        if self._process.returncode != 0:
            raise DbbError(f"the process that makes links died (exit status {self._process.returncode}): run it again")
        return os.fsdecode(problems).split(linker.SEPARATOR) if problems else []

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.communicate()
