"""A real FUSE file system, so small that it needs no library: one folder of files, read from memory.

    unshare --mount --user --map-root-user python fuse_mount.py FOLDER PROGRAM …

mounts it at FOLDER with copies of what the folder held, runs the program there, and ends with its exit code.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import subprocess
import sys
import threading
from pathlib import Path

LOOKUP, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, ACCESS = (
    1, 3, 14, 15, 17, 18, 25, 26, 27, 28, 29, 34,
)  # fmt: skip
FORGET, BATCH_FORGET, INTERRUPT = 2, 42, 36
NO_ANSWER = {FORGET, BATCH_FORGET, INTERRUPT}
ROOT = 1
NO_FUSE = 77
"""Exit code where nothing can be mounted."""


class Files:
    """Answers the kernel's questions about files that lie in memory."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self._names = {name.encode(): number for number, name in enumerate(contents, start=2)}
        self._contents = dict(zip(self._names.values(), contents.values(), strict=True))

    def answer(self, opcode: int, node: int, body: bytes) -> bytes:
        """Return what one request is answered with; OSError where it is refused."""
        if opcode == INIT:
            # protocol 7.31, nothing read ahead, no flags, 16 requests at once, writes of 128 KiB, times to the ns
            return struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 16, 12, 1 << 17, 1, 32, 0, 0)
        if opcode == LOOKUP:
            number = self._names.get(body.rstrip(b"\0"))
            if number is None:
                raise OSError(errno.ENOENT, "no such file")
            return struct.pack("<QQQQII", number, 0, 0, 0, 0, 0) + self._attributes(number)
        if opcode == GETATTR:
            return struct.pack("<QII", 0, 0, 0) + self._attributes(node)
        if opcode in {OPEN, OPENDIR}:
            return struct.pack("<QII", 0, 0, 0)
        if opcode == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return self._contents[node][offset : offset + size]
        if opcode == STATFS:
            return struct.pack("<QQQQQIIII24x", 1 << 20, 1 << 19, 1 << 19, 1 << 10, 1 << 9, 4096, 255, 4096, 0)
        if opcode in {RELEASE, RELEASEDIR, FLUSH, ACCESS, READDIR}:
            return b""
        raise OSError(errno.ENOSYS, "not made")

    def _attributes(self, node: int) -> bytes:
        size = len(self._contents.get(node, b""))
        mode = stat.S_IFDIR | 0o755 if node == ROOT else stat.S_IFREG | 0o644
        return struct.pack("<QQQQQQIIIIIIIIII", node, size, 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def serve(device: int, files: Files) -> None:
    """Answer until the file system is unmounted."""
    while True:
        try:
            request = os.read(device, 1 << 18)
        except OSError:
            return
        _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
        if opcode in NO_ANSWER:
            continue
        try:
            body, code = files.answer(opcode, node, request[40:]), 0
        except OSError as error:
            body, code = b"", error.errno or errno.EIO
        os.write(device, struct.pack("<IiQ", 16 + len(body), -code, unique) + body)


def main() -> int:
    """Mount, run, and leave all else to the end of the name space."""
    folder, program = Path(sys.argv[1]), sys.argv[2:]
    files = Files({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        _mount(device, folder)
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return NO_FUSE
    threading.Thread(target=serve, args=(device, files), daemon=True).start()
    return subprocess.run(program, check=False).returncode


def _mount(device: int, folder: Path) -> None:
    options = f"fd={device},rootmode=40755,user_id=0,group_id=0,allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"dbb", os.fsencode(folder), b"fuse.sshfs", 0, options.encode()):
        raise OSError(ctypes.get_errno(), "mount")


if __name__ == "__main__":
    sys.exit(main())
