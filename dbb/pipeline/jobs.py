"""Quanta into jobs, and which job has to wait for which."""

from __future__ import annotations

import graphlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dbb.errors import PipelineError
from dbb.pipeline.names import COMPRESSIONS, split_compression
from dbb.pipeline.workflow import Instance, Job

_UNSAFE = re.compile(r"[^A-Za-z0-9_.+-]")
_MOST_EDGES = 10_000


@dataclass(slots=True)
class JobBuilder:
    """Collects quanta into jobs, block by block.

    Parameters
    ----------
    run
        The run's name, which begins the name of each job.
    """

    run: str
    jobs: list[Job] = field(default_factory=list)
    _producers: dict[str, tuple[int, str]] = field(default_factory=dict)
    _last_block: list[str] = field(default_factory=list)

    def add_block(
        self,
        block: str,
        instances: Sequence[Instance],
        keys: Sequence[Mapping[str, str]],
        resources: Mapping[str, Mapping[str, str]],
        parallel: Mapping[str, int],
    ) -> None:
        """Divide the quanta of a block into jobs.

        Parameters
        ----------
        block
            Its name.
        instances, keys
            Its quanta, and for each the values that tell its job.
        resources, parallel
            What each module asks of the engine, and how many of its quanta may run at once.

        Raises
        ------
        PipelineError
            If a file is wanted before it is made, or jobs wait for each other in a circle.
        """
        grouped: dict[tuple[str, ...], list[int]] = {}
        for number, values in enumerate(keys):
            grouped.setdefault(tuple(values.values()), []).append(number)
        barrier = self._barrier(block, len(grouped))
        new: list[Job] = []
        for members in grouped.values():
            modules = dict.fromkeys(instances[number].module for number in members)
            new.append(
                Job(
                    name=self._name(block, len(self.jobs) + len(new) + 1),
                    block=block,
                    jobnum=len(self.jobs) + len(new) + 1,
                    keys=keys[members[0]],
                    wrapnums=[instances[number].wrapnum for number in members],
                    resources=_largest(resources[module] for module in modules),
                    parallel={module: parallel[module] for module in modules if parallel.get(module, 1) > 1},
                )
            )
        waits = self._waits(instances, new)
        first = [name for name in waits if not waits[name]]
        if barrier is None:
            for name in first:
                waits[name] = dict.fromkeys(self._last_block)
        else:
            self.jobs.append(barrier)
            for name in first:
                waits[name] = {barrier.name: None}
        self.jobs += [replace(job, after=list(waits[job.name])) for job in new]
        waited_for = {name for names in waits.values() for name in names}
        self._last_block = [job.name for job in new if job.name not in waited_for] or self._last_block

    def _barrier(self, block: str, jobs: int) -> Job | None:
        """Return an empty job that stands between two large blocks: their jobs would need too many dependencies."""
        if len(self._last_block) * jobs <= _MOST_EDGES:
            return None
        number = len(self.jobs) + 1
        return Job(self._name(block, number), block, number, {}, (), list(self._last_block))

    def _name(self, block: str, jobnum: int) -> str:
        return _UNSAFE.sub("-", f"{self.run}_{block}_j{jobnum:04d}")

    def _waits(self, instances: Sequence[Instance], new: Sequence[Job]) -> dict[str, dict[str, None]]:
        job_of = {wrapnum: job.name for job in new for wrapnum in job.wrapnums}
        for instance in instances:
            for output in instance.outputs:
                self._producers[output.filename] = (instance.wrapnum, job_of[instance.wrapnum])
        waits: dict[str, dict[str, None]] = {job.name: {} for job in new}
        for instance in instances:
            own = job_of[instance.wrapnum]
            for one in instance.inputs:
                made = self._producers.get(one.filename)
                if made is None and one.filename.endswith(COMPRESSIONS):
                    made = self._producers.get(split_compression(one.filename)[0])
                if made is None:
                    continue
                if made[0] >= instance.wrapnum:
                    raise PipelineError(
                        f"{instance.title} wants {one.filename} before #{made[0]} makes it: change the order of modules"
                    )
                if made[1] != own:
                    waits[own][made[1]] = None
        _refuse_circles(waits)
        return waits


def _refuse_circles(waits: Mapping[str, Iterable[str]]) -> None:
    try:
        graphlib.TopologicalSorter(waits).prepare()
    except graphlib.CycleError as error:
        raise PipelineError(
            f"jobs wait for each other: {' → '.join(error.args[1])}. Divide them by other keys (divide_jobs_by)"
            " or put the modules into blocks of their own"
        ) from None


def _largest(wanted: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return what a job asks for: of each number the largest that one of its modules asks for, else the first."""
    found: dict[str, str] = {}
    for one in wanted:
        for key, value in one.items():
            if key not in found or _number(value) > _number(found[key]):
                found[key] = value
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("-inf")
