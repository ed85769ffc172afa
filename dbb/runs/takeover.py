"""What a new attempt takes over from an old one: its finished quanta, and their outputs under the old names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from dbb.errors import UsageError
from dbb.pipeline.workflow import InputFile, Instance, Workflow
from dbb.registry import Database
from dbb.runs.alive import check_nobody_runs
from dbb.runs.control import JobMark, mark_steps
from dbb.runs.engines import engine_of
from dbb.runs.kept import WORKFLOW, read_kept, run_folder
from dbb.runs.merge import merge
from dbb.runs.resume import FinishedStep, KeptFile, finished_steps

_Key = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class TakenOver:
    """Quanta of a new attempt that need not run.

    Parameters
    ----------
    run
        The old attempt.
    done
        By the number of a quantum of the new attempt, the old step that it is.
    files
        By the names that the new attempt has for files, those of the old one.
    """

    run: str = ""
    done: Mapping[int, FinishedStep] = field(default_factory=dict)
    files: Mapping[str, KeptFile] = field(default_factory=dict)

    def renamed(self, one: InputFile) -> InputFile:
        """Return an input as the file that the old attempt made, if it is one of those."""
        kept = self.files.get(one.filename)
        if kept is None:
            return one
        return one._replace(filename=kept.filename + kept.compression, source={"relpath": kept.relpath})

    def as_dict(self) -> dict[str, object]:
        """Return what JSON holds."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TakenOver:
        """Make it of what JSON made of `as_dict`.

        Raises
        ------
        KeyError, TypeError, ValueError
            If that is something else.
        """
        done = {
            int(wrapnum): FinishedStep(**{**step, "files": tuple(KeptFile(**one) for one in step["files"])})
            for wrapnum, step in data["done"].items()
        }
        return cls(data["run"], done, {name: KeptFile(**one) for name, one in data["files"].items()})

    @property
    def remark(self) -> str:
        """What the registry says of such a quantum."""
        return f"taken over from {self.run}"

    def mark(self, db: Database, run: str) -> None:
        """Tell the registry which quanta need not run."""
        mark_steps(db, run, {wrapnum: JobMark("succeeded", self.remark) for wrapnum in self.done})


def settle(db: Database, run: str, *, dry_run: bool = False) -> None:
    """Bring into the registry what a run that is to be resumed has done, once nothing of it is alive.

    Raises
    ------
    NotFoundError, AmbiguousError, UsageError
        If `run` is none, or several.
    MissingError
        If it was not submitted by ``dbb submit``.
    ConflictError
        If it still runs.
    """
    folder = run_folder(db, run)
    check_nobody_runs(folder, run, engine_of(db, run))
    if not dry_run and (folder / "jobs").is_dir():
        merge(db, [folder / "jobs"], final=True)


def take_over(db: Database, old: str, workflow: Workflow) -> TakenOver:
    """Return what a new attempt may take over.

    A quantum is taken over if the old one with the same module and loop values succeeded, and every output of it that a
    quantum which must run wants is still kept.

    Raises
    ------
    NotFoundError
        If the old run is unknown, or its folder gone.
    UsageError
        If it is of another request or unit, or its folder does not hold its plan.
    """
    said, olds = read_kept(run_folder(db, old), WORKFLOW, _old_steps)
    for key in ("reqnum", "unitname"):
        if said[key] != workflow.run[key]:
            raise UsageError(f"{old} is of {key} {said[key]}, the new run of {workflow.run[key]}: not the same")
    finished = {step.wrapnum: step for step in finished_steps(db, old)}
    done: dict[int, FinishedStep] = {}
    files: dict[str, KeptFile] = {}
    unkept: dict[int, set[str]] = {}
    for instance in workflow.instances:
        one = olds.get(_key(instance.module, instance.loop))
        step = finished.get(one.wrapnum) if one is not None else None
        if one is None or step is None or len(one.outputs) != len(instance.outputs):
            continue
        done[instance.wrapnum] = step
        kept = {file.planned: file for file in step.files}
        unkept[instance.wrapnum] = set()
        for output, was in zip(instance.outputs, one.outputs, strict=True):
            if was in kept:
                files[output.filename] = kept[was]
            else:
                unkept[instance.wrapnum].add(output.filename)
    _drop_those_that_are_needed(workflow.instances, done, unkept)
    made = {output.filename for wrapnum in done for output in workflow.instance(wrapnum).outputs}
    return TakenOver(old, done, {name: file for name, file in files.items() if name in made})


class _OldStep(NamedTuple):
    """A quantum of an earlier attempt: its number, and the names of its outputs."""

    wrapnum: int
    outputs: list[str]


def _old_steps(data: Any) -> tuple[Mapping[str, Any], dict[_Key, _OldStep]]:
    said = {key: data["run"][key] for key in ("reqnum", "unitname")}
    return said, {
        _key(one["module"], one["loop"]): _OldStep(
            int(one["wrapnum"]), [str(out["filename"]) for out in one["outputs"]]
        )
        for one in data["instances"]
    }


def _drop_those_that_are_needed(
    instances: Sequence[Instance], done: dict[int, FinishedStep], unkept: Mapping[int, set[str]]
) -> None:
    """Let quanta run again whose outputs were not kept, though one that must run wants them."""
    maker = {name: wrapnum for wrapnum, names in unkept.items() for name in names}
    for instance in reversed(instances):  # whoever reads a file comes after who makes it
        if instance.wrapnum not in done:
            for one in instance.inputs:
                done.pop(maker.get(one.filename, 0), None)


def _key(module: str, loop: Mapping[str, Any]) -> _Key:
    return module, tuple(sorted((str(name), str(value)) for name, value in loop.items()))
