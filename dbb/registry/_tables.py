"""The tables of a registry: DESDM's names and columns where DESDM has them, and how metadata tables are made."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from dbb.filetypes import Column

SCHEMA_VERSION = 4
TIMESTAMP = sa.Float().with_variant(sa.DateTime(timezone=True), "postgresql")
"""Seconds since 1970 on SQLite, so that differences are seconds; a timestamp on PostgreSQL."""
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""64-bit integer; spelled INTEGER on SQLite, where a primary key of that type is the row's own number."""

metadata = sa.MetaData()


def _name(name: str, *args: Any, **kwargs: Any) -> sa.Column[str]:
    return sa.Column(name, sa.Text, *args, **kwargs)


dbb_schema = sa.Table(
    "dbb_schema",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    _name("dbb", nullable=False),
    _name("mapper"),
    sa.Column("created_date", TIMESTAMP),
)
ops_archive = sa.Table(
    "ops_archive",
    metadata,
    _name("name", primary_key=True),
    _name("site"),
    _name("root", nullable=False),
    _name("filemgmt"),
    _name("fileutils"),
)
ops_filetype = sa.Table(
    "ops_filetype",
    metadata,
    _name("filetype", primary_key=True),
    _name("metadata_table"),
    _name("description"),
    _name("dataset_type"),
    _name("mapper"),
    _name("directory"),
    _name("name_pattern"),
)
ops_filetype_metadata = sa.Table(
    "ops_filetype_metadata",
    metadata,
    _name("filetype", sa.ForeignKey("ops_filetype.filetype"), primary_key=True),
    _name("column_name", primary_key=True),
    _name("column_type", nullable=False),
    _name("source", nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("key_position", sa.Integer),
    sa.Column("required", sa.Boolean, nullable=False),
)
pfw_request = sa.Table(
    "pfw_request",
    metadata,
    sa.Column("reqnum", sa.Integer, primary_key=True, autoincrement=False),
    _name("project"),
    _name("jira_id"),
    _name("pipeline"),
    _name("campaign"),
    sa.Column("created_date", TIMESTAMP),
    _name("created_by"),
)
pfw_unit = sa.Table(
    "pfw_unit",
    metadata,
    sa.Column("reqnum", sa.ForeignKey("pfw_request.reqnum"), primary_key=True, autoincrement=False),
    _name("unitname", primary_key=True),
)
pfw_attempt = sa.Table(
    "pfw_attempt",
    metadata,
    sa.Column("id", BIG, primary_key=True),
    sa.Column("reqnum", sa.Integer, nullable=False),
    _name("unitname", nullable=False),
    sa.Column("attnum", sa.Integer, nullable=False),
    _name("operator"),
    sa.Column("condorid", sa.Integer),
    _name("subpipeprod"),
    _name("subpipever"),
    sa.Column("submittime", TIMESTAMP),
    sa.Column("numexpblk", sa.Integer),
    _name("basket"),
    _name("group_submit_id"),
    _name("archive_path"),
    sa.Column("task_id", BIG),
    _name("data_state", server_default="NEW"),
    sa.Column("state_change_date", TIMESTAMP),
    _name("ha_state"),
    _name("useqcf"),
    _name("submitwcl"),
    _name("fullsubmitwcl"),
    sa.Column("created_date", TIMESTAMP),
    _name("created_by"),
    sa.ForeignKeyConstraint(["reqnum", "unitname"], ["pfw_unit.reqnum", "pfw_unit.unitname"]),
    sa.UniqueConstraint("reqnum", "unitname", "attnum"),
)
desfile = sa.Table(
    "desfile",
    metadata,
    sa.Column("id", BIG, primary_key=True),
    _name("filename", nullable=False),
    _name("compression", nullable=False),
    _name("filetype", sa.ForeignKey("ops_filetype.filetype"), nullable=False),
    sa.Column("filesize", sa.BigInteger),
    _name("md5sum"),
    _name("sha256"),
    sa.Column("pfw_attempt_id", BIG, sa.ForeignKey("pfw_attempt.id")),
    sa.Column("wgb_task_id", BIG),
    sa.Column("created_date", TIMESTAMP),
    _name("created_by"),
    sa.Index("ix_desfile_filename", "filename"),
    sa.Index("ix_desfile_attempt", "pfw_attempt_id", "filetype"),
    sa.Index("ix_desfile_task", "wgb_task_id"),
)
file_archive_info = sa.Table(
    "file_archive_info",
    metadata,
    _name("filename", primary_key=True),
    _name("path", primary_key=True),
    _name("compression", primary_key=True),
    _name("archive_name", sa.ForeignKey("ops_archive.name"), primary_key=True),
    sa.Column("desfile_id", BIG, sa.ForeignKey("desfile.id"), nullable=False),
    # covering: where a file is, is asked for many files at a time
    sa.Index("ix_file_archive_info_desfile", "desfile_id", "archive_name", "path"),
    sqlite_with_rowid=False,
)
image_corners = sa.Table(
    "image_corners",
    metadata,
    sa.Column("desfile_id", BIG, sa.ForeignKey("desfile.id"), primary_key=True, autoincrement=False),
    *(sa.Column(name, sa.Double) for name in ("ra_cent", "dec_cent")),
    *(sa.Column(f"{axis}c{corner}", sa.Double) for corner in (1, 2, 3, 4) for axis in ("ra", "dec")),
    # where the image lies, coarsely: see dbb.sky.cells
    sa.Column("cell", sa.BigInteger),
    sa.Index("ix_image_corners_cell", "cell"),
)
ops_proctag_def = sa.Table("ops_proctag_def", metadata, _name("tag", primary_key=True), _name("description"))
proctag = sa.Table(
    "proctag",
    metadata,
    _name("tag", sa.ForeignKey("ops_proctag_def.tag"), primary_key=True),
    sa.Column("pfw_attempt_id", BIG, sa.ForeignKey("pfw_attempt.id"), primary_key=True, autoincrement=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("created_date", TIMESTAMP),
    _name("created_by"),
)
certified_calibration = sa.Table(
    "certified_calibration",
    metadata,
    _name("version", primary_key=True),
    sa.Column("desfile_id", BIG, sa.ForeignKey("desfile.id"), primary_key=True, autoincrement=False),
    _name("filetype", nullable=False),
    _name("valid_start", nullable=False),
    _name("valid_end", nullable=False),
    sa.Index("ix_certified_calibration_type", "version", "filetype", "valid_start"),
)
overlap_version = sa.Table(
    "overlap_version",
    metadata,
    sa.Column("id", BIG, primary_key=True),
    _name("name", unique=True, nullable=False),
    _name("source"),
    sa.Column("created_date", TIMESTAMP),
    # a sky map as TOML: where there is one and no rows, overlaps are found from the corners when asked for
    _name("skymap"),
    sa.Column("live", sa.Boolean, nullable=False, server_default=sa.false()),
)
overlap = sa.Table(
    "overlap",
    metadata,
    sa.Column("overlap_version_id", BIG, sa.ForeignKey("overlap_version.id"), primary_key=True, autoincrement=False),
    sa.Column("tract", sa.BigInteger, primary_key=True, autoincrement=False),
    _name("patch", primary_key=True),
    sa.Column("visit", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("ccd", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Index("ix_overlap_visit", "overlap_version_id", "visit", "ccd"),
    sqlite_with_rowid=False,
)
visit_tag = sa.Table(
    "visit_tag",
    metadata,
    _name("tag", primary_key=True),
    sa.Column("visit", sa.BigInteger, primary_key=True, autoincrement=False),
)
blacklist = sa.Table(
    "blacklist",
    metadata,
    sa.Column("visit", sa.BigInteger, primary_key=True, autoincrement=False),
    # -1 stands for every ccd of the visit: a key column cannot be null
    sa.Column("ccd", sa.BigInteger, primary_key=True, autoincrement=False),
    _name("reason", primary_key=True),
    _name("remark"),
)
EVERY_CCD = -1
task = sa.Table(
    "task",
    metadata,
    sa.Column("id", BIG, primary_key=True),
    _name("name", nullable=False),
    _name("label"),
    _name("info_table"),
    sa.Column("start_time", TIMESTAMP),
    sa.Column("end_time", TIMESTAMP),
    sa.Column("status", sa.Integer),
    _name("exec_host"),
    sa.Column("parent_task_id", BIG),
    sa.Column("root_task_id", BIG),
    # unready ready running succeeded failed blocked killed incomplete, and what there is to say of it
    _name("state"),
    _name("reason"),
    sa.Index("ix_task_parent", "parent_task_id", "name", "state"),
    sa.Index("ix_task_label", "name", "label"),
    # covering: how many jobs and steps of each run are in which state
    sa.Index("ix_task_state", "root_task_id", "name", "state"),
)
opm_used = sa.Table(
    "opm_used",
    metadata,
    sa.Column("task_id", BIG, sa.ForeignKey("task.id"), primary_key=True, autoincrement=False),
    sa.Column("desfile_id", BIG, sa.ForeignKey("desfile.id"), primary_key=True, autoincrement=False),
    sa.Index("ix_opm_used_desfile", "desfile_id", "task_id"),
    sqlite_with_rowid=False,
)
opm_was_derived_from = sa.Table(
    "opm_was_derived_from",
    metadata,
    sa.Column("parent_desfile_id", BIG, sa.ForeignKey("desfile.id"), primary_key=True, autoincrement=False),
    sa.Column("child_desfile_id", BIG, sa.ForeignKey("desfile.id"), primary_key=True, autoincrement=False),
    sa.Index("ix_opm_was_derived_from_child", "child_desfile_id", "parent_desfile_id"),
    sqlite_with_rowid=False,
)
tar_member = sa.Table(
    "tar_member",
    metadata,
    sa.Column("tar_id", BIG, sa.ForeignKey("desfile.id"), primary_key=True, autoincrement=False),
    _name("member", primary_key=True),
    # of the member's bytes in the tar, after decompression where it is compressed
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("filesize", sa.BigInteger, nullable=False),
    # the file that the member is, where it is registered as one
    sa.Column("desfile_id", BIG, sa.ForeignKey("desfile.id")),
    sa.Index("ix_tar_member_desfile", "desfile_id"),
    sqlite_with_rowid=False,
)
refcat = sa.Table(
    "refcat",
    metadata,
    _name("name", primary_key=True),
    sa.Column("tar_id", BIG, sa.ForeignKey("desfile.id"), nullable=False),
    # of the HTM trixels that its shards are called after
    sa.Column("depth", sa.Integer, nullable=False),
    sa.Column("created_date", TIMESTAMP),
)

_TYPES: dict[str, Any] = {
    "int": sa.BigInteger,
    "float": sa.Double,
    "str": sa.Text,
    "date": sa.Text,  # ISO text sorts and compares by time on every database, and is what Gen2 registries hold
    "patch": sa.Text,
    "bool": sa.Boolean,
}


def metadata_table(owner: sa.MetaData, name: str, columns: Iterable[Column], keys: Iterable[str] = ()) -> sa.Table:
    """Return the table object of one metadata table; `keys` are the columns of its index."""
    keys = [key.lower() for key in keys]
    return sa.Table(
        name,
        owner,
        sa.Column("desfile_id", BIG, primary_key=True, autoincrement=False),
        *(sa.Column(column.name.lower(), _TYPES[column.type]) for column in columns),
        *([sa.Index(f"ix_{name}_keys", *keys)] if keys else []),
        extend_existing=True,
    )


def column_type(kind: str) -> Any:
    """Return the SQL type of a metadata column of type `kind`."""
    return _TYPES[kind]


def now(dialect: str) -> float | dt.datetime:
    """Return the present time as `TIMESTAMP` columns of `dialect` hold it, to the microsecond on both."""
    return dt.datetime.now(dt.UTC) if dialect == "postgresql" else round(time.time(), 6)
