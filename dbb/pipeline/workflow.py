"""A workflow: what must run, as plain values that any engine can start and JSON can carry.

What a plan holds by the hundred thousand are named tuples: they are made in a third of a frozen dataclass's time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from dbb.pipeline.traits import ModuleTraits

Argument: TypeAlias = "str | dict[str, Any]"
"""A word of a command line; ``{"head": …}`` or ``{"join": […]}`` where only the running step knows it."""

SCHEMA = 1


class InputFile(NamedTuple):
    """A file that a quantum reads.

    Parameters
    ----------
    nick
        The file section it belongs to.
    filename
        Its name, with the suffix of its compression.
    fullname
        Its path in the job.
    rename
        A fixed name that it is to have besides, in the same folder.
    source
        Where the registry says that it lies: archive, relpath, filesize, md5sum, run; empty if nobody looked.
    """

    nick: str
    filename: str
    fullname: str
    rename: str | None = None
    source: Mapping[str, str] = MappingProxyType({})

    def as_dict(self) -> dict[str, object]:
        """Return what JSON holds."""
        out: dict[str, object] = {"nick": self.nick, "filename": self.filename, "fullname": self.fullname}
        if self.rename is not None:
            out["rename"] = self.rename
        if self.source:
            out["source"] = dict(self.source)
        return out


class OutputFile(NamedTuple):
    """A file that a quantum writes.

    Parameters
    ----------
    nick, filename, fullname
        As of an `InputFile`.
    archivepath
        Its folder in the archive, or None if the pipeline does not say.
    filetype
        What it is, or None.
    save, compress, optional
        Whether it is kept in the archive, compressed for that, and may be absent.
    metadata
        What its name and its quantum say of it.
    """

    nick: str
    filename: str
    fullname: str
    archivepath: str | None
    filetype: str | None
    save: bool
    compress: bool
    optional: bool
    metadata: Mapping[str, str]

    @property
    def relpath(self) -> str:
        """Its path in the archive."""
        return f"{self.archivepath}/{self.filename}" if self.archivepath else self.filename

    def as_dict(self) -> dict[str, object]:
        """Return what JSON holds."""
        return {
            "nick": self.nick,
            "filename": self.filename,
            "fullname": self.fullname,
            "archivepath": self.archivepath,
            "filetype": self.filetype,
            "save": self.save,
            "compress": self.compress,
            "optional": self.optional,
            "metadata": dict(self.metadata),
        }


class ListFile(NamedTuple):
    """A list file that a quantum is given: its name in the module, its path in the job and its text."""

    name: str
    fullname: str
    text: str

    def as_dict(self) -> dict[str, object]:
        """Return what JSON holds."""
        return {"name": self.name, "fullname": self.fullname, "text": self.text}


class Instance(NamedTuple):
    """One quantum: what runs once, with which files.

    Parameters
    ----------
    module, block
        The step, and the part of the run it belongs to.
    wrapnum
        Counts from 1 over the whole run.
    loop
        The values that tell it from the module's other quanta.
    argv
        One argument list per exec, in order.
    inputs, outputs, lists
        Its files. ``outputs`` are in the order of ``was_generated_by``.
    log
        Path of its log in the job.
    log_archivepath
        Folder of its log in the archive, or None.
    """

    module: str
    block: str
    wrapnum: int
    loop: Mapping[str, str]
    argv: Sequence[Sequence[Argument]]
    inputs: Sequence[InputFile]
    outputs: Sequence[OutputFile]
    lists: Sequence[ListFile]
    log: str
    log_archivepath: str | None = None

    @property
    def title(self) -> str:
        """How messages call it."""
        loop = " ".join(f"{key}={value}" for key, value in self.loop.items())
        return f"{self.module} #{self.wrapnum}" + (f" ({loop})" if loop else "")

    def as_dict(self) -> dict[str, object]:
        """Return what JSON holds."""
        return {
            "module": self.module,
            "block": self.block,
            "wrapnum": self.wrapnum,
            "loop": dict(self.loop),
            "argv": [list(words) for words in self.argv],
            "inputs": [one.as_dict() for one in self.inputs],
            "outputs": [one.as_dict() for one in self.outputs],
            "lists": [one.as_dict() for one in self.lists],
            "log": self.log,
            "log_archivepath": self.log_archivepath,
        }


@dataclass(frozen=True, slots=True)
class Job:
    """What an engine starts: quanta that run one after the other in one place.

    Parameters
    ----------
    name
        Unique in the run, safe as a file name.
    block, jobnum
        Its block; jobs are counted from 1 over the whole run.
    keys
        The values of ``divide_jobs_by``.
    wrapnums
        Its quanta, in the order in which they run.
    after
        Names of the jobs that must have ended before.
    resources
        What the pipeline asks of the engine: ``request_memory`` and the like, unchanged.
    parallel
        How many quanta of a module may run at the same time, where more than one.
    """

    name: str
    block: str
    jobnum: int
    keys: Mapping[str, str]
    wrapnums: Sequence[int]
    after: Sequence[str] = ()
    resources: Mapping[str, str] = field(default_factory=dict)
    parallel: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Return what JSON holds."""
        return {
            "name": self.name,
            "block": self.block,
            "jobnum": self.jobnum,
            "keys": dict(self.keys),
            "wrapnums": list(self.wrapnums),
            "after": list(self.after),
            "resources": dict(self.resources),
            "parallel": dict(self.parallel),
        }


@dataclass(frozen=True, slots=True)
class Workflow:
    """Everything that a submission runs.

    Parameters
    ----------
    run
        ``reqnum``, ``unitname``, ``attnum``.
    instances
        All quanta, by `Instance.wrapnum`.
    jobs
        All jobs, by `Job.jobnum`.
    modules
        What holds for all quanta of each module.
    """

    run: Mapping[str, int | str]
    instances: Sequence[Instance]
    jobs: Sequence[Job]
    modules: Mapping[str, ModuleTraits] = field(default_factory=dict)

    def instance(self, wrapnum: int) -> Instance:
        """Return one quantum by its number."""
        return self.instances[wrapnum - 1]

    def instances_of(self, job: Job) -> Iterator[Instance]:
        """Give the quanta of a job in the order in which they run."""
        return (self.instance(wrapnum) for wrapnum in job.wrapnums)

    def as_dict(self) -> dict[str, object]:
        """Return what JSON holds; equal workflows give equal bytes."""
        return {
            "schema": SCHEMA,
            "run": dict(self.run),
            "instances": [one.as_dict() for one in self.instances],
            "jobs": [one.as_dict() for one in self.jobs],
            "modules": {name: one.as_dict() for name, one in self.modules.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Workflow:
        """Make a workflow of what `as_dict` gave; `data` is what JSON made of that.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is something else.
        """
        from dbb.pipeline.traits import ModuleTraits  # which knows how they are made, and so far more

        if data["schema"] != SCHEMA:
            raise ValueError(f"its schema is {data['schema']!r}, not {SCHEMA}")
        return cls(
            run=data["run"],
            instances=[_instance(one) for one in data["instances"]],
            jobs=[Job(**one) for one in data["jobs"]],
            modules={name: ModuleTraits.from_dict(one) for name, one in data["modules"].items()},
        )

    def as_json(self) -> Iterator[str]:
        """Give the same as JSON text in pieces: as one text a large workflow would be in memory twice."""
        encode = json.JSONEncoder(ensure_ascii=False).encode
        yield f'{{"schema": {SCHEMA}, "run": {encode(dict(self.run))}, "instances": ['
        for number, instance in enumerate(self.instances):
            yield (",\n" if number else "\n") + encode(instance.as_dict())
        yield '\n], "jobs": ['
        for number, job in enumerate(self.jobs):
            yield (",\n" if number else "\n") + encode(job.as_dict())
        yield f'\n], "modules": {encode({name: one.as_dict() for name, one in self.modules.items()})}}}\n'


def _instance(data: Mapping[str, Any]) -> Instance:
    files = {
        "inputs": [InputFile(**one) for one in data["inputs"]],
        "outputs": [OutputFile(**one) for one in data["outputs"]],
        "lists": [ListFile(**one) for one in data["lists"]],
    }
    return Instance(**{**data, **files})
