"""Every command explains itself, with an example that would be taken."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest

import dbb
from dbb_cli import commands
from dbb_cli.main import cli, run


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None, f"{name} is listed and not there"
                yield from walk(inner, (*path, name))


ALL = dict(walk(cli))
LEAVES = {path: command for path, command in ALL.items() if not isinstance(command, click.Group)}


def help_of(path: tuple[str, ...], capsys: pytest.CaptureFixture[str], option: str = "--help") -> str:
    assert run([*path, option]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def examples_in(text: str) -> list[str]:
    """Return the command lines below ``Example:``, continued lines joined."""
    lines = text.split("Example", 1)[1].replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if re.match(r"\s+dbb ", line)]


def parse(words: list[str]) -> None:
    """Let click read a command line, without doing what it says."""
    command: click.Command = cli
    context = cli.make_context("dbb", list(words), resilient_parsing=False)
    rest = [*context._protected_args, *context.args]
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command = found
        context = command.make_context(name or "", rest, parent=context)
        rest = [*context._protected_args, *context.args]


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(path, capsys)
    assert text.startswith(f"Usage: {' '.join(('dbb', *path))} ")
    assert help_of(path, capsys, "-h") == text
    assert examples_in(text)
    assert len(text.splitlines()[2].strip()) > 10


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_example_is_a_command_line_that_dbb_takes(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.chdir(str(tmp_path))
    for line in examples_in(help_of(path, capsys)):
        words = shlex.split(line)[1:]
        if path:
            assert tuple(words[: len(path)]) == path
        if "my_catalogs.toml" in words:  # that one must exist
            continue
        parse(words)


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_option_says_what_it_is_for(path: tuple[str, ...]) -> None:
    for parameter in LEAVES[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path}: {parameter.opts}"


READING = {
    ("explain",),
    ("job",),
    ("messages",),
    ("report",),
    ("status",),
    ("check",),
    ("plan",),
    ("archive", "list"),
    ("overlaps", "list"),
    ("plugins",),
    ("policy", "check"),
    ("query-files",),
    ("refcat", "list"),
}
READING_WITH_MORE = {("policy", "dump")}  # whose own form is YAML
READING_A_GRAPH = {("lineage",)}  # which no table can show


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_a_command_writes_with_a_dry_run_or_reads_with_a_format(path: tuple[str, ...]) -> None:
    options = {name: parameter for parameter in LEAVES[path].params for name in parameter.opts}
    if path in READING | READING_WITH_MORE:
        kind = options["--format"].type
        assert isinstance(kind, click.Choice)
        more = ["yaml"] if path in READING_WITH_MORE else []
        assert list(kind.choices) == [*more, "table", "json", "csv", "ecsv", "parquet"]
    elif path in READING_A_GRAPH:
        kind = options["--format"].type
        assert isinstance(kind, click.Choice)
        assert list(kind.choices) == ["tree", "json", "prov"]
    else:
        assert "--dry-run" in options


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_a_command_that_needs_a_registry_takes_its_name(path: tuple[str, ...]) -> None:
    options = {name for parameter in LEAVES[path].params for name in parameter.opts}
    assert ("--registry" in options) == (
        path
        not in {("create",), ("plugins",), ("policy", "check"), ("policy", "dump"), ("refcat", "pack"), ("run-job",)}
    )


def test_the_commands_of_the_help_are_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of((), capsys)
    for name in commands.MODULES:
        assert re.search(rf"^  {name} ", text, re.MULTILINE)


def test_the_help_lists_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(help_of((), capsys).split())
    assert "Exit codes: 0 done, 1 failed, 2 wrong usage or unreadable text, 3 done in part, 4 conflict" in text
    assert "5 not found, 6 registry of another schema version, 130 interrupted" in text


def test_the_version_is_that_of_the_library(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert dbb.__version__ in capsys.readouterr().out
