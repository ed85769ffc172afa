"""``dbb verify`` and ``dbb import-repo`` as an operator meets them: what is printed where, and the exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from demo_survey import CALIBS, RUN_A, Demo, make_demo, move_archive

from dbb import Registry
from dbb.butler import CalibSpec, InputSpec, RepoSpec, materialize_repo
from dbb_cli.main import run


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return make_demo(tmp_path_factory)


@pytest.fixture
def archive(demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the archive, of which the registry that $DBB_REGISTRY names knows."""
    folder = Path(shutil.copytree(demo.archive, tmp_path / "archive"))
    url = demo.copy(tmp_path / "db")
    with Registry(url) as registry:
        move_archive(registry, f"file://{folder}")
    monkeypatch.setenv("DBB_REGISTRY", url)
    monkeypatch.chdir(tmp_path)
    return folder


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(list(arguments))
    return (code, *capsys.readouterr())


def test_all_is_well(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "verify", "--checksums", "--format", "json")
    assert (code, json.loads(out)) == (0, [])
    assert err.startswith("178 files checked (")
    assert ": no problem\n" in err


def test_problems_are_rows_and_the_code_is_1(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = sorted(archive.glob("raw/*.fits"))[0]
    raw.rename(archive / "raw" / "moved.fits")
    code, out, err = call(capsys, "verify", "--archive", "home", "--format", "json")
    assert code == 1
    assert json.loads(out) == [
        {
            "archive": "home", "relpath": f"raw/{raw.name}", "problem": "lost",
            "expected": f"{(archive / 'raw/moved.fits').stat().st_size} bytes", "found": "",
        },
        {"archive": "home", "relpath": "raw/moved.fits", "problem": "dark", "expected": "", "found": "a file"},
    ]  # fmt: skip
    assert "178 files checked: 1 dark, 1 lost\n" in err
    assert "dbb ingest-files" in err


def test_repair_says_what_it_did_and_a_dry_run_what_it_would(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Registry(f"sqlite:///{archive.parent}/db/registry.db") as registry, registry.engine.begin() as conn:
        conn.exec_driver_sql("UPDATE desfile SET md5sum = NULL WHERE filetype = 'calexp'")
    assert "145 would be filled" in call(capsys, "verify", "--checksums", "--repair", "--dry-run")[2]
    code, out, err = call(capsys, "verify", "--checksums", "--repair", "--format", "csv")
    assert (code, out) == (0, "archive,relpath,problem,expected,found,repair\n")
    assert ": 145 were filled\n" in err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--archive", "hme"], 5, "unknown archive 'hme'; known: home"),
        (["--filetype", "calexq"], 5, "unknown filetype"),
        (["--sample", "2"], 2, "a part above 0, at most 1"),
        (["--dry-run"], 2, "give both"),
    ],
)
def test_bad_usage_is_told_without_a_traceback(
    archive: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    got, out, err = call(capsys, "verify", *arguments)
    assert (got, out) == (code, "")
    assert said in err


@pytest.fixture
def old(demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small repository of before, and an empty registry with an archive that holds it."""
    spec = RepoSpec(
        "hsc", (InputSpec("raw", where="visit = 903334"), InputSpec("calexp", runs=(RUN_A,))), calibs=CalibSpec(CALIBS)
    )
    with Registry(demo.url) as registry:
        materialize_repo(registry, tmp_path / "JOB", spec)
    shutil.copytree(tmp_path / "JOB/in", tmp_path / "disk/hsc")
    monkeypatch.setenv("DBB_REGISTRY", f"sqlite:///{tmp_path}/new.db")
    with Registry.create(f"sqlite:///{tmp_path}/new.db", mapper="hsc") as registry:
        registry.add_archive("disk", str(tmp_path / "disk"))
    return tmp_path / "disk/hsc"


def test_a_repository_moves_in_by_one_command(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["import-repo", str(old), "--archive", "disk", "--run", "Ht0_r1p01", "--calibs", "2014A"]
    code, out, err = call(capsys, *command, "--dry-run")
    assert (code, out) == (0, "")
    assert "would be added, 0 known, 0 refused" in err
    code, out, _ = call(capsys, *command, "--format", "json")
    done = json.loads(out)
    assert (code, done["added"] > 12, done["refused"], done["absent"]) == (0, True, [], [])
    assert set(done["certified"]) == {"bias", "dark", "flat"}
    assert call(capsys, "verify")[0] == 0


def test_what_is_refused_makes_the_code_3_and_a_contradiction_4(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (old / "notes.txt").touch()
    code, _, err = call(capsys, "import-repo", str(old), "--archive", "disk", "--run", "Ht0_r1p01")
    assert code == 3
    assert "refused: notes.txt: it fits no template" in err
    code, _, err = call(capsys, "import-repo", str(old), "--archive", "disk", "--run", "Ht0_r1p02")
    assert code == 4
    assert "nothing was changed" in err


def test_a_calibration_registry_that_lists_nothing_is_said_to(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (old / "CALIB/calibRegistry.sqlite3").write_bytes(b"")
    command = ["import-repo", str(old), "--archive", "disk", "--run", "Ht0_r1p01", "--calibs", "2014A"]
    code, _, err = call(capsys, *command)
    assert code == 0
    assert "nothing was certified" in err


def test_without_a_run_outputs_are_refused_before_anything_changes(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, "import-repo", str(old), "--archive", "disk")
    assert (code, out) == (2, "")
    assert "--run" in err
