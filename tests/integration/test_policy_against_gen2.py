"""The real Butler of each era takes a dumped policy back, and finds and writes by it what it did before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from demo_survey import make_demo
from live_mapper import VALUES

from dbb import Registry
from dbb.butler import InputSpec, OutputSpec, RepoSpec, materialize_repo
from dbb.butler.policy import merged_policy, policy_yaml
from dbb.butler.policycheck import check_policy
from dbb.mapper import ERAS
from dbb.plugins import plugins

HSC = plugins().mapper("hsc")
HEAD = (
    f"!RepositoryCfg_v1\n_mapper: !!python/name:{HSC.butler_class} ''\n_mapperArgs: {{}}\n_parents: []\n_root: null\n"
)


def places(shared: Path, sources: Path, repository: Path, era: str) -> dict[str, str]:
    """Ask the Butler where it would write one dataset of each type, relative to the repository."""
    queries: list[dict[str, Any]] = []
    for dataset in HSC.datasets:
        if dataset.era == era and not dataset.is_calibration:
            exposure = tuple(HSC.raw_columns) if "visit" in dataset.keys else ()
            data_id = {key: VALUES[key] for key in (*dataset.keys, *exposure) if key in VALUES}
            queries.append({"datasetType": dataset.name, "dataId": data_id, "write": True})
    asked = repository.with_name(f"{repository.name}-queries.json")
    asked.write_text(json.dumps(queries), encoding="ascii")
    client = shared / "gen2_client" / "client.py"
    command = [sys.executable, str(client), "--src", str(sources), "--repo", str(repository), str(asked)]
    answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    assert "error" not in answer, answer["error"]
    assert all("error" not in result for result in answer["results"]), answer["results"]
    return {result["query"]["datasetType"]: result["path"] for result in answer["results"]}


def with_policy(folder: Path, era: str, repo: Path | None = None) -> Path:
    folder.mkdir()
    policy = policy_yaml(HSC, era, merged_policy(HSC, era, repo))
    (folder / "repositoryCfg.yaml").write_text(f"{HEAD}_policy:\n{policy}", encoding="ascii")
    return folder


@pytest.mark.parametrize("era", ERAS)
def test_a_dumped_policy_resolves_the_same_paths(era: str, gen2_src: Path, shared: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "repositoryCfg.yaml").write_text(HEAD, encoding="ascii")
    dumped = with_policy(tmp_path / "dumped", era)
    expected = places(shared, gen2_src / era, plain, era)
    assert len(expected) > 60
    assert places(shared, gen2_src / era, dumped, era) == expected


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    demo = make_demo(tmp_path_factory)
    folder = tmp_path_factory.mktemp("job") / "JOB"
    outputs = OutputSpec("Ht0_r20p01", ("calexp", "src", "deepCoadd_calexp", "deepCoadd_tempExp"))
    with Registry(demo.url) as registry:
        materialize_repo(registry, folder, RepoSpec("hsc", (InputSpec("raw"),), outputs=outputs))
    return folder


@pytest.mark.parametrize("era", ERAS)
def test_the_dumped_policy_of_a_job_gives_the_names_of_its_run(
    era: str, gen2_src: Path, shared: Path, job: Path, tmp_path: Path
) -> None:
    found = places(shared, gen2_src / era, with_policy(tmp_path / "dumped", era, job / "out"), era)
    warp = "deepCoadd_tempExp" if era == "2017" else "deepCoadd_directWarp"
    assert found["calexp"] == "r20/Ht0/p01/corr/CORR-0903334-023-r20p01.fits"
    assert found[warp] == "r20/Ht0/p01/coadd/warp-HSC-R-0-8,6-903334-r20p01.fits"
    assert found["icSrc"] == "00533/HSC-R/output/ICSRC-0903334-023.fits"


def test_the_overrides_of_a_job_are_shown_with_their_origin(job: Path) -> None:
    origin = f"{job}/out/repositoryCfg.yaml [_policy]"
    found = {one.path[1:] for one in merged_policy(HSC, "2021", job / "out") if one.origin == origin}
    names = {"calexp", "src", "deepCoadd_calexp", "deepCoadd_directWarp", "deepCoadd_tempExp"}
    assert found >= {(name, "template") for name in names}
    assert {name for name, _ in found} == names
    assert not [one for one in merged_policy(HSC, "2021", job / "in") if "_policy" in one.origin]


def test_a_job_has_no_problem(job: Path) -> None:
    assert check_policy(HSC, "both", job / "out") == []
