"""``dbb harvest-repo`` and ``dbb lineage``: replies, exit codes, formats."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
from demo_survey import Survey
from written_job import RUN, fits, make_job, write_outputs

from dbb_cli.main import run as run_dbb

NAME = "CORR-0903334-000-r20p01.fits"


@pytest.fixture
def survey(tmp_path: Path) -> Survey:
    return Survey(tmp_path / "survey")


@pytest.fixture
def job(survey: Survey, tmp_path: Path) -> Path:
    made = make_job(survey, tmp_path / "JOB")
    write_outputs(made)
    return made


def harvest(survey: Survey, job: Path, *more: str) -> int:
    return run_dbb(["harvest-repo", str(job), "--run", RUN, "--registry", survey.url, *more])


def test_the_reply_counts_and_tells_what_was_used(
    survey: Survey, job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert harvest(survey, job, "--format", "json", "--dry-run") == 0
    assert harvest(survey, job, "--format", "json") == 0
    assert harvest(survey, job, "--format", "json") == 0
    out, err = capsys.readouterr()
    replies = [json.loads(line) for line in out.splitlines()]
    assert [(reply.pop("added"), reply.pop("known")) for reply in replies] == [(2, 0), (2, 0), (0, 2)]
    assert replies == [{"refused": [], "used": 2, "unknown_inputs": 0}] * 3
    assert "2 would be added" in err
    assert "made from 2 registered files" in err


def test_what_is_refused_is_named_and_the_exit_code_is_3(
    survey: Survey, job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (job / "out/notes.txt").write_text("x", encoding="utf-8")
    assert harvest(survey, job, "--format", "json") == 3
    out, err = capsys.readouterr()
    why = "it fits no template of the camera or of the repository"
    assert json.loads(out)["refused"] == [{"relpath": "notes.txt", "why": why}]
    assert f"refused: notes.txt: {why}" in err


def test_a_name_that_would_move_the_cursor_or_break_the_line_is_shown_escaped(
    survey: Survey, job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (job / "out/a\n0 refused\x1b[1A").write_text("x", encoding="utf-8")
    assert harvest(survey, job, "--format", "json") == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["refused"][0]["relpath"] == "a\n0 refused\x1b[1A"
    assert "refused: a\\n0 refused\\x1b[1A: it fits no template" in err
    assert run_dbb(["verify", "--registry", survey.url]) == 0
    (survey.roots["home"] / "b\nhome").touch()
    assert run_dbb(["verify", "--registry", survey.url]) == 1
    assert "b\\nhome" in capsys.readouterr().out


def test_a_contradiction_changes_nothing_and_the_exit_code_is_4(
    survey: Survey, job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert harvest(survey, job) == 0
    next((job / "out").rglob("CORR*")).write_bytes(fits("other"))
    assert harvest(survey, job) == 4
    assert "nothing was changed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--run", "nonsense"], 2), (["--archive", "nowhere"], 5), (["--format", "csv"], 2)],
)
def test_bad_arguments_have_their_exit_codes(survey: Survey, job: Path, arguments: list[str], code: int) -> None:
    assert harvest(survey, job, *arguments) == code


def test_a_folder_without_a_manifest_is_not_found(survey: Survey, tmp_path: Path) -> None:
    assert harvest(survey, tmp_path / "nothing") == 5


def lineage(survey: Survey, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run_dbb(["lineage", *arguments, "--registry", survey.url]) == 0
    return capsys.readouterr().out


def test_lineage_is_shown_as_tree_json_and_prov(survey: Survey, job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from prov.model import ProvDocument, ProvUsage

    harvest(survey, job)
    lines = lineage(survey, capsys, NAME).splitlines()
    assert lines[0] == f"r20/Ht0/p01/corr/{NAME}  [calexp {RUN}]"
    assert lines[1].startswith(f"└── made by harvest {RUN} ")
    assert lines[2:] == ["    ├── used raw/903334-0.fits  [hsc_raw]", "    └── used raw/903334-1.fits  [hsc_raw]"]
    rows: list[dict[str, Any]] = json.loads(lineage(survey, capsys, NAME, "--format", "json"))
    assert [row["kind"] for row in rows] == ["file", "task", "file", "file", "used", "used", "wasGeneratedBy"]
    down = lineage(survey, capsys, "903334-0.fits", "--down", "--format", "prov")
    assert len(list(ProvDocument.deserialize(content=down, format="json").get_records(ProvUsage))) == 1


def test_lineage_of_an_unknown_file_is_not_found(survey: Survey, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_dbb(["lineage", "nothing.fits", "--registry", survey.url]) == 5
    assert "nothing.fits" in capsys.readouterr().err


def test_without_the_extra_prov_the_message_says_how_to_get_it(
    survey: Survey, job: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    harvest(survey, job)
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("prov"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    assert run_dbb(["lineage", NAME, "--format", "prov", "--registry", survey.url]) == 1
    assert "pip install 'mini-dbb[prov]'" in capsys.readouterr().err
