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
_SPELLINGS = {
    "sqlite": {"serial": "INTEGER", "big": "INTEGER", "time": "FLOAT", "false": "0", "without_rowid": " WITHOUT ROWID"},
    "postgresql": {
        "serial": "BIGSERIAL",
        "big": "BIGINT",
        "time": "TIMESTAMP WITH TIME ZONE",
        "false": "false",
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
