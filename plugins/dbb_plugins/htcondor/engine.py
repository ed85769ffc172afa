"""The engine: what is asked of HTCondor for a run, by whichever process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dbb.engine import Engine, EngineWork
from dbb_plugins.htcondor import pool
from dbb_plugins.htcondor.attendant import Attendant
from dbb_plugins.htcondor.dag import render
from dbb_plugins.htcondor.places import Places
from dbb_plugins.htcondor.settings import read_settings

_DAGMAN = "DAGMan"


class HTCondorEngine(Engine):
    """Gives runs to DAGMan, which goes on when this process is gone."""

    name = "htcondor"
    detaches = True

    def check(self, settings: Mapping[str, str], folder: Path) -> None:
        """Refuse settings of no use, and a machine without HTCondor; see `Engine.check`."""
        read_settings(settings)
        pool.check()

    def run(self, work: EngineWork) -> None:
        """Start a run and attend it; see `Engine.run`."""
        try:
            self.start(work)
            self.attend(work)
        except pool.PoolError:  # of the start: HTCondor did not take it
            raise
        except BaseException:
            Attendant(work).end_all("interrupted")
            raise

    def start(self, work: EngineWork) -> None:
        """Write the DAG of a run and submit it; see `Engine.start`."""
        settings = read_settings(work.settings)
        places, attendant = Places(work.folder), Attendant(work)
        places.make()
        attendant.prepare(job.name for job in work.jobs)
        if not all(work.is_over(job.name) for job in work.jobs):
            told = {job.name: places.told(job.name) for job in work.jobs}
            skipped, ready = ({name for name, said in told.items() if said == word} for word in ("skip", "run"))
            dag = places.write(render(work, settings, skipped, ready))
            cluster = pool.submit_dag(dag, work.run, settings.getenv)
            (places.folder / "cluster").write_text(f"{cluster}\n", encoding="ascii")

    def attend(self, work: EngineWork) -> None:
        """Attend a run; see `Engine.attend`."""
        Attendant(work).attend()

    def queue(self, folder: Path) -> Mapping[str, str]:
        """Return what the queue says, of DAGMan too; see `Engine.queue`."""
        return {one.name or _DAGMAN: one.words for one in pool.ask_queue(folder)}

    def cancel(self, folder: Path) -> None:
        """Remove a run from the queue; see `Engine.cancel`."""
        pool.remove(folder, "dbb cancel")
