"""Start a command, wait for it and write what it used to a file: ``launcher.py FILE COMMAND …``.

It stands between because the peak memory of a process counts from that of its parent, and this one is small.
"""

import os
import sys
import time

if __name__ == "__main__":
    start = time.perf_counter()
    child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - start
    code = os.waitstatus_to_exitcode(status)
    used = f"{code} {wall} {usage.ru_utime + usage.ru_stime} {usage.ru_maxrss * 1024 / 1e6}"
    os.write(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), used.encode())
