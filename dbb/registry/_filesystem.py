"""On what a file lies: a disk of this machine, or a file system that other machines may see as well."""

from __future__ import annotations

import os
import re
from pathlib import Path

from dbb.errors import UsageError

MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset(
    {"9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "fhgfs", "gfs", "gfs2", "glusterfs", "gpfs", "lustre"}
    | {"mmfs", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb2", "smb3", "smbfs", "snfs"}
    | {"vboxsf", "virtiofs", "vmhgfs", "wekafs"}
)
_LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs", "fuse.ntfs-3g", "fuse.exfat"})  # disks and images of this machine
_OCTAL = re.compile(r"\\([0-7]{3})")
_WAL_VERSIONS = b"\x02\x02"  # at offset 18 of a SQLite file that is written by way of a log


def network_file_system(path: Path, mounts: Path = MOUNTS) -> str | None:
    """Return what kind of network file system holds `path` and where that is mounted, or None if none does.

    FUSE counts as one, for nobody can tell what is behind it. Where the system does not list its mounts, as Linux
    does, the answer is None.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        real = path.resolve()
        device = real.stat().st_dev
    except OSError:
        return None
    number = f"{os.major(device)}:{os.minor(device)}"
    best: tuple[bool, int, str, str] | None = None
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")[0]
        if len(fields) < 5:
            continue
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
        if real == Path(point) or Path(point) in real.parents:
            found = (fields[2] == number, len(point), kind, point)
            best = found if best is None or found[:2] >= best[:2] else best  # of two at one place the later one counts
    if best is None or not _is_network(best[2]):
        return None
    return f"{best[2]}, mounted at {best[3]}"


def _is_network(kind: str) -> bool:
    return kind in _NETWORK or (kind.split(".")[0] == "fuse" and kind not in _LOCAL_FUSE)


def refuse_network(path: Path, *, create: bool = False) -> None:
    """Refuse an SQLite file on a network file system, unless it is written without a log.

    Raises
    ------
    UsageError
        With what to do instead.
    """
    there = network_file_system(path.parent if create else path)
    if there is not None and (create or _has_log(path)):
        raise UsageError(
            f"{path} lies on a network file system ({there}). A registry in SQLite is for programs of one machine:"
            " from several, rows get lost. Put it on a disk of this machine, use PostgreSQL, or give jobs elsewhere a"
            " snapshot (dbb snapshot), which may lie anywhere"
        )


def _has_log(path: Path) -> bool:
    # read past SQLite, which would need a log for that: it cannot have the file open in this process, because a file
    # with a log is refused here
    with path.open("rb") as file:
        return file.read(20)[18:] == _WAL_VERSIONS
