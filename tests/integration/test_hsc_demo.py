"""The run of DMTN-050, repeated: nine modules in one job, its queries, its provenance, and a second attempt."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dbb import Registry
from dbb.report import lineage

EXAMPLE = Path(__file__).parents[2] / "examples" / "hsc"
RUN, SECOND = "Ht0_r11p95", "Ht0_r11p96"
COUNTS = {
    "create_butler_registry": 1,
    "processccd": 16,
    "make_coadd_temp_exp": 32,
    "assemble_coadd": 8,
    "detect_coadd_sources": 8,
    "merge_coadd_detections": 4,
    "measure_coadd_sources": 8,
    "merge_coadd_measurements": 4,
    "forced_phot_coadd": 8,
}
SIZE = 256
"""Pixels across a ccd: few, for speed; all counts are those of the full size."""


def dbb(folder: Path, *words: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DBB_")}
    environment["PATH"] = f"{EXAMPLE / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment["DBB_REGISTRY"] = f"sqlite:///{folder / 'survey.db'}"
    command = [sys.executable, "-m", "dbb_cli", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    logs = "\n".join(log.read_text() for log in folder.glob("*/jobs/*/run.*.log"))
    assert done.returncode == 0, f"dbb {' '.join(words)}\n{done.stdout}{done.stderr}{logs}"


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the whole example, run once."""
    folder = tmp_path_factory.mktemp("hsc") / "survey"
    subprocess.run([sys.executable, EXAMPLE / "make.py", folder, "--size", str(SIZE)], check=True, capture_output=True)
    subprocess.run([sys.executable, EXAMPLE / "ingest.py", folder], check=True, capture_output=True)
    dbb(folder, "submit", str(EXAMPLE / "schemas.wcl"))
    dbb(folder, "submit", str(EXAMPLE / "submit.wcl"), "--set", "attnum=95")
    dbb(folder, "tag", "PROTO-0.1", RUN)
    dbb(folder, "submit", str(EXAMPLE / "second.wcl"), "--set", "attnum=96", "--set", "purge_job_dir=never")
    return folder


def ask(survey: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(survey / "survey.db")) as registry:
        return registry.execute(query).fetchall()


pytestmark = pytest.mark.timeout(600)


def test_each_module_ran_as_often_as_in_the_note(survey: Path) -> None:
    query = (
        "select modname, count(*) from pfw_wrapper w, pfw_attempt a where w.pfw_attempt_id=a.id and a.reqnum=11 and "
        "a.attnum=95 group by modname order by min(w.wrapnum)"
    )
    assert ask(survey, query) == list(COUNTS.items())


def test_the_run_is_one_job(survey: Path) -> None:
    query = "select count(*) from pfw_job j, pfw_attempt a where j.pfw_attempt_id=a.id and a.reqnum=11 and a.attnum=95"
    assert ask(survey, query) == [(1,)]


def test_the_calexps_of_the_coadds_are_found_by_their_tag_under_the_names_of_the_note(survey: Path) -> None:
    query = (
        "select f.path ||'/'||f.filename from file_archive_info f, desfile d, proctag t where "
        "d.filetype='deepcoadd_calexp' and t.tag='PROTO-0.1' and t.pfw_attempt_id=d.pfw_attempt_id and "
        "f.desfile_id=d.id order by f.filename"
    )
    names = [f"calexp-{band}-0-{patch}" for band in ("HSC-I", "HSC-R") for patch in ("8x6", "8x7", "9x6", "9x7")]
    assert ask(survey, query) == [(f"MMG/hsctest/MDEV/r11/Ht0/p95/coadd/{name}-r11p95.fits",) for name in names]


def test_the_wall_clock_of_the_run_is_known_in_seconds(survey: Path) -> None:
    query = (
        "select end_time - start_time from task t, pfw_attempt a where t.id=a.task_id and a.reqnum=11 and a.attnum=95"
    )
    [(seconds,)] = ask(survey, query)
    assert isinstance(seconds, float)
    assert 0 < seconds < 3600


def test_a_coadd_leads_back_to_raws_calibrations_and_the_reference_catalogue(survey: Path) -> None:
    with Registry(f"sqlite:///{survey / 'survey.db'}") as registry:
        came_from = "\n".join(lineage(registry, "calexp-HSC-I-0-8x7-r11p95.fits").tree())
    for name in ("raw/2013-11-02/HSCA90401136.fits", "BIAS-", "DARK-", "FLAT-", "simstars.tar", "skyMap-4patch.pickle"):
        assert name in came_from


def test_a_second_attempt_reads_calexps_of_two_runs_through_one_repository(survey: Path) -> None:
    [job] = (survey / SECOND / "jobs").glob("*/job.json")
    inputs = json.loads(job.read_text())["repository"]["manifest"]["inputs"]
    taken = {one["run"] for one in inputs if one["dataset"] == "calexp"}
    assert taken == {RUN}
    with Registry(f"sqlite:///{survey / 'survey.db'}") as registry:
        came_from = "\n".join(lineage(registry, "ref-0-8x7-r11p96.fits").tree())
    assert "CORR-0904010-010-r11p95.fits" in came_from
    assert "CORR-0903334-016-r11p96.fits" in came_from


def test_a_step_without_its_link_fails(survey: Path, tmp_path: Path) -> None:
    """Programs meet their data through the repository alone."""
    [work] = (survey / SECOND / "jobs").glob("*/work.1")
    link = next((work / "jobrepo.job" / "in").glob("*/HSC-I/corr/CORR-0904010-010.fits"))
    target = link.readlink()
    link.unlink()
    command = [sys.executable, EXAMPLE / "bin" / "makeCoaddTempExp.py", "jobrepo", "--output", str(tmp_path / "out")]
    words = ["--id", "tract=0", "patch=8x7", "filter=HSC-I", "--selectId", "visit=904010", "ccd=10"]
    done = subprocess.run(
        [*command[:3], "--output", "jobrepo", *words], cwd=work, capture_output=True, text=True, check=False
    )
    link.symlink_to(target)
    assert done.returncode == 1
    assert "CORR-0904010-010" in done.stderr
