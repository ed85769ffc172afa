"""``exec`` and ``args``: the operator's own program is run and the lines it writes are read."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dbb.config import VARIABLE, absolute_url
from dbb.pipeline.inputs.output import read_output
from dbb.pipeline.inputs.problems import FAILED, NOT_FOUND, problem
from dbb.pipeline.section import Line, Section

if TYPE_CHECKING:
    from dbb.api import Registry

_GRACE = 5.0  # seconds between asking a program to end and ending it
_SHOWN = 2_000  # bytes
_SUFFIXES = ("wcl", "json", "jsonl")


def program_lines(section: Section, scratch: Path, registry: Registry | None) -> list[Line]:
    """Run the program of a section in `scratch` and return the lines that it wrote.

    What it prints goes into a file beside its output. It finds `registry` as the commands do, by ``$DBB_REGISTRY``.

    Raises
    ------
    PipelineError
        If there is no such program, it fails, writes no output, or its output has no line or cannot be read.
    """
    kind = section.text("qouttype") or "wcl"
    if kind not in _SUFFIXES:
        raise section.error(f"qouttype = {kind}: expected one of {', '.join(_SUFFIXES)}", "qouttype")
    name = f"{section.name}_{section.module}"
    output, printed = scratch / f"{name}.{kind}", scratch / f"{name}.out"
    argv = [*_program(section), *_arguments(section, output.name)]
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        output.unlink(missing_ok=True)
        code = _run(argv, scratch, _environment(registry), printed)
    except (OSError, ValueError) as error:  # ValueError: a NUL character in an argument
        raise problem(section, f"{argv[0]} cannot be run: {error}", "exec", FAILED) from error
    if code != 0:
        ended = f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}"
        raise problem(section, f"{shlex.join(argv)} {ended}{_last_words(printed)}", "exec", FAILED)
    if not output.is_file():
        raise problem(section, f"{shlex.join(argv)} did not write {output.name}{_last_words(printed)}", "exec", FAILED)
    lines = read_output(section, output, kind)
    if not lines:
        raise problem(section, f"no lines: {shlex.join(argv)} found nothing", "exec", NOT_FOUND)
    return lines


def _program(section: Section) -> list[str]:
    name = section.text("exec") or ""
    if not name:
        raise section.error("exec is empty: name the program that finds the files", "exec")
    # absolute, as the program runs in another folder
    own = (section.pipeline.folder / name).absolute()
    if own.is_file():
        if os.access(own, os.X_OK):
            return [str(own)]
        if own.suffix == ".py":
            return [sys.executable, str(own)]
        raise problem(section, f"{own} may not be executed: chmod +x it", "exec", FAILED)
    found = shutil.which(name) if os.sep not in name else None
    if found is None:
        where = "" if os.sep in name else ", nor on PATH"
        raise problem(section, f"there is no program {name} in {own.parent}{where}", "exec", NOT_FOUND)
    return [str(Path(found).absolute())]


def _arguments(section: Section, output: str) -> list[str]:
    """Split ``args`` as a shell would, then replace variables, so that no value is ever cut at a blank."""
    text = section.tree.get("args")
    if text is None:
        return []
    try:
        words = shlex.split(str(text))
    except ValueError as error:
        raise section.error(f"args = {text}: {error}", "args") from error
    names = dict.fromkeys(("qoutfile", "outputfile", "outputxml"), output)
    return [section.expand(word, "args", **names, module=section.module) for word in words]


def _environment(registry: Registry | None) -> dict[str, str]:
    known = {} if registry is None else {VARIABLE: absolute_url(registry.url, Path.cwd())}
    return {**os.environ, **known}


def _run(argv: list[str], folder: Path, environment: Mapping[str, str], printed: Path) -> int:
    with (
        printed.open("wb") as stream,
        subprocess.Popen(  # noqa: S603  # the operator's own program, without a shell
            argv,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        ) as process,
    ):
        try:
            return process.wait()
        except BaseException:  # Ctrl-C above all: the program has a group of its own, which hears nothing of it
            _end(process)
            raise


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            continue


def _last_words(printed: Path) -> str:
    with printed.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _SHOWN))
        text = stream.read().decode(errors="replace").strip()
    lines = text.splitlines()[-10:]
    return "".join(f"\n    {line}" for line in lines) if lines else f"; it printed nothing (see {printed})"
