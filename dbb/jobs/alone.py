"""One step without a job: for programs and frameworks that bring an order of their own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbb.errors import UsageError
from dbb.filetypes import Filetype
from dbb.jobs.context import Context
from dbb.jobs.events import EventLog
from dbb.jobs.inputs import stage_inputs
from dbb.jobs.jobfile import read_limits, read_options, read_step
from dbb.jobs.messages import MessageRules, default_patterns
from dbb.jobs.step import run_one
from dbb.storage import root_url


@dataclass(frozen=True, slots=True)
class StepResult:
    """What became of a step.

    Parameters
    ----------
    state, status, reason
        As events have them: ``succeeded`` with 0, or what went wrong.
    files
        Path in the work folder of each file that it made, by nickname of its output.
    events
        All that was recorded of it.
    """

    state: str
    status: int
    reason: str
    files: Mapping[str, Path] = field(default_factory=dict)
    events: tuple[Mapping[str, Any], ...] = ()


def run_step(
    step: Mapping[str, Any],
    work: str | os.PathLike[str],
    *,
    archives: Mapping[str, str] | None = None,
    home: str | None = None,
    filetypes: Mapping[str, Filetype] | None = None,
    messages: MessageRules | None = None,
    environment: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    limits: Mapping[str, float] | None = None,
    events: EventLog | None = None,
) -> StepResult:
    """Run one step as a job would: bring its inputs, run it, note and save its outputs.

    Parameters
    ----------
    step
        An entry of ``steps`` in a job file; all but ``argv`` may be missing.
    work
        The folder that its paths are relative to; made if it is not there. Steps may share it.
    archives, home
        Roots of archives by name; the one that outputs are saved in. Without it nothing is saved.
    filetypes
        What outputs may be; their metadata is gathered as these say.
    messages
        What to look for in the output; default: the patterns that plug-ins bring.
    environment
        Of its programs; default: this process's.
    options, limits
        As in a job file.
    events
        Where to record it, besides in the result.

    Raises
    ------
    UsageError, UnsafePathError
        If the step is malformed, or `home` names no archive. That it fails is no exception: the result says so.

    Notes
    -----
    Signals are left alone. Threads may run steps at the same time.
    """
    one = read_step(step)
    if home is not None and home not in (archives or {}):
        raise UsageError(
            f"home archive {home!r} is not among archives: {', '.join(archives or {}) or 'there are none'}"
        )
    noted: list[Mapping[str, Any]] = []

    def record(number: int | None, /, **fields: object) -> None:
        noted.append({"step": number, **fields})
        if events is not None:
            events.append(number, **fields)

    folder = Path(work).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    context = Context(
        work=folder,
        record=record,
        environment=dict(os.environ if environment is None else environment),
        rules=MessageRules(default_patterns()) if messages is None else messages,
        limits=read_limits(limits or {}),
        options=read_options(options or {}),
        archives={name: root_url(root) for name, root in (archives or {}).items()},
        home=home,
        filetypes=filetypes or {},
    )
    stage_inputs(context, one.inputs, {output.fullname for output in one.outputs})
    result = run_one(context, one)
    made = {event["file"]["nick"] for event in noted if "file" in event}
    files = {output.nick: folder / output.fullname for output in one.outputs if output.nick in made}
    return StepResult(result.state, result.status, result.reason, files, tuple(noted))
