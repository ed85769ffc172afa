"""What comes back from a job where no file system is shared: its record, and the outputs that it has saved."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dbb.errors import DbbError, IntegrityError
from dbb.jobs import read_events
from dbb.jobs.messages import ERROR, make_message
from dbb.jobs.run import made_before
from dbb.staging import stage_out
from dbb.storage import Digest, SaveRequest, new_file
from dbb_plugins.htcondor.packing import OUTGOING, SANDBOX

_TRY = re.compile(r"try\.([0-9]+)")
_EVENTS = re.compile(r"events\.([0-9]+)\.jsonl")
_INCOMPLETE = 3
Event = dict[str, Any]


def unpack(folder: Path) -> str:
    """Bring home what the tries of a job have sent back to its folder; return why some of it could not be saved.

    The outputs are put into the archive, with checksums, and then the record beside the job file, where it is merged
    from. An output that the archive does not take is no longer said to be saved, and its step is incomplete.

    Raises
    ------
    DbbError
        If the job file cannot be read, or the record cannot be written; a repeat goes on there.
    """
    problem = ""
    tries = {int(match[1]): path for path in folder.iterdir() if (match := _TRY.fullmatch(path.name))}
    for _, back in sorted(tries.items()):
        record = back / "record.jsonl"  # by another name than events: only what is corrected may be merged
        problem = _take(folder, back, record) if record.exists() else ""
        for junk in back.glob("*_junk.tar.gz"):
            junk.replace(folder / junk.name)
        shutil.rmtree(back)
    return problem


def note_lost(folder: Path) -> None:
    """Record of a job that was removed while it ran that it had begun: its own record did not come back.

    Raises
    ------
    DbbError
        If that cannot be written.
    """
    if any(folder.glob("events.*.jsonl")):
        return
    now = time.time()
    try:
        job = json.loads((folder / "job.json").read_bytes())
        about = {"log": secrets.token_hex(16), "run": job["run"], "try": 1, "start": now}
        event = {"t": now, "job": job["job"]["name"], "step": None, "state": "running", **about}
        with new_file(folder / "events.1.jsonl") as stream:
            stream.write(json.dumps(event).encode() + b"\n")
    except (OSError, ValueError) as error:
        raise DbbError(f"the end of the job in {folder} cannot be recorded: {error}") from error


def drop_luggage(folder: Path) -> None:
    """Remove what travelled to a job that has ended."""
    shutil.rmtree(folder / SANDBOX, ignore_errors=True)


def _take(folder: Path, back: Path, record: Path) -> str:
    try:
        job = json.loads((folder / "job.json").read_bytes())
        events = [event for _, event in read_events(record)]
    except (OSError, ValueError, IntegrityError) as error:
        raise DbbError(f"what came back from the job in {folder} cannot be used: {error}") from error
    number = _number(folder, events)
    errors = _save(job, back, events, made_before(folder, number))
    try:
        with new_file(folder / f"events.{number}.jsonl") as stream:
            for event in _corrected(events, job.get("home"), errors, number):
                stream.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")
    except OSError as error:
        raise DbbError(f"{folder / f'events.{number}.jsonl'} cannot be written: {error.strerror}") from error
    return next(iter(errors.values()), "")


def _number(folder: Path, events: list[Event]) -> int:
    """Return the number of this try: DAGMan counts them anew when a removed DAG is submitted again."""
    mine = events[0].get("log") if events else None
    there = {int(match[1]): path for path in folder.iterdir() if (match := _EVENTS.fullmatch(path.name))}
    for number, path in there.items():
        first = next((event for _, event in read_events(path)), {})
        if first.get("log") == mine:  # taken already, by an attendant that was killed then
            return number
    return max(there, default=0) + 1


def _save(
    job: Mapping[str, Any], back: Path, events: list[Event], replaces: Mapping[str, frozenset[str]]
) -> dict[str, str]:
    """Put what the job has saved into the archive; return why that did not work, by the place in the archive."""
    made = {_name(event["file"]): event["file"] for event in events if isinstance(event.get("file"), dict)}
    requests = []
    for one in _saved(events):
        facts = made.get(_name(one), {})
        digest = Digest(int(facts.get("filesize", 0)), facts.get("md5sum", ""), facts.get("sha256", ""))
        source, root = f"{back}/saved/{one['relpath']}", job["archives"][job["home"]]
        requests.append(SaveRequest(source, root, one["relpath"], digest, replaces.get(_name(one), frozenset())))
    if not requests:
        return {}
    return {one.request.relpath: one.error for one in stage_out(requests) if one.error}


def _saved(events: list[Event]) -> Iterator[Mapping[str, Any]]:
    return (event["saved"] for event in events if event.get("saved", {}).get("archive") == OUTGOING)


def _name(one: Mapping[str, Any]) -> str:
    return f"{one['filename']}{one['compression']}"


def _corrected(events: list[Event], home: str | None, errors: Mapping[str, str], number: int) -> Iterator[Event]:
    """Give the events as they are true here: with the archive that the outputs lie in, or why they do not."""
    lost: dict[int | None, str] = {}
    for event in events:
        new = dict(event)
        saved = event.get("saved", {})
        why = errors.get(saved.get("relpath", ""))
        if "try" in event:
            new["try"] = number
        elif saved and why is not None:
            lost.setdefault(event["step"], f"{saved['filename']} could not be saved: {why}")
            new = {key: event[key] for key in ("t", "job", "step")}
            new |= {"exec": None, "message": make_message(why, None, ERROR).as_dict("")}
        elif saved:
            new["saved"] = {**saved, "archive": home}
        elif lost and event.get("state") == "succeeded" and event.get("exec") is None:
            reason = lost.get(event["step"]) if event["step"] is not None else next(iter(lost.values()))
            if reason is not None:
                new |= {"state": "incomplete", "status": _INCOMPLETE, "reason": reason}
        yield new
