"""A job makes its Butler repository once, and its steps read and write it under the name that the pipeline has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from demo_survey import CALIBS, RUN_A, Demo, make_demo, sha256
from job_files import archived, events_of, output, shell, states_of, write_job

from dbb import Registry
from dbb.butler import CalibSpec, InputSpec, OutputSpec, RepoSpec, materialize_repo
from dbb.jobs import run_job


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return make_demo(tmp_path_factory)


@pytest.fixture
def repository(demo: Demo, tmp_path: Path) -> dict[str, Any]:
    spec = RepoSpec(
        "hsc",
        (InputSpec("calexp", runs=(RUN_A,)),),
        calibs=CalibSpec(CALIBS),
        outputs=OutputSpec("Ht0_r20p01", ("src",)),
    )
    with Registry(demo.url) as registry:
        materialize_repo(registry, tmp_path / "planned", spec)
    manifest = json.loads((tmp_path / "planned" / "manifest.json").read_text(encoding="utf-8"))
    return {"dir": "jobrepo", "manifest": manifest, "module": "create_butler_registry", "wrapnum": 1}


def test_every_step_sees_the_repository_and_what_earlier_steps_wrote(
    tmp_path: Path, repository: dict[str, Any]
) -> None:
    calexp = repository["manifest"]["inputs"][0]["path"].removeprefix("in/")
    given = archived(tmp_path, "skyMap-1.pickle", b"sky", "jobrepo/deepCoadd/skyMap-1.pickle")
    steps = [
        {"module": "create_butler_registry", "wrapnum": 1, "argv": []},
        shell(
            2,
            f"set -e; test -e jobrepo.job/in/{calexp}; test -e jobrepo/CALIB/calibRegistry.sqlite3;"
            " cat jobrepo/deepCoadd/skyMap.pickle > jobrepo/out.txt",
            output("jobrepo/out.txt"),
            inputs=[given | {"rename": "skyMap.pickle"}],
        ),
        shell(3, "cat jobrepo/out.txt > b", "b", inputs=[{"fullname": "jobrepo/out.txt"}]),
    ]
    path = write_job(tmp_path, steps, repository=repository)
    assert run_job(path).result.state == "succeeded"
    events = events_of(path)
    assert states_of(events) == {1: "succeeded", 2: "succeeded", 3: "succeeded", None: "succeeded"}
    assert [event["module"] for event in events if event["step"] == 1 and "module" in event] == [
        "create_butler_registry"
    ]
    assert (tmp_path / "archive" / "r11p95" / "b").read_bytes() == b"sky"
    assert not list(path.parent.glob("*junk*"))  # the repository is no junk


def test_a_repository_that_cannot_be_made_blocks_all_steps(tmp_path: Path, repository: dict[str, Any]) -> None:
    repository["manifest"]["inputs"][0]["source"] = f"{tmp_path}/not there"
    steps = [shell(2, "true"), shell(3, "true")]
    path = write_job(tmp_path, steps, repository=repository, options={"stop_on_fail": False})
    assert run_job(path).result.state == "failed"
    events = events_of(path)
    assert states_of(events) == {1: "failed", 2: "blocked", 3: "blocked", None: "failed"}
    assert "not there" in events[-1]["reason"]


@pytest.mark.parametrize("era", ["2017", "2021"])
def test_the_real_butler_reads_and_writes_what_tasks_are_given(
    tmp_path: Path, repository: dict[str, Any], shared: Path, gen2_src: Path, era: str
) -> None:
    queries = [
        {"datasetType": one["dataset"], "dataId": one["data_id"], "expect": sha256(Path(one["source"][7:]))}
        for one in repository["manifest"]["inputs"]
    ]
    (tmp_path / "queries.json").write_text(json.dumps(queries), encoding="utf-8")
    client = shared / "gen2_client" / "client.py"
    options = ["--src", str(gen2_src / era), "--repo", "jobrepo", "--output", "jobrepo", str(tmp_path / "queries.json")]
    one = shell(2, "", output("answer.json"))
    one["argv"] = [["sh", "-c", '"$@" > answer.json', "sh", sys.executable, "-B", str(client), *options]]
    path = write_job(tmp_path, [one], repository=repository)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run(
        [sys.executable, "-c", "from dbb_cli.main import main; main()", "run-job", str(path)],
        check=False,
        env=environment,
        timeout=100,
    )
    assert states_of(events_of(path))[2] == "succeeded", (path.parent / "work.1/log/m2_2.log").read_text()
    answer = json.loads((tmp_path / "archive" / "r11p95" / "answer.json").read_text())
    assert [result for result in answer["results"] if not result["ok"]] == []
    assert len(answer["results"]) == len(queries) > 0
