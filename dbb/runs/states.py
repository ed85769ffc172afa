"""The states of tasks, what each stands for, and DESDM's exit statuses."""

from __future__ import annotations

from typing import Final

UNREADY, READY, RUNNING = "unready", "ready", "running"
SUCCEEDED, FAILED, BLOCKED, KILLED, INCOMPLETE = "succeeded", "failed", "blocked", "killed", "incomplete"
MEANINGS: Final = {
    UNREADY: "waits for others",
    READY: "may begin, and has not",
    RUNNING: "has begun, and not ended",
    SUCCEEDED: "ended well",
    FAILED: "ended, and not well",
    BLOCKED: "was not begun, because something else went wrong or was ended",
    KILLED: "was ended from outside",
    INCOMPLETE: "ended well, but something that it had to make or keep is not there",
}
"""Every state that a task can be in."""
STATES: Final = tuple(MEANINGS)
OPEN: Final = (UNREADY, READY, RUNNING)
"""The states in which something is still to come."""
WAITING: Final = (UNREADY, READY)
"""The states of what has not begun, and may."""
BAD: Final = (KILLED, FAILED, INCOMPLETE, BLOCKED)
"""The states of what is over and not well, the worst first."""

STATUS_OK, STATUS_FAILED, STATUS_DELETED, STATUS_LOST = 0, 1, 5, 9
"""Exit statuses of tasks: done, failed, deleted by the operator, gone without a word."""
ERROR, WARNING, INFO = 1, 2, 3
LEVELS: Final = {"error": ERROR, "warning": WARNING, "info": INFO}
"""Levels of messages by their names."""


def summary(counts: dict[str, int]) -> str:
    """Return the state of a whole whose parts are in these states.

    Examples
    --------
    >>> summary({"succeeded": 2, "blocked": 1, "failed": 1})
    'failed'
    >>> summary({"succeeded": 2, "ready": 1})
    'running'
    """
    there = {state for state, count in counts.items() if count}
    if there & set(OPEN):
        begun = there - set(WAITING)
        return RUNNING if begun else READY if READY in there else UNREADY
    for state in BAD:
        if state in there:
            return state
    return SUCCEEDED
