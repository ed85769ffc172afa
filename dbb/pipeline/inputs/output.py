"""What a query program wrote, or a plug-in gave, as data lines: every value a text, every key in lower case."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from numbers import Number
from pathlib import Path

from dbb.errors import PipelineError
from dbb.pipeline.section import Line, Section
from dbb.plugins import plugins

_GENERIC = re.compile(r"file[0-9]+")
_NICK = re.compile(r"\b([A-Za-z_][A-Za-z0-9_-]*)\.[A-Za-z_][A-Za-z0-9_]*")


def nick_of(section: Section, otherwise: str) -> str:
    """Return what a file of a section is called where its data do not say.

    A file section's own name; for a list its key ``nick``, or the only nickname in its ``columns``, or `otherwise`.
    """
    if section.kind == "file":
        return section.name
    given = section.text("nick")
    if given:
        return given
    nicks = set(_NICK.findall(section.text("columns") or ""))
    return nicks.pop().lower() if len(nicks) == 1 else otherwise


def read_output(section: Section, path: Path, kind: str) -> list[Line]:
    """Return the lines in the output of a query program, whose form is ``wcl``, ``json`` or ``jsonl``.

    Raises
    ------
    PipelineError
        If it cannot be read, or is not of the form list.line.NAME.file.NICK.
    """

    def wrong(text: str) -> PipelineError:
        return section.error(f"{path}: {text}", "exec")

    try:
        if kind == "jsonl":
            rows = list(_json_lines(path, wrong))
        else:
            tree = _wcl(path, wrong) if kind == "wcl" else _json(path.read_text(encoding="utf-8"), "", wrong)
            rows = list(_tree_lines(tree, wrong))
    except (OSError, UnicodeDecodeError) as error:
        raise wrong(str(error)) from error
    return make_lines(section, rows, wrong)


def make_lines(section: Section, rows: list[tuple[str, object]], wrong: Callable[[str], PipelineError]) -> list[Line]:
    """Return rows as lines.

    Parameters
    ----------
    section
        Where they are for.
    rows
        Each with what messages call it: files by nickname, or the mapping of one file.
    wrong
        Makes an error of a text.

    Raises
    ------
    PipelineError
        If a row is no mapping, holds something else than texts and numbers, or lacks a file name.
    """
    nick = nick_of(section, section.name)
    return [_line(row, nick, functools.partial(_within, wrong, where)) for where, row in rows]


def _within(wrong: Callable[[str], PipelineError], where: str, text: str) -> PipelineError:
    return wrong(f"{where}: {text}")


def _line(row: object, nick: str, wrong: Callable[[str], PipelineError]) -> Line:
    if not isinstance(row, Mapping) or not row:
        raise wrong("expected files by nickname, or the keys of one file")
    files = row if any(isinstance(value, Mapping) for value in row.values()) else {nick: row}
    line = {}
    for name, values in files.items():
        if not isinstance(values, Mapping):
            raise wrong(f"{name} stands beside files: a line has files by nickname, and nothing else")
        # the generic query numbers its files: then any nickname means the only one
        called = nick if len(files) == 1 and _GENERIC.fullmatch(str(name)) else str(name).lower()
        line[called] = _file(values, str(name), wrong)
    return line


def _file(values: Mapping[object, object], name: str, wrong: Callable[[str], PipelineError]) -> dict[str, str]:
    found = {}
    for key, value in values.items():
        if isinstance(value, str | Number):
            found[str(key).lower()] = str(value)
        elif isinstance(value, date):
            found[str(key).lower()] = value.isoformat()
        elif value is not None:
            raise wrong(f"{name}, {key}: expected a text or a number, not {str(value)[:60]}")
    if not found.get("filename"):
        raise wrong(f"{name} has no filename")
    compression = found.get("compression", "")
    found["compression"] = "" if compression in {"None", "none"} else compression
    return found


def _tree_lines(tree: object, wrong: Callable[[str], PipelineError]) -> Iterator[tuple[str, object]]:
    inner = tree
    for name in ("list", "line"):
        inner = _lowered(inner).get(name, {}) if isinstance(inner, Mapping) else inner
        if inner is None or inner == "":
            inner = {}
    if not isinstance(inner, Mapping):
        raise wrong("expected <list> with <line> and in it one section for each line")
    for name, line in inner.items():
        files = _lowered(line).get("file") if isinstance(line, Mapping) else None
        if not isinstance(files, Mapping):
            raise wrong(f"{name}: expected a section <file> with the files of the line")
        for nick, values in files.items():
            if not isinstance(values, Mapping):
                raise wrong(f"{name}: {nick} is no section: expected one for each file of the line")
        yield str(name), files


def _lowered(tree: Mapping[object, object]) -> dict[str, object]:
    return {str(key).lower(): value for key, value in tree.items()}


def _wcl(path: Path, wrong: Callable[[str], PipelineError]) -> object:
    try:
        pipeline = plugins().hook.dbb_read_pipeline(path=path, settings={})
    except PipelineError as error:
        raise wrong(str(error)) from error
    if pipeline is None:
        raise wrong("no plug-in reads it: write JSON and say 'qouttype = json', or see 'dbb plugins'")
    if not pipeline.tree and pipeline.problems:
        raise wrong(f"{pipeline.problems[0]}; if it is JSON, say qouttype = json")
    return pipeline.tree


def _json(text: str, where: str, wrong: Callable[[str], PipelineError]) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise wrong(f"{where}{error}") from error


def _json_lines(path: Path, wrong: Callable[[str], PipelineError]) -> Iterator[tuple[str, object]]:
    with path.open(encoding="utf-8") as stream:
        for number, text in enumerate(stream, start=1):
            if text.strip():
                yield f"line {number}", _json(text, f"line {number}: ", wrong)
