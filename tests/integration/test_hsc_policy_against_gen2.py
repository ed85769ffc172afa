"""Our HSC policy against the mapper of the real Gen2 stacks: what they would read, write and ask."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from live_mapper import VALUES, ask_mapper

from dbb.mapper import ERAS, Dataset, Mapper
from dbb_mappers.hsc import dbb_mappers

HSC: Mapper = dbb_mappers()[0]


@dataclass(frozen=True, slots=True)
class RealMapper:
    """What the mapper of one era says of each of its dataset types."""

    era: str
    mappings: dict[str, dict[str, Any]]


@pytest.fixture(scope="module", params=ERAS)
def real(
    request: pytest.FixtureRequest, gen2_src: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> RealMapper:
    root = tmp_path_factory.mktemp("repository")
    mappings = ask_mapper("obs_subaru", shared, gen2_src / request.param, root, HSC.butler_class)
    return RealMapper(request.param, mappings)


def ours(era: str) -> list[Dataset]:
    return [dataset for dataset in HSC.datasets if dataset.era == era]


def described(dataset: Dataset) -> dict[str, object]:
    names = ("section", "template", "python", "persistable", "storage")
    return {name: getattr(dataset, name) for name in names} | {"tables": list(dataset.tables)}


def test_the_real_mapper_has_our_dataset_types_exactly_so(real: RealMapper) -> None:
    expected = {name: {k: v for k, v in entry.items() if k != "keys"} for name, entry in real.mappings.items()}
    assert {d.name: described(d) for d in ours(real.era)} == {d.name: expected.get(d.name) for d in ours(real.era)}


def test_no_dataset_type_of_ours_is_left_out_of_an_era_that_has_it(real: RealMapper) -> None:
    named = {dataset.name for dataset in HSC.datasets}
    assert named & real.mappings.keys() == {dataset.name for dataset in ours(real.era)}


def test_the_real_mapper_asks_for_no_key_that_we_lack(real: RealMapper) -> None:
    for dataset in ours(real.era):
        exposure = set(HSC.raw_columns) if "raw" in dataset.tables else set()
        assert set(real.mappings[dataset.name]["keys"]) <= set(dataset.keys) | exposure


RUN = {"unitname": "Ht0", "reqnum": 20, "attnum": 1}


def written(dataset: Dataset, place: str) -> dict[str, object]:
    """Return the question where the Butler writes `dataset`, expected at `place`."""
    exposure = tuple(HSC.raw_columns) if "visit" in dataset.keys else ()
    data_id = {key: VALUES[key] for key in (*dataset.keys, *exposure) if key in VALUES}
    return {"datasetType": dataset.name, "dataId": data_id, "write": True, "expect": place}


def wrong_answers(client: Path, sources: Path, repository: Path, queries: list[dict[str, object]]) -> list[object]:
    asked = repository.with_suffix(".json")
    asked.write_text(json.dumps(queries), encoding="ascii")
    command = [sys.executable, client / "client.py", "--src", sources, "--repo", repository, asked]
    answer = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    results = json.loads(answer.stdout)["results"]
    assert len(results) == len(queries), answer.stdout
    return [(r["query"]["datasetType"], r.get("path"), r.get("error")) for r in results if not r["ok"]]


@pytest.mark.parametrize("era", ERAS)
def test_the_real_butler_writes_where_our_template_says(era: str, gen2_src: Path, shared: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "_mapper").write_text(f"{HSC.butler_class}\n", encoding="ascii")
    # The Butler of 2021 writes calibrations below the repository, though it reads them below CALIB.
    queries = [written(dataset, dataset.template % VALUES) for dataset in ours(era) if not dataset.is_calibration]
    assert wrong_answers(shared / "gen2_client", gen2_src / era, repository, queries) == []


@pytest.mark.parametrize("era", ERAS)
def test_the_real_butler_writes_the_names_of_a_run_where_the_policy_has_our_patterns(
    era: str, gen2_src: Path, shared: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    policy: dict[str, dict[str, object]] = {}
    queries = []
    for dataset in ours(era):
        filetype = HSC.filetypes[dataset.filetype]
        directory, name = filetype.directory, filetype.name_pattern
        if directory is None or name is None or "reqnum" not in name.keys:
            continue
        template = "/".join(pattern.template(filetype.types, RUN) for pattern in (directory, name))
        policy.setdefault(dataset.section, {})[dataset.name] = {"template": template}
        queries.append(written(dataset, f"{directory.expand(RUN | VALUES)}/{name.expand(RUN | VALUES)}"))
    mapper = f"_mapper: !!python/name:{HSC.butler_class} ''"
    lines = [
        "!RepositoryCfg_v1",
        mapper,
        "_mapperArgs: {}",
        "_parents: []",
        "_root: null",
        f"_policy: {json.dumps(policy)}",
    ]
    (repository / "repositoryCfg.yaml").write_text("\n".join([*lines, ""]), encoding="ascii")
    assert len(queries) > 50
    assert wrong_answers(shared / "gen2_client", gen2_src / era, repository, queries) == []
