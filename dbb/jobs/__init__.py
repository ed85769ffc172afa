"""Inside a job: steps are run, watched and recorded, without a database.

The names are given out on first use: a program that runs one step need not load what whole jobs need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbb.jobs.alone import StepResult, run_step
    from dbb.jobs.events import EventLog, read_events
    from dbb.jobs.messages import MessagePattern, MessageRules
    from dbb.jobs.run import JobResult, run_job

__all__ = [
    "EventLog",
    "JobResult",
    "MessagePattern",
    "MessageRules",
    "StepResult",
    "read_events",
    "run_job",
    "run_step",
]

_HOMES = {
    "EventLog": "events",
    "JobResult": "run",
    "MessagePattern": "messages",
    "MessageRules": "messages",
    "StepResult": "alone",
    "read_events": "events",
    "run_job": "run",
    "run_step": "alone",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
