"""Arguments beyond what an operating system takes go to a file that the program reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from dbb.errors import PipelineError
from dbb.pipeline.workflow import Argument

ARGUMENTS_LIMIT = 100_000
"""Bytes of a whole command line from which on arguments go to a file."""
_ONE_ARGUMENT_LIMIT = 128 * 1024 - 1
_MOST_BYTES = 4  # that UTF-8 has for a character
_PLAIN = re.compile(r"[^\s'\"\\#]+")


class Arguments(NamedTuple):
    """A command line and the arguments that go to a file beside it.

    Parameters
    ----------
    argv
        The program and its arguments, with ``@PATH`` in the place of those in the file.
    text
        The file's content, one argument per line; None if no file is needed.
    """

    argv: list[Argument]
    text: str | None = None


def args_file(argv: Sequence[Argument], path: str, *, allowed: bool, limit: int = ARGUMENTS_LIMIT) -> Arguments:
    """Move arguments to a file if a command line is longer than an operating system takes.

    The file is read alike by argparse with ``fromfile_prefix_chars="@"``, a line being an argument, and by the parser
    of the LSST stack, which splits lines as a shell does. So only arguments that need no quotes go there: the longest
    run of them. The first argument never does, for the stack's parser wants to see it.

    Parameters
    ----------
    argv
        The program and its arguments.
    path
        The file's name as the program will see it.
    allowed
        Whether the exec section says ``args_file = True``.
    limit
        Bytes that a whole command line may have; a single argument has at most 128 KiB in any case.

    Raises
    ------
    PipelineError
        If the command line is too long and a file is not allowed or does not help.
    """
    if _fits(argv, limit):
        return Arguments(list(argv))
    size, longest = sum(map(_size, argv)), max(map(_size, argv))
    excess = (
        f"{argv[0]}: the command line has {size} bytes and its longest argument {longest}, "
        f"but {limit} and {_ONE_ARGUMENT_LIMIT} are the limits"
    )
    if not allowed:
        raise PipelineError(f"{excess}; if the program reads arguments from @FILE, say args_file = True in its exec")
    first, end = _longest_run(argv)
    left: list[Argument] = [*argv[:first], f"@{path}", *argv[end:]]
    if first == end or not _fits(left, limit):
        raise PipelineError(
            f"{excess}, and a file does not help: the first argument, and what has blanks or quotes, cannot go there"
        )
    return Arguments(left, "".join(f"{word}\n" for word in argv[first:end]))


def _fits(argv: Sequence[Argument], limit: int) -> bool:
    if _MOST_BYTES * sum(map(len, map(str, argv))) + len(argv) <= min(limit, _ONE_ARGUMENT_LIMIT):
        return True  # nearly always, and known without encoding anything
    sizes = [_size(word) for word in argv]
    return sum(sizes) <= limit and max(sizes, default=0) <= _ONE_ARGUMENT_LIMIT


def _size(word: Argument) -> int:
    return len(str(word).encode(errors="surrogatepass")) + 1


def _longest_run(argv: Sequence[Argument]) -> tuple[int, int]:
    best = (2, 2)
    most, start, size = 0, 2, 0
    for number, word in enumerate(argv[2:], 2):
        if not isinstance(word, str) or _PLAIN.fullmatch(word) is None:
            start, size = number + 1, 0
            continue
        size += _size(word)
        if size > most:
            most, best = size, (start, number + 1)
    return best
