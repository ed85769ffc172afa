"""The run of DMTN-050, from raws to forced photometry: ``python demo.py [--folder FOLDER] [--size N]``.

Simulated raws are registered, eight steps run as one job that meets its data only through the Gen2 repository that dbb
makes for it, and the note's three queries are asked. A second attempt takes the calexps of one filter from the first.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from ingest import ingest
from make import make

HERE = Path(__file__).resolve().parent
MARK = ".made-by-dbb-demo"
RUN, SECOND = "Ht0_r11p95", "Ht0_r11p96"
QUERIES = """\
select f.path ||'/'||f.filename from file_archive_info f, desfile d, proctag t where d.filetype='deepcoadd_calexp'
    and t.tag='PROTO-0.1' and t.pfw_attempt_id=d.pfw_attempt_id and f.desfile_id=d.id order by f.filename;
select modname, count(*) from pfw_wrapper w, pfw_attempt a where w.pfw_attempt_id=a.id and a.reqnum=11 and a.attnum=95
    group by modname order by min(w.wrapnum);
select end_time - start_time from task t, pfw_attempt a where t.id=a.task_id and a.reqnum=11 and a.attnum=95;
"""


class Demo:
    """The folder, and the commands that work in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        programs = f"{HERE / 'bin'}{os.pathsep}{Path(sys.executable).parent}"
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("DBB_")}
        self._environment["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
        self._environment["DBB_REGISTRY"] = f"sqlite:///{folder / 'survey.db'}"

    def run(self, command: str) -> None:
        """Show a command and run it; its failure ends the demo."""
        print(f"\n$ {command}", flush=True)
        done = subprocess.run(shlex.split(command), cwd=self.folder, env=self._environment, check=False)
        if done.returncode:
            sys.exit(f"demo: the command ended with exit code {done.returncode}")

    def ask(self) -> None:
        """Ask the note's queries."""
        with closing(sqlite3.connect(self.folder / "survey.db")) as registry:
            for query in QUERIES.strip().split(";\n"):
                print(f"\n> {query}\n")
                for row in registry.execute(query):
                    print("   ", *row)


def prepare(folder: Path) -> None:
    """Make the folder empty, if it is ours to do so."""
    if folder.exists() and next(folder.iterdir(), None) is not None and not (folder / MARK).exists():
        sys.exit(f"demo: {folder} holds something else: give another --folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()


def run(folder: Path, size: int) -> None:
    """Run everything in `folder`."""
    prepare(folder)
    start = time.perf_counter()
    make(folder, size)
    ingest(folder)
    demo = Demo(folder)
    demo.run(f"dbb submit {HERE / 'schemas.wcl'}")
    demo.run(f"dbb check {HERE / 'submit.wcl'} --set attnum=95")
    demo.run(f"dbb submit {HERE / 'submit.wcl'} --set attnum=95")
    demo.run(f"dbb report {RUN}")
    demo.run(f"dbb tag PROTO-0.1 {RUN}")
    demo.ask()
    demo.run(f"dbb submit {HERE / 'second.wcl'} --set attnum=96")
    demo.run("dbb lineage calexp-HSC-R-0-8x7-r11p96.fits --up")
    demo.run(f"{sys.executable} {HERE / 'plots.py'} {folder}")
    print(f"\nall in {time.perf_counter() - start:.0f} s; look at the pictures in {folder}")


def main() -> None:
    """Run the demo as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=HERE.parents[1] / "build/demo-hsc", help="where to work")
    parser.add_argument("--size", type=int, default=512, help="width of a ccd in pixels, a multiple of 64")
    given = parser.parse_args()
    run(given.folder.absolute(), given.size)


if __name__ == "__main__":
    main()
