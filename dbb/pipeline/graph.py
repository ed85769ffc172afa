"""What a picture of a workflow shows: jobs as boxes, many of one kind as one, and which waits for which."""

from __future__ import annotations

import graphlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from dbb.pipeline.workflow import Job, Workflow

SINGLE = 8
"""Up to so many jobs of a kind are shown one by one."""
_MOST_BOXES = 80
_MOST_ARROWS = 240
_MOST_ROWS = 40
_MOST_STAGES = 20  # so many have fewer arrows than the most, whatever they wait for


@dataclass(frozen=True, slots=True)
class Box:
    """One job, or all jobs of a kind.

    Parameters
    ----------
    row
        How many boxes must have ended before, one after the other.
    stage
        Its place in `Graph.stages`.
    jobs
        What it stands for, by their numbers.
    modules
        What runs in it, in order, with the number of quanta.
    inner
        How often one of its jobs waits for another.
    """

    row: int
    stage: int
    jobs: Sequence[Job]
    modules: Mapping[str, int]
    inner: int = 0


class Arrow(NamedTuple):
    """That jobs of one box wait for jobs of another.

    Parameters
    ----------
    source, target
        Numbers of the boxes: of those waited for, and of those that wait.
    waiting
        How many jobs of the target wait.
    least, most
        For how many jobs of the source each of these waits.
    """

    source: int
    target: int
    waiting: int
    least: int
    most: int


class Stage(NamedTuple):
    """A block, or several that stand one after the other: name, how many, and the jobs and quanta in it."""

    name: str
    blocks: int
    jobs: int
    quanta: int


@dataclass(frozen=True, slots=True)
class Graph:
    """All that a picture shows.

    Parameters
    ----------
    stages
        The blocks in order.
    boxes
        By `Box.row`; every job of the workflow is in one of them.
    arrows
        By target, then source.
    """

    stages: Sequence[Stage]
    boxes: Sequence[Box]
    arrows: Sequence[Arrow]


def graph_of(workflow: Workflow, single: int = SINGLE) -> Graph:
    """Return what a picture of a workflow shows.

    Parameters
    ----------
    workflow
        Any number of jobs.
    single
        Up to so many jobs of a kind, which run the same modules at the same point of a block, are shown one by one.

    Notes
    -----
    Time grows with the number of quanta and dependencies. The answer has at most some tens of boxes and some hundred
    arrows: where kinds are many, all jobs of a block become one box, and then several blocks do.
    """
    kinds, stages = _kinds(workflow)
    size = Counter(kinds)
    one_by_one = [kind._replace(number=at) if size[kind] <= single else kind for at, kind in enumerate(kinds)]
    by_block = [Kind(stage) for stage in stages]
    for chosen in (one_by_one, kinds, by_block):
        if len(set(chosen)) <= _MOST_BOXES:
            graph = _graph(workflow, chosen)
            if len(graph.arrows) <= _MOST_ARROWS and all(box.row < _MOST_ROWS for box in graph.boxes):
                return graph
    return _graph(workflow, [Kind(stage * _MOST_STAGES // (stages[-1] + 1)) for stage in stages])


class Kind(NamedTuple):
    """What jobs of one box have in common: part of the run, depth in it, modules; a number for a job by itself."""

    stage: int
    level: int = 0
    modules: tuple[str, ...] = ()
    number: int = -1


def _kinds(workflow: Workflow) -> tuple[list[Kind], list[int]]:
    """Return for each job its kind, and its block by place: a block that is listed twice is two."""
    stages: list[int] = []
    for stage, (_, jobs) in enumerate(groupby(workflow.jobs, key=lambda job: job.block)):
        stages += [stage for _ in jobs]
    levels = _levels(workflow.jobs, stages)
    modules = (tuple(dict.fromkeys(one.module for one in workflow.instances_of(job))) for job in workflow.jobs)
    return [Kind(*kind) for kind in zip(stages, levels, modules, strict=True)], stages


def _levels(jobs: Sequence[Job], stages: Sequence[int]) -> list[int]:
    """Return how many jobs of its own block, one after the other, each job waits for."""
    place = {job.name: at for at, job in enumerate(jobs)}
    after = {
        at: [other for name in job.after if stages[other := place[name]] == stages[at]] for at, job in enumerate(jobs)
    }
    levels = [0] * len(jobs)
    for at in graphlib.TopologicalSorter(after).static_order():
        levels[at] = max((levels[other] + 1 for other in after[at]), default=0)
    return levels


def _graph(workflow: Workflow, kinds: Sequence[Kind]) -> Graph:
    """Return one box for all jobs of equal kind, with the arrows between boxes."""
    members: dict[Kind, list[int]] = {}
    for at, kind in enumerate(kinds):
        members.setdefault(kind, []).append(at)
    order = sorted(members, key=lambda kind: (kind.stage, kind.level, members[kind][0]))
    box_of = {kind: number for number, kind in enumerate(order)}
    homes = [box_of[kind] for kind in kinds]
    arrows, inner = _arrows(workflow.jobs, homes)
    begins = _begins(order)
    boxes = [
        _box(workflow, kind.stage, begins[kind.stage] + kind.level, members[kind], inner[number])
        for number, kind in enumerate(order)
    ]
    return Graph(
        [_stage(stage, list(of_it)) for stage, of_it in groupby(boxes, key=lambda box: box.stage)], boxes, arrows
    )


def _begins(kinds: Sequence[Kind]) -> list[int]:
    """Return the first row of each stage."""
    begins = [0]
    for _, of_it in groupby(kinds, key=lambda kind: kind.stage):
        begins.append(begins[-1] + max(kind.level for kind in of_it) + 1)
    return begins


def _box(workflow: Workflow, stage: int, row: int, members: Sequence[int], inner: int) -> Box:
    jobs = [workflow.jobs[at] for at in members]
    modules = Counter(one.module for job in jobs for one in workflow.instances_of(job))
    return Box(row, stage, jobs, modules, inner)


def _stage(stage: int, boxes: Sequence[Box]) -> Stage:
    jobs = [job for box in boxes for job in box.jobs]
    blocks = list(dict.fromkeys(job.block for job in sorted(jobs, key=lambda job: job.jobnum)))
    name = blocks[0] if len(blocks) == 1 else f"{blocks[0]} … {blocks[-1]}"
    working = [job for job in jobs if job.wrapnums]
    return Stage(name, len(blocks), len(working), sum(len(job.wrapnums) for job in working))


def _arrows(jobs: Sequence[Job], homes: Sequence[int]) -> tuple[list[Arrow], Counter[int]]:
    """Return the arrows between boxes, and for each box how many dependencies are inside of it."""
    home_of = {job.name: home for job, home in zip(jobs, homes, strict=True)}
    counts: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    inner: Counter[int] = Counter()
    for job, home in zip(jobs, homes, strict=True):
        for source, count in Counter(home_of[name] for name in job.after).items():
            if source == home:
                inner[home] += count
            else:
                counts[home, source].append(count)
    arrows = [Arrow(source, home, len(each), min(each), max(each)) for (home, source), each in sorted(counts.items())]
    return arrows, inner
