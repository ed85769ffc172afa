"""The tables that remember how runs went: DESDM's, and three of our own for what its tables have no place for."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from dbb.registry._tables import BIG, TIMESTAMP, metadata

__all__ = [
    "RUSAGE",
    "attempt_state",
    "compress_task",
    "event_log",
    "metadata",
    "pending_use",
    "pfw_attempt_label",
    "pfw_attempt_val",
    "pfw_block",
    "pfw_data_query",
    "pfw_exec",
    "pfw_job",
    "pfw_wrapper",
    "planned_file",
    "task_message",
]

RUSAGE = (
    *("idrss", "inblock", "isrss", "ixrss", "majflt", "maxrss", "minflt", "msgrcv"),
    *("msgsnd", "nivcsw", "nsignals", "nswap", "nvcsw", "oublock", "stime", "utime"),
)
"""What the system says of a process that ended, by the names that DESDM and getrusage(2) have for it."""


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text) for name in names]


def _numbers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.Integer) for name in names]


def _times(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, TIMESTAMP) for name in names]


def _task_key() -> sa.Column[int]:
    return sa.Column("task_id", BIG, sa.ForeignKey("task.id"), primary_key=True, autoincrement=False)


def _attempt() -> sa.Column[int]:
    return sa.Column("pfw_attempt_id", BIG, sa.ForeignKey("pfw_attempt.id"), nullable=False)


def _attempt_key() -> sa.Column[int]:
    return sa.Column("pfw_attempt_id", BIG, sa.ForeignKey("pfw_attempt.id"), primary_key=True, autoincrement=False)


def _parents(*names: str) -> list[sa.Column[int]]:
    # no foreign keys: they are inserted with their tasks, by the thousand
    return [sa.Column(name, BIG, nullable=False) for name in names]


attempt_state = sa.Table(
    "attempt_state",
    metadata,
    _attempt_key(),
    sa.Column("processing_state", sa.Text, nullable=False, server_default="NEW"),
    sa.Column("data_state", sa.Text, nullable=False, server_default="NEW"),
    sa.Column("home_archive_state", sa.Text, nullable=False, server_default="ORIG"),
    sa.Column("on_tape_archive", sa.Text, nullable=False, server_default="N"),
    sa.Column("on_spinning_archive", sa.Text, nullable=False, server_default="N"),
    *_texts("db_object_state", "db_state"),
)
pfw_attempt_label = sa.Table(
    "pfw_attempt_label", metadata, _attempt_key(), sa.Column("label", sa.Text, primary_key=True)
)
pfw_attempt_val = sa.Table(
    "pfw_attempt_val", metadata, _attempt_key(), sa.Column("key", sa.Text, primary_key=True), *_texts("val")
)
pfw_block = sa.Table(
    "pfw_block",
    metadata,
    _task_key(),
    _attempt(),
    sa.Column("blknum", sa.Integer, nullable=False),
    *_texts("name", "modulelist"),
    *_numbers("numexpjobs"),
    *_texts("target_site"),
    *_numbers("condorid"),
    sa.Index("ix_pfw_block_attempt", "pfw_attempt_id", "blknum"),
)
pfw_job = sa.Table(
    "pfw_job",
    metadata,
    _task_key(),
    _attempt(),
    *_parents("pfw_block_task_id"),
    sa.Column("jobnum", sa.Integer, nullable=False),
    *_texts("pipeprod", "pipever", "jobkeys"),
    *_numbers("expect_num_wrap"),
    *_texts("junktar"),
    sa.Column("diskusage", sa.BigInteger),
    *_texts("jobroot"),
    *_times("target_submit_time"),
    *_texts("target_job_id"),
    *_times("condor_submit_time", "condor_start_time", "condor_end_time"),
    *_texts("condor_job_id"),
    sa.Index("ix_pfw_job_attempt", "pfw_attempt_id", "jobnum"),
)
pfw_wrapper = sa.Table(
    "pfw_wrapper",
    metadata,
    _task_key(),
    _attempt(),
    *_parents("pfw_block_task_id", "pfw_job_task_id"),
    sa.Column("wrapnum", sa.Integer, nullable=False),
    *_texts("name", "modname", "wrapkeys", "inputwcl", "outputwcl", "log"),
    sa.Column("diskusage", sa.BigInteger),
    # covering: how many of each module, in the order of the run
    sa.Index("ix_pfw_wrapper_attempt", "pfw_attempt_id", "modname", "wrapnum"),
    sa.Index("ix_pfw_wrapper_job", "pfw_job_task_id", "wrapnum"),
)
pfw_exec = sa.Table(
    "pfw_exec",
    metadata,
    _task_key(),
    _attempt(),
    *_parents("pfw_block_task_id", "pfw_job_task_id", "pfw_wrapper_task_id"),
    sa.Column("execnum", sa.Integer, nullable=False),
    *_texts("name", "cmdargs", "version"),
    *(sa.Column(name, sa.Double if name in {"stime", "utime"} else sa.BigInteger) for name in RUSAGE),
    sa.Index("ix_pfw_exec_attempt", "pfw_attempt_id", "name"),
    sa.Index("ix_pfw_exec_wrapper", "pfw_wrapper_task_id", "execnum"),
)
pfw_data_query = sa.Table(
    "pfw_data_query",
    metadata,
    _task_key(),
    _attempt(),
    *_parents("pfw_block_task_id"),
    *_texts("modname", "datatype", "dataname", "execname", "cmdargs", "version"),
    sa.Index("ix_pfw_data_query_attempt", "pfw_attempt_id"),
)
task_message = sa.Table(
    "task_message",
    metadata,
    sa.Column("task_id", BIG, sa.ForeignKey("task.id"), nullable=False),
    sa.Column("pfw_attempt_id", BIG, sa.ForeignKey("pfw_attempt.id")),
    *_times("message_time"),
    sa.Column("message_lvl", sa.Integer, nullable=False),
    *_numbers("ops_message_pattern_id"),
    sa.Column("message", sa.Text, nullable=False),
    *_texts("log_file"),
    *_numbers("log_line"),
    sa.Index("ix_task_message_attempt", "pfw_attempt_id", "message_lvl"),
    sa.Index("ix_task_message_task", "task_id"),
)
compress_task = sa.Table(
    "compress_task",
    metadata,
    _task_key(),
    *_texts("name", "version", "cmdargs"),
    *_numbers("num_requested", "num_failed"),
    sa.Column("tot_bytes_before", sa.BigInteger),
    sa.Column("tot_bytes_after", sa.BigInteger),
)
event_log = sa.Table(
    "event_log",
    metadata,
    # what the first event of the file calls it: the file may be copied or moved
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("job_task_id", BIG, sa.ForeignKey("task.id"), nullable=False),
    # which try at its job: of several the last one says the states
    sa.Column("trynum", sa.Integer, nullable=False),
    # bytes of it that are in the other tables
    sa.Column("merged", sa.BigInteger, nullable=False),
    sa.Column("finished", sa.Boolean, nullable=False),
    # where the try ran, and with which software
    *_texts("host"),
    *_numbers("pid"),
    *_texts("username", "dbb", "python", "platform", "environment", "software"),
    sa.Index("ix_event_log_job", "job_task_id", "trynum"),
)
planned_file = sa.Table(
    "planned_file",
    metadata,
    _task_key(),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    _attempt(),
    # without the suffix of a compression
    sa.Column("filename", sa.Text, nullable=False),
    *_texts("filetype", "path"),
    sa.Column("saved", sa.Boolean, nullable=False),
    sa.Column("optional", sa.Boolean, nullable=False),
    sa.Index("ix_planned_file_attempt", "pfw_attempt_id", "filename"),
    sqlite_with_rowid=False,
)
pending_use = sa.Table(
    "pending_use",
    metadata,
    # a file that a job read before the job that makes it was merged
    _attempt(),
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("compression", sa.Text, nullable=False),
    # who read it, or what was derived from it
    sa.Column("task_id", BIG, sa.ForeignKey("task.id")),
    sa.Column("child_desfile_id", BIG, sa.ForeignKey("desfile.id")),
    sa.Index("ix_pending_use_attempt", "pfw_attempt_id", "filename"),
)
