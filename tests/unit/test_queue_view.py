"""What a queue says of a run, in one line."""

from __future__ import annotations

import pytest

from dbb.runs.queued import QueueView


@pytest.mark.parametrize(
    ("view", "line"),
    [
        (QueueView(), ""),
        (QueueView({1: "idle", 2: "held: no memory", 3: "held: no disk", 4: "idle"}), "2 held, 2 idle (no memory)"),
        (QueueView({1: "not in the queue"}), "1 not in the queue"),
        (QueueView(remarks=("DAGMan held: why",)), "DAGMan held: why"),
        (QueueView({1: "idle"}, ("DAGMan idle",)), "DAGMan idle; 1 idle"),
    ],
)
def test_jobs_are_counted_and_the_first_reason_is_given(view: QueueView, line: str) -> None:
    assert view.summary == line
