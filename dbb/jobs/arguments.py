"""Command lines as they are run: header values that only the running step knows are looked up now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dbb.errors import IntegrityError
from dbb.filetypes import Column, Filetype
from dbb.jobs.jobfile import Argument


def settle(arguments: Sequence[Argument], folder: Path) -> list[str]:
    """Return the words of a command line; files in it are relative to `folder`.

    Raises
    ------
    HeaderError
        If a header lacks a card.
    IntegrityError
        If a file is not there or has no header.
    """
    return [_settled(one, folder) for one in arguments]


def _settled(argument: Argument, folder: Path) -> str:
    if isinstance(argument, str):
        return argument
    if "join" in argument:
        return "".join(_settled(one, folder) for one in argument["join"])
    return ",".join(_values(folder / argument["head"]["file"], argument["head"]["keys"]))


def _values(path: Path, keys: Sequence[str]) -> list[str]:
    from dbb.ingest.gather import gather_metadata  # few command lines need it

    if not path.is_file():
        raise IntegrityError(f"{path} is not there: a command line needs its header")
    columns = tuple(Column(f"key{n}", "str", f"header:{key}", required=True) for n, key in enumerate(keys))
    found = gather_metadata(str(path), Filetype("header", None, None, columns, ()))
    return [str(found[column.name]) for column in columns]
