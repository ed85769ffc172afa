"""Arguments beyond the limit go to a file that argparse and the LSST stack's parser read alike."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbb.errors import PipelineError
from dbb.pipeline.argsfile import args_file

WORDS = st.lists(st.text(st.characters(exclude_characters="\0\1@", codec="utf-8")), max_size=12)
MANY = ["task.py", "repo", *[f"ccd={ccd}" for ccd in range(30_000)]]


class _ShellLines(argparse.ArgumentParser):
    """Splits the lines of a file as a shell does, with comments, as the parser of the LSST stack."""

    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        return [word for word in shlex.split(arg_line, comments=True) if word.strip()]


class _Reader:
    """What a program sees of its arguments."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self, argv: list[object], text: str | None) -> Iterator[list[str]]:
        if text is not None:
            self.file.write_text(text, encoding="utf-8", newline="")
        for kind in (argparse.ArgumentParser, _ShellLines):
            parser = kind(fromfile_prefix_chars="@", prefix_chars="\1")
            parser.add_argument("words", nargs="*")
            yield parser.parse_args([str(word) for word in argv]).words


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> _Reader:
    return _Reader(tmp_path_factory.mktemp("args") / "args.txt")


@given(WORDS)
def test_what_a_program_reads_is_what_was_asked_for(reader: _Reader, words: list[str]) -> None:
    argv = ["task.py", "repo", "ccd=1", "--id", *words, "a", "b"]
    try:
        done = args_file(argv, str(reader.file), allowed=True, limit=sum(len(word.encode()) + 1 for word in argv) - 1)
    except PipelineError:
        return  # the name of the file may be longer than what can go into it
    assert list(reader.read([*done.argv[1:]], done.text)) == [argv[1:], argv[1:]]


@given(WORDS)
def test_arguments_below_the_limit_stay_as_they_are(words: list[str]) -> None:
    assert args_file(["task.py", *words], "args.txt", allowed=False).argv == ["task.py", *words]


def test_the_file_has_one_argument_per_line() -> None:
    done = args_file(MANY, "args.txt", allowed=True)
    assert done.argv == ["task.py", "repo", "@args.txt"]
    assert done.text == "".join(f"{word}\n" for word in MANY[2:])


def test_what_needs_quotes_stays_on_the_command_line() -> None:
    done = args_file([*MANY, "a b", "#", "", "c"], "args.txt", allowed=True)
    assert done.argv == ["task.py", "repo", "@args.txt", "a b", "#", "", "c"]


def test_header_values_stay_on_the_command_line() -> None:
    later: dict[str, object] = {"head": {"file": "a.fits", "keys": ["GAIN"]}}
    assert args_file([*MANY, later], "args.txt", allowed=True).argv == ["task.py", "repo", "@args.txt", later]


def test_one_argument_that_the_system_refuses_goes_to_the_file_even_if_the_limit_is_higher() -> None:
    done = args_file(["task.py", "repo", "x" * 140_000], "args.txt", allowed=True, limit=1_000_000)
    assert done.argv == ["task.py", "repo", "@args.txt"]


def test_too_long_a_command_line_names_the_limit_and_the_option() -> None:
    with pytest.raises(PipelineError, match=r"task\.py: the command line has \d+ bytes .* 100000 .* args_file = True"):
        args_file(MANY, "args.txt", allowed=False)


def test_a_file_that_does_not_help_is_an_error() -> None:
    with pytest.raises(PipelineError, match="a file does not help"):
        args_file(["task.py", "repo", "a b" * 50_000], "args.txt", allowed=True)
