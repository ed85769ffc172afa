"""What ends the programs of a job that was killed and could not do so itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Collection, Iterator

from dbb.jobs.process import Stopper

# It learns which process groups run from the last line that it was sent; that its input ends tells that the job has.
_SCRIPT = """
while read -r line; do groups=$line; done
[ -n "$groups" ] || exit 0
for group in $groups; do kill -s TERM -- "-$group"; done
sleep 5
for group in $groups; do kill -s KILL -- "-$group"; done
"""


@contextlib.contextmanager
def guarding(stopper: Stopper) -> Iterator[None]:
    """Have a small process of its own session at hand, which ends what `stopper` watches if this process is killed.

    Without a shell there is none, and programs of a killed job go on.
    """
    try:
        process = subprocess.Popen(  # noqa: S603  # a script of our own
            ["/bin/sh", "-c", _SCRIPT],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        yield
        return
    assert process.stdin is not None
    pipe = process.stdin.fileno()
    os.set_blocking(pipe, False)  # nothing that happens to the guard may hold up a job

    def tell(groups: Collection[int]) -> None:
        with contextlib.suppress(OSError):
            os.write(pipe, f"{' '.join(map(str, groups))}\n".encode())

    stopper.tell = tell
    try:
        yield
    finally:
        stopper.tell = None
        process.stdin.close()
        process.wait()
