"""Which rows of each table belong to what `dbb.exchange.choice` noted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from dbb.exchange.choice import Choice, chosen_file, chosen_run, chosen_task
from dbb.exchange.content import filled_tables, own_tables
from dbb.exchange.fetch import plain
from dbb.registry import Database
from dbb.registry._runtables import (
    attempt_state,
    compress_task,
    event_log,
    pending_use,
    pfw_attempt_label,
    pfw_attempt_val,
    pfw_block,
    pfw_data_query,
    pfw_exec,
    pfw_job,
    pfw_wrapper,
    planned_file,
    task_message,
)
from dbb.registry._tables import (
    desfile,
    file_archive_info,
    image_corners,
    opm_used,
    opm_was_derived_from,
    ops_proctag_def,
    overlap,
    pfw_attempt,
    pfw_request,
    pfw_unit,
    proctag,
    tar_member,
    task,
)

_Condition = sa.ColumnElement[bool]
_FILES = sa.select(chosen_file.c.id)
_RUNS = sa.select(chosen_run.c.id)
_WHOLE = sa.select(chosen_run.c.id).where(chosen_run.c.whole)
_TASKS = sa.select(chosen_task.c.id)


def chosen_rows(db: Database, conn: sa.Connection, choice: Choice) -> Iterator[tuple[sa.Table, sa.Select[Any]]]:
    """Give each table with the SELECT of its rows that are wanted, in the order of its primary key.

    What has no condition is wanted whole: archives, filetypes, calibrations, overlap versions, visit tags, …
    """
    conditions = _conditions()
    conditions[overlap.name] = _overlapping(db, conn, choice)
    for table in own_tables().values():
        yield table, _ordered(table, conditions.get(table.name, sa.true()), db.dialect)
    for table in filled_tables(db, conn).values():
        yield table, _ordered(table, table.c.desfile_id.in_(_FILES), db.dialect)


def _ordered(table: sa.Table, condition: _Condition, dialect: str) -> sa.Select[Any]:
    columns = [plain(column, dialect) for column in table.columns]
    if table is pfw_attempt:
        # the counts of a run of which only some tasks are there would be believed
        known = sa.case((table.c.id.in_(_WHOLE), table.c.task_id))
        columns = [known.label("task_id") if column is table.c.task_id else column for column in columns]
    return sa.select(*columns).where(condition).order_by(*table.primary_key.columns)


def _conditions() -> dict[str, _Condition]:
    runs = {table.name: table.c.pfw_attempt_id.in_(_RUNS) for table in (proctag, pfw_attempt_label, pfw_attempt_val)}
    records = (pfw_block, pfw_job, pfw_wrapper, pfw_exec, pfw_data_query, planned_file)
    jobs = sa.select(pfw_job.c.task_id).where(pfw_job.c.pfw_attempt_id.in_(_WHOLE))
    tags = sa.select(proctag.c.tag).where(proctag.c.pfw_attempt_id.in_(_RUNS))
    requests = sa.select(pfw_attempt.c.reqnum).where(pfw_attempt.c.id.in_(_RUNS))
    said = task_message.c
    return {
        **runs,
        **{table.name: table.c.pfw_attempt_id.in_(_WHOLE) for table in records},
        **{table.name: table.c.desfile_id.in_(_FILES) for table in (file_archive_info, image_corners)},
        desfile.name: desfile.c.id.in_(_FILES),
        tar_member.name: tar_member.c.tar_id.in_(_FILES)
        & (tar_member.c.desfile_id.is_(None) | tar_member.c.desfile_id.in_(_FILES)),
        pfw_attempt.name: pfw_attempt.c.id.in_(_RUNS),
        pfw_request.name: pfw_request.c.reqnum.in_(requests),
        pfw_unit.name: pfw_unit.c.reqnum.in_(requests),
        attempt_state.name: attempt_state.c.pfw_attempt_id.in_(_RUNS),
        ops_proctag_def.name: ops_proctag_def.c.tag.in_(tags),
        task.name: task.c.id.in_(_TASKS),
        compress_task.name: compress_task.c.task_id.in_(_TASKS),
        event_log.name: event_log.c.job_task_id.in_(jobs),
        pending_use.name: pending_use.c.pfw_attempt_id.in_(_WHOLE)
        & (pending_use.c.child_desfile_id.is_(None) | pending_use.c.child_desfile_id.in_(_FILES)),
        task_message.name: said.task_id.in_(_TASKS) & (said.pfw_attempt_id.is_(None) | said.pfw_attempt_id.in_(_WHOLE)),
        opm_used.name: opm_used.c.task_id.in_(_TASKS) & opm_used.c.desfile_id.in_(_FILES),
        opm_was_derived_from.name: opm_was_derived_from.c.parent_desfile_id.in_(_FILES)
        & opm_was_derived_from.c.child_desfile_id.in_(_FILES),
    }


def _overlapping(db: Database, conn: sa.Connection, choice: Choice) -> _Condition:
    """Return the condition on overlaps that a chosen file is of their visit."""
    if choice.is_everything:
        return sa.true()
    visits: dict[tuple[str, str], sa.Select[Any]] = {}
    filled = filled_tables(db, conn)
    for filetype in db.filetypes().values():
        table, visit = db.table(filetype), db.keys(filetype.name).visit.lower()
        if table is not None and table.name in filled and visit in table.c:
            chosen = sa.select(table.c[visit]).where(table.c.desfile_id.in_(_FILES))
            visits[table.name, visit] = chosen
    return overlap.c.visit.in_(sa.union(*visits.values())) if visits else sa.false()
