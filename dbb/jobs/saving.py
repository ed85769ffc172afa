"""Which files are kept, in which form, and how they get into the archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dbb.errors import DbbError
from dbb.jobs.compress import compress_file
from dbb.jobs.context import Context
from dbb.jobs.jobfile import Options
from dbb.jobs.messages import ERROR, WARNING, make_message
from dbb.jobs.outputs import Made, look_at
from dbb.staging import stage_out
from dbb.storage import SaveRequest


def is_kept(options: Options, *, flag: bool, failed: bool) -> bool:
    """Whether a file goes to the archive: by its own `flag`, unless the whole run decides otherwise."""
    match options.master_savefiles:
        case "always":
            return True
        case "never":
            return False
        case "failure" if failed:
            return True
    return flag and not failed


def is_compressed(options: Options, *, flag: bool, failed: bool) -> bool:
    """Whether a file is compressed before it is saved."""
    return flag and options.master_compression != "never" and not (options.master_compression == "success" and failed)


def save_files(
    context: Context, step: int | None, made: Sequence[Made], *, failed: bool, logs: Sequence[Made] = ()
) -> str:
    """Save what is to be kept in the home archive; return why that did not work, or an empty text.

    Parameters
    ----------
    made
        What the programs made.
    failed
        Whether they failed.
    logs
        Files that are kept as well if they did.
    """
    if context.home is None:
        return ""
    wanted = [one for one in logs if is_kept(context.options, flag=one.output.save, failed=False)]
    for one in made:
        if one.problem or not is_kept(context.options, flag=one.output.save, failed=failed):
            continue
        flag = one.output.compress and not one.event["compression"]
        if is_compressed(context.options, flag=flag, failed=failed):
            wanted.append(_compressed(context, step, one))
        else:
            wanted.append(one)
    if not wanted:
        return ""
    root = context.archives[context.home]
    requests = [
        SaveRequest(
            str(one.path), root, _relpath(one), one.digest, context.replaces.get(one.output.filename, frozenset())
        )
        for one in wanted
    ]
    return _save(context, step, wanted, requests)


def _save(context: Context, step: int | None, wanted: Sequence[Made], requests: Sequence[SaveRequest]) -> str:
    try:
        outcomes = stage_out(requests)
    except DbbError as error:
        context.record(step, exec=None, message=make_message(str(error), None, ERROR).as_dict(""))
        return str(error)
    problem = ""
    for one, outcome in zip(wanted, outcomes, strict=True):
        if outcome.error:
            context.record(step, exec=None, message=make_message(outcome.error, None, ERROR).as_dict(""))
            problem = problem or f"{one.output.filename} could not be saved: {outcome.error}"
        else:
            name = {key: one.event[key] for key in ("filename", "compression")}
            context.record(step, saved={**name, "archive": context.home, "relpath": outcome.request.relpath})
    return problem


def _relpath(one: Made) -> str:
    return f"{one.output.archivepath}/{one.output.filename}" if one.output.archivepath else one.output.filename


def _compressed(context: Context, step: int | None, one: Made) -> Made:
    """Return the compressed form of a file, or the file itself if it cannot be compressed."""
    target = Path(f"{one.path}.fz")
    try:
        argv = compress_file(one.path, target)
    except DbbError as error:
        text = f"{one.output.filename} is saved uncompressed: {error}"
        context.record(step, exec=None, message=make_message(text, None, WARNING).as_dict(""))
        name = {key: one.event[key] for key in ("filename", "compression")}
        context.record(step, compressed={"from": name, "to": None, "argv": [], "status": 1})
        return one
    output = replace(one.output, filename=f"{one.output.filename}.fz", fullname=f"{one.output.fullname}.fz")
    made = look_at(None, output, target)
    event = {**made.event, "metadata": one.event["metadata"]}  # of what it holds, not of how
    sides = {
        side: {key: what[key] for key in ("filename", "compression")}
        for side, what in (("from", one.event), ("to", event))
    }
    context.record(step, exec=None, file=event)
    context.record(step, compressed={**sides, "argv": argv, "status": 0})
    return replace(made, event=event)
