"""One step: check inputs, run, check outputs, note what they are, save what is kept."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from dbb.errors import DbbError
from dbb.jobs.arguments import settle
from dbb.jobs.context import Context
from dbb.jobs.inputs import fix_name
from dbb.jobs.jobfile import Exec, Input, ListText, Output, Step
from dbb.jobs.messages import ERROR, WARNING
from dbb.jobs.outputs import Made, look_at, split_name
from dbb.jobs.process import Ended, run_process
from dbb.jobs.saving import save_files
from dbb.jobs.steplog import StepLog
from dbb.storage import new_file

NO_INPUT = 3
"""Status of a step whose inputs are not there, as DESDM has it."""
_LOG = "log"


@dataclass(frozen=True, slots=True)
class Result:
    """How a step or job ended.

    Parameters
    ----------
    state
        ``succeeded``, ``failed``, ``blocked``, ``killed``, or ``incomplete``: the programs ended well, but something
        that they should have left is missing.
    status
        0, or the exit status of the program that failed, or what stands for another failure.
    reason
        Why, in words; empty on success.
    """

    state: str
    status: int = 0
    reason: str = ""

    @property
    def is_good(self) -> bool:
        """Whether all went well."""
        return self.state == "succeeded"

    def as_dict(self) -> dict[str, object]:
        """Return what an event holds."""
        return {"state": self.state, "status": self.status} | ({"reason": self.reason} if self.reason else {})


class _FailedError(DbbError):
    """The step cannot go on; carries its result."""

    def __init__(self, state: str, status: int, reason: str) -> None:
        self.result = Result(state, status, reason)
        super().__init__(reason)


def run_one(context: Context, step: Step) -> Result:
    """Run a step and record all that happens; its inputs have been brought to the work folder.

    Raises
    ------
    DbbError
        If events cannot be recorded.
    """
    context.record(step.wrapnum, state="running", module=step.module)
    result = _Run(context, step).result()
    context.record(step.wrapnum, **result.as_dict())
    return result


class _Run:
    """A step under way."""

    def __init__(self, context: Context, step: Step) -> None:
        self._context, self._step, self._work = context, step, context.work
        self._made: dict[str, Made] = {}
        self._missing: list[str] = []
        self._log: StepLog | None = None
        # where a file is read: an output may have the name of an input, in another folder
        self._places = {one.filename: one.fullname for one in step.outputs}
        self._places |= {one.filename: one.fullname for one in step.inputs}

    def result(self) -> Result:
        try:
            self._log = StepLog(self._context, self._step.wrapnum, self._work / self._step.log)
            result = self._run(self._log)
        except _FailedError as error:
            result = error.result
        except OSError as error:
            result = Result("failed", 1, f"{error.filename or self._step.module}: {error.strerror}")
        except DbbError as error:
            result = Result("failed", 1, str(error))
        except Exception as error:  # noqa: BLE001  # whatever a plug-in raises: the record must say how the step ended
            result = Result("failed", 1, f"{type(error).__name__}: {error}")
        finally:
            if self._log is not None:
                self._log.close()
        return self._kept(result)

    def _run(self, log: StepLog) -> Result:
        self._context.prepare(self._step.entry)
        for text in self._step.lists:
            self._write_list(text)
        for one in self._step.inputs:
            self._check_input(one)
            fix_name(self._context, one)
        for program in self._step.execs:
            self._run_exec(log, program)
        if self._missing:
            raise _FailedError("incomplete", 1, f"{', '.join(self._missing)}: the output is missing")
        return Result("succeeded")

    def _write_list(self, text: ListText) -> None:
        path = self._work / text.fullname
        if text.text is None:
            if not path.is_file():
                raise _FailedError("failed", 1, f"{text.fullname}: the list is missing")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path) as stream:
            stream.write(text.text.encode())

    def _check_input(self, one: Input) -> None:
        why = self._context.missing.get(one.fullname)
        if why is None and not os.path.exists(self._work / one.fullname):  # noqa: PTH110  # several times faster
            why = "it is not there, and nothing says where it would come from"
        if why is not None:
            raise _FailedError("failed", NO_INPUT, f"input {one.fullname}: {why}")

    def _run_exec(self, log: StepLog, one: Exec) -> None:
        context, step = self._context, self._step.wrapnum
        if context.stopper.signal is not None:
            raise _FailedError("killed", 128 + context.stopper.signal, f"the job was ended before {one.execname}")
        for name in one.used:
            path = self._places.get(name)
            if path is not None and not (self._work / path).exists():
                raise _FailedError("failed", NO_INPUT, f"{path}: {one.execname} needs it, and it is not there")
        argv = settle(one.argv, self._work)
        log.begin(one.number, {one.execname, Path(one.execname).name})
        version, remark = context.version_of(argv[0], one)
        if remark is not None:
            log.tell(remark.text, WARNING)
        for output in self._outputs(one):
            (self._work / output.fullname).parent.mkdir(parents=True, exist_ok=True)
        context.record(step, exec=one.number, name=one.execname, state="running", argv=argv)
        context.record(step, exec=one.number, used=[self._used(name) for name in one.used])
        ended = self._process(log, argv)
        self._record_end(one, ended, version)
        self._account(log, one, ended)
        if not ended.is_good:
            raise _FailedError(ended.state, ended.status, _reason(one, ended))

    def _process(self, log: StepLog, argv: Sequence[str]) -> Ended:
        context = self._context
        try:
            ended = run_process(
                argv,
                log.take,
                folder=self._work,
                environment=context.environment,
                limits=context.limits,
                stopper=context.stopper,
            )
        finally:
            log.end()
        if ended.reason:
            log.tell(ended.reason, ERROR)
        return ended

    def _record_end(self, one: Exec, ended: Ended, version: str | None) -> None:
        more: dict[str, object] = {} if ended.signal is None else {"signal": ended.signal}
        more |= {"version": version} if version is not None else {}
        more |= {"reason": ended.reason} if ended.reason else {}
        times = {"start": ended.start, "end": ended.end, "status": ended.status, "rusage": dict(ended.rusage)}
        self._context.record(self._step.wrapnum, exec=one.number, name=one.execname, state=ended.state, **times, **more)

    def _outputs(self, one: Exec) -> list[Output]:
        names = set(one.generated)
        return [output for output in self._step.outputs if output.filename in names]

    def _used(self, name: str) -> dict[str, object]:
        source = next((one.source for one in self._step.inputs if one.filename == name), {})
        return {**split_name(name), **{key: source[key] for key in ("archive", "relpath") if key in source}}

    def _account(self, log: StepLog, one: Exec, ended: Ended) -> None:
        """Note what the program has made and what that derives from; remember what is missing."""
        step = self._step.wrapnum
        for output in self._outputs(one):
            path = self._work / output.fullname
            self._name_as_planned(output)
            if not path.is_file():
                if ended.is_good and not output.optional:
                    self._missing.append(output.fullname)
                    log.tell(f"{output.fullname}: {one.execname} ended well but did not make it", ERROR)
                continue
            made = look_at(self._context.filetypes.get(output.filetype or ""), output, path)
            self._made[output.filename] = made
            self._context.record(step, exec=one.number, file=dict(made.event))
            if made.problem:
                log.tell(f"metadata of {output.fullname}: {made.problem}", ERROR)
        pairs = [
            {"parent": split_name(parent), "child": split_name(child)}
            for parents, children in one.ancestry
            for parent in parents
            for child in children
            if self._is_there(parent) and self._is_there(child)
        ]
        if pairs:
            self._context.record(step, exec=one.number, derived=pairs)

    def _name_as_planned(self, output: Output) -> None:
        """Give an output its planned name besides, if the program spelled it otherwise."""
        path = self._work / output.fullname
        for other in output.also:
            if not path.exists() and (self._work / other).is_file():
                path.hardlink_to(self._work / other)

    def _is_there(self, name: str) -> bool:
        return name in self._made or any(
            one.filename == name and (self._work / one.fullname).exists() for one in self._step.inputs
        )

    def _kept(self, result: Result) -> Result:
        """Save what is to be kept, and say what became of the step then."""
        files = list(self._made.values())
        log = self._look_at_log()
        if self._context.stopper.signal is not None:  # little time is left
            if result.state not in {"succeeded", "incomplete"}:
                return result
            return Result("killed", 128 + self._context.stopper.signal, "the job was ended before its files were saved")
        failed = result.state not in {"succeeded", "incomplete"}  # what good programs made is good
        logs = [log] if log is not None and log.output.archivepath is not None else []
        problem = save_files(self._context, self._step.wrapnum, files, failed=failed, logs=logs)
        problem = next((f"metadata of {one.output.filename}: {one.problem}" for one in files if one.problem), problem)
        return Result("incomplete", 1, problem) if problem and result.is_good else result

    def _look_at_log(self) -> Made | None:
        step = self._step
        path = self._work / step.log
        if not path.is_file():
            return None
        try:
            made = look_at(None, Output(_LOG, path.name, step.log, step.log_archivepath, _LOG), path)
        except OSError:
            return None
        self._context.record(step.wrapnum, exec=None, file=dict(made.event))
        return made


def _reason(one: Exec, ended: Ended) -> str:
    if ended.reason:
        return f"{one.execname}: {ended.reason}"
    if ended.signal is not None:
        return f"{one.execname} was ended by signal {ended.signal}"
    return f"{one.execname} ended with exit status {ended.status}"


def made_by(steps: Sequence[Step]) -> dict[str, int]:
    """Return the number of the step that makes a file, by its path."""
    return {output.fullname: step.wrapnum for step in steps for output in step.outputs}


def blocked_by(step: Step, makers: dict[str, int], bad: Collection[int]) -> int | None:
    """Return the number of a step that has not ended well and should have made an input of `step`."""
    return next((makers[one.fullname] for one in step.inputs if makers.get(one.fullname) in bad), None)
