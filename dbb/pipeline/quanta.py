"""The quanta of one module: a module is compiled once, then each quantum only fills holes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from dbb.errors import PipelineError
from dbb.patterns import is_safe_path
from dbb.pipeline.argsfile import args_file
from dbb.pipeline.cmdline import Command
from dbb.pipeline.execs import FileRef
from dbb.pipeline.fillers import Filler, picker
from dbb.pipeline.lines import LineIndex
from dbb.pipeline.listfiles import ListPlan, ListText
from dbb.pipeline.names import DataPath, NamedFile, tidy
from dbb.pipeline.section import Line, Section
from dbb.pipeline.workflow import Argument, InputFile, Instance, ListFile, OutputFile

_PLAIN_PATHS = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_+-][A-Za-z0-9_.+-]*)*")
_NO_METADATA = {"filename", "compression", "flabel", "fsuffix", "wrapnum", "reqnum", "unitname", "attnum"}
_NO_SOURCE: Mapping[str, str] = {}
_OF_FILE = ("relpath", "archive", "run", "filesize", "md5sum")
_MOST_LINES = 20_000
_of_file = picker(_OF_FILE)


@dataclass(frozen=True, slots=True)
class FilePlan:
    """How the files of one file section are found for a quantum.

    Parameters
    ----------
    section
        The section.
    named
        Files named by patterns; empty if lines bring them.
    index
        The data lines that bring them, or None.
    path
        Where files of data lines lie in the job, or None where only patterns name them.
    archive
        The archive folder of files that data lines name, with holes; None if it does not matter.
    several
        Whether more than one line may fit.
    by_list
        Whether only lists bring its files.
    """

    section: Section
    named: Sequence[NamedFile]
    index: LineIndex | None
    path: DataPath | None
    archive: Filler | None
    several: bool = False
    by_list: bool = False

    def fullname(self, values: Mapping[str, str]) -> str:
        """Return the path in the job of a file that a data line brings."""
        if self.path is None:
            raise self.section.error("no data line brings its files")
        return self.path.fullname(values)


class OutputTraits(NamedTuple):
    """What a file section says of its files as outputs."""

    filetype: str | None
    save: bool
    compress: bool
    optional: bool


@dataclass(frozen=True, slots=True)
class ListFilePlan:
    """One list file: its name in the module, its path, how its text is made, and from which lines.

    Parameters
    ----------
    name, data
        ``list.name`` in command lines; the list section that the lines are of.
    fullname
        Its path in the job, with holes.
    text
        What makes the text.
    index
        Its lines, or None if the names of a file section stand in.
    named
        That file section.
    """

    name: str
    data: str
    fullname: Filler
    text: ListPlan
    index: LineIndex | None
    named: FilePlan | None


@dataclass(frozen=True, slots=True)
class Compiled:
    """A module with everything looked up; what is left are holes.

    Parameters
    ----------
    module, block
        Its name and its block's.
    files
        Plans of the file sections that quanta need, by nickname.
    lists
        Its list files.
    inputs, outputs
        What its execs read and write.
    renames, traits
        Of inputs the fixed names, of outputs what is done with them, by nickname.
    commands
        One for each exec.
    log, log_archive
        Path and archive folder of the log.
    job_keys
        The values that tell the jobs of the block apart.
    loop_file
        The file section whose line brings further values, or None.
    """

    module: str
    block: str
    files: Mapping[str, FilePlan]
    lists: Sequence[ListFilePlan]
    inputs: Sequence[FileRef]
    outputs: Sequence[FileRef]
    renames: Mapping[str, Filler]
    traits: Mapping[str, OutputTraits]
    commands: Sequence[Command]
    log: Filler
    log_archive: Filler | None
    job_keys: Mapping[str, Filler]
    loop_file: FilePlan | None


@dataclass(slots=True)
class _Quantum:
    """What is gathered while one quantum is made."""

    loop: dict[str, str]
    values: dict[str, str]
    files: dict[str, list[_Brought]]
    lists: dict[str, ListText]
    lines: dict[str, Sequence[Line]]


class Quantum(NamedTuple):
    """A quantum with what the plan of the whole needs of it.

    Parameters
    ----------
    instance
        What runs.
    job_keys
        The values that tell its job from others.
    lines
        The files that it names, as data lines, by the file sections that others depend on.
    """

    instance: Instance
    job_keys: Mapping[str, str]
    lines: Mapping[str, Sequence[Line]]


class _Named:
    """A file named by a pattern, with what its name says parted into what never and what always changes."""

    __slots__ = ("_changing", "_constant", "_metadata", "file")

    def __init__(self, file: NamedFile) -> None:
        self.file = file
        fillers = {key: Filler(parts) for key, parts in file.used.items()}
        self._changing = [(key, filler) for key, filler in fillers.items() if filler.names]
        self._constant = {key: filler.fill({}) for key, filler in fillers.items() if not filler.names}
        self._metadata = {key: value for key, value in self._constant.items() if key not in _NO_METADATA}

    def known(self, values: Mapping[str, str]) -> dict[str, str]:
        """Return all that the name was made from."""
        return self._constant | {key: filler.fill(values) for key, filler in self._changing}

    def metadata(self, values: Mapping[str, str], loop: dict[str, str]) -> dict[str, str]:
        """Return what the name and the loop say of the file."""
        found = {**self._metadata, **loop}
        for key, filler in self._changing:
            if key not in found and key not in _NO_METADATA:
                found[key] = filler.fill(values)
        return found


_Brought: TypeAlias = "tuple[str, Mapping[str, str] | _Named]"
"""A file's path in the job, and what brought it: a data line's values or a pattern."""


class QuantumMaker:
    """Makes the instances of one compiled module.

    Parameters
    ----------
    plan
        The module.
    wanted
        File sections whose names others depend on.
    """

    def __init__(self, plan: Compiled, wanted: Sequence[str] = ()) -> None:
        self._plan = plan
        self._wanted = wanted
        self._lists: dict[tuple[str, tuple[int, ...]], tuple[Sequence[Line], ListText]] = {}  # quanta may share them
        self._kept_lines = 0
        self._jobs: dict[tuple[str, ...], Mapping[str, str]] = {}  # many quanta share a job, and its keys
        self._named = {nick: [_Named(one) for one in file.named] for nick, file in plan.files.items()}

    def make(self, wrapnum: int, loop: dict[str, str]) -> Quantum:
        """Return one quantum.

        Raises
        ------
        PipelineError
            If no data line fits it, or a name leaves the job's folder.
        """
        plan = self._plan
        keys = "_" + "_".join(loop.values()) if loop else "noloop"
        quantum = _Quantum(loop, {**loop, "wrapnum": str(wrapnum), "wrapkeys": keys}, {}, {}, {})
        if plan.loop_file is not None:
            self._add_values_of_loop_file(plan.loop_file, quantum)
        for nick, file in plan.files.items():
            if file.by_list:
                continue
            found = quantum.files[nick] = self._files(file, quantum)
            quantum.values[f"file.{nick}.fullname"] = ",".join([fullname for fullname, _ in found])
        lists = [self._list(one, quantum) for one in plan.lists]
        log = plan.log.fill(quantum.values)
        inputs = [one for reference in plan.inputs for one in self._inputs(reference, quantum)]
        outputs = [one for reference in plan.outputs for one in self._outputs(reference, quantum)]
        _check([log, *[one.fullname for files in (inputs, outputs, lists) for one in files]], plan, wrapnum)
        argv = [self._words(number, command, quantum, log, lists) for number, command in enumerate(plan.commands, 1)]
        instance = Instance(
            plan.module,
            plan.block,
            wrapnum,
            loop,
            argv,
            inputs,
            outputs,
            lists,
            log,
            tidy(plan.log_archive.fill(quantum.values)).lstrip("/") if plan.log_archive is not None else None,
        )
        job = tuple([filler.fill(quantum.values) for filler in plan.job_keys.values()])
        job_keys = self._jobs.setdefault(job, dict(zip(plan.job_keys, job, strict=True)))
        return Quantum(instance, job_keys, {nick: _lines_of(nick, quantum) for nick in self._wanted})

    def _words(
        self, number: int, command: Command, quantum: _Quantum, log: str, lists: list[ListFile]
    ) -> list[Argument]:
        """Return the words of one exec; those that make them too many go to a file, which is added to `lists`."""
        words = command.argv(quantum.values, quantum.lists)
        path = f"{log.removesuffix('.log')}_exec_{number}.args"
        arguments = args_file(words, path, allowed=command.args_file)
        if arguments.text is not None:
            lists.append(ListFile(f"exec_{number}_args", path, arguments.text))
        return arguments.argv

    def _add_values_of_loop_file(self, file: FilePlan, quantum: _Quantum) -> None:
        for _, values in self._files(file, quantum):
            assert not isinstance(values, _Named)  # lines bring the files of a loop
            for key, value in values.items():
                if key not in quantum.values and key not in {"filename", "compression"}:
                    quantum.values[key] = value

    def _files(self, file: FilePlan, quantum: _Quantum) -> list[_Brought]:
        if file.index is None:
            values = quantum.values
            return [(tidy(one.file.fullname.fill(values)), one) for one in self._named[file.section.name]]
        chosen = self._chosen(file.index, quantum)
        if len(chosen) != 1 and not file.several:
            raise file.section.error(f"{len(chosen)} lines fit {_shown(quantum.loop)} where one is wanted")
        nick = file.section.name
        return [
            (file.fullname(values), values)
            for number in chosen
            for values in [_file_on(file.index.lines[number], nick, file.section)]
        ]

    @staticmethod
    def _chosen(index: LineIndex, quantum: _Quantum) -> Sequence[int]:
        return index.choose([quantum.values.get(key) for key in index.keys])

    def _list(self, one: ListFilePlan, quantum: _Quantum) -> ListFile:
        fullname = tidy(one.fullname.fill(quantum.values))
        if one.index is not None:
            lines, text = self._listed(one, one.index, self._chosen(one.index, quantum))
        else:
            assert one.named is not None
            nick = one.named.section.name
            lines = [
                {nick: {**_known(brought, quantum), "filename": fullname.rpartition("/")[2]}}
                for fullname, brought in self._files(one.named, quantum)
            ]
            text = one.text.text(lines)
        quantum.lists[one.name] = text
        quantum.lines[one.name] = quantum.lines[one.data] = lines
        quantum.values[f"list.{one.name}.fullname"] = fullname
        return ListFile(one.name, fullname, text.text)

    def _listed(self, one: ListFilePlan, index: LineIndex, chosen: Sequence[int]) -> tuple[Sequence[Line], ListText]:
        key = (one.name, tuple(chosen))
        if key not in self._lists:
            if self._kept_lines > _MOST_LINES:
                self._lists.clear()
                self._kept_lines = 0
            lines = [index.lines[number] for number in chosen]
            self._lists[key] = lines, one.text.text(lines)
            self._kept_lines += len(lines)
        return self._lists[key]

    def _of_reference(self, reference: FileRef, quantum: _Quantum) -> list[_Brought]:
        if not reference.list:
            return quantum.files.get(reference.nick, [])
        found: list[_Brought] = []
        file = self._plan.files.get(reference.nick)
        for line in quantum.lines.get(reference.list, ()):
            values = line.get(reference.nick) or (next(iter(line.values())) if len(line) == 1 else None)
            if values is not None and file is not None:
                found.append((file.fullname(values), values))
        return found

    def _inputs(self, reference: FileRef, quantum: _Quantum) -> list[InputFile]:
        nick = reference.nick
        rename = self._plan.renames.get(nick)
        fixed = rename.fill(quantum.values) if rename is not None else None
        return [
            InputFile(nick, fullname.rpartition("/")[2], fullname, fixed, _source(brought))
            for fullname, brought in self._of_reference(reference, quantum)
        ]

    def _outputs(self, reference: FileRef, quantum: _Quantum) -> list[OutputFile]:
        nick = reference.nick
        file, traits = self._plan.files[nick], self._plan.traits[nick]
        found = []
        for fullname, brought in self._of_reference(reference, quantum):
            if isinstance(brought, _Named):
                place, metadata = brought.file.archivepath, brought.metadata(quantum.values, quantum.loop)
                archivepath = None if place is None else tidy(place.fill(quantum.values))
            else:
                metadata = {key: value for key, value in brought.items() if key not in _NO_METADATA} | quantum.loop
                archivepath = None if file.archive is None else tidy(file.archive.fill({**brought, **quantum.values}))
            name = fullname.rpartition("/")[2]
            found.append(OutputFile(nick, name, fullname, archivepath, *traits, metadata))
        return found


def _lines_of(nick: str, quantum: _Quantum) -> list[Line]:
    return [
        {nick: {**quantum.loop, **_known(brought, quantum), "filename": fullname.rpartition("/")[2]}}
        for fullname, brought in quantum.files[nick]
    ]


def _file_on(line: Line, nick: str, section: Section) -> Mapping[str, str]:
    if nick in line:
        return line[nick]
    if len(line) == 1:
        return next(iter(line.values()))
    raise section.error(f"its line has the files {', '.join(line)} and none called {nick!r}")


def _known(brought: Mapping[str, str] | _Named, quantum: _Quantum) -> Mapping[str, str]:
    return brought.known(quantum.values) if isinstance(brought, _Named) else brought


def _source(values: Mapping[str, str] | _Named) -> Mapping[str, str]:
    if isinstance(values, _Named):
        return _NO_SOURCE
    try:
        return dict(zip(_OF_FILE, _of_file(values), strict=True))
    except KeyError:
        return {key: values[key] for key in _OF_FILE if key in values} if "relpath" in values else _NO_SOURCE


def _check(paths: Sequence[str], plan: Compiled, wrapnum: int) -> None:
    if _PLAIN_PATHS.fullmatch("/".join(paths)) is not None:  # at one look: the full test takes longer
        return
    for path in paths:
        if is_safe_path(path) is None:
            raise PipelineError(
                f"module {plan.module} #{wrapnum}: the path {path!r} is refused: it must stay below the job's folder"
                " and hold no '..' and none of [ ] * ? \\"
            )


def _shown(loop: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in loop.items()) or "the one quantum"
