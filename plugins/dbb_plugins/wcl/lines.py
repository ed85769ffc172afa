"""The lines of a WCL file: decoded, without comments, continuations joined."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dbb.errors import PipelineError

_LARGEST = 16 << 20  # bytes; the longest real submit files have some hundred thousand
_END = re.compile(r"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """What stands on one line, or on several that are joined by backslashes.

    Parameters
    ----------
    number
        Of its first line in the file, from 1.
    text
        Without comment, and without blanks at the ends but for those before a comment.
    """

    number: int
    text: str


def read_text(path: Path) -> tuple[str, int | None]:
    """Return the text of a file, and the line of its first byte that is not UTF-8, or None.

    A file that is not UTF-8 is read as Latin-1, in which every byte means something.

    Raises
    ------
    PipelineError
        If it is no file, cannot be read, or is too large to be a submit file.
    """
    try:
        if not path.is_file():
            raise PipelineError(f"{path}: {'is no file' if path.exists() else 'there is no such file'}")
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, PipelineError):
            raise
        raise PipelineError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > _LARGEST:
        raise PipelineError(f"{path}: is larger than {_LARGEST >> 20} MiB, which no submit file is")
    content = content.removeprefix(_BOM)
    try:
        return content.decode("utf-8"), None
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
        return content.decode("latin-1"), len(_END.findall(before)) + 1


def logical_lines(text: str) -> Iterator[Line]:
    """Give the lines that say something.

    A comment is cut before a backslash is looked for, so that a comment never swallows the line below it.
    """
    pieces: list[str] = []
    start = 1
    for number, raw in enumerate(_END.split(text), 1):
        if not pieces:
            start = number
        piece = raw.strip().partition("#")[0]
        if piece.rstrip().endswith("\\"):
            pieces.append(piece.rstrip()[:-1])
            continue
        joined = "".join((*pieces, piece))
        pieces.clear()
        if joined.strip():
            yield Line(start, joined)
    if "".join(pieces).strip():
        yield Line(start, "".join(pieces))
