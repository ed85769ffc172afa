"""What travels to a job where no file system is shared: its job file, its inputs, and what its repository holds."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dbb.errors import DbbError
from dbb.members import HEADER
from dbb.storage import is_local, local_path, new_folder

SANDBOX = "sandbox"
TOKEN = "@DBB_SANDBOX@"  # noqa: S105  # no secret
"""Stands for the folder that a job runs in, which only the job knows."""
OUTGOING = "home of the job"
"""The archive that the job saves its outputs in, and that they are taken from."""
_BLOCK = 4 << 20


def pack(job_file: Path) -> None:
    """Gather beside a job file all files of this machine that its job needs, in a folder that travels with it.

    Raises
    ------
    DbbError
        If a file is not there.

    Notes
    -----
    Files are linked if they lie on the same file system, and copied otherwise. Of tars only the members that the job
    needs are taken, unless they are compressed. What lies behind a URL is left to the job.
    """
    job = json.loads(job_file.read_bytes())
    target = job_file.parent / SANDBOX
    if target.exists():  # of an attendant that was killed
        shutil.rmtree(target)
    with new_folder(target) as aside:
        luggage = _Luggage(aside)
        _take_inputs(job, luggage)
        repository = job.get("repository")
        if repository is not None:
            _take_sources(repository["manifest"], luggage)
        if job.get("setup") is not None:
            job["setup"] = luggage.take(job["setup"])
        if job.get("home") is not None:
            job["archives"][OUTGOING] = f"{TOKEN}/saved"
            job["home"] = OUTGOING
        (aside / "job.json").write_text(json.dumps(job, ensure_ascii=False), encoding="utf-8")


def _take_inputs(job: dict[str, Any], luggage: _Luggage) -> None:
    archives: Mapping[str, str] = job["archives"]
    for source in _sources(job):
        root = archives.get(source["archive"])
        if root is not None and is_local(root):
            luggage.take(f"{root}/{source['relpath']}")
    job["archives"] = {name: luggage.place(root) if is_local(root) else root for name, root in archives.items()}


def _sources(job: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (one["source"] for step in job["steps"] for one in step.get("inputs", ()) if one.get("source"))


def _take_sources(entry: Any, luggage: _Luggage) -> None:
    """Take what a manifest, or a part of one, names as a source, and let it name that."""
    if isinstance(entry, list):
        for one in entry:
            _take_sources(one, luggage)
    elif isinstance(entry, dict):
        for name in ("index", "source"):
            url = entry.get(name)
            if not isinstance(url, str) or not is_local(url):
                continue
            if name == "source" and entry.get("offset") is not None and entry.get("index") is None:
                entry["source"] = luggage.cut(url, entry["offset"], entry["size"])
                entry["offset"] = HEADER
            else:
                entry[name] = luggage.take(url)
        for one in entry.values():
            _take_sources(one, luggage)


class _Luggage:
    """The folder that travels; in it, files have the paths that they have here."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts = 0

    def place(self, url: str) -> str:
        """Return where a file or folder of this machine is for the job."""
        return f"{TOKEN}/{SANDBOX}/in{_absolute(url)}"

    def take(self, url: str) -> str:
        """Take a file along; return its place."""
        path = Path(_absolute(url))
        target = Path(f"{self._folder}/in{path}")
        if not target.exists():
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(path, target)
            except OSError as error:
                raise DbbError(f"{path} cannot travel with the job: {error.strerror}") from error
        return self.place(url)

    def cut(self, url: str, offset: int, size: int) -> str:
        """Take along a member of a tar, with the header before it; return its place."""
        self._parts += 1
        target = self._folder / "parts" / str(self._parts)
        try:
            target.parent.mkdir(exist_ok=True)
            with Path(_absolute(url)).open("rb") as tar, target.open("wb") as part:
                tar.seek(offset - HEADER)
                left = HEADER + size
                while left and (data := tar.read(min(left, _BLOCK))):
                    part.write(data)
                    left -= len(data)
        except OSError as error:
            raise DbbError(f"{url} cannot travel with the job: {error.strerror}") from error
        return f"{TOKEN}/{SANDBOX}/parts/{self._parts}"


def _link(path: Path, target: Path) -> None:
    real = path.resolve()
    try:
        target.hardlink_to(real)
    except OSError:  # another disk, or a file system without such links
        shutil.copyfile(real, target)


def _absolute(url: str) -> str:
    return os.path.abspath(local_path(url))  # noqa: PTH100  # a text, not a path
