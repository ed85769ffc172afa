"""The query programs of real submit files, read as DESDM's own framework reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from sections import first_section, unknown

from dbb.errors import PipelineError
from dbb.pipeline import Pipeline
from dbb.pipeline.inputs import query_lines
from dbb.pipeline.section import Line
from dbb.plugins import plugins

IMAGES = [
    {
        "filename": f"a_{band}_{ccd:02d}.fits", "compression": ".fz",
        "band": band, "ccdnum": str(ccd), "expnum": str(100 + ccd),
    }
    for band in "rg"
    for ccd in (10, 2)
]  # fmt: skip


def read(shared: Path, case: str) -> Pipeline:
    folder = shared / "desdm_cases" / "block" / case
    info = json.loads((folder / "case.json").read_text())
    settings = {"attnum": str(info["attnum"]), "submit_des_db_section": "db-test"}
    pipeline: Pipeline = plugins().hook.dbb_read_pipeline(path=folder / info["submit"], settings=settings)
    return pipeline


def lines_of(pipeline: Pipeline, module: str, kind: str, name: str, scratch: Path) -> Sequence[Line] | None:
    return query_lines(first_section(pipeline, module, kind, name), None, scratch, unknown)


@pytest.mark.parametrize("case", ["20_query_divide", "26_args_module_key"])
def test_a_list_comes_from_a_program(shared: Path, tmp_path: Path, case: str) -> None:
    assert lines_of(read(shared, case), "qm", "list", "imgs", tmp_path) == [{"img": one} for one in IMAGES]


def test_files_come_from_programs(shared: Path, tmp_path: Path) -> None:
    pipeline = read(shared, "30_file_query_match")
    assert lines_of(pipeline, "fm", "file", "img", tmp_path) == [{"img": one} for one in IMAGES]
    assert lines_of(pipeline, "fm", "file", "cal", tmp_path) == [
        {"c": {"filename": f"cal_{ccd:02d}.fits", "compression": "", "ccdnum": str(ccd)}} for ccd in (2, 10)
    ]


def test_a_program_that_finds_nothing_stops_the_plan(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"submit\.des:105: module qm, list imgs: no lines: .*qimg\.py") as caught:
        lines_of(read(shared, "24_err_query_empty"), "qm", "list", "imgs", tmp_path)
    assert caught.value.exit_code == 5


def test_a_patch_with_a_comma_comes_through(shared: Path, tmp_path: Path) -> None:
    lines = lines_of(read(shared, "41_patch_comma_wcl"), "pm", "list", "imgs", tmp_path)
    assert lines is not None
    assert lines[0] == {"img": {"filename": "i0.fits", "patch": "8,6", "compression": ""}}


def test_the_query_of_the_note_gives_each_image_for_each_patch(shared: Path, tmp_path: Path) -> None:
    lines = lines_of(read(shared, "seed_coaddtempexp"), "make_coadd_temp_exp", "list", "corr", tmp_path)
    assert lines is not None
    assert [(one["img_corr"]["patch"], one["img_corr"]["visit"], one["img_corr"]["ccd"]) for one in lines] == [
        ("8x7", "904010", "10"), ("8x7", "904010", "4"), ("8x6", "904010", "4"), ("8x6", "903986", "16"),
        ("8x7", "903334", "22"), ("8x7", "903334", "16"), ("8x7", "903334", "23"),
    ]  # fmt: skip
