"""The form of a camera's TOML file: what is unknown there, or of the wrong kind, is refused and not passed over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dbb.errors import UsageError

_Rule = tuple[str, Callable[[Any], bool]]  # what an entry must be, in words and as a test
_ANY = "*"  # in a form: every other name

_TEXT: _Rule = ("a text", lambda value: isinstance(value, str))
_TEXTS: _Rule = (
    "a list of texts",
    lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
)
_LIST: _Rule = ("a list", lambda value: isinstance(value, list))
_FLAG: _Rule = ("true or false", lambda value: isinstance(value, bool))
_ELSEWHERE: _Rule = ("", lambda value: True)  # `dbb.headers` and `dbb.filetypes` say what is wrong there

_PYTHON = {"python": _TEXT, "persistable": _TEXT, "storage": _TEXT}
_DATASET = {**_PYTHON, "section": _TEXT, "kind": _TEXT, "template": _TEXT, "tables": _TEXTS, "filetype": _TEXT}


def _form(eras: Sequence[str]) -> dict[str, Any]:
    some_eras: _Rule = (
        f"a list out of {', '.join(eras)}",
        lambda value: isinstance(value, list) and all(one in eras for one in value),
    )
    dataset = {**_DATASET, "only_read": _FLAG, "same_place": _TEXT, "eras": some_eras}
    return {
        "base": _TEXT,
        "butler_class": _TEXT,
        "raw": _TEXT,
        "synonyms": {_ANY: _TEXT},
        "filters": {_ANY: _TEXT},
        "registry": {
            "exposure": _TEXTS,
            "date": _TEXT,
            "visit": _TEXTS,
            "raw": {_ANY: _TEXT},
            "calib_root": _TEXT,
            "calibration": {"filter": _TEXT, "date": _TEXT, "no_filter": _TEXT},
            "detectors": {"column": _TEXT, "detector": _TEXTS, "hdu": _TEXT, "known": _LIST},
        },
        "headers": _ELSEWHERE,
        "kinds": {_ANY: _PYTHON},
        "datasets": {_ANY: {**dataset, "era": dict.fromkeys(eras, _DATASET)}},
        "sets": _ELSEWHERE,
        "filetypes": _ELSEWHERE,
    }


def check_camera(data: Mapping[str, Any], where: str, eras: Sequence[str]) -> None:
    """Look at all that a camera's file holds.

    Parameters
    ----------
    data
        The file's content.
    where
        What messages call it.
    eras
        The eras there are.

    Raises
    ------
    UsageError
        If it has an entry that is unknown or of the wrong kind; names the entry.
    """
    wrong = next(_problems(data, _form(eras), ""), None)
    if wrong is not None:
        raise UsageError(f"{where}: {wrong}")


def _problems(table: Mapping[str, Any], form: Mapping[str, Any], path: str) -> Iterator[str]:
    for name, value in table.items():
        expected, here = form.get(name, form.get(_ANY)), f"{path}{name}"
        if expected is None:
            yield f"{here} is no entry of a camera; known here: {', '.join(form)}"
        elif isinstance(expected, Mapping):
            if isinstance(value, Mapping):
                yield from _problems(value, expected, f"{here}.")
            else:
                yield f"{here} must be a table, not {value!r}"
        elif not expected[1](value):
            yield f"{here} must be {expected[0]}, not {value!r}"
