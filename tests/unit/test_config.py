"""Which registry a command uses, and how it tells where that came from."""

from pathlib import Path

import pytest

from dbb.config import Setting, registry_setting
from dbb.errors import UsageError


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DBB_REGISTRY", raising=False)


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "dbb.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_command_line_wins_over_the_variable_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, 'registry = "sqlite:////from/file.db"')
    assert registry_setting(start=tmp_path) == Setting("sqlite:////from/file.db", str(path))
    monkeypatch.setenv("DBB_REGISTRY", "sqlite:///variable.db")
    assert registry_setting(start=tmp_path) == Setting("sqlite:///variable.db", "$DBB_REGISTRY")
    assert registry_setting("sqlite://", tmp_path) == Setting("sqlite://", "--registry")


def test_an_empty_variable_counts_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBB_REGISTRY", "")
    path = write(tmp_path, 'registry = "sqlite:////a.db"')
    assert registry_setting(start=tmp_path).origin == str(path)


def test_the_nearest_file_above_counts(tmp_path: Path) -> None:
    write(tmp_path, 'registry = "sqlite:////far.db"')
    near = write(tmp_path / "a", 'registry = "sqlite:////near.db"')
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    assert registry_setting(start=deep) == Setting("sqlite:////near.db", str(near))


def test_the_current_folder_is_where_the_search_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 'registry = "postgresql+psycopg://host/survey"')
    monkeypatch.chdir(tmp_path)
    assert registry_setting().value == "postgresql+psycopg://host/survey"


def test_a_relative_file_is_relative_to_the_folder_of_its_setting(tmp_path: Path) -> None:
    write(tmp_path, 'registry = "sqlite:///data/survey.db"')
    deep = tmp_path / "x"
    deep.mkdir()
    assert registry_setting(start=deep).value == f"sqlite:///{tmp_path}/data/survey.db"


@pytest.mark.parametrize(
    "text", ["registry = 5", "registri = 'x'", "registry = 'x'\nmore = 1", "registry = ", "", b"\xff".decode("latin-1")]
)
def test_a_file_that_does_not_name_a_registry_is_refused_by_path(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError, match=str(path)):
        registry_setting(start=tmp_path)


def test_without_any_the_three_ways_are_told(tmp_path: Path) -> None:
    if any((folder / "dbb.toml").exists() for folder in tmp_path.parents):
        pytest.skip("a dbb.toml lies above the temporary folder")
    with pytest.raises(UsageError, match=r"--registry URL, set \$DBB_REGISTRY, or write registry"):
        registry_setting(start=tmp_path)
