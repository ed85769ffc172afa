"""Which jobs run, as the log of a DAG's nodes tells it."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

_NAMED = re.compile(r"\((\d+)\.\d+\.\d+\).*\n\s+DAG Node: (\S+)")
_HEAD = re.compile(r"^(\d{3}) \((\d+)\.\d+\.\d+\)")
_SUBMITTED, _BEGAN = "000", "001"
_NOT_RUNNING = {"004", "005", "009", "012"}
"""Evicted, terminated, removed, held."""
_DONE = "(1) Normal termination (return value 0)"
_END = b"...\n"


class NodeLog:
    """Reads what HTCondor has written of the jobs of a DAG: `began` and `succeeded` are jobs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = 0
        self._names: dict[str, str] = {}
        self._running: set[str] = set()
        self.began: set[str] = set()
        self.succeeded: set[str] = set()

    def running(self) -> list[str]:
        """Return the jobs that run now; those that it does not know of yet are absent."""
        data = b""
        with contextlib.suppress(OSError), self._path.open("rb") as stream:
            stream.seek(self._place)
            data = stream.read()
        end = data.rfind(_END)
        if end >= 0:
            self._place += end + len(_END)
            for event in data[: end + 1].decode("utf-8", "replace").split("...\n"):
                self._take(event)
        return sorted(self._names[cluster] for cluster in self._running if cluster in self._names)

    def _take(self, event: str) -> None:
        head = _HEAD.match(event)
        if head is None:
            return
        kind, cluster = head.groups()
        if kind == _SUBMITTED and (named := _NAMED.search(event)):
            self._names[cluster] = named[2]
        elif kind == _BEGAN:
            self._running.add(cluster)
            self.began |= {self._names[cluster]} if cluster in self._names else set()
        elif kind in _NOT_RUNNING:
            self._running.discard(cluster)
            if _DONE in event and cluster in self._names:
                self.succeeded.add(self._names[cluster])
