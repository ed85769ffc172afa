"""A hundred jobs of 100 inputs in one process, each of another visit.

    python benchmarks/dbb_hundred.py URL FOLDER CALIBS_VERSION

The last line on stdout is JSON with the seconds spent after the imports.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from survey import Job

from dbb import Registry, RepoSpec, materialize_repo
from dbb.butler import CalibSpec, InputSpec

JOBS = 100


def main() -> None:
    """Build the jobs below a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("url", "folder", "version"):
        parser.add_argument(name)
    given = parser.parse_args()
    start = time.perf_counter()
    with Registry(given.url) as registry:
        for number in range(JOBS):
            raws = InputSpec("raw", id=(Job.of(100, start=number).data_id(),))
            spec = RepoSpec("hsc", inputs=(raws,), calibs=CalibSpec(given.version))
            materialize_repo(registry, f"{given.folder}/{number:03d}", spec)
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - start}) + "\n")


if __name__ == "__main__":
    main()
