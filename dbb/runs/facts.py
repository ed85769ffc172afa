"""Events sorted into what they say: states of tasks, programs, files and their places, relations, messages."""

from __future__ import annotations

import datetime as dt
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any, NamedTuple

from dbb.patterns import is_safe_path
from dbb.registry._runtables import RUSAGE
from dbb.runs.eventfile import Chunk, Event
from dbb.runs.states import BLOCKED, ERROR, RUNNING, STATES
from dbb.sky import Corners

_CORNERS = fields(Corners)
_MOST = {31: 2**31, 63: 2**63}
_MOST_TEXT = 4000  # of a message, as DESDM


@dataclass(slots=True)
class JobRows:
    """The rows of a job: ids of its attempt, of the tasks above it and of its own, and of the tasks below it.

    `wrappers` are by wrapnum, `execs` by the task id of their wrapper and their number. `latest` is the last try that
    is known of, and `tries` how many event files are.
    """

    attempt: int
    root: int
    block: int
    task: int
    wrappers: dict[int, int] = field(default_factory=dict)
    execs: dict[tuple[int, int], int] = field(default_factory=dict)
    latest: int = 0
    tries: int = 0


class State(NamedTuple):
    """The last that was said of a task; `start` and `host` are None where that was said before."""

    state: str
    reason: str | None
    status: int | None
    start: float | None
    end: float | None
    host: str | None


class Made(NamedTuple):
    """A file that a task made; `owner` is the step or job that it belongs to."""

    job: JobRows
    owner: int
    task: int
    filename: str
    compression: str
    filetype: str
    filesize: int | None
    md5sum: str | None
    sha256: str | None
    metadata: Mapping[str, Any]
    corners: tuple[float, ...] | None


class Saved(NamedTuple):
    """A file that was put into an archive; `latest` says that no later try at the job is known."""

    job: JobRows
    owner: int
    filename: str
    compression: str
    archive: str
    relpath: str
    latest: bool


class Used(NamedTuple):
    """A file that a task read."""

    job: JobRows
    owner: int
    task: int
    filename: str
    compression: str
    archive: str | None
    relpath: str | None


class Derived(NamedTuple):
    """A file that was made from another; both are names with compressions."""

    job: JobRows
    owner: int
    task: int
    parent: tuple[str, str]
    child: tuple[str, str]


class Compressed(NamedTuple):
    """A file that was compressed, or could not be (`target` is None); both are names with compressions."""

    job: JobRows
    owner: int
    time: float
    source: tuple[str, str]
    target: tuple[str, str] | None
    argv: tuple[str, ...]


class Message(NamedTuple):
    """Something that an operator may want to see."""

    task: int
    attempt: int
    time: float | None
    level: int
    pattern: int | None
    text: str
    file: str | None = None
    line: int | None = None


@dataclass(slots=True)
class Facts:
    """All that a batch of events says, in order."""

    states: dict[int, State] = field(default_factory=dict)
    jobs: dict[int, tuple[JobRows, State]] = field(default_factory=dict)
    steps: dict[int, State] = field(default_factory=dict)
    began: dict[int, float] = field(default_factory=dict)
    execs: dict[int, dict[str, Any]] = field(default_factory=dict)
    made: list[Made] = field(default_factory=list)
    saved: list[Saved] = field(default_factory=list)
    used: list[Used] = field(default_factory=list)
    derived: list[Derived] = field(default_factory=list)
    compressed: list[Compressed] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    complaints: dict[Message, None] = field(default_factory=dict)
    junk: dict[int, str] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)

    def complain(self, job: JobRows, task: int, text: str, level: int = ERROR) -> None:
        """Note, once, that something of the job's report cannot be registered as it is."""
        self.complaints[Message(task, job.attempt, None, level, None, text[:_MOST_TEXT])] = None


def sort_events(facts: Facts, chunk: Chunk, job: JobRows, after: int) -> None:
    """Add what the events of `chunk` behind the byte `after` say."""
    sorter = _Sorter(facts, chunk, job)
    for end, event in chunk.events:
        if end > after:
            try:
                sorter.take(event)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                where = f"the event that ends at byte {end} of {chunk.head.path.name}"
                facts.complain(job, job.task, f"{where} cannot be understood ({type(error).__name__}: {error})")


class _Sorter:
    def __init__(self, facts: Facts, chunk: Chunk, job: JobRows) -> None:
        self._facts, self._job, self._log = facts, job, chunk.head.id
        host = chunk.head.event.get("host")
        self._host = None if host is None else str(host)
        # what an earlier try said of states no longer holds
        self._latest = chunk.head.trynum >= job.latest

    def take(self, event: Event | None) -> None:
        if event is None:
            raise ValueError("it is no JSON object")
        step = event["step"]
        owner = self._job.task if step is None else self._job.wrappers.get(step)
        if owner is None:
            raise ValueError(f"the job has no step {step}")
        if "state" in event:
            self._state(event, step, owner)
        elif "file" in event:
            self._file(event, step, owner)
        elif "saved" in event:
            one = event["saved"]
            place = str(one["archive"]), str(one["relpath"])
            self._facts.saved.append(Saved(self._job, owner, *_name(one), *place, self._latest))
        elif "used" in event:
            self._used(event, owner)
        elif "derived" in event:
            task = self._task(event, owner)
            pairs = [(_name(one["parent"]), _name(one["child"])) for one in event["derived"]]
            self._facts.derived += [Derived(self._job, owner, task, *pair) for pair in pairs]
        elif "message" in event:
            self._message(event, owner)
        elif "compressed" in event:
            self._compressed(event, owner)

    def _task(self, event: Event, owner: int) -> int:
        number = event.get("exec")
        return owner if number is None else self._job.execs.get((owner, number), owner)

    def _state(self, event: Event, step: int | None, owner: int) -> None:
        state = event["state"]
        if state not in STATES:
            raise ValueError(f"there is no state {state!r}")
        time, number = _time(event["t"]), event.get("exec")
        if step is None and state != RUNNING:
            self._facts.finished.add(self._log)
        if not self._latest:
            return
        if number is not None:
            self._exec(event, owner, number, time)
            return
        if state == RUNNING:
            said = State(state, None, None, time, None, self._host)
        else:
            end, status = (None, None) if state == BLOCKED else (time, _int(event.get("status")))
            said = State(state, _reason(event), status, None, end, None)
        self._facts.states[owner] = _joined(self._facts.states.get(owner), said)
        if step is not None:
            self._facts.steps[owner] = said
            return
        self._facts.jobs[owner] = self._job, said
        if state == RUNNING:
            for whole in (self._job.block, self._job.root):
                self._facts.began[whole] = min(time, self._facts.began.get(whole, time))

    def _exec(self, event: Event, owner: int, number: int, time: float) -> None:
        task = self._job.execs.get((owner, number))
        if task is None:
            raise ValueError(f"the step has no exec {number}")
        state, known = event["state"], self._facts.execs.setdefault(task, {})
        if "argv" in event:
            known["cmdargs"] = shlex.join(str(word) for word in event["argv"][1:])
        if "version" in event:
            known["version"] = _text(event["version"])
        for name, value in event.get("rusage", {}).items():
            if (column := name.removeprefix("ru_")) in RUSAGE:
                known[column] = float(value) if column in {"stime", "utime"} else _int(value, 63)
        if state == RUNNING:
            said = State(state, None, None, time, None, self._host)
        else:
            start = event.get("start")
            start, end = None if start is None else _time(start), _time(event.get("end", time))
            said = State(state, _reason(event), _int(event.get("status")), start, end, None)
        self._facts.states[task] = _joined(self._facts.states.get(task), said)

    def _file(self, event: Event, step: int | None, owner: int) -> None:
        made = self._made(event["file"], owner, self._task(event, owner))
        self._facts.made.append(made)
        if step is None and made.filetype == "junk_tar":
            self._facts.junk[owner] = made.filename + made.compression

    def _made(self, one: Mapping[str, Any], owner: int, task: int) -> Made:
        metadata, corners = one.get("metadata") or {}, one.get("corners")
        return Made(
            self._job,
            owner,
            task,
            *_name(one),
            str(one.get("filetype") or "genfile").lower(),
            _int(one.get("filesize"), 63),
            _text(one.get("md5sum")),
            _text(one.get("sha256")),
            {str(key).lower(): value for key, value in metadata.items()},
            None if corners is None else _corners(corners),
        )

    def _used(self, event: Event, owner: int) -> None:
        task = self._task(event, owner)
        for one in event["used"]:
            archive, relpath = one.get("archive"), one.get("relpath")
            known = archive is not None and relpath is not None and is_safe_path(str(relpath))
            place = (str(archive), str(relpath)) if known else (None, None)
            self._facts.used.append(Used(self._job, owner, task, *_name(one), *place))

    def _compressed(self, event: Event, owner: int) -> None:
        one = event["compressed"]
        target = None if one.get("status") else _name(one["to"])
        argv = tuple(str(word) for word in one.get("argv") or ())
        source = _name(one["from"])
        self._facts.compressed.append(Compressed(self._job, owner, _time(event["t"]), source, target, argv))

    def _message(self, event: Event, owner: int) -> None:
        one = event["message"]
        level = _int(one["level"])
        if level not in {1, 2, 3}:
            raise ValueError(f"there is no level {level!r}")
        self._facts.messages.append(
            Message(
                owner,
                self._job.attempt,
                _stamp(one.get("time")) or _time(event["t"]),
                level,
                _int(one.get("pattern")),
                str(one["text"])[:_MOST_TEXT],
                _text(one.get("file")),
                _int(one.get("line")),
            )
        )


def _joined(before: State | None, said: State) -> State:
    """Return what holds after `said`: when and where a task began is said once."""
    if before is None or said.state == RUNNING:
        return said
    start = before.start if said.start is None else said.start
    return said._replace(start=start, host=before.host)


def _name(one: Mapping[str, Any]) -> tuple[str, str]:
    return str(one["filename"]), str(one.get("compression") or "")


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _corners(values: Any) -> tuple[float, ...]:
    found = tuple(float(value) for value in values)
    if len(found) != len(_CORNERS) or not all(map(isfinite, found)):
        raise ValueError(f"corners are {len(_CORNERS)} numbers")
    return found


def _time(value: Any) -> float:
    time = float(value)
    if not 0 <= time < 2**33:
        raise ValueError(f"{value!r} is no time")
    return time


def _int(value: Any, bits: int = 31) -> int | None:
    if value is None:
        return None
    number = int(value)
    if not -_MOST[bits] <= number < _MOST[bits]:
        raise ValueError(f"{value!r} does not fit")
    return number


def _reason(event: Event) -> str | None:
    text = event.get("reason") or ("" if event.get("by") is None else f"step {event['by']} did not succeed")
    return str(text)[:_MOST_TEXT] or None


def _stamp(text: object) -> float | None:
    """Return the moment that a time stamp in a message stands for, if it is one."""
    try:
        return dt.datetime.fromisoformat(str(text)).replace(tzinfo=dt.UTC).timestamp()
    except (ValueError, OverflowError):
        return None
