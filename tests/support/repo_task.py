"""A command-line task as those of the stack: ``repo_task.py REPO --output OUT --id KEY=VALUE … --in TYPE --out TYPE``.

It finds its inputs through the repository alone, and writes what it read into one output.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dbb.butler import Repository


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("repo")
    parser.add_argument("--output")
    parser.add_argument("--id", nargs="+", default=[])
    parser.add_argument("--selectId", nargs="+", action="append", default=[])
    parser.add_argument("--reads", nargs="+", default=[])
    parser.add_argument("--writes")
    parser.add_argument("--fixed")
    given = parser.parse_args()
    identity = dict(pair.split("=", 1) for pair in given.id)
    read = []
    with Repository(given.repo) as repository:
        for kind in given.reads:
            for chosen in given.selectId or [given.id]:
                data_id = {**identity, **dict(pair.split("=", 1) for pair in chosen)}
                uri = repository.get_uri(kind, **data_id)
                read.append(f"{kind} {Path(uri).resolve().name}\n{Path(uri).read_bytes()[:200]!r}\n")
    if given.fixed:
        fixed = Path(given.repo) / "_parent" / given.fixed
        for folder in (Path(given.repo), *Path(given.repo).parent.glob("*.job/in")):
            if (folder / given.fixed).exists():
                read.append(f"fixed {given.fixed}\n")
                break
        else:
            sys.exit(f"{given.fixed} is not there: {fixed}")
    scratch = Path("scratch.txt")
    scratch.write_text("".join(read))
    with Repository(given.output) as repository:
        repository.put(given.writes, scratch, **identity)
    scratch.unlink()
    sys.stdout.write(f"wrote {given.writes}\n")


if __name__ == "__main__":
    main()
