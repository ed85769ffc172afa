"""Name and directory patterns of the archive: expand, invert, and turn into Butler templates.

A pattern holds ``${key}`` or ``${key:N}`` (a number padded with zeros to N digits), as DESDM writes them:
``CORR-${visit:7}-${ccd:3}-r${reqnum}p${attnum:2}.fits``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dbb.errors import UnsafePathError, UsageError
from dbb.patch import butler_patch

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([0-9]{1,2}))?\}")
# One path segment: no pattern characters of the Butler's glob, no backslash, no control characters, nothing that is no
# text (bytes that are not UTF-8 come as surrogates), not "." or "..".
_SEGMENT = r"(?!\.{1,2}(?:/|\Z))[^/\[\]*?\\\x00-\x1f\x7f\ud800-\udfff]+"
_SAFE_PATH = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
# A text ends as early as it can, but an ISO date in it stays whole: FLAT-2013-11-03-CAM-I-016.
_TEXT = "[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9:.]+)?|[^/]+?"
_BODIES = {"patch": "[0-9]+[x,][0-9]+", "date": "[0-9]{4}-[0-9]{2}-[0-9]{2}"}
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
        """
        match = self._regex(tuple((key, types.get(key, "str")) for key in self.keys)).fullmatch(text)
        if match is None:
            return None
        return {
            key: int(value) if types.get(key) == "int" else value
            for key, value in zip(self.keys, match.groups(), strict=True)
        }

    def _regex(self, types: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
        return _inverse(self.parts, types)

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
def _inverse(parts: tuple[str | Variable, ...], types: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    kinds, regex = dict(types), ""
    seen: dict[str, str] = {}
    for part in parts:
        if isinstance(part, str):
            regex += re.escape(part)
        elif part.key in seen:
            regex += f"(?P={seen[part.key]})"
        else:
            seen[part.key] = f"k{len(seen)}"
            kind = kinds[part.key]
            body = f"[0-9]{{{part.width or 1},}}" if kind == "int" else _BODIES.get(kind, _TEXT)
            regex += f"(?P<{seen[part.key]}>{body})"
    return re.compile(regex)


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
