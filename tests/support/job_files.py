"""Job files for tests, and what their events say."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dbb.jobs.events import read_events

Entry = dict[str, Any]
RUN = {"reqnum": 11, "unitname": "Ht0", "attnum": 95}


def output(fullname: str, **more: Any) -> Entry:
    """An output that is kept in the archive's folder ``r11p95``."""
    return {"fullname": fullname, "archivepath": "r11p95", **more}


def shell(number: int, script: str, *outputs: str | Entry, module: str = "", **more: Any) -> Entry:
    """A step that runs a shell script."""
    made = [output(one) if isinstance(one, str) else one for one in outputs]
    module = module or f"m{number}"
    return {
        "module": module,
        "wrapnum": number,
        "argv": [["sh", "-c", script]],
        "outputs": made,
        "log": f"log/{module}_{number}.log",
        **more,
    }


def archived(folder: Path, relpath: str, content: bytes, fullname: str) -> Entry:
    """An input that lies in the archive ``home``."""
    path = folder / "archive" / relpath
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    source = {"archive": "home", "relpath": relpath, "filesize": len(content), "md5sum": md5sum(content)}
    return {"fullname": fullname, "source": source}


def md5sum(content: bytes) -> str:
    """The MD5 sum of some bytes."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def write_job(folder: Path, steps: Iterable[Entry], **more: Any) -> Path:
    """Write ``job/job.json``; the archive is ``archive`` beside it."""
    (folder / "archive").mkdir(exist_ok=True, parents=True)
    path = folder / "job" / "job.json"
    path.parent.mkdir(exist_ok=True)
    parallel = more.pop("parallel", {})
    job = {
        "schema": 1,
        "dbb": "0",
        "run": RUN,
        "job": {"name": "job", "parallel": parallel},
        "steps": list(steps),
        "archives": {"home": f"file://{folder}/archive"},
        "home": "home",
        **more,
    }
    path.write_text(json.dumps(job), encoding="utf-8")
    return path


def events_of(path: Path, number: int = 1) -> list[Entry]:
    """All events of a try of the job whose file is `path`."""
    return [event for _, event in read_events(path.with_name(f"events.{number}.jsonl"))]


def states_of(events: Iterable[Entry]) -> dict[int | None, str]:
    """The last state of each step, and of the job (None)."""
    return {event["step"]: event["state"] for event in events if "state" in event and "exec" not in event}


def texts_of(events: Iterable[Entry]) -> list[str]:
    """The texts of all messages."""
    return [event["message"]["text"] for event in events if "message" in event]


def start_dbb(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start the ``dbb`` command."""
    command = [sys.executable, "-c", "from dbb_cli.main import main; main()", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
