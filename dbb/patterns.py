"""Name and directory patterns of the archive: expand, invert, and turn into Butler templates.

A pattern holds ``${key}`` or ``${key:N}`` (a number padded with zeros to N digits), as DESDM writes them:
``CORR-${visit:7}-${ccd:3}-r${reqnum}p${attnum:2}.fits``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from dbb.errors import UnsafePathError, UsageError
from dbb.matching import Field, Matcher
from dbb.patch import butler_patch

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([0-9]{1,2}))?\}")
# One path segment: no pattern characters of the Butler's glob, no backslash, no control characters, nothing that is no
# text (bytes that are not UTF-8 come as surrogates), not "." or "..".
_SEGMENT = r"(?!\.{1,2}(?:[/\n]|\Z))[^/\[\]*?\\\x00-\x1f\x7f\ud800-\udfff]+"
_SAFE_PATH = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_SAFE_LINES = re.compile(rf"(?:{_SAFE_PATH.pattern}\n)*")
_DATE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile("T[0-9:.]+")
_PATCH = re.compile("[0-9]+[x,](?=[0-9])")
_DIGITS = re.compile("[0-9]+")
RUN_KEYS = ("unitname", "reqnum", "attnum")

is_safe_path = _SAFE_PATH.fullmatch


def safe_path(path: str, what: str = "path") -> str:
    r"""Return `path` if it is relative, stays under its root and holds no character that the Butler globs.

    Raises
    ------
    UnsafePathError
        For an absolute path, ``.`` or ``..`` as a segment, an empty segment, or one of ``[ ] * ? \\`` and
        control characters, or bytes that are not UTF-8.
    """
    if is_safe_path(path) is None:
        raise UnsafePathError(
            f"{what} {path!r} is refused: it must be relative, without '.', '..' or empty parts"
            " and without any of [ ] * ? \\"
        )
    return path


def are_safe_paths(paths: Sequence[str]) -> bool:
    """Return whether `safe_path` takes all of many paths, at a fifth of what it costs to ask for each."""
    lines = "\n".join([*paths, ""])
    return lines.count("\n") == len(paths) and _SAFE_LINES.fullmatch(lines) is not None


@dataclass(frozen=True, slots=True)
class Variable:
    """One ``${key:width}`` of a pattern; `width` is 0 where none is given."""

    key: str
    width: int


@dataclass(frozen=True, slots=True)
class Pattern:
    """A name or directory pattern, parsed.

    Parameters
    ----------
    text
        The pattern as written.
    parts
        Literal texts and variables in order.
    """

    text: str
    parts: tuple[str | Variable, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys in order of first use."""
        return tuple(dict.fromkeys(part.key for part in self.parts if isinstance(part, Variable)))

    def expand(self, values: Mapping[str, object]) -> str:
        """Return the text for `values`.

        Raises
        ------
        UsageError
            If a key has no value.
        """
        return "".join(part if isinstance(part, str) else self._format(part, values) for part in self.parts)

    def _format(self, variable: Variable, values: Mapping[str, object]) -> str:
        value = values.get(variable.key)
        if value is None:
            raise UsageError(f"pattern {self.text!r} needs a value for {variable.key!r}")
        text = str(value)
        return text.zfill(variable.width) if text.isdigit() else text

    def invert(self, text: str, types: Mapping[str, str]) -> dict[str, object] | None:
        """Return the values that expand to `text`, or None if the pattern cannot give it.

        Parameters
        ----------
        text
            What `expand` gave.
        types
            Column type of each key (see `dbb.filetypes`); keys not listed are texts.

        Raises
        ------
        UsageError
            If there are too many ways to try.
        """
        found = _inverse(self, tuple((key, types.get(key, "str")) for key in self.keys)).match(text)
        if found is None:
            return None
        return {key: int(found[key]) if types.get(key) == "int" else found[key] for key in self.keys}

    def template(self, types: Mapping[str, str], fixed: Mapping[str, object]) -> str:
        """Return the Butler template that gives the same names.

        Parameters
        ----------
        types
            Column type of each key that stays a variable.
        fixed
            Values (of the run) that are written into the template.
        """
        out = []
        for part in self.parts:
            if isinstance(part, str):
                out.append(part.replace("%", "%%"))
            elif part.key in fixed:
                out.append(self._format(part, fixed).replace("%", "%%"))
            elif types.get(part.key) == "int":
                out.append(f"%({part.key})0{part.width}d" if part.width else f"%({part.key})d")
            else:
                out.append(f"%({part.key})s")
        return "".join(out)


@functools.cache
def _inverse(pattern: Pattern, types: tuple[tuple[str, str], ...]) -> Matcher:
    kinds = {"int": _int_ends, "patch": _patch_ends, "date": _date_ends}
    known = dict(types)
    fields = (
        part if isinstance(part, str) else Field(part.key, partial(kinds.get(known[part.key], _text_ends), part.width))
        for part in pattern.parts
    )
    return Matcher(fields, f"pattern {pattern.text!r}")


def _int_ends(width: int, text: str, at: int) -> Iterable[int]:
    match = _DIGITS.match(text, at)
    return () if match is None else range(match.end(), at + (width or 1) - 1, -1)


def _patch_ends(width: int, text: str, at: int) -> Iterable[int]:
    match = _PATCH.match(text, at)
    return () if match is None else _int_ends(0, text, match.end())


def _date_ends(width: int, text: str, at: int) -> Iterable[int]:
    match = _DATE.match(text, at)
    return () if match is None else (match.end(),)


def _text_ends(width: int, text: str, at: int) -> Iterator[int]:
    # as early as it can, but an ISO date in it stays whole: FLAT-2013-11-03-CAM-I-016
    date = _DATE.match(text, at)
    if date is not None:
        time = _TIME.match(text, date.end())
        yield from () if time is None else range(time.end(), date.end() + 1, -1)
        yield date.end()
    slash = text.find("/", at)
    yield from range(at + 1, (len(text) if slash < 0 else slash) + 1)


@functools.cache
def parse_pattern(text: str) -> Pattern:
    """Parse one pattern.

    Raises
    ------
    UsageError
        If a ``$`` does not begin ``${key}`` or ``${key:N}``.

    Examples
    --------
    >>> parse_pattern("r${reqnum}p${attnum:2}").expand({"reqnum": 11, "attnum": 5})
    'r11p05'
    """
    parts: list[str | Variable] = []
    at = 0
    for match in _VARIABLE.finditer(text):
        parts += [text[at : match.start()]] if match.start() > at else []
        parts.append(Variable(match[1], int(match[2] or 0)))
        at = match.end()
    parts += [text[at:]] if at < len(text) else []
    if any(isinstance(part, str) and "$" in part for part in parts):
        raise UsageError(f"pattern {text!r}: write variables as ${{key}} or ${{key:N}}")
    return Pattern(text, tuple(parts))


def butler_spelling(values: Mapping[str, object]) -> dict[str, object]:
    """Return `values` with the patch as Butler data ids spell it."""
    patch = values.get("patch")
    return {**values, "patch": butler_patch(patch)} if isinstance(patch, str) else dict(values)
