"""What brings a registry from one schema version to the next; each step has the table shapes of its own time."""

from __future__ import annotations

import sqlalchemy as sa

from dbb.sky import Corners

_BATCH = 10_000
_TO_2 = """
ALTER TABLE image_corners ADD COLUMN cell BIGINT;
DROP INDEX IF EXISTS ix_image_corners_centre;
CREATE INDEX ix_image_corners_cell ON image_corners (cell);
CREATE INDEX ix_desfile_task ON desfile (wgb_task_id);
ALTER TABLE overlap_version ADD COLUMN skymap TEXT;
ALTER TABLE overlap_version ADD COLUMN live BOOLEAN DEFAULT {false} NOT NULL;
CREATE TABLE task (id {serial} PRIMARY KEY NOT NULL, name TEXT NOT NULL, label TEXT, info_table TEXT, start_time {time},
    end_time {time}, status INTEGER, exec_host TEXT, parent_task_id {big}, root_task_id {big});
CREATE INDEX ix_task_parent ON task (parent_task_id);
CREATE INDEX ix_task_label ON task (name, label);
CREATE TABLE opm_used (task_id {big} NOT NULL REFERENCES task (id), desfile_id {big} NOT NULL REFERENCES desfile (id),
    PRIMARY KEY (task_id, desfile_id)){without_rowid};
CREATE INDEX ix_opm_used_desfile ON opm_used (desfile_id, task_id);
CREATE TABLE opm_was_derived_from (parent_desfile_id {big} NOT NULL REFERENCES desfile (id),
    child_desfile_id {big} NOT NULL REFERENCES desfile (id),
    PRIMARY KEY (parent_desfile_id, child_desfile_id)){without_rowid};
CREATE INDEX ix_opm_was_derived_from_child ON opm_was_derived_from (child_desfile_id, parent_desfile_id);
CREATE TABLE tar_member (tar_id {big} NOT NULL REFERENCES desfile (id), member TEXT NOT NULL, position BIGINT NOT NULL,
    filesize BIGINT NOT NULL, desfile_id {big} REFERENCES desfile (id), PRIMARY KEY (tar_id, member)){without_rowid};
CREATE INDEX ix_tar_member_desfile ON tar_member (desfile_id);
CREATE TABLE refcat (name TEXT NOT NULL PRIMARY KEY, tar_id {big} NOT NULL REFERENCES desfile (id),
    depth INTEGER NOT NULL, created_date {time})
"""
_TO_4 = """
ALTER TABLE task ADD COLUMN state TEXT;
ALTER TABLE task ADD COLUMN reason TEXT;
UPDATE task SET state = 'succeeded' WHERE status = 0;
DROP INDEX ix_task_parent;
CREATE INDEX ix_task_parent ON task (parent_task_id, name, state);
CREATE INDEX ix_task_state ON task (root_task_id, name, state);
CREATE TABLE attempt_state ({attempt_key} PRIMARY KEY, processing_state TEXT DEFAULT 'NEW' NOT NULL,
    data_state TEXT DEFAULT 'NEW' NOT NULL, home_archive_state TEXT DEFAULT 'ORIG' NOT NULL,
    on_tape_archive TEXT DEFAULT 'N' NOT NULL, on_spinning_archive TEXT DEFAULT 'N' NOT NULL,
    db_object_state TEXT, db_state TEXT);
CREATE TABLE pfw_attempt_label ({attempt_key}, label TEXT NOT NULL, PRIMARY KEY (pfw_attempt_id, label));
CREATE TABLE pfw_attempt_val ({attempt_key}, key TEXT NOT NULL, val TEXT, PRIMARY KEY (pfw_attempt_id, key));
CREATE TABLE pfw_block ({task_key}, {attempt_key}, blknum INTEGER NOT NULL, name TEXT, modulelist TEXT,
    numexpjobs INTEGER, target_site TEXT, condorid INTEGER);
CREATE INDEX ix_pfw_block_attempt ON pfw_block (pfw_attempt_id, blknum);
CREATE TABLE pfw_job ({task_key}, {attempt_key}, pfw_block_task_id {big} NOT NULL, jobnum INTEGER NOT NULL,
    pipeprod TEXT, pipever TEXT, jobkeys TEXT, expect_num_wrap INTEGER, junktar TEXT, diskusage BIGINT, jobroot TEXT,
    target_submit_time {time}, target_job_id TEXT, condor_submit_time {time}, condor_start_time {time},
    condor_end_time {time}, condor_job_id TEXT);
CREATE INDEX ix_pfw_job_attempt ON pfw_job (pfw_attempt_id, jobnum);
CREATE TABLE pfw_wrapper ({task_key}, {attempt_key}, pfw_block_task_id {big} NOT NULL, pfw_job_task_id {big} NOT NULL,
    wrapnum INTEGER NOT NULL, name TEXT, modname TEXT, wrapkeys TEXT, inputwcl TEXT, outputwcl TEXT, log TEXT,
    diskusage BIGINT);
CREATE INDEX ix_pfw_wrapper_attempt ON pfw_wrapper (pfw_attempt_id, modname, wrapnum);
CREATE INDEX ix_pfw_wrapper_job ON pfw_wrapper (pfw_job_task_id, wrapnum);
CREATE TABLE pfw_exec ({task_key}, {attempt_key}, pfw_block_task_id {big} NOT NULL, pfw_job_task_id {big} NOT NULL,
    pfw_wrapper_task_id {big} NOT NULL, execnum INTEGER NOT NULL, name TEXT, cmdargs TEXT, version TEXT,
    idrss BIGINT, inblock BIGINT, isrss BIGINT, ixrss BIGINT, majflt BIGINT, maxrss BIGINT, minflt BIGINT,
    msgrcv BIGINT, msgsnd BIGINT, nivcsw BIGINT, nsignals BIGINT, nswap BIGINT, nvcsw BIGINT, oublock BIGINT,
    stime {double}, utime {double});
CREATE INDEX ix_pfw_exec_attempt ON pfw_exec (pfw_attempt_id, name);
CREATE INDEX ix_pfw_exec_wrapper ON pfw_exec (pfw_wrapper_task_id, execnum);
CREATE TABLE pfw_data_query ({task_key}, {attempt_key}, pfw_block_task_id {big} NOT NULL, modname TEXT, datatype TEXT,
    dataname TEXT, execname TEXT, cmdargs TEXT, version TEXT);
CREATE INDEX ix_pfw_data_query_attempt ON pfw_data_query (pfw_attempt_id);
CREATE TABLE task_message (task_id {big} NOT NULL REFERENCES task (id),
    pfw_attempt_id {big} REFERENCES pfw_attempt (id), message_time {time}, message_lvl INTEGER NOT NULL,
    ops_message_pattern_id INTEGER, message TEXT NOT NULL, log_file TEXT, log_line INTEGER);
CREATE INDEX ix_task_message_attempt ON task_message (pfw_attempt_id, message_lvl);
CREATE INDEX ix_task_message_task ON task_message (task_id);
CREATE TABLE compress_task ({task_key}, name TEXT, version TEXT, cmdargs TEXT, num_requested INTEGER,
    num_failed INTEGER, tot_bytes_before BIGINT, tot_bytes_after BIGINT);
CREATE TABLE event_log (id TEXT NOT NULL PRIMARY KEY, path TEXT NOT NULL,
    job_task_id {big} NOT NULL REFERENCES task (id), trynum INTEGER NOT NULL, merged BIGINT NOT NULL,
    finished BOOLEAN NOT NULL, host TEXT, pid INTEGER, username TEXT, dbb TEXT, python TEXT, platform TEXT,
    environment TEXT, software TEXT);
CREATE INDEX ix_event_log_job ON event_log (job_task_id, trynum);
CREATE TABLE planned_file (task_id {big} NOT NULL REFERENCES task (id), position INTEGER NOT NULL, {attempt_key},
    filename TEXT NOT NULL, filetype TEXT, path TEXT, saved BOOLEAN NOT NULL, optional BOOLEAN NOT NULL,
    PRIMARY KEY (task_id, position)){without_rowid};
CREATE INDEX ix_planned_file_attempt ON planned_file (pfw_attempt_id, filename);
CREATE TABLE pending_use ({attempt_key}, filename TEXT NOT NULL, compression TEXT NOT NULL,
    task_id {big} REFERENCES task (id), child_desfile_id {big} REFERENCES desfile (id));
CREATE INDEX ix_pending_use_attempt ON pending_use (pfw_attempt_id, filename)
"""
_KEYS = {
    "task_key": "task_id {big} NOT NULL PRIMARY KEY REFERENCES task (id)",
    "attempt_key": "pfw_attempt_id {big} NOT NULL REFERENCES pfw_attempt (id)",
}
_SPELLINGS = {
    "sqlite": {
        "serial": "INTEGER",
        "big": "INTEGER",
        "time": "FLOAT",
        "false": "0",
        "double": "DOUBLE",
        "without_rowid": " WITHOUT ROWID",
    },
    "postgresql": {
        "serial": "BIGSERIAL",
        "big": "BIGINT",
        "time": "TIMESTAMP WITH TIME ZONE",
        "false": "false",
        "double": "DOUBLE PRECISION",
        "without_rowid": "",
    },
}


def to_2(conn: sa.Connection) -> None:
    """Add provenance, tar members, reference catalogues, sky maps and a column for the coarse index of the corners."""
    for statement in _TO_2.format(**_SPELLINGS[conn.dialect.name]).split(";"):
        conn.exec_driver_sql(statement)


def to_3(conn: sa.Connection) -> None:
    """Give every image its cell of the coarse index, which has finer classes of size than in schema 2."""
    import numpy as np  # only where a registry is migrated

    from dbb.sky.cells import image_cells

    corners = sa.table("image_corners", *(sa.column(name) for name in ("desfile_id", "cell", *Corners.__slots__)))
    select = sa.select(corners.c.desfile_id, *(corners.c[name] for name in Corners.__slots__))
    update = sa.update(corners).where(corners.c.desfile_id == sa.bindparam("file")).values(cell=sa.bindparam("place"))
    last = -1
    # by number and not with one open cursor: the rows that it reads are those that change
    while rows := conn.execute(
        select.where(corners.c.desfile_id > last).order_by(corners.c.desfile_id).limit(_BATCH)
    ).all():
        cells = image_cells(np.array([row[1:] for row in rows], dtype=float))
        conn.execute(update, [{"file": row[0], "place": int(cell)} for row, cell in zip(rows, cells, strict=True)])
        last = rows[-1][0]


def to_4(conn: sa.Connection) -> None:
    """Add what is remembered of runs: blocks, jobs, steps and programs with their states, messages and event files."""
    spellings = _SPELLINGS[conn.dialect.name]
    keys = {name: text.format(**spellings) for name, text in _KEYS.items()}
    for statement in _TO_4.format(**spellings, **keys).split(";"):
        conn.exec_driver_sql(statement)
