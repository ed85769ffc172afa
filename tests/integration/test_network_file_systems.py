"""A registry in SQLite is refused on a file system that other machines may write to, and says what to do instead."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import fuse_mount
import pytest

from dbb import Registry
from dbb.registry._filesystem import network_file_system

ORDINARY = "25 1 0:23 / / rw - ext4 /dev/vda rw\n"
OPEN = """
import sys
from dbb import Registry
from dbb.errors import DbbError
try:
    with Registry.create(sys.argv[2], mapper="hsc") if sys.argv[1] == "create" else Registry(sys.argv[2]) as registry:
        print(len(registry.query("bias")), "biases")
except DbbError as error:
    print(error.exit_code, error)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a registry, to be mounted."""
    made = tmp_path / "shared"
    made.mkdir()
    with Registry.create(f"sqlite:///{made / 'registry.db'}", mapper="hsc") as registry:
        registry.add_archive("home", "/data/home")
        row = {"relpath": "bias.fits", "calibDate": "2013-11-03", "ccd": 1}
        registry.ingest_table([row], filetype="bias", archive="home")
    return made


def in_fuse(folder: Path, *arguments: str) -> str:
    """Return what a program says that finds the folder on a real FUSE file system."""
    program = [sys.executable, "-c", OPEN, *arguments]
    names = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--user", "--map-root-user"])]
    done = subprocess.run(
        [*names, sys.executable, fuse_mount.__file__, str(folder), *program],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if done.returncode == fuse_mount.NO_FUSE:
        pytest.skip(f"FUSE cannot be mounted here: {done.stderr.strip()}")
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout.strip()


def test_a_registry_on_fuse_is_refused_with_what_to_do_instead(folder: Path) -> None:
    said = in_fuse(folder, "open", f"sqlite:///{folder / 'registry.db'}")
    assert said.startswith(
        f"2 {folder / 'registry.db'} lies on a network file system (fuse.sshfs, mounted at {folder})"
    )
    assert said.endswith("use PostgreSQL, or give jobs elsewhere a snapshot (dbb snapshot), which may lie anywhere")


def test_none_is_made_there(folder: Path) -> None:
    said = in_fuse(folder, "create", f"sqlite:///{folder / 'new.db'}")
    assert said.startswith(f"2 {folder / 'new.db'} lies on a network file system (fuse.sshfs, mounted at {folder})")


def test_a_registry_that_keeps_no_log_is_read_there(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "registry.db")) as db:
        assert db.execute("PRAGMA journal_mode=DELETE").fetchall() == [("delete",)]
    assert in_fuse(folder, "open", f"sqlite:///{folder / 'registry.db'}") == "1 biases"


def test_a_snapshot_is_read_there(folder: Path) -> None:
    with Registry(f"sqlite:///{folder / 'registry.db'}") as registry:
        registry.snapshot(folder / "campaign.db")
    assert in_fuse(folder, "open", f"sqlite:///{folder / 'campaign.db'}") == "1 biases"


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        *(
            (kind, True)
            for kind in ("nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "ceph", "beegfs", "9p", "virtiofs")
        ),
        *((kind, True) for kind in ("fuse", "fuse.sshfs", "fuse.glusterfs")),
        *((kind, False) for kind in ("ext4", "xfs", "btrfs", "tmpfs", "overlay", "fuseblk", "fuse.fuse-overlayfs")),
    ],
)
def test_file_systems_are_told_apart_by_what_the_system_calls_them(tmp_path: Path, kind: str, refused: bool) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"{ORDINARY}30 25 0:99 / {tmp_path} rw,relatime shared:1 - {kind} server:/data rw\n")
    found = network_file_system(tmp_path, mounts)
    assert found == (f"{kind}, mounted at {tmp_path}" if refused else None)


def test_what_was_mounted_last_at_a_place_counts(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    below = tmp_path / "a b"
    below.mkdir()
    point = str(below).replace(" ", r"\040")
    over = f"31 25 0:98 / {point} rw - nfs4 server:/x rw\n32 25 0:99 / {point} rw - ext4 /dev/vdb rw\n"
    mounts.write_text(f"{ORDINARY}30 25 0:97 / {tmp_path} rw - lustre mgs:/fs rw\n{over}")
    assert network_file_system(tmp_path, mounts) == f"lustre, mounted at {tmp_path}"
    assert network_file_system(below, mounts) is None
    assert network_file_system(below, tmp_path / "none") is None
