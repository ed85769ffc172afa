"""Job files: everything that ``dbb run-job`` needs for one job, written when the job is about to start."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbb import __version__
from dbb.errors import MissingError, UsageError
from dbb.jobs.jobfile import read_options
from dbb.jobs.messages import MessagePattern, MessageRules, default_patterns
from dbb.pipeline.defaults import REPOSITORY_MODULE
from dbb.pipeline.levels import HOME, TARGET, ArchiveLevels, archive_levels
from dbb.pipeline.model import Tree
from dbb.pipeline.section import TRUTHS
from dbb.pipeline.traits import ExecTraits, ModuleTraits
from dbb.pipeline.workflow import InputFile, Instance, Job, OutputFile, Workflow
from dbb.registry import Database
from dbb.registry.archives import archives
from dbb.registry.runs import Run
from dbb.runs.copies import Place
from dbb.runs.jobinputs import KnownFile, find_inputs, made_names, not_made
from dbb.runs.jobrepo import JobRepository, butler_path, job_repository
from dbb.runs.stages import Stages
from dbb.runs.takeover import TakenOver
from dbb.storage import new_file

SCHEMA = 1
_CORE_FILETYPES = ("log", "junk_tar")
_FLAGS = ("stop_on_fail", "create_junk_tarball")
_CHOICES = ("master_savefiles", "master_compression", "purge_job_dir")
_PATTERN_ID = 9999
"""The number that messages have which a submit file's own patterns find, as in DESDM."""


@dataclass(frozen=True, slots=True)
class JobSettings:
    """What the operator says of how jobs run.

    Parameters
    ----------
    levels
        The archives that inputs come from and outputs go to.
    setup
        A script that is run once per job, before anything else.
    options
        Values of the names of `dbb.jobs.jobfile.Options` that differ from its defaults.
    limits
        ``seconds`` and ``memory_mb`` of each program.
    messages
        Patterns, and what to ignore and replace.
    """

    levels: ArchiveLevels = field(default_factory=ArchiveLevels)
    setup: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    messages: Mapping[str, Any] = field(default_factory=dict)


def job_settings(settings: Mapping[str, str], qcf: Tree) -> JobSettings:
    """Read what a pipeline says of how its jobs run.

    Parameters
    ----------
    settings
        Its values at top level.
    qcf
        Its section ``qcf``: ``patterns``, ``excludes``, ``filter``, ``override``.

    Raises
    ------
    UsageError
        If a value makes no sense.
    """
    options: dict[str, object] = {key: _truth(key, settings[key]) for key in _FLAGS if key in settings}
    options |= {key: settings[key].lower() for key in _CHOICES if key in settings}
    read_options(options, "settings")
    limits = {
        name: _number(key, settings[key])
        for name, key in (("seconds", "step_seconds"), ("memory_mb", "step_memory_mb"))
        if key in settings
    }
    return JobSettings(
        levels=archive_levels(settings),
        setup=settings.get("setup_script"),
        options=options,
        limits=limits,
        messages=_messages(qcf),
    )


def _truth(key: str, text: str) -> bool:
    if text.strip().lower() not in TRUTHS:
        raise UsageError(f"{key} = {text}: expected True or False")
    return TRUTHS[text.strip().lower()]


def _number(key: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        raise UsageError(f"{key} = {text}: expected a number greater than 0")
    return number


def _messages(qcf: Tree) -> dict[str, Any]:
    own = [
        MessagePattern.from_dict({"id": _PATTERN_ID, "priority": number, **_pattern(one)}).as_dict()
        for number, one in enumerate(_members(qcf, "patterns"), 1)
    ]
    override = _truth("override", str(qcf.get("override", "False")))
    general = [] if override else [one.as_dict() for one in default_patterns()]
    found = {
        "patterns": own + general,
        "ignore": [_named(one, "pattern") for one in _members(qcf, "excludes")],
        "replace": [_named(one, "replace_pattern", "with_pattern") for one in _members(qcf, "filter")],
    }
    MessageRules.from_dict(found)  # a job would refuse it, when all is begun
    return found


def _members(qcf: Tree, name: str) -> list[dict[str, str]]:
    section = qcf.get(name)
    members = section.values() if isinstance(section, dict) else ()
    return [{key: str(value) for key, value in one.items()} for one in members if isinstance(one, dict)]


def _pattern(one: Mapping[str, str]) -> dict[str, object]:
    numbers = {"lvl": "level", "level": "level", "priority": "priority", "number_of_lines": "number_of_lines"}
    entry: dict[str, object] = {"pattern": one.get("pattern", ""), "execname": one.get("execname", "global")}
    for key, name in numbers.items():
        if key in one:
            entry[name] = int(_number(key, one[key]))
    if "only_matched" in one:
        entry["only_matched"] = _truth("only_matched", one["only_matched"])
    return entry


def _named(one: Mapping[str, str], *names: str) -> dict[str, str]:
    return {"execname": one.get("execname", "global"), **{name: one.get(name, "") for name in names}}


class JobWriter:
    """Writes the job files of a run.

    Parameters
    ----------
    db
        Knows the inputs.
    workflow
        What was planned.
    settings
        How its jobs run.
    folder
        The folder of the run: job files go to ``jobs/NAME/job.json`` below it.
    """

    def __init__(self, db: Database, workflow: Workflow, settings: JobSettings, folder: Path) -> None:
        self._db, self._workflow, self._settings = db, workflow, settings
        said = workflow.run
        self.folder = folder
        self.run = str(Run(str(said["unitname"]), int(said["reqnum"]), int(said["attnum"])))
        with db.read() as conn:
            self._archives = archives(conn)
        levels = settings.levels
        for key, name in ((HOME, levels.home), (TARGET, levels.target)):
            if name is not None and name not in self._archives:
                raise UsageError(f"{key} = {name}: there is no such archive; 'dbb archive add' makes it")
        self.stages = Stages(db, self.run, folder, levels, self._archives, workflow.jobs)
        self.inputs: list[Place] = []

    def check(self, taken: TakenOver) -> None:
        """Make sure that every input will be there; those of quanta that are done do not matter.

        Raises
        ------
        MissingError, AmbiguousError
            If some that no job makes are in no archive; lists them.
        UsageError
            If a job needs what another makes and nobody keeps.
        """
        instances = [one for one in self._workflow.instances if one.wrapnum not in taken.done]
        self._check_kept(instances)
        known = self._known(instances, taken, self._workflow.instances)
        self.inputs = [Place(one.archive, one.relpath) for one in known.values()]

    def _check_kept(self, instances: Sequence[Instance]) -> None:
        job_of = {wrapnum: job.jobnum for job in self._workflow.jobs for wrapnum in job.wrapnums}
        nothing = self._settings.levels.saves is None or self._settings.options.get("master_savefiles") == "never"
        unkept = {output.filename: one for one in instances for output in one.outputs if nothing or not output.save}
        for one in instances:
            for file in one.inputs:
                maker = unkept.get(file.filename)
                if maker is not None and job_of[maker.wrapnum] != job_of[one.wrapnum]:
                    why = "home_archive or master_savefiles says so" if nothing else "savefiles = False"
                    raise UsageError(
                        f"{one.title} reads {file.filename}, which {maker.title} makes in another job, and no archive "
                        f"keeps it ({why})"
                    )

    def _known(
        self, instances: Sequence[Instance], taken: TakenOver, makers: Sequence[Instance]
    ) -> dict[str, KnownFile]:
        """Return the registered files that quanta read and none of `makers` makes."""
        made = made_names(one for one in makers if one.wrapnum not in taken.done)
        wanted = {one.filename: taken.renamed(one) for one in not_made(instances, made, self._left_out())}
        levels = self._settings.levels
        found = find_inputs(self._db, wanted.values(), self.run, levels.prefers)
        away = [name for name, one in found.items() if levels.inputs == "never" and one.archive != levels.target]
        if away:
            more = f", and {len(away) - 1} more," if len(away) > 1 else ""
            raise MissingError(
                f"{away[0]}{more} must be in archive {levels.target}, for use_home_archive_input = never: copy it there"
                " and register it, or say target_archive"
            )
        return {name: found[one.filename] for name, one in wanted.items()}

    def modules_of(self, job: Job) -> tuple[str, ...]:
        """Return the modules of a job in the order in which they run."""
        return tuple(dict.fromkeys(one.module for one in self._workflow.instances_of(job)))

    def path(self, job: Job) -> Path:
        """Return where the file of a job is."""
        return self.folder / "jobs" / job.name / "job.json"

    def write(self, job: Job, taken: TakenOver) -> Path:
        """Write the file of a job whose inputs are all there, and return where it is.

        Parameters
        ----------
        job
            The job.
        taken
            What need not run again, for an earlier attempt has its outputs.

        Raises
        ------
        DbbError
            If an input is not registered, or the repository cannot be planned.
        """
        instances = [one for one in self._workflow.instances_of(job) if one.wrapnum not in taken.done]
        path = self.path(job)
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path) as stream:
            stream.write(_as_text(self._content(job, instances, taken)).encode())
        return path

    def _left_out(self) -> dict[str, Sequence[str]]:
        return {name: one.own for name, one in self._workflow.modules.items() if one.repository}

    def _content(self, job: Job, instances: Sequence[Instance], taken: TakenOver) -> dict[str, Any]:
        modules = self._workflow.modules
        known = self._known(instances, taken, instances)
        repository = job_repository(self._db, instances, modules, known, self._settings.levels.prefers)
        steps = _Steps(instances, modules, known, repository)
        used = {one.filetype for instance in instances for one in instance.outputs if one.filetype}
        filetypes = self._db.filetypes()
        content = {
            "schema": SCHEMA,
            "dbb": __version__,
            "run": dict(self._workflow.run),
            "job": job.as_dict() | {"wrapnums": [one.wrapnum for one in instances]},
            "steps": [steps.entry(one) for one in instances],
            "archives": dict(self._archives),
            "home": self._settings.levels.saves,
            "filetypes": {name: filetypes[name].as_dict() for name in sorted(used) if name in filetypes},
            "repository": None if repository is None else repository.as_dict(),
            "messages": dict(self._settings.messages),
            "options": dict(self._settings.options),
            "setup": self._settings.setup,
            "limits": dict(self._settings.limits),
        }
        self.stages.localize(content)
        return content


def _as_text(content: Mapping[str, Any]) -> str:
    """Return JSON with a line for each key and step, which Python writes ten times faster than whole indentation."""

    def text(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    steps = ",\n".join(map(text, content["steps"]))
    lines = [f"{text(key)}: {text(one)}" for key, one in content.items() if key != "steps"]
    return "{\n" + ",\n".join([*lines, f'"steps": [\n{steps}\n]']) + "\n}\n"


class _Steps:
    """Turns quanta into the steps of one job file."""

    def __init__(
        self,
        instances: Sequence[Instance],
        modules: Mapping[str, ModuleTraits],
        known: Mapping[str, KnownFile],
        repository: JobRepository | None,
    ) -> None:
        self._modules, self._known, self._repository = modules, known, repository

    def entry(self, instance: Instance) -> dict[str, Any]:
        """Return one step."""
        traits = self._modules[instance.module]
        own = traits.own if self._repository is not None else ()
        inputs = [self._registered(one) for one in instance.inputs if one.nick not in own]
        outputs = [] if instance.module == REPOSITORY_MODULE else instance.outputs
        names = _Names(inputs, outputs)
        more: list[dict[str, Any]] = []
        if self._repository is not None:
            raws, more = self._repository.inputs_of(instance)
            names.add_beside(raws, [one["filename"] for one in more])
        return instance.as_dict() | {
            "inputs": [self._input(one, traits) for one in instance.inputs if one.nick not in own] + more,
            "outputs": [self._output(one, traits) for one in outputs],
            "argv": [] if instance.module == REPOSITORY_MODULE else [list(words) for words in instance.argv],
            "execs": [] if instance.module == REPOSITORY_MODULE else [names.entry(one) for one in traits.execs],
        }

    def _registered(self, one: InputFile) -> InputFile:
        """Return an input under the name that the registry has for it: that of an earlier attempt may be another."""
        file = self._known.get(one.filename)
        return one if file is None else one._replace(filename=file.filename + file.compression)

    def _output(self, one: OutputFile, traits: ModuleTraits) -> dict[str, Any]:
        also = butler_path(one, traits, self._repository.folder) if self._repository is not None else None
        return one.as_dict() | ({"also": [also]} if also is not None else {})

    def _input(self, one: InputFile, traits: ModuleTraits) -> dict[str, Any]:
        entry: dict[str, Any] = {"nick": one.nick, "filename": one.filename, "fullname": one.fullname}
        if one.rename is not None:
            entry["rename"] = one.rename
        if one.nick in traits.untar:
            entry["untar"] = True
        file = self._known.get(one.filename)
        if file is not None:
            entry["filename"] = file.filename + file.compression
            entry["source"] = file.source()
        farm = self._repository.farm.get(one.filename) if self._repository is not None else None
        if farm is not None:
            entry["fullname"] = farm
            entry.pop("rename", None)
        return entry


class _Names:
    """The names of a quantum's files by nickname."""

    def __init__(self, inputs: Iterable[InputFile], outputs: Iterable[OutputFile]) -> None:
        self._used: dict[str, list[str]] = {}
        self._made: dict[str, list[str]] = {}
        for one in inputs:
            self._used.setdefault(one.nick, []).append(one.filename)
        for output in outputs:
            self._made.setdefault(output.nick, []).append(output.filename)

    def add_beside(self, nicks: Iterable[str], names: Iterable[str]) -> None:
        """Let whoever reads files of some nicknames read others too."""
        for nick in nicks:
            self._used.setdefault(nick, []).extend(names)

    def entry(self, one: ExecTraits) -> dict[str, Any]:
        """Return what a step says of one exec."""
        entry: dict[str, Any] = {
            "name": one.name,
            "used": self._either(one.used),
            "generated": [name for nick in one.generated for name in self._made.get(nick, ())],
            "ancestry": [[self._either((parent,)), self._either((child,))] for parent, child in one.ancestry],
        }
        facts = {"execname": one.execname, "version_flag": one.version_flag, "version_pattern": one.version_pattern}
        return entry | {key: value for key, value in facts.items() if value is not None}

    def _either(self, nicks: Iterable[str]) -> list[str]:
        return [name for nick in nicks for name in (*self._used.get(nick, ()), *self._made.get(nick, ()))]
