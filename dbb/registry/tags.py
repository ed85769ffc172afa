"""Tags: a name for a set of runs, searched in the order in which they were added."""

from __future__ import annotations

import re
from collections.abc import Sequence

import sqlalchemy as sa

from dbb.errors import NotFoundError, UsageError
from dbb.registry._insert import insert_missing
from dbb.registry._tables import now, ops_proctag_def, proctag
from dbb.registry.runs import Run, all_runs, full_run

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


def tag_runs(conn: sa.Connection, tag: str, runs: Sequence[str]) -> int:
    """Give `tag` to runs, after those that have it already; return how many got it now.

    Raises
    ------
    UsageError
        If the tag's name or a run is unusable.
    NotFoundError
        If a run does not exist.
    """
    if not _NAME.fullmatch(tag):
        raise UsageError(f"{tag!r} is no tag: use letters, digits and . _ + -")
    known = {run: attempt for attempt, run in all_runs(conn).items()}
    attempts = [_known(known, full_run(text)) for text in runs]
    insert_missing(conn, ops_proctag_def, [{"tag": tag}])
    statement = sa.select(proctag.c.pfw_attempt_id, proctag.c.position).where(proctag.c.tag == tag)
    tagged = {row.pfw_attempt_id: row.position for row in conn.execute(statement)}
    fresh = [attempt for attempt in dict.fromkeys(attempts) if attempt not in tagged]
    first = max(tagged.values(), default=-1) + 1
    rows = [
        {"tag": tag, "pfw_attempt_id": attempt, "position": first + n, "created_date": now(conn.dialect.name)}
        for n, attempt in enumerate(fresh)
    ]
    if rows:
        conn.execute(sa.insert(proctag), rows)
    return len(rows)


def _known(known: dict[Run, int], run: Run) -> int:
    if run not in known:
        raise NotFoundError("run", str(run), [str(other) for other in known])
    return known[run]
