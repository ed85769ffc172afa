"""A hundred jobs of 100 inputs in one process, each of another visit.

    python benchmarks/dbb_hundred.py URL FOLDER CALIBS_VERSION

The last line on stdout is JSON with the seconds spent after the imports.
"""

from __future__ import annotations

import json
import sys
import time

from survey import Job

from dbb import Registry, RepoSpec, materialize_repo
from dbb.butler import CalibSpec, InputSpec

JOBS = 100


def main() -> None:
    """Build the jobs below a folder."""
    url, folder, version = sys.argv[1:]
    start = time.perf_counter()
    with Registry(url) as registry:
        for number in range(JOBS):
            raws = InputSpec("raw", id=(Job.of(100, start=number).data_id(),))
            spec = RepoSpec("hsc", inputs=(raws,), calibs=CalibSpec(version))
            materialize_repo(registry, f"{folder}/{number:03d}", spec)
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - start}) + "\n")


if __name__ == "__main__":
    main()
