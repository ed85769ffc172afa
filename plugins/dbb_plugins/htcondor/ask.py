"""Writes what is in the queue of a run as JSON: for `pool.ask_queue`, which does not wait for ever."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dbb_plugins.htcondor.pool import PoolError, read_queue


def main(folder: str) -> int:
    """Write the queue of the run in `folder`; return the exit code."""
    try:
        sys.stdout.write(json.dumps(read_queue(Path(folder))))
    except PoolError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
