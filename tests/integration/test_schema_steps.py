"""A registry made by an earlier dbb becomes, step by step, what a new one is."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from registries import execute, rows, small_registry

from dbb import Registry
from dbb.registry._tables import SCHEMA_VERSION
from dbb.registry.migrate import migrate
from dbb.registry.provenance import ensure_task

_RUN_TABLES = (
    *("attempt_state", "pfw_attempt_label", "pfw_attempt_val", "pfw_block", "pfw_job", "pfw_wrapper", "pfw_exec"),
    *("pfw_data_query", "task_message", "compress_task", "event_log", "planned_file", "pending_use"),
)
_BACK_TO_3 = (
    *(f"drop table {name}" for name in _RUN_TABLES),
    "drop index ix_task_state",
    "drop index ix_task_parent",
    "create index ix_task_parent on task (parent_task_id)",
    "alter table task drop column state",
    "alter table task drop column reason",
    "update dbb_schema set version = 3",
)
_BACK_TO_1 = (
    *_BACK_TO_3,
    *(f"drop table {name}" for name in ("opm_used", "opm_was_derived_from", "tar_member", "refcat", "task")),
    "drop index ix_desfile_task",
    "drop index ix_image_corners_cell",
    "alter table image_corners drop column cell",
    "alter table overlap_version drop column skymap",
    "alter table overlap_version drop column live",
    "create index ix_image_corners_centre on image_corners (dec_cent, ra_cent)",
    "update dbb_schema set version = 1",
)
_CORNERS = {
    "ra_cent": 359.999,
    "dec_cent": -0.5,
    "rac1": 359.9,
    "decc1": -0.6,
    "rac2": 0.1,
    "decc2": -0.6,
    "rac3": 0.1,
    "decc3": -0.4,
    "rac4": 359.9,
    "decc4": -0.4,
}


def _shape(registry: Registry) -> dict[str, Any]:
    """Return columns, keys and indexes of every table, without regard to order."""
    found = sa.inspect(registry.engine)
    return {
        name: (
            {column["name"]: (str(column["type"]), column["nullable"]) for column in found.get_columns(name)},
            found.get_pk_constraint(name)["constrained_columns"],
            sorted((index["name"], index["column_names"]) for index in found.get_indexes(name)),
            sorted((key["constrained_columns"], key["referred_table"]) for key in found.get_foreign_keys(name)),
        )
        for name in found.get_table_names()
    }


def _add_raws(registry: Registry) -> list[Any]:
    """Register an exposure with corners and one without; return their cells."""
    registry.add_archive("home", "/data/home")
    keys = {"visit": 1, "ccd": 16, "filter": "HSC-R"}
    raws = [{"relpath": "1.fits", **keys, **_CORNERS}, {"relpath": "2.fits", **keys, "visit": 2}]
    registry.ingest_table(raws, filetype="hsc_raw", archive="home")
    return rows(registry, "select desfile_id, cell from image_corners")


def test_a_registry_of_schema_1_gets_the_tables_indexes_and_cells_of_a_new_one(registry_url: str) -> None:
    with small_registry(registry_url, "hsc_raw") as registry:
        cells = _add_raws(registry)
        fresh = _shape(registry)
        for statement in _BACK_TO_1:
            execute(registry, statement)
    assert migrate(registry_url) == (1, SCHEMA_VERSION)
    with Registry(registry_url) as migrated:
        assert _shape(migrated) == fresh
        assert rows(migrated, "select desfile_id, cell from image_corners") == cells
        assert cells[0][1] > 0
        assert rows(migrated, "select live from overlap_version") == []


def test_a_registry_of_schema_2_gets_the_cells_of_a_new_one(registry_url: str) -> None:
    with small_registry(registry_url, "hsc_raw") as registry:
        cells = _add_raws(registry)
        execute(registry, "update image_corners set cell = 1")
        for statement in (*_BACK_TO_3, "update dbb_schema set version = 2"):
            execute(registry, statement)
    assert migrate(registry_url) == (2, SCHEMA_VERSION)
    with Registry(registry_url) as migrated:
        assert rows(migrated, "select desfile_id, cell from image_corners") == cells


def test_a_registry_of_schema_3_gets_the_tables_of_runs_and_its_tasks_are_done(registry_url: str) -> None:
    with small_registry(registry_url) as registry:
        registry.write(lambda conn: ensure_task(conn, "harvest", "Ht0_r11p95 abc"))
        fresh, task = _shape(registry), rows(registry, "select * from task")
        for statement in _BACK_TO_3:
            execute(registry, statement)
    assert migrate(registry_url) == (3, SCHEMA_VERSION)
    with Registry(registry_url) as migrated:
        assert _shape(migrated) == fresh
        assert rows(migrated, "select * from task") == task
