"""A plug-in with an engine that goes on without ``dbb submit``: one more process, which starts jobs and leaves notes.

Batch systems do the same with more machinery; this one is there on every machine that runs the tests.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from dbb.engine import Engine, EngineWork
from dbb.errors import DbbError
from dbb.hookspecs import hookimpl

_TICK = 0.05


class DetachedEngine(Engine):
    """Has its jobs started by a process of its own, in order, each when its job file is there."""

    name = "detached"
    detaches = True

    def run(self, work: EngineWork) -> None:
        self.start(work)
        self.attend(work)

    def start(self, work: EngineWork) -> None:
        folder = work.folder / "engine"
        folder.mkdir()
        self._prepare(work)
        jobs = [{"name": one.name, "command": list(work.command(_job(work.folder, one.name)))} for one in work.jobs]
        (folder / "jobs.json").write_text(json.dumps(jobs))
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, __file__, folder],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        (folder / "pid").write_text(str(process.pid))

    def attend(self, work: EngineWork) -> None:
        folder = work.folder / "engine"
        while not all(work.is_over(one.name) for one in work.jobs):
            if work.is_cancelled:
                self.cancel(work.folder)
                return
            for note in sorted(folder.glob("*.code")):
                code = int(note.read_text())
                work.ended(note.stem, f"exit code {code}" if code else "")
            self._prepare(work)
            work.collect([one.name for one in work.jobs if not work.is_over(one.name)])
            time.sleep(_TICK)

    def queue(self, folder: Path) -> Mapping[str, str]:
        if (folder / "engine/away").exists():
            raise DbbError("the queue of engine detached does not answer")
        jobs = json.loads((folder / "engine/jobs.json").read_text())
        names = [one["name"] for one in jobs if not (folder / f"engine/{one['name']}.code").exists()]
        return dict.fromkeys(names, "idle") if _is_alive(folder) else {}

    def cancel(self, folder: Path) -> None:
        if (folder / "engine/away").exists():
            raise DbbError("the queue of engine detached does not answer")
        if _is_alive(folder):
            os.killpg(int((folder / "engine/pid").read_text()), signal.SIGTERM)

    def _prepare(self, work: EngineWork) -> None:
        for one in work.jobs:
            waits = [name for name in one.after if not work.is_over(name)]
            if waits or work.is_over(one.name) or _job(work.folder, one.name).exists():
                continue
            try:
                if work.prepare(one.name) is None:
                    work.ended(one.name)
            except DbbError as error:
                work.ended(one.name, str(error))


@hookimpl
def dbb_engines() -> Sequence[Engine]:
    return [DetachedEngine()]


def install(site: Path) -> None:
    """Let processes with `site` in PYTHONPATH find the plug-in."""
    facts = site / "dbb_detached-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: dbb-detached\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[dbb]\ndetached = detached_engine\n")


def _job(folder: Path, name: str) -> Path:
    return folder / "jobs" / name / "job.json"


def _is_alive(folder: Path) -> bool:
    try:
        return "Z" not in Path(f"/proc/{(folder / 'engine/pid').read_text()}/stat").read_text().split()[2]
    except OSError:
        return False


def _run_jobs(folder: Path) -> None:
    """Run each job once its file is there, and note its exit code."""
    for job in json.loads((folder / "jobs.json").read_text()):
        while not Path(job["command"][-1]).exists():
            time.sleep(_TICK)
        code = subprocess.run(job["command"], check=False).returncode
        aside = folder / f"{job['name']}.new"
        aside.write_text(str(code))
        aside.rename(folder / f"{job['name']}.code")
        if code:
            return


if __name__ == "__main__":
    _run_jobs(Path(sys.argv[1]))
