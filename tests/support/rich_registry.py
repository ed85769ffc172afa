"""A registry that has something in every table: two runs with all their records, and all that is beside runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from event_files import make_workflow, register_raws, write_run
from registries import execute, rows, small_registry

from dbb import Registry
from dbb.exchange.content import metadata_tables, own_tables
from dbb.exchange.fetch import plain
from dbb.ingest import load_blacklist, load_visit_tags
from dbb.runs.begin import begin_run
from dbb.runs.merge import merge

FILETYPES = ("hsc_raw", "calexp", "deepcoadd_calexp", "bias", "deepcoadd_skymap")
CORNERS = {"ra_cent": 1.0, "dec_cent": 2.0}
CORNERS |= {f"{axis}c{n}": 1.0 + n / 8 for axis in ("ra", "dec") for n in (1, 2, 3, 4)}
_MORE = """\
insert into pfw_attempt_label (pfw_attempt_id, label) select id, 'night' from pfw_attempt;
insert into compress_task (task_id, name, num_requested, tot_bytes_before)
    select max(id), 'fpack', 3, 5000000000 from task;
insert into pfw_data_query (task_id, pfw_attempt_id, pfw_block_task_id, modname)
    select task_id, pfw_attempt_id, pfw_block_task_id, 'ask' from pfw_exec
    where task_id = (select min(task_id) from pfw_exec);
insert into pending_use (pfw_attempt_id, filename, compression, task_id)
    select pfw_attempt_id, 'later.fits', '', min(task_id) from pfw_exec group by pfw_attempt_id;
insert into tar_member (tar_id, member, position, filesize, desfile_id)
    select t.id, 'raw-1-0.fits', 512, 10, r.id from desfile t, desfile r
    where t.filename = 'packed.tar' and r.filename = 'raw-1-0.fits';
insert into tar_member (tar_id, member, position, filesize)
    select id, '189440.fits', 512, 10 from desfile where filename = 'ps1.tar';
insert into refcat (name, tar_id, depth) select 'ps1', id, 7 from desfile where filename = 'ps1.tar'"""


def rich_registry(url: str, folder: Path) -> Registry:
    """Make the registry; `folder` is for the files of its runs."""
    registry = small_registry(url, *FILETYPES)
    registry.add_archive("home", str(folder / "home"))
    registry.add_archive("tape", "s3://tape/survey")
    register_raws(registry, 2, 2)
    for attnum in (95, 96):
        workflow = make_workflow(2, 2, attnum=attnum)
        begin_run(registry, workflow, operator="op")
        merge(registry, [path.parent for path in write_run(folder / str(attnum), workflow)])
    raw = {"relpath": "raw/raw-7-0.fits", "visit": 7, "ccd": 0, "filter": "HSC-R", "md5sum": "7" * 32, **CORNERS}
    for archive in ("home", "tape"):
        registry.ingest_table([raw], filetype="hsc_raw", archive=archive)
    registry.ingest_table([{"relpath": "sky/skyMap.pickle"}], filetype="deepcoadd_skymap", archive="home")
    for name, filetype in (("ps1.tar", "refcat_tar"), ("packed.tar", "packed_tar")):
        registry.ingest_table([{"relpath": name, "filesize": 2048}], filetype=filetype, archive="home")
    bias: dict[str, object] = {"relpath": "bias.fits", "ccd": 0, "calibDate": "2014-01-01"}
    registry.ingest_table([bias], filetype="bias", archive="home")
    bias |= {"validStart": "2014-01-01", "validEnd": "2014-02-01"}
    registry.certify_calibrations([bias], version="2014A", filetype="bias")
    pairs = [{"tract": 0, "patch": "8,6", "visit": visit, "ccd": ccd} for visit in (1, 2, 9) for ccd in (0, 1)]
    registry.load_overlaps(pairs, version="loaded")
    load_visit_tags(registry, [{"visit": 1}], tag="good")
    load_blacklist(registry, [{"visit": 2, "ccd": 1}], reason="moon")
    registry.tag("PROTO-0.1", "Ht0_r11p96", "Ht0_r11p95")
    for statement in _MORE.split(";"):
        execute(registry, statement)
    empty = [name for name in own_tables() if not rows(registry, f"select 1 from {name} limit 1")]
    assert empty == []
    return registry


def plain_contents(registry: Registry) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table as plain values, the same from both databases."""
    tables = own_tables() | metadata_tables(registry)
    found = {}
    with registry.read() as conn:
        for name, table in sorted(tables.items()):
            columns = [plain(column, registry.dialect) for column in table.columns]
            found[name] = sorted((tuple(row) for row in conn.execute(sa.select(*columns))), key=repr)
    return found
