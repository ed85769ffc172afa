"""Steps that meet their data only through a Gen2 repository run as one job, under names that no other run has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from demo_survey import Demo, make_demo
from note_steps import CALEXPS, WRAPPER, make_warps, pipeline, process_ccd, raws_to_warps

from dbb import Registry
from dbb.report import lineage
from dbb.runs.report import run_messages
from dbb.runs.submit import Submission, submit


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return make_demo(tmp_path_factory)


@pytest.fixture
def registry(demo: Demo, tmp_path: Path) -> Registry:
    registry = Registry(demo.copy(tmp_path / "registry"))
    registry.add_archive("runs", str(tmp_path / "runs"))
    return registry


def test_steps_find_inputs_of_several_runs_and_write_names_of_their_own(registry: Registry, tmp_path: Path) -> None:
    modules = {"create_butler_registry": {"modnamepat": "make_repo", "wrapper": WRAPPER}, "warp": make_warps(CALEXPS)}
    done = submit(registry, pipeline(tmp_path, modules), Submission(folder=tmp_path / "run"))
    assert done.problems == {}
    warps = registry.query("deepcoadd_tempexp", runs=[done.run])
    assert warps
    for warp in warps:
        assert warp.filename == f"warp-HSC-I-0-8x6-{warp['visit']}-r20p01.fits"
        assert warp["patch"] == "8x6"


def test_a_later_step_reads_what_an_earlier_one_wrote(registry: Registry, tmp_path: Path) -> None:
    modules = raws_to_warps()
    done = submit(registry, pipeline(tmp_path, modules), Submission(folder=tmp_path / "run"))
    assert done.problems == {}
    [warp] = registry.query("deepcoadd_tempexp", where="visit = 904010", runs=[done.run])
    content = next((tmp_path / "run").glob(f"jobs/*/work.1/jobrepo/deepCoadd/HSC-I/0/8x6/{warp.filename}")).read_text()
    assert "calexp CORR-0904010-004-r20p01.fits" in content
    assert "raw HSCA904011" in content
    came_from = "\n".join(lineage(registry, warp.filename).tree())
    for name in ("raw/HSCA904011", "BIAS-2013-11-03-004", "DARK-2013-11-03-004", "FLAT-2013-11-03-HSC-I-004"):
        assert name in came_from


def test_the_step_that_makes_the_repository_counts_as_a_module(registry: Registry, tmp_path: Path) -> None:
    modules = {"create_butler_registry": {"modnamepat": "make_repo", "wrapper": WRAPPER}, "warp": make_warps(CALEXPS)}
    submit(registry, pipeline(tmp_path, modules), Submission(folder=tmp_path / "run"))
    with registry.read() as conn:
        counts = conn.exec_driver_sql(
            "select modname, count(*) from pfw_wrapper w, pfw_attempt a where w.pfw_attempt_id=a.id and a.reqnum=20 "
            "and a.attnum=1 group by modname order by min(w.wrapnum)"
        ).all()
    assert [tuple(row) for row in counts] == [("create_butler_registry", 1), ("warp", 5)]


def test_a_step_whose_input_the_repository_lacks_fails(registry: Registry, tmp_path: Path) -> None:
    modules = {"warp": make_warps(CALEXPS)}
    modules["warp"]["exec_1"]["cmdline"]["reads"] = "src"
    done = submit(registry, pipeline(tmp_path, modules), Submission(folder=tmp_path / "run"))
    (problem,) = done.problems.values()
    assert re.fullmatch("step 1: .* ended with exit status 1", problem)
    first = run_messages(registry, done.run, "error")[0]
    assert "src" in first.message


def test_what_the_repository_holds_comes_from_the_target_archive(registry: Registry, tmp_path: Path) -> None:
    registry.add_archive("near", str(tmp_path / "near"))
    modules = {"process_ccd": process_ccd()}
    near = pipeline(tmp_path, modules, target_archive="near")
    done = submit(registry, near, Submission(folder=tmp_path / "run"))
    assert done.problems == {}
    assert done.unmoved == ""
    content = json.loads(next((tmp_path / "run").glob("jobs/*/job.json")).read_text())
    manifest = content["repository"]["manifest"]
    entries = [*manifest["inputs"], *manifest["calibs"]]
    assert {Path(one["source"].removeprefix("file://")).is_relative_to(tmp_path / "near") for one in entries} == {True}
    assert {one["source"]["archive"] for step in content["steps"] for one in step["inputs"] if one.get("source")} == {
        "near"
    }
    with registry.read() as conn:
        counted = conn.exec_driver_sql(
            "select d.filetype, count(*) from desfile d, file_archive_info f where f.desfile_id = d.id"
            " and f.archive_name = 'near' group by d.filetype order by d.filetype"
        ).all()
    types = {name for name, _ in counted}
    assert types >= {"hsc_raw", "bias", "dark", "flat", "calexp"}
