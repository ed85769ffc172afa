"""The job file: all that a job needs, as data. Read, checked, and given names here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from dbb.errors import NotFoundError, SchemaVersionError, UsageError
from dbb.filetypes import Filetype, filetype_from_dict
from dbb.jobs.entry import Entry
from dbb.jobs.messages import MessageRules
from dbb.jobs.process import Limits

SCHEMA = 1
SAVING = ("file", "always", "never", "failure")
COMPRESSION = ("file", "never", "success")
PURGING = ("success", "always", "never")
Argument: TypeAlias = "str | Mapping[str, Any]"


@dataclass(frozen=True, slots=True)
class Input:
    """A file that a step reads, as the workflow says; `untar` is whether it is a tar to be unpacked beside itself."""

    nick: str
    filename: str
    fullname: str
    rename: str | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    untar: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """A file that a step writes, as the workflow says; `also` are names that the writer may spell it by."""

    nick: str
    filename: str
    fullname: str
    archivepath: str | None = None
    filetype: str | None = None
    save: bool = True
    compress: bool = False
    optional: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    also: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ListText:
    """A list file; without a text it must be there already."""

    name: str
    fullname: str
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Exec:
    """One program that a step runs.

    Parameters
    ----------
    number
        Counts from 1 in the step.
    execname
        What patterns and provenance call it.
    argv
        Its command line; header values in it are still to be looked up.
    version_flag, version_pattern
        How it is asked for its version, and what finds that in the answer.
    used, generated
        Names of files.
    ancestry
        Which files derive from which: pairs of parents and children.
    """

    number: int
    execname: str
    argv: Sequence[Argument]
    version_flag: str | None
    version_pattern: str | None
    used: Sequence[str]
    generated: Sequence[str]
    ancestry: Sequence[tuple[Sequence[str], Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Step:
    """One quantum of a module.

    Parameters
    ----------
    entry
        It as the job file has it, for plug-ins.
    """

    module: str
    wrapnum: int
    inputs: Sequence[Input]
    outputs: Sequence[Output]
    lists: Sequence[ListText]
    execs: Sequence[Exec]
    log: str
    log_archivepath: str | None
    entry: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JobRepo:
    """The repository of a job, for plug-ins that prepare it.

    Parameters
    ----------
    work
        The work folder.
    folder
        What tasks are given as their repository, relative to `work`.
    manifest
        What it shall hold.
    """

    work: Path
    folder: str
    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RepositoryEntry:
    """The part ``repository`` of a job file."""

    folder: str
    manifest: Mapping[str, Any]
    module: str
    wrapnum: int | None


@dataclass(frozen=True, slots=True)
class Options:
    """How a job treats failures and files; the names are DESDM's."""

    stop_on_fail: bool = True
    create_junk_tarball: bool = True
    master_savefiles: str = "file"
    master_compression: str = "file"
    purge_job_dir: str = "success"


@dataclass(frozen=True, slots=True)
class JobFile:
    """A whole job file."""

    run: Mapping[str, Any]
    name: str
    steps: Sequence[Step]
    parallel: Mapping[str, int]
    archives: Mapping[str, str]
    home: str | None
    filetypes: Mapping[str, Filetype]
    repository: RepositoryEntry | None
    rules: MessageRules
    options: Options
    setup: str | None
    limits: Limits


def read_job(path: Path) -> JobFile:
    """Read a job file.

    Raises
    ------
    NotFoundError
        If there is none.
    UsageError
        If it is no job file, or something in it is wrong; says what and where.
    SchemaVersionError
        If a newer dbb wrote it.
    UnsafePathError
        If a path leaves the work folder.
    """
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFoundError("job file", str(path), hint="'dbb submit' writes it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"job file {path} cannot be read: {error}") from error
    entry = Entry(data, f"job file {path}")
    if entry.number("schema", SCHEMA) != SCHEMA:
        raise SchemaVersionError(
            f"{path} has schema {data['schema']}, this dbb reads {SCHEMA}: use the dbb that wrote it"
        )
    job = Entry(entry.table("job"), f"{entry.place}, job")
    archives = {
        name: Entry(entry.table("archives"), f"{entry.place}, archives").place_text(name)
        for name in entry.table("archives")
    }
    return JobFile(
        run=_run(entry),
        name=job.name("name"),
        steps=_steps(entry),
        parallel={
            name: Entry(job.table("parallel"), f"{job.place}, parallel").number(name) for name in job.table("parallel")
        },
        archives=archives,
        home=_home(entry, archives),
        filetypes={name: filetype_from_dict(name, one) for name, one in entry.table("filetypes").items()},
        repository=_repository(entry),
        rules=MessageRules.from_dict(entry.table("messages")),
        options=read_options(entry.table("options"), f"{entry.place}, options"),
        setup=None if entry.value.get("setup") is None else entry.place_text("setup"),
        limits=read_limits(entry.table("limits"), f"{entry.place}, limits"),
    )


def _run(entry: Entry) -> Mapping[str, Any]:
    run = Entry(entry.table("run"), f"{entry.place}, run")
    named = {
        "reqnum": run.number("reqnum", 0),
        "unitname": run.name("unitname", "unit"),
        "attnum": run.number("attnum", 0),
    }
    return {**run.value, **named}


def _home(entry: Entry, archives: Mapping[str, str]) -> str | None:
    home = entry.maybe_text("home")
    if home is not None and home not in archives:
        raise NotFoundError("archive", home, archives, f"{entry.place} names it as home")
    return home


def _steps(entry: Entry) -> list[Step]:
    steps = [read_step(one.value, one.place) for one in entry.entries("steps")]
    numbers = [step.wrapnum for step in steps]
    if len(set(numbers)) != len(numbers):
        raise UsageError(f"{entry.place}: two steps have the same wrapnum")
    return steps


def _repository(entry: Entry) -> RepositoryEntry | None:
    if entry.value.get("repository") is None:
        return None
    part = Entry(entry.table("repository"), f"{entry.place}, repository")
    wrapnum = None if part.value.get("wrapnum") is None else part.number("wrapnum")
    return RepositoryEntry(
        part.path("dir"), part.table("manifest"), part.text("module", "create_butler_registry"), wrapnum
    )


def read_options(data: object, place: str = "options") -> Options:
    """Read the part ``options``; `place` is named in messages.

    Raises
    ------
    UsageError
        If a value makes no sense.
    """
    entry = Entry(data, place)
    return Options(
        entry.flag("stop_on_fail", default=True),
        entry.flag("create_junk_tarball", default=True),
        entry.choice("master_savefiles", SAVING),
        entry.choice("master_compression", COMPRESSION),
        entry.choice("purge_job_dir", PURGING),
    )


def read_limits(data: object, place: str = "limits") -> Limits:
    """Read the part ``limits``; `place` is named in messages.

    Raises
    ------
    UsageError
        If a value is no positive number.
    """
    entry = Entry(data, place)
    return Limits(entry.maybe_number("seconds"), entry.maybe_number("memory_mb"))


def read_step(data: object, place: str = "step") -> Step:
    """Read one step. All but ``argv`` may be missing; `place` is named in messages.

    Raises
    ------
    UsageError, UnsafePathError
        If something in it is wrong.
    """
    entry = Entry(data, place)
    module = entry.text("module", "step")
    step = Step(
        module=module,
        wrapnum=entry.number("wrapnum", 1),
        inputs=[_input(one) for one in entry.entries("inputs")],
        outputs=[_output(one) for one in entry.entries("outputs")],
        lists=[
            ListText(one.text("name"), one.path("fullname"), one.maybe_text("text")) for one in entry.entries("lists")
        ],
        execs=[],
        log=entry.path("log", f"log/{module}.log"),
        log_archivepath=entry.path("log_archivepath") if entry.value.get("log_archivepath") is not None else None,
        entry=entry.value,
    )
    return _with_execs(step, entry)


def _input(entry: Entry) -> Input:
    fullname = entry.path("fullname")
    rename = entry.name("rename") if entry.value.get("rename") is not None else None
    name = entry.text("filename", fullname.rpartition("/")[2])
    return Input(entry.text("nick", name), name, fullname, rename, _source(entry), entry.flag("untar", default=False))


def _source(entry: Entry) -> Mapping[str, Any]:
    source = entry.table("source")
    if source:
        part = Entry(source, f"{entry.place}, source")
        part.text("archive")
        part.path("relpath")
        if source.get("filesize") is not None:
            part.number("filesize")
        part.maybe_text("md5sum")
    return source


def _output(entry: Entry) -> Output:
    fullname = entry.path("fullname")
    name = entry.name("filename", fullname.rpartition("/")[2])
    return Output(
        nick=entry.text("nick", name),
        filename=name,
        fullname=fullname,
        archivepath=entry.path("archivepath") if entry.value.get("archivepath") else None,
        filetype=entry.maybe_text("filetype"),
        save=entry.flag("save", default=True),
        compress=entry.flag("compress", default=False),
        optional=entry.flag("optional", default=False),
        metadata=entry.table("metadata"),
        also=[entry.inner_path(path, "also") for path in entry.texts("also")],
    )


def _with_execs(step: Step, entry: Entry) -> Step:
    commands = entry.items("argv")
    if not all(isinstance(words, list) and words and all(_is_argument(word) for word in words) for words in commands):
        raise UsageError(f"{entry.place}: 'argv' must be a list of command lines, each a list of words")
    given = entry.entries("execs") or [Entry({}, entry.place) for _ in commands]
    if len(given) != len(commands):
        raise UsageError(f"{entry.place}: it has {len(commands)} command lines and {len(given)} execs")
    used = [one.filename for one in step.inputs]
    generated = [one.filename for one in step.outputs]
    execs = []
    for number, (words, one) in enumerate(zip(commands, given, strict=True), start=1):
        first = words[0] if isinstance(words[0], str) else f"exec_{number}"
        execs.append(
            Exec(
                number=number,
                execname=one.text("execname", first),
                argv=words,
                version_flag=one.maybe_text("version_flag"),
                version_pattern=one.maybe_text("version_pattern"),
                used=one.texts("used") if "used" in one.value else used,
                # nobody said which program makes what: all is there when the last has ended
                generated=one.texts("generated") if "generated" in one.value else generated * (number == len(commands)),
                ancestry=[_pair(pair, one.place) for pair in one.items("ancestry")],
            )
        )
    fields = {name: getattr(step, name) for name in step.__slots__}
    return Step(**{**fields, "execs": execs})


def _is_argument(word: object) -> bool:
    if isinstance(word, str):
        return "\0" not in word
    if not isinstance(word, Mapping) or len(word) != 1:
        return False
    if "join" in word:
        return isinstance(word["join"], list) and all(_is_argument(one) for one in word["join"])
    head = word.get("head")
    return (
        isinstance(head, Mapping)
        and isinstance(head.get("file"), str)
        and isinstance(head.get("keys"), list)
        and bool(head["keys"])
        and all(isinstance(key, str) for key in head["keys"])
    )


def _pair(pair: object, place: str) -> tuple[Sequence[str], Sequence[str]]:
    if isinstance(pair, list) and len(pair) == 2 and all(isinstance(side, list) for side in pair):
        parents, children = pair
        if all(isinstance(name, str) for name in (*parents, *children)):
            return parents, children
    raise UsageError(f"{place}: 'ancestry' must hold pairs of lists of names, not {str(pair)[:80]!r}")
