# ruff: noqa: INP001  # a script, no package
"""Write the pages that follow from the program, the command, cameras, a picture, with ``python docs/generate.py``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from dbb.pipeline import plan, read_pipeline
from dbb.pipeline.graph import graph_of
from dbb.pipeline.picture import draw
from dbb.plugins import plugins
from dbb_cli import commands
from dbb_cli.main import cli

FOLDER = Path(__file__).parent

_HELP = ["-h", "--help"]  # click keeps the first help option that a command is asked for


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    cameras = {f"{name}.md": "\n".join(_filetypes(name)) for name in ("decam", "hsc")}
    return {"cli.md": "\n".join(_reference()), "two_blocks.svg": _picture("two_blocks")} | cameras


def _picture(example: str) -> str:
    """Return what ``dbb plan --graph`` draws of an example."""
    workflow = plan(read_pipeline(FOLDER.parent / f"examples/{example}.wcl"))
    return "".join(draw(workflow, graph_of(workflow)))


def _reference() -> Iterator[str]:
    yield "# The command\n\nThis page is made by `docs/generate.py` from the program itself.\n"
    yield from _text(cli)
    yield from _parameters(cli, click.Context(cli, info_name="dbb", help_option_names=_HELP))
    yield (
        "Data go to stdout, everything else to stderr. Commands that read take `--format`, those that write take\n"
        "`--dry-run`; [exit codes](errors.md) are the same for all.\n"
    )
    for name in sorted(commands.MODULES):
        command = commands.load(name)
        if command is not None:
            yield from _command(command, f"dbb {name}", "##")


def _command(command: click.Command, name: str, level: str) -> Iterator[str]:
    yield f"{level} `{name}`\n"
    context = click.Context(command, info_name=name, help_option_names=_HELP)
    usage = " ".join(
        piece for parameter in command.get_params(context) for piece in parameter.get_usage_pieces(context)
    )
    if not isinstance(command, click.Group):
        yield f"```text\n{name} [OPTIONS] {usage}".rstrip() + "\n```\n"
    yield from _text(command)
    yield from _parameters(command, context)
    if isinstance(command, click.Group):
        for inner in sorted(command.commands):
            yield from _command(command.commands[inner], f"{name} {inner}", f"{level}#")


def _text(command: click.Command) -> Iterator[str]:
    """Give the paragraphs of a help text; those that click leaves as they are become blocks."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        marked = paragraph.lstrip("\n")
        if not marked.startswith("\b"):
            yield f"{marked}\n"
            continue
        title, *lines = marked.removeprefix("\b\n").splitlines()
        body = [line for line in lines if line.startswith("  ")]
        yield f"{title}\n\n```sh\n{inspect.cleandoc(chr(10).join(body))}\n```\n"
        yield from (f"{line}\n" for line in lines if not line.startswith("  "))


def _parameters(command: click.Command, context: click.Context) -> Iterator[str]:
    options = [one for one in command.get_params(context) if isinstance(one, click.Option) and "--help" not in one.opts]
    if options:
        yield "\n".join(["| option | |", "| --- | --- |", *(_option(one) for one in options)]) + "\n"


def _option(option: click.Option) -> str:
    kind = option.type
    choices = "|".join(kind.choices) if isinstance(kind, click.Choice) else ""
    value = "" if option.is_flag else f" {option.metavar or choices or kind.name.upper()}"
    notes = [option.help or ""]
    notes += ["Must be given."] if option.required else []
    notes += ["May be given several times."] if option.multiple else []
    notes += [f"Default: `{option.default}`."] if option.show_default and option.default else []
    cells = f"`{', '.join(option.opts)}{value}`", " ".join(note for note in notes if note)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _filetypes(camera: str) -> Iterator[str]:
    mapper = plugins().mapper(camera)
    yield f"# Filetypes of the camera `{camera}`\n\nThis page is made by `docs/generate.py` from the camera's data.\n"
    yield "| filetype | dataset type | data id | |\n| --- | --- | --- | --- |"
    for name, filetype in sorted(mapper.filetypes.items()):
        yield f"| `{name}` | {filetype.dataset or ''} | {' '.join(filetype.keys)} | {filetype.description} |"
    yield ""


if __name__ == "__main__":
    for page, text in pages().items():
        (FOLDER / page).write_text(text, encoding="utf-8")
