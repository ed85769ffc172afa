"""Everything that users can name is in the documentation, and generated pages are up to date."""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

import dbb
import dbb.butler
from dbb import errors, hookspecs
from dbb.butler import manifest
from dbb.butler import spec as job_file
from dbb.filetypes import CONVERTERS, load_filetypes
from dbb.query.tokens import KEYWORDS
from dbb.registry._runtables import metadata
from dbb.storage import STAGE_MODES
from dbb_cli import commands
from dbb_cli.main import cli

PROJECT = Path(__file__).resolve().parents[2]
DOCS = PROJECT / "docs"
ERRORS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.DbbError)]
HOOKS = [value for name, value in vars(hookspecs).items() if name.startswith("dbb_")]


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def all_commands() -> Iterator[tuple[str, click.Command]]:
    for name in commands.MODULES:
        command = commands.load(name)
        assert command is not None
        yield f"dbb {name}", command
        if isinstance(command, click.Group):
            yield from ((f"dbb {name} {inner}", one) for inner, one in command.commands.items())


COMMANDS = dict(all_commands())


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    specification = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cli.md", "decam.md", "hsc.md", "two_blocks.svg"])
def test_a_generated_page_is_up_to_date(name: str, generator: ModuleType) -> None:
    assert page(name) == generator.pages()[name], "run python docs/generate.py"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_in_the_reference_with_all_options(name: str) -> None:
    section = re.search(rf"^##+ `{name}`\n(.*?)(?=^##|\Z)", page("cli.md"), re.MULTILINE | re.DOTALL)
    assert section is not None
    options = [option for one in COMMANDS[name].params if isinstance(one, click.Option) for option in one.opts]
    assert [option for option in options if option not in section[1]] == []


def test_the_reference_has_the_options_of_dbb_itself() -> None:
    options = [option for one in cli.params if isinstance(one, click.Option) for option in one.opts]
    assert [option for option in options if f"`{option}" not in page("cli.md")] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_an_example(name: str) -> None:
    assert re.search(r"Examples?:\n\s+dbb ", COMMANDS[name].help or "")


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_a_hook_is_documented_with_its_exact_arguments(hook: Any) -> None:
    arguments = ", ".join(inspect.signature(hook).parameters)
    first = " (first)" if hook.dbb_spec["firstresult"] else ""
    assert f"### `{hook.__name__}({arguments})`{first}\n" in page("plugins.md")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_an_error_is_documented_with_its_exit_code(error: type[errors.DbbError]) -> None:
    assert f"\n| `{error.__name__}` | {error.exit_code} |" in page("errors.md")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_the_other_bases_of_an_error_are_documented(error: type[errors.DbbError]) -> None:
    others = [base.__name__ for base in error.__bases__ if base not in (errors.DbbError, Exception)]
    shown = ", ".join(f"`{name}`" for name in others)
    assert f"\n| `{error.__name__}` | {error.exit_code} | {shown} |".replace("|  |", "| |") in page("errors.md")


@pytest.mark.parametrize("table", sorted(metadata.tables))
def test_a_table_of_the_registry_is_documented(table: str) -> None:
    assert f"`{table}`" in page("registry.md")


@pytest.mark.parametrize("kind", sorted(CONVERTERS))
def test_a_column_type_is_documented(kind: str) -> None:
    assert f"\n| `{kind}` |" in page("filetypes.md")


@pytest.mark.parametrize("word", sorted(KEYWORDS))
def test_a_word_of_the_query_language_is_documented(word: str) -> None:
    assert re.search(rf"\b{word}\b", page("query-language.md"))


@pytest.mark.parametrize("mode", STAGE_MODES)
def test_a_stage_mode_is_documented(mode: str) -> None:
    assert re.search(rf"^\| `{mode}`", page("job-repository.md"), re.MULTILINE)


def test_a_job_file_with_every_part_is_shown(tmp_path: Path) -> None:
    shown = re.search(r"^```toml file=job.toml\n(.*?)^```$", page("job-repository.md"), re.MULTILINE | re.DOTALL)
    assert shown is not None
    (tmp_path / "job.toml").write_text(shown[1], encoding="utf-8")
    spec = job_file.read_spec(tmp_path / "job.toml")
    assert [name for name in spec.__slots__ if name != "binds" and not getattr(spec, name)] == []


@pytest.mark.parametrize(
    "key", [*manifest.ARRAYS, "schema", "dbb", "mapper", "era", "stage", "created", "butler", "outputs"]
)
def test_a_key_of_the_manifest_is_documented(key: str) -> None:
    table = page("job-repository.md").partition("## The manifest")[2]
    assert f"`{key}`" in table


@pytest.mark.parametrize("name", [*dbb.__all__, *dbb.butler.__all__])
def test_a_public_name_is_documented(name: str) -> None:
    assert f"`{name}" in page("python.md")


def test_the_filetypes_shown_are_usable(tmp_path: Path) -> None:
    for name in ("filetypes.md", "plugins.md"):
        for shown in re.findall(r"^```toml file=\w+\.toml\n(\[(?:sets|filetypes).*?)^```$", page(name), re.M | re.S):
            (tmp_path / "shown.toml").write_text(shown, encoding="utf-8")
            assert load_filetypes(tmp_path / "shown.toml")


@pytest.mark.parametrize("path", sorted([*PROJECT.glob("*.md"), *DOCS.glob("*.md")]), ids=lambda path: path.name)
def test_links_to_other_pages_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    wrong = []
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        other = (path.parent / file) if file else path
        if not other.exists() or (anchor and anchor not in anchors(other)):
            wrong.append(target)
    assert wrong == []


def anchors(path: Path) -> set[str]:
    """Return what the headings of a page are called in links."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_index() -> None:
    assert {path.name for path in DOCS.glob("*.md")} - {"index.md"} <= set(
        re.findall(r"\]\(([\w-]+\.md)", page("index.md"))
    )
