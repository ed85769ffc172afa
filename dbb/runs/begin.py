"""Beginning a run: its attempt and the rows of all its blocks, jobs, steps and programs, before anything starts."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import sqlalchemy as sa

from dbb.errors import ConflictError, UsageError
from dbb.pipeline.workflow import Instance, Job, Workflow
from dbb.registry import Database
from dbb.registry._insert import insert_missing, insert_rows, take_ids
from dbb.registry._runtables import (
    attempt_state,
    pfw_attempt_label,
    pfw_attempt_val,
    pfw_block,
    pfw_exec,
    pfw_job,
    pfw_wrapper,
    planned_file,
)
from dbb.registry._tables import now, pfw_attempt, pfw_request, pfw_unit, task
from dbb.registry.relpaths import COMPRESSIONS
from dbb.registry.runs import Run, full_run, run_condition
from dbb.runs.find import find_run
from dbb.runs.states import READY, UNREADY

SUBMIT_SITE = "submitsite"
"""The setting of an attempt that says on which machine it was begun."""
_BATCH = 50_000
_TASK = ("id", "name", "label", "info_table", "parent_task_id", "root_task_id", "state")
_BLOCK = ("task_id", "pfw_attempt_id", "blknum", "name", "modulelist", "numexpjobs", "target_site")
_JOB = ("task_id", "pfw_attempt_id", "pfw_block_task_id", "jobnum", "jobkeys", "expect_num_wrap")
_WRAPPER = (
    *("task_id", "pfw_attempt_id", "pfw_block_task_id", "pfw_job_task_id"),
    *("wrapnum", "name", "modname", "wrapkeys", "log"),
)
_EXEC = (
    *("task_id", "pfw_attempt_id", "pfw_block_task_id", "pfw_job_task_id", "pfw_wrapper_task_id"),
    *("execnum", "name"),
)
_PLANNED = ("task_id", "position", "pfw_attempt_id", "filename", "filetype", "path", "saved", "optional")
_REQUEST = ("project", "jira_id", "pipeline", "campaign")


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt of the registry: the id of its row, and the run that it is."""

    id: int
    run: Run


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a run is for, as operators look for it.

    Parameters
    ----------
    project, jira_id, pipeline, campaign
        Of its request; what the request has already stays.
    labels
        Words that group runs.
    values
        Settings worth remembering, by name.
    archive_path
        Folder of the run's files below the archive's root.
    sites
        Where its jobs run, by block.
    more
        Further columns of its row in pfw_attempt, by name: ``basket``, ``group_submit_id`` and the like.
    """

    project: str | None = None
    jira_id: str | None = None
    pipeline: str | None = None
    campaign: str | None = None
    labels: Sequence[str] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    archive_path: str | None = None
    sites: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, str] = field(default_factory=dict)


def reserve_attempt(db: Database, reqnum: int, unitname: str, *, operator: str) -> Attempt:
    """Take the next attempt number of a request and unit: the largest so far plus one, which nobody else will get.

    Raises
    ------
    UsageError
        If the unit's name cannot be part of a run's.
    """
    full_run(str(Run(unitname, reqnum, 1)))

    def work(conn: sa.Connection) -> Attempt:
        run = Run(unitname, reqnum, _next_number(conn, reqnum, unitname))
        return Attempt(_insert_attempt(conn, run, operator, Purpose()), run)

    return db.write(work)


def next_attempt(db: Database, reqnum: int, unitname: str) -> int:
    """Return the attempt number that `reserve_attempt` would take now, without taking it."""
    with db.read() as conn:
        return _next_number(conn, reqnum, unitname)


def _next_number(conn: sa.Connection, reqnum: int, unitname: str) -> int:
    mine = (pfw_attempt.c.reqnum == reqnum) & (pfw_attempt.c.unitname == unitname)
    return (conn.scalar(sa.select(sa.func.max(pfw_attempt.c.attnum)).where(mine)) or 0) + 1


def attempt_values(db: Database, run: str) -> dict[str, str]:
    """Return the settings that were remembered with a run.

    Raises
    ------
    UsageError, NotFoundError, AmbiguousError
        If `run` is none, or several.
    """
    with db.read() as conn:
        mine = pfw_attempt_val.c.pfw_attempt_id == find_run(conn, run).id
        rows = conn.execute(sa.select(pfw_attempt_val.c.key, pfw_attempt_val.c.val).where(mine))
        return {key: value for key, value in rows}  # noqa: C416  # dict() of rows has no type


def begin_run(
    db: Database, workflow: Workflow, *, operator: str, purpose: Purpose | None = None, reserved: Attempt | None = None
) -> Attempt:
    """Register a run with all that it will do, in state ``ready`` or ``unready``.

    Parameters
    ----------
    db
        The registry.
    workflow
        What was planned.
    operator
        Who runs it.
    purpose
        What it is for.
    reserved
        What `reserve_attempt` gave, if the plan was made for that.

    Raises
    ------
    ConflictError
        If the attempt exists already; nothing was changed.
    UsageError
        If the workflow says no run, or another one than was reserved.

    Notes
    -----
    One transaction; statements grow with batches of 50 000 rows.
    """
    run = _run_of(workflow)
    if reserved is not None and reserved.run != run:
        raise UsageError(f"the workflow is of {run}, but {reserved.run} was reserved for it")
    given = purpose or Purpose()

    def work(conn: sa.Connection) -> Attempt:
        attempt = _take(conn, run, reserved, operator, given)
        _insert_tree(conn, attempt, workflow, given.sites)
        return attempt

    return db.write(work)


def _run_of(workflow: Workflow) -> Run:
    said = workflow.run
    try:
        run = Run(str(said["unitname"]), int(said["reqnum"]), int(said["attnum"]))
    except (KeyError, ValueError) as error:
        raise UsageError(f"the workflow says no run (reqnum, unitname, attnum), but {dict(said)}") from error
    return full_run(str(run))


def _take(conn: sa.Connection, run: Run, reserved: Attempt | None, operator: str, purpose: Purpose) -> Attempt:
    there = conn.execute(sa.select(pfw_attempt.c.id, pfw_attempt.c.task_id).where(run_condition(run))).one_or_none()
    if there is None:
        return Attempt(_insert_attempt(conn, run, operator, purpose), run)
    if reserved is None or there.id != reserved.id or there.task_id is not None:
        raise ConflictError(f"run {run} exists already: choose another attempt number")
    _describe(conn, there.id, run, purpose)
    return reserved


def _insert_attempt(conn: sa.Connection, run: Run, operator: str, purpose: Purpose) -> int:
    moment = now(conn.dialect.name)
    insert_missing(conn, pfw_request, [{"reqnum": run.reqnum, "created_date": moment, "created_by": operator}])
    insert_missing(conn, pfw_unit, [{"reqnum": run.reqnum, "unitname": run.unitname}])
    values = {**run.values, "operator": operator, "submittime": moment, "created_date": moment, "created_by": operator}
    made = int(conn.execute(sa.insert(pfw_attempt).values(values).returning(pfw_attempt.c.id)).scalar_one())
    conn.execute(sa.insert(attempt_state).values(pfw_attempt_id=made))
    _describe(conn, made, run, purpose)
    return made


def _describe(conn: sa.Connection, attempt: int, run: Run, purpose: Purpose) -> None:
    said = {name: getattr(purpose, name) for name in _REQUEST if getattr(purpose, name) is not None}
    if said:
        kept = {name: sa.func.coalesce(pfw_request.c[name], value) for name, value in said.items()}
        conn.execute(sa.update(pfw_request).where(pfw_request.c.reqnum == run.reqnum).values(kept))
    columns = dict(purpose.more) | ({} if purpose.archive_path is None else {"archive_path": purpose.archive_path})
    if columns:
        conn.execute(sa.update(pfw_attempt).where(pfw_attempt.c.id == attempt).values(columns))
    insert_missing(conn, pfw_attempt_label, [{"pfw_attempt_id": attempt, "label": one} for one in purpose.labels])
    known = {SUBMIT_SITE: platform.node(), **purpose.values}
    values = [{"pfw_attempt_id": attempt, "key": key, "val": value} for key, value in known.items()]
    insert_missing(conn, pfw_attempt_val, values)


def _insert_tree(conn: sa.Connection, attempt: Attempt, workflow: Workflow, sites: Mapping[str, str]) -> None:
    blocks = list(dict.fromkeys(job.block for job in workflow.jobs))
    execs = sum(len(one.argv) for one in workflow.instances)
    ids = take_ids(conn, task, 1 + len(blocks) + len(workflow.jobs) + len(workflow.instances) + execs)
    tree = _Tree(attempt, workflow, blocks, sites, iter(ids))
    for table, columns, rows in (
        # parents before children, for the foreign keys
        (task, _TASK, tree.tasks()),
        (pfw_block, _BLOCK, tree.blocks()),
        (pfw_job, _JOB, tree.jobs()),
        (pfw_wrapper, _WRAPPER, tree.wrappers()),
        (pfw_exec, _EXEC, tree.execs()),
        (planned_file, _PLANNED, tree.planned()),
    ):
        while some := list(islice(rows, _BATCH)):
            insert_rows(conn, table, columns, some)
    values = {"task_id": tree.root, "numexpblk": len(blocks)}
    conn.execute(sa.update(pfw_attempt).where(pfw_attempt.c.id == attempt.id).values(values))


_Row = tuple[object, ...]


class _Tree:
    """The rows of a workflow's tasks; `tasks` numbers them, so it comes first."""

    def __init__(
        self,
        attempt: Attempt,
        workflow: Workflow,
        blocks: Sequence[str],
        sites: Mapping[str, str],
        ids: Iterator[int],
    ) -> None:
        self.root = next(ids)
        self._attempt, self._workflow, self._sites, self._ids = attempt, workflow, sites, ids
        self._blocks = {block: next(ids) for block in blocks}
        self._jobs = {job.name: next(ids) for job in workflow.jobs}
        self._wrappers = {wrapnum: next(ids) for job in workflow.jobs for wrapnum in job.wrapnums}
        self._execs: dict[int, list[int]] = {}

    def _instances(self) -> Iterator[tuple[Job, Instance]]:
        return ((job, one) for job in self._workflow.jobs for one in self._workflow.instances_of(job))

    def tasks(self) -> Iterator[_Row]:
        """Give the tasks, parents first."""
        root, states = self.root, {}
        for job in self._workflow.jobs:
            states[job.name] = UNREADY if job.after else READY
        yield root, "attempt", str(self._attempt.run), "pfw_attempt", None, root, READY
        ready = {job.block for job in self._workflow.jobs if not job.after}
        for block, number in self._blocks.items():
            yield number, "block", block, "pfw_block", root, root, READY if block in ready else UNREADY
        for job in self._workflow.jobs:
            parent = self._blocks[job.block]
            yield self._jobs[job.name], "job", job.name, "pfw_job", parent, root, states[job.name]
        for job, one in self._instances():
            parent, number, state = self._jobs[job.name], self._wrappers[one.wrapnum], states[job.name]
            yield number, "wrapper", one.module, "pfw_wrapper", parent, root, state
            numbers = self._execs[one.wrapnum] = [next(self._ids) for _ in one.argv]
            for position, (exec_id, argv) in enumerate(zip(numbers, one.argv, strict=True), 1):
                yield exec_id, f"exec_{position}", _program(argv), "pfw_exec", number, root, state

    def blocks(self) -> Iterator[_Row]:
        """Give the blocks."""
        modules: dict[str, dict[str, None]] = {}
        for one in self._workflow.instances:
            modules.setdefault(one.block, {})[one.module] = None
        for number, (block, task_id) in enumerate(self._blocks.items(), 1):
            jobs = sum(job.block == block for job in self._workflow.jobs)
            names = ",".join(modules.get(block, ()))
            yield task_id, self._attempt.id, number, block, names, jobs, self._sites.get(block)

    def jobs(self) -> Iterator[_Row]:
        """Give the jobs."""
        for job in self._workflow.jobs:
            where = self._jobs[job.name], self._attempt.id, self._blocks[job.block]
            yield (*where, job.jobnum, _keys(job.keys), len(job.wrapnums))

    def wrappers(self) -> Iterator[_Row]:
        """Give the steps."""
        for job, one in self._instances():
            where = self._attempt.id, self._blocks[job.block], self._jobs[job.name]
            program = _program(one.argv[0]) if one.argv else None
            log = one.log.rpartition("/")[2] or None
            yield self._wrappers[one.wrapnum], *where, one.wrapnum, program, one.module, _keys(one.loop), log

    def execs(self) -> Iterator[_Row]:
        """Give the programs."""
        for job, one in self._instances():
            where = self._attempt.id, self._blocks[job.block], self._jobs[job.name], self._wrappers[one.wrapnum]
            for number, argv in enumerate(one.argv, 1):
                yield self._execs[one.wrapnum][number - 1], *where, number, _program(argv)

    def planned(self) -> Iterator[_Row]:
        """Give the files that steps are to make."""
        for one in self._workflow.instances:
            for position, output in enumerate(one.outputs):
                filename = output.filename
                for suffix in COMPRESSIONS:
                    filename = filename.removesuffix(suffix)
                facts = output.filetype, output.archivepath, output.save, output.optional
                yield self._wrappers[one.wrapnum], position, self._attempt.id, filename, *facts


def _keys(values: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in values.items())


def _program(argv: Sequence[object]) -> str | None:
    return argv[0] if argv and isinstance(argv[0], str) else None
