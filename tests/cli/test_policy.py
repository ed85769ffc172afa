"""``dbb policy``: the YAML is what the Butler reads, rows are for programs, and the exit code tells."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import yaml

from dbb.butler.config import format_config
from dbb.plugins import plugins
from dbb_cli.main import run

CLASS = plugins().mapper("hsc").butler_class
TEMPLATE = "mine/CORR-%(visit)07d-%(ccd)03d.fits"


def repository(folder: Path, template: str = TEMPLATE) -> str:
    folder.mkdir()
    policy = {"exposures": {"calexp": {"template": template}}}
    (folder / "repositoryCfg.yaml").write_text(format_config(CLASS, [], policy), encoding="ascii")
    return str(folder)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert run(["policy", *arguments]) == code
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    assert run(["policy", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(("era", "warp"), [("2017", "deepCoadd_tempExp"), ("2021", "deepCoadd_directWarp")])
def test_the_dump_is_a_policy_of_the_era(era: str, warp: str, capsys: pytest.CaptureFixture[str]) -> None:
    policy = yaml.safe_load(printed(capsys, "dump", "hsc", "--era", era))
    assert set(policy) == {"calibrations", "datasets", "exposures"}
    assert warp in policy["exposures"]


def test_the_era_is_2021_unless_said_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "dump", "hsc") == printed(capsys, "dump", "hsc", "--era", "2021")


def test_the_dump_of_a_repository_shows_what_it_overrides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repo = repository(tmp_path / "R")
    lines = printed(capsys, "dump", "hsc", "--repo", repo).splitlines()
    assert f"      template: '{TEMPLATE}'  # {repo}/repositoryCfg.yaml [_policy]" in lines
    rows = json.loads(printed(capsys, "dump", "hsc", "--repo", repo, "--format", "json"))
    assert set(rows[0]) == {"section", "dataset", "key", "value", "origin"}
    assert [row["value"] for row in rows if row["origin"].startswith(repo)] == [TEMPLATE]


def test_a_dump_in_rows_holds_what_the_yaml_holds(capsys: pytest.CaptureFixture[str]) -> None:
    policy = yaml.safe_load(printed(capsys, "dump", "hsc"))
    rows = csv.DictReader(io.StringIO(printed(capsys, "dump", "hsc", "--format", "csv"), newline=""))
    count = 0
    for row in rows:
        value = policy[row["section"]][row["dataset"]][row["key"]]
        assert row["value"] == (value if isinstance(value, str) else json.dumps(value))
        count += 1
    assert count == sum(len(entry) for section in policy.values() for entry in section.values())


def test_every_camera_is_checked_and_good(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "check"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert {line.split(":")[0] for line in err.splitlines()} == set(plugins().mappers())


@pytest.mark.parametrize("mapper", [["hsc"], []])
def test_a_problem_is_listed_and_the_exit_code_is_1(
    mapper: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repo = repository(tmp_path / "R", "mine/%(visit)07d.fits")
    arguments = ["check", *mapper, "--repo", repo]
    rows = json.loads(printed(capsys, *arguments, "--format", "json", code=1))
    assert [(row["kind"], row["dataset"], row["era"]) for row in rows] == [("lost-key", "calexp", "2017 2021")]
    assert "lost-key" in printed(capsys, *arguments, code=1)
    assert json.loads(printed(capsys, *arguments, "--era", "2017", "--format", "json", code=1))[0]["era"] == "2017"


@pytest.mark.parametrize("command", ["dump", "check"])
def test_an_unknown_camera_is_not_found(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown mapper 'hcs'; known: hsc" in refused(capsys, 5, command, "hcs")


@pytest.mark.parametrize("command", [["dump", "hsc"], ["check", "hsc"], ["check"]])
def test_a_folder_that_is_no_repository_is_not_found(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is no Gen2 repository" in refused(capsys, 5, *command, "--repo", str(tmp_path))
    assert "is not a folder" in refused(capsys, 5, *command, "--repo", str(tmp_path / "none"))


@pytest.mark.parametrize("command", [["dump", "hsc"], ["check", "hsc"], ["check"]])
@pytest.mark.parametrize(
    "text",
    [
        "!RepositoryCfg_v1\n_mapper: [\n",
        "a: 1\n",
        "\tx",
        f"!RepositoryCfg_v1\n_mapper: {CLASS}\n_policy: {{exposures: {{1: 2}}}}\n_parents: []\n",
        f"!RepositoryCfg_v1\n_mapper: {CLASS}\n_policy: {{exposures: 2}}\n_parents: []\n",
        "!RepositoryCfg_v1\n_mapper: !!python/object/apply:os.system ['true']\n_parents: []\n",
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(
    command: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "repositoryCfg.yaml").write_text(text, encoding="utf-8")
    assert str(tmp_path) in refused(capsys, 2, *command, "--repo", str(tmp_path))


def test_the_repository_of_another_camera_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = format_config("lsst.obs.other.OtherMapper", [], {})
    (tmp_path / "repositoryCfg.yaml").write_text(config, encoding="ascii")
    assert "is not the mapper hsc" in refused(capsys, 2, "dump", "hsc", "--repo", str(tmp_path))
    assert "unknown mapper class" in refused(capsys, 5, "check", "--repo", str(tmp_path))
