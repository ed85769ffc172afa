"""Event files into the registry: any number of times, in any order, by several processes at once, while jobs write."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dbb.errors import IntegrityError
from dbb.registry import Database
from dbb.registry._connect import one_of
from dbb.registry._insert import insert_rows, run_many
from dbb.registry._runtables import event_log, pfw_job, task_message
from dbb.registry._tables import now, task
from dbb.registry.archives import archives
from dbb.registry.files import Refusal
from dbb.registry.runs import Run
from dbb.runs.eventfile import Chunk, Head, find_event_files, read_chunk, read_head
from dbb.runs.facts import Facts, JobRows, sort_events
from dbb.runs.files import FileWriter, register_places
from dbb.runs.relations import register_relations
from dbb.runs.states import RUNNING, STATUS_LOST
from dbb.runs.tasks import (
    begin_again,
    count_tries,
    end_children,
    end_tasks,
    find_jobs,
    leave_behind,
    moment,
    roll_up,
    write_execs,
    write_states,
)

BATCH = 10_000
"""Events that one transaction takes."""
_HEADS = 1_000
_LOG = (
    *("id", "path", "job_task_id", "trynum", "merged", "finished"),
    *("host", "pid", "username", "dbb", "python", "platform", "environment", "software"),
)
_MESSAGE = (
    *("task_id", "pfw_attempt_id", "message_time", "message_lvl", "ops_message_pattern_id", "message"),
    *("log_file", "log_line"),
)
Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did.

    Parameters
    ----------
    events
        Events that are in the registry now, and were not before.
    logs
        Event files that had some.
    files
        Files that were registered.
    lost
        Jobs that had ended without a word, and count as killed now.
    refused
        Event files that could not be merged, or not to their end, and why.
    """

    events: int = 0
    logs: int = 0
    files: int = 0
    lost: int = 0
    refused: tuple[Refusal, ...] = ()


def merge(
    db: Database,
    paths: Iterable[str | os.PathLike[str]],
    *,
    final: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Merged:
    """Bring what jobs wrote into their event files into the registry.

    Parameters
    ----------
    db
        The registry, which must know the runs: see `dbb.runs.begin_run`.
    paths
        Event files, and folders that hold some.
    final
        The jobs are known to be over: what they left running counts as killed.
    dry_run
        Only count what would be merged.
    progress
        Called with the number of events merged so far.

    Returns
    -------
    Merged
        What cannot be registered as an event says becomes an error message of its task, and nothing else is held up.

    Raises
    ------
    NotFoundError
        If one of `paths` is not there.
    DbbError
        If the registry refuses; what was merged before stays, and a repeat goes on there.

    Notes
    -----
    A transaction takes 10 000 events, of as many files as that needs, and notes with them how many bytes of each file
    are merged: so an event counts once, whoever merges, however often, wherever the file lies. Statements grow with
    batches and metadata tables. A last line without an end is left for later.
    """
    db.forget_filetypes()
    merger = _Merger(db, dry_run=dry_run, progress=progress)
    found = find_event_files(paths)
    while some := list(islice(found, _HEADS)):
        merger.take(some)
    merger.flush()
    if final and not dry_run:
        merger.finish()
    db.optimize(merger.files)
    return merger.result()


@dataclass(slots=True)
class _Applied:
    """What one transaction did: new events by file, files registered, event files of no job, and those that end."""

    events: dict[str, int]
    files: int
    strangers: list[Head]
    finished: Collection[str] = ()


class _Merger:
    def __init__(self, db: Database, *, dry_run: bool, progress: Progress | None) -> None:
        self._db, self._dry_run, self._progress = db, dry_run, progress
        self._writer = FileWriter(db)
        self._jobs: dict[tuple[Run, str], JobRows] = {}
        self._chunks: list[Chunk] = []
        self._waiting = 0
        self._seen: list[str] = []
        self._finished: set[str] = set()
        self._logs: set[str] = set()
        self._refused: dict[str, str] = {}
        self._done = Merged()
        self.files = 0

    def result(self) -> Merged:
        """Return what was done so far."""
        refused = tuple(Refusal(path, why) for path, why in self._refused.items())
        return replace(self._done, logs=len(self._logs), files=self.files, refused=refused)

    def take(self, paths: Sequence[Path]) -> None:
        """Read what is new in event files, and write as soon as there is enough of it."""
        heads = [head for path in paths if (head := self._head(path)) is not None]
        self._seen += [head.id for head in heads]
        with self._db.read() as conn:
            mine = one_of(event_log.c.id, [head.id for head in heads], conn.dialect.name)
            merged = {
                row.id: row.merged for row in conn.execute(sa.select(event_log.c.id, event_log.c.merged).where(mine))
            }
        for head in heads:
            try:
                self._read(head, merged.get(head.id, 0))
            except OSError as error:
                self._refused[str(head.path)] = error.strerror or str(error)

    def _head(self, path: Path) -> Head | None:
        try:
            return read_head(path)
        except (IntegrityError, OSError) as error:
            self._refused[str(path)] = getattr(error, "strerror", None) or str(error)
            return None

    def _read(self, head: Head, start: int) -> None:
        while str(head.path) not in self._refused:
            chunk = read_chunk(head, start, BATCH - self._waiting)
            if not chunk.events:
                return
            start = chunk.events[-1][0]
            self._chunks.append(chunk)
            self._waiting += len(chunk.events)
            if self._waiting >= BATCH:
                self.flush()

    def flush(self) -> None:
        """Write what was read."""
        if not self._chunks:
            return
        applied = self._preview() if self._dry_run else self._db.write(self._apply)
        for head in applied.strangers:
            why = f"the registry has no job {head.job} of run {head.run}: was it submitted with another one?"
            self._refused[str(head.path)] = why
        self._logs |= applied.events.keys()
        self._finished |= set(applied.finished)
        self._done = replace(self._done, events=self._done.events + sum(applied.events.values()))
        self.files += applied.files
        self._chunks, self._waiting = [], 0
        if self._progress is not None:
            self._progress(self._done.events)

    def _apply(self, conn: sa.Connection) -> _Applied:
        self._jobs |= find_jobs(conn, {(one.head.run, one.head.job) for one in self._chunks} - self._jobs.keys())
        pairs = [(one, self._jobs.get((one.head.run, one.head.job))) for one in self._chunks]
        strangers = [chunk.head for chunk, job in pairs if job is None]
        chunks = [(chunk, job) for chunk, job in pairs if job is not None]
        merged = _merged(conn, [chunk.head for chunk, _ in chunks])
        _note_logs(conn, chunks, merged)
        facts, events = Facts(), {}
        for chunk, job in sorted(chunks, key=lambda pair: pair[0].head.trynum):
            before, end = merged.get(chunk.head.id, 0), chunk.events[-1][0]
            # another merge may have come first, or have been undone: nothing is taken twice, and nothing left out
            if chunk.start <= before < end:
                sort_events(facts, chunk, job, before)
                merged[chunk.head.id] = end
                events[chunk.head.id] = sum(at > before for at, _ in chunk.events)
        files = self._write(conn, facts)
        _advance(conn, {number: merged[number] for number in events}, facts.finished)
        return _Applied(events, files, strangers, facts.finished & events.keys())

    def _preview(self) -> _Applied:
        with self._db.read() as conn:
            jobs = find_jobs(conn, {(one.head.run, one.head.job) for one in self._chunks})
        known = [one for one in self._chunks if (one.head.run, one.head.job) in jobs]
        files = sum(event is not None and "file" in event for one in known for _, event in one.events)
        strangers = [one.head for one in self._chunks if (one.head.run, one.head.job) not in jobs]
        return _Applied({one.head.id: len(one.events) for one in known}, files, strangers)

    def _write(self, conn: sa.Connection, facts: Facts) -> int:
        write_states(conn, facts.states)
        write_execs(conn, facts.execs)
        leave_behind(conn, facts)
        jobs = [job for job, _ in facts.jobs.values()]
        roll_up(conn, {job.block for job in jobs}, {job.root for job in jobs}, facts.began)
        made = self._writer.register(conn, facts)
        register_places(conn, archives(conn), made, facts)
        register_relations(conn, made, facts)
        if facts.junk:
            this = sa.update(pfw_job).where(pfw_job.c.task_id == sa.bindparam("task"))
            rows = [{"task": number, "junk": name} for number, name in facts.junk.items()]
            run_many(conn, this.values(junktar=sa.bindparam("junk")), rows)
        _insert_messages(conn, facts)
        return len(made.fresh)

    def finish(self) -> None:
        """End what jobs left running that are over and did not say so."""
        open_ended = [log for log in self._seen if log not in self._finished]
        for start in range(0, len(open_ended), _HEADS):
            some = open_ended[start : start + _HEADS]
            lost = self._db.write(partial(_end_lost, logs=some))
            self._done = replace(self._done, lost=self._done.lost + lost)


def _merged(conn: sa.Connection, heads: Sequence[Head]) -> dict[str, int]:
    mine = one_of(event_log.c.id, [head.id for head in heads], conn.dialect.name)
    return {row.id: row.merged for row in conn.execute(sa.select(event_log.c.id, event_log.c.merged).where(mine))}


def _note_logs(conn: sa.Connection, chunks: Sequence[tuple[Chunk, JobRows]], merged: Collection[str]) -> None:
    """Register event files that are new; a job of which they are a later try begins again."""
    jobs = {job.task: job for _, job in chunks}
    count_tries(conn, list(jobs.values()))
    before = {number: (job.tries, job.latest) for number, job in jobs.items()}
    heads = {chunk.head.id: (chunk.head, job) for chunk, job in reversed(chunks) if chunk.head.id not in merged}
    rows: list[tuple[Any, ...]] = []
    for head, job in heads.values():
        job.tries, job.latest = job.tries + 1, max(job.latest, head.trynum)
        rows.append((head.id, str(head.path.absolute()), job.task, head.trynum, 0, False, *_circumstances(head)))
    insert_rows(conn, event_log, _LOG, rows)
    begin_again(conn, [job for number, job in jobs.items() if before[number][0] and job.latest > before[number][1]])


def _circumstances(head: Head) -> tuple[object, ...]:
    said = head.event
    texts = {name: None if said.get(name) is None else str(said[name]) for name in ("host", "user", "dbb", "python")}
    system = None if said.get("platform") is None else str(said["platform"])
    pid = said.get("pid")
    whole = [json.dumps(said[name], sort_keys=True) if name in said else None for name in ("environment", "software")]
    number = int(pid) if isinstance(pid, int) and 0 <= pid < 2**31 else None
    return texts["host"], number, texts["user"], texts["dbb"], texts["python"], system, *whole


def _advance(conn: sa.Connection, merged: dict[str, int], finished: set[str]) -> None:
    if not merged:
        return
    rows = [{"log": number, "bytes": count, "over": number in finished} for number, count in merged.items()]
    run_many(conn, _set_merged(), rows)


@cache
def _set_merged() -> sa.Update:
    over = sa.or_(event_log.c.finished, sa.bindparam("over", type_=sa.Boolean))
    this = sa.update(event_log).where(event_log.c.id == sa.bindparam("log"))
    return this.values(merged=sa.bindparam("bytes"), finished=over)


def _insert_messages(conn: sa.Connection, facts: Facts) -> None:
    dialect, present = conn.dialect.name, now(conn.dialect.name)
    rows = [
        (one.task, one.attempt, present if one.time is None else moment(one.time, dialect), *one[3:])
        for one in (*facts.messages, *facts.complaints)
    ]
    insert_rows(conn, task_message, _MESSAGE, rows)


def _end_lost(conn: sa.Connection, logs: Sequence[str]) -> int:
    log, dialect = event_log.c, conn.dialect.name
    later = event_log.alias("later")
    superseded = sa.exists().where(later.c.job_task_id == log.job_task_id, later.c.trynum > log.trynum)
    mine = sa.and_(one_of(log.id, list(logs), dialect), sa.not_(log.finished))
    select = (
        sa.select(log.job_task_id, pfw_job.c.pfw_block_task_id, task.c.root_task_id)
        .where(mine, sa.not_(superseded), task.c.id == log.job_task_id, pfw_job.c.task_id == log.job_task_id)
        .where(task.c.state == RUNNING)
        .distinct()
    )
    jobs = conn.execute(select).all()
    numbers = [job.job_task_id for job in jobs]
    conn.execute(sa.update(event_log).where(mine).values(finished=True))
    if not jobs:
        return 0
    end_tasks(conn, one_of(task.c.id, numbers, dialect), STATUS_LOST, "it ended without a word")
    steps = sa.select(task.c.id).where(one_of(task.c.parent_task_id, numbers, dialect))
    end_children(conn, numbers)
    end_children(conn, conn.scalars(steps).all())
    roll_up(conn, {job.pfw_block_task_id for job in jobs}, {job.root_task_id for job in jobs}, {})
    return len(jobs)
