"""What a new attempt may take over from an old one: steps that succeeded, and whose outputs are still kept."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from dbb.registry import Database
from dbb.registry._runtables import pfw_wrapper, planned_file
from dbb.registry._tables import desfile, file_archive_info, task
from dbb.registry.relpaths import join_relpath
from dbb.runs.find import find_run
from dbb.runs.states import SUCCEEDED


@dataclass(frozen=True, slots=True)
class KeptFile:
    """An output of a finished step and one archive that has it; `planned` is its name in the workflow."""

    planned: str
    filename: str
    compression: str
    filetype: str
    archive: str
    relpath: str
    filesize: int | None
    md5sum: str | None


@dataclass(frozen=True, slots=True)
class FinishedStep:
    """A step that need not run again, by its number, module and keys (``visit=1,ccd=16``), with what it made."""

    wrapnum: int
    module: str
    keys: str
    files: tuple[KeptFile, ...]


def finished_steps(db: Database, run: str) -> list[FinishedStep]:
    """Return the steps of a run that succeeded and whose outputs are all kept, as far as they were to be.

    An optional output that was not made is no hindrance. A step with an output that is needed but not to be kept has no
    copy of that to give, which the caller has to judge.

    Raises
    ------
    NotFoundError, AmbiguousError, UsageError
        If `run` is none, or several.

    Notes
    -----
    Three statements. Whether the archives still have the files is for `dbb verify` to say.
    """
    with db.read() as conn:
        attempt = find_run(conn, run)
        steps = conn.execute(
            sa.select(pfw_wrapper.c.task_id, pfw_wrapper.c.wrapnum, pfw_wrapper.c.modname, pfw_wrapper.c.wrapkeys)
            .where(pfw_wrapper.c.pfw_attempt_id == attempt.id, task.c.id == pfw_wrapper.c.task_id)
            .where(task.c.state == SUCCEEDED)
            .order_by(pfw_wrapper.c.wrapnum)
        ).all()
        kept: dict[tuple[int, str], KeptFile | None] = {}
        for row in conn.execute(_outputs(attempt.id)):
            needed = row.saved and not (row.optional and row.id is None)
            if row.archive_name is not None:
                relpath = join_relpath(row.path, row.filename, row.compression)
                facts = row.compression, row.filetype, row.archive_name, relpath, row.filesize, row.md5sum
                # those that are in an archive come first, the newest before the others
                kept.setdefault((row.task_id, row.planned), KeptFile(row.planned, row.filename, *facts))
            elif needed:
                kept.setdefault((row.task_id, row.planned), None)
    files: dict[int, list[KeptFile]] = {}
    for (step, _), one in kept.items():
        if one is not None:
            files.setdefault(step, []).append(one)
    lost = {step for (step, _), one in kept.items() if one is None}
    return [
        FinishedStep(row.wrapnum, row.modname, row.wrapkeys or "", tuple(files.get(row.task_id, ())))
        for row in steps
        if row.task_id not in lost
    ]


def _outputs(attempt: int) -> sa.Select[tuple[object, ...]]:
    """Return the statement that gives each planned file, with the places of what was made if there is any."""
    file, maker, place = desfile.alias("file"), task.alias("maker"), file_archive_info.alias("place")
    wanted = planned_file.c
    made = (
        sa.select(
            *(file.c[name] for name in ("id", "filename", "compression", "filetype", "filesize", "md5sum")),
            sa.case((maker.c.name.in_(["wrapper", "job"]), maker.c.id), else_=maker.c.parent_task_id).label("owner"),
            place.c.archive_name,
            place.c.path,
        )
        .select_from(
            file.join(maker, maker.c.id == file.c.wgb_task_id).outerjoin(place, place.c.desfile_id == file.c.id)
        )
        .where(file.c.pfw_attempt_id == attempt)
        .subquery("made")
    )
    return (
        sa.select(wanted.task_id, wanted.filename.label("planned"), wanted.saved, wanted.optional, *made.c)
        .select_from(
            planned_file.outerjoin(made, (made.c.owner == wanted.task_id) & (made.c.filename == wanted.filename))
        )
        .where(wanted.pfw_attempt_id == attempt)
        .order_by(wanted.task_id, wanted.position, made.c.archive_name.nulls_last(), made.c.id.desc())
    )
