"""The folder that this engine has in the folder of a run, and what is said through it."""

from __future__ import annotations

import contextlib
import re
import signal
from pathlib import Path
from typing import NamedTuple

from dbb.storage import new_file, new_folder
from dbb_plugins.htcondor.dag import ENGINE, Rendered

_NOTE = re.compile(r"(-?[0-9]+) ([0-9]+)\n")
_WHY = {-1001: "HTCondor did not take it", -1002: "it was removed from the queue of HTCondor"}


class Note(NamedTuple):
    """What DAGMan says of the end of a job: its return value, and which try of it, from 0, this was."""

    code: int
    retry: int

    @property
    def problem(self) -> str:
        """Return why the job is not done, or an empty text."""
        if self.code == 0:
            return ""
        if self.code in _WHY:
            return _WHY[self.code]
        with contextlib.suppress(ValueError):
            if self.code < 0:
                return f"ended by signal {signal.Signals(-self.code).name}"
        return f"exit code {self.code}"


class Places:
    """What lies in the folder ``engine`` of a run."""

    def __init__(self, run_folder: Path) -> None:
        self.folder = run_folder / ENGINE
        self._notes, self._go = self.folder / "notes", self.folder / "go"

    def make(self) -> None:
        """Make the folder.

        Raises
        ------
        ConflictError
            If it is there.
        """
        with new_folder(self.folder) as aside:
            (aside / "notes").mkdir()
            (aside / "go").mkdir()

    def write(self, files: Rendered) -> Path:
        """Write the files that DAGMan works from, and return where the DAG is."""
        for name, text in files.texts.items():
            path = self.folder / name
            with new_file(path) as stream:
                stream.write(text.encode())
            if name in files.programs:
                path.chmod(0o700)
        return self.folder / files.dag

    def notes(self) -> dict[str, Note]:
        """Return what DAGMan's POST scripts have left, by the names of jobs; some may be in the making."""
        found = {}
        for path in self._notes.iterdir():
            with contextlib.suppress(OSError):
                match = _NOTE.fullmatch(path.read_text(encoding="ascii", errors="replace"))
                if match is not None:
                    found[path.name] = Note(int(match[1]), int(match[2]))
        return found

    def acknowledge(self, name: str) -> None:
        """Let the POST script of a job end: all that it told of is in the registry."""
        (self._notes / name).unlink(missing_ok=True)

    def told(self, name: str) -> str:
        """Return what DAGMan was told about a job: ``run``, ``skip``, or nothing yet."""
        try:
            return (self._go / name).read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return ""

    def tell(self, name: str, what: str) -> None:
        """Tell DAGMan to ``run`` a job whose turn it is, or to ``skip`` it."""
        with new_file(self._go / name) as stream:
            stream.write(f"{what}\n".encode())
