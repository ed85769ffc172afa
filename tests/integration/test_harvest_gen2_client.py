"""The loop closes: the real Gen2 Butler reads what one job wrote, was harvested, and staged for another job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from demo_survey import Survey, sha256
from written_job import OUTPUTS, RUN, fits, make_job

from dbb import harvest_repo
from dbb.butler import InputSpec, OutputSpec, Repository, RepoSpec, materialize_repo

NEXT = "Ht0_r21p01"
PATCH = {"tract": 0, "patch": "8,6", "filter": "HSC-R"}
WRITTEN: list[tuple[str, dict[str, Any]]] = [
    *((name, {"visit": 903334, "ccd": ccd}) for name in ("calexp", "src", "processCcd_metadata") for ccd in (0, 1)),
    ("deepCoadd_calexp", PATCH),
]


def ask(client: Path, src: Path, job: Path, queries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put questions to the Butler, which is given in/ to read and out/ to write."""
    path = job.parent / "queries.json"
    path.write_text(json.dumps(queries), encoding="utf-8")
    command = [sys.executable, "-B", client, "--src", src, "--repo", job / "in", "--output", job / "out", path]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)
    assert "error" not in answer, answer["error"]
    results: list[dict[str, Any]] = answer["results"]
    return results


def write_through_butler(client: Path, src: Path, job: Path, era: str) -> dict[str, str]:
    """Write datasets where the real Butler wants them; return the digest of each by what it is."""
    queries = [{"datasetType": name, "dataId": data_id, "write": True} for name, data_id in WRITTEN]
    digests = {}
    for number, (query, result) in enumerate(zip(queries, ask(client, src, job, queries), strict=True)):
        path = Path(os.path.normpath(job / "in" / result["path"]))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fits(f"f{number}") if path.suffix == ".fits" else b"text %d" % number)
        digests[repr((query["datasetType"], query["dataId"]))] = sha256(path)
    return digests


def write_through_dbb(job: Path, era: str) -> dict[str, str]:
    digests = {}
    with Repository(job / "out", era=era) as repo:
        for number, (name, data_id) in enumerate(WRITTEN):
            data = b"text %d" % number if name.endswith("_metadata") else fits(f"f{number}")
            digests[repr((name, data_id))] = sha256(Path(repo.put(name, data, **data_id)))
    return digests


@pytest.mark.parametrize("era", ["2017", "2021"])
@pytest.mark.parametrize("writer", ["the Butler", "dbb"])
def test_the_butler_reads_from_a_second_job_what_the_first_one_wrote(
    shared: Path, gen2_src: Path, tmp_path: Path, era: str, writer: str
) -> None:
    client, src = shared / "gen2_client" / "client.py", gen2_src / era
    survey = Survey(tmp_path / "survey")
    job = make_job(survey, tmp_path / "JOB", era=era)
    wrote = write_through_butler(client, src, job, era) if writer == "the Butler" else write_through_dbb(job, era)
    done = harvest_repo(survey.registry, job, run=RUN)
    assert (done.files.added, done.files.refused) == (len(WRITTEN), ())
    inputs = tuple(InputSpec(name, runs=(RUN,)) for name in OUTPUTS)
    spec = RepoSpec("hsc", inputs, outputs=OutputSpec(NEXT, ("calexp",)), era=era)
    materialize_repo(survey.registry, tmp_path / "NEXT", spec)
    queries = [
        {"datasetType": name, "dataId": data_id, "expect": wrote[repr((name, data_id))]}
        for name, data_id in WRITTEN
        # the storages of task metadata are compiled code, which the client does not have
        if not name.endswith("_metadata")
    ]
    assert [one for one in ask(client, src, tmp_path / "NEXT", queries) if not one["ok"]] == []
