"""Every example of README.md and docs/*.md does what it says.

- A ``console`` block holds commands after ``$`` and what they print. They must succeed; where output is shown it must
  be the same, with ``…`` for any text and a line ``…`` for any lines. Without shown output anything may be printed.
- A ``pycon`` block is a Python session, compared in the same way; a ``python`` block must only run.
- A block with ``file=NAME`` behind its language is written to that file.

Blocks of one page run in order and share a folder, environment and Python names. README.md starts beside ``examples/``,
the other pages in a copy of the folder that ``make demo`` makes. Blocks of other languages are only shown.
A plain ``dbb`` command runs in this process, as if it were its own; what needs a shell has one.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from dbb.plugins import plugins
from dbb_cli.main import run

PROJECT = Path(__file__).resolve().parents[2]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?P<language>\w+)(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

PLAIN = re.compile(r"""dbb (?:[^|&;<>()$`\\"'*?~{}#\n]|'[^']*'|"[^"$`\\]*"|\\\n)*""")


@dataclass(frozen=True)
class Block:
    place: str
    language: str
    file: str | None
    text: str


def blocks(page: Path) -> Iterator[Block]:
    source = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(source):
        file = re.search(r"\bfile=(\S+)", match["info"])
        line = source.count("\n", 0, match.start()) + 1
        yield Block(f"{page.name}:{line}", match["language"], file[1] if file else None, match["text"])


def same(shown: str, printed: str) -> bool:
    """Compare output with what a page shows, where ``…`` stands for anything."""
    parts = []
    for line in shown.splitlines():
        if line.strip() == "…":
            parts.append(r"(?:.*\n)*")
        else:
            parts.append(".*".join(re.escape(piece) for piece in line.rstrip().split("…")) + r"[ ]*\n")
    return (
        re.fullmatch("".join(parts), printed if printed.endswith("\n") or not printed else f"{printed}\n") is not None
    )


class Checker(doctest.OutputChecker):
    """Compares as the other blocks do."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return same(want, got)


class Reader:
    """Runs the blocks of one page as a reader would who types them in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "documentation"}
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("DBB_")}
        self.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def run(self, block: Block) -> None:
        if block.file is not None:
            (self.folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            self._console(block)
        elif block.language == "pycon":
            self._session(block)
        elif block.language == "python":
            with self._inside():
                exec(compile(block.text, block.place, "exec"), self.names)

    def _console(self, block: Block) -> None:
        for command, shown in commands(block.text):
            words = shlex.split(command)
            if words[0] == "cd":
                self.folder = self.folder / words[1]
            elif words[0] == "export":
                self.environment |= dict([words[1].split("=", 1)])
            elif words[:2] == ["pip", "install"]:
                self._install()
            else:
                self._command(block.place, command, shown)

    def _command(self, place: str, command: str, shown: str) -> None:
        here = "PYTHONPATH" not in self.environment and PLAIN.fullmatch(command)
        code, printed = self._dbb(shlex.split(command.replace("\\\n", ""))[1:]) if here else self._shell(command)
        assert code == 0, f"{place}: $ {command}\n{printed}"
        assert not shown or same(shown, printed), f"{place}: $ {command}\nshown:\n{shown}\nprinted:\n{printed}"

    def _shell(self, command: str) -> tuple[int, str]:
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        where = {"cwd": self.folder, "env": self.environment}
        done = subprocess.run(["bash", "-c", command], **both, **where, check=False, timeout=60)
        return done.returncode, done.stdout

    def _dbb(self, arguments: list[str]) -> tuple[int, str]:
        printed = io.StringIO()
        plugins.cache_clear()  # a page may change a camera's file between two commands
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, self.environment, clear=True),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            return run(arguments), printed.getvalue()

    def _session(self, block: Block) -> None:
        test = doctest.DocTestParser().get_doctest(block.text, {}, block.place, block.place, 0)
        test.globs = self.names
        printed: list[str] = []
        runner = doctest.DocTestRunner(Checker(), verbose=False)
        with self._inside():
            failed, _ = runner.run(test, out=printed.append, clear_globs=False)[:2]
        assert not failed, "".join(printed)

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        with contextlib.chdir(self.folder), pytest.MonkeyPatch.context() as patch:
            patch.delenv("DBB_REGISTRY", raising=False)
            yield

    def _install(self) -> None:
        """Stand in for ``pip install -e .``, which would fetch a build back end: only entry points matter."""
        project = tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        info = self.folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8"
        )
        points = [f"{name} = {module}" for name, module in project["entry-points"]["dbb"].items()]
        (info / "entry_points.txt").write_text("\n".join(["[dbb]", *points, ""]), encoding="utf-8")
        self.environment["PYTHONPATH"] = str(self.folder)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Give each command of a console block, with its continuation lines, and the output shown for it."""
    lines = text.splitlines(keepends=True)
    at = 0
    while at < len(lines):
        assert lines[at].startswith("$ "), f"expected a command after '$ ', found {lines[at]!r}"
        end = at + 1
        while lines[end - 1].endswith("\\\n"):
            end += 1
        last = end
        while last < len(lines) and not lines[last].startswith("$ "):
            last += 1
        yield "".join(lines[at:end])[2:].rstrip("\n"), "".join(lines[end:last])
        at = last


def copy_demo(made: Path, folder: Path) -> None:
    """Copy what the demo made, with a registry that knows where the archive is now."""
    shutil.copytree(made, folder, symlinks=True)
    with contextlib.closing(sqlite3.connect(folder / "survey.db")) as registry:
        registry.execute("UPDATE ops_archive SET root = ?", (f"file://{folder}/archive",))
        registry.commit()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_of_a_page_do_what_it_says(page: Path, demo_folder: Path, tmp_path: Path) -> None:
    if page.name == "README.md":
        folder = tmp_path
        (folder / "examples").symlink_to(PROJECT / "examples")
    else:
        folder = tmp_path / "demo"
        copy_demo(demo_folder, folder)
    reader = Reader(folder)
    for block in blocks(page):
        reader.run(block)


def test_an_ellipsis_stands_for_any_text_and_any_lines() -> None:
    assert same("a … c\n…\nend\n", "a b c\n1\n2\nend\n")
    assert not same("a … c\n", "a b\n")
    assert not same("one\n", "one\ntwo\n")


def test_a_command_ends_where_its_last_continuation_line_ends() -> None:
    assert list(commands("$ one \\\n  two\nsaid\n$ three\n")) == [("one \\\n  two", "said\n"), ("three", "")]
