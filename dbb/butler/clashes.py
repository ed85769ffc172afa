"""Whether two name patterns or Butler templates can give one path."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dbb.errors import UsageError
from dbb.patterns import Pattern

_FIELD = re.compile(r"%(?:%|\(([A-Za-z_][A-Za-z0-9_]*)\)(?:(?:0([0-9]{1,2}))?(d)|(s)))")
_DIGITS = frozenset("0123456789")
_DATE = "dddd-dd-dd"


@dataclass(frozen=True, slots=True)
class Field:
    """One ``%(key)0Nd`` or ``%(key)s`` of a Butler template; `width` is 0 where none is given."""

    key: str
    width: int
    conversion: str


@dataclass(frozen=True, slots=True)
class Piece:
    """One character of a path, or any number of them where `many`; `chars` is None for all but the slash."""

    chars: frozenset[str] | None
    many: bool = False


def template_parts(template: str) -> tuple[str | Field, ...]:
    """Return the literal texts and fields of a Butler template, in order.

    Raises
    ------
    UsageError
        If a ``%`` begins neither ``%%``, ``%(key)s``, ``%(key)d`` nor ``%(key)0Nd`` with N below 100.

    Examples
    --------
    >>> template_parts("v%(visit)07d.fits")
    ('v', Field(key='visit', width=7, conversion='d'), '.fits')
    """
    parts: list[str | Field] = []
    at = 0
    for match in _FIELD.finditer(template):
        parts.append(_literal(template, at, match.start()))
        key, width = match[1], int(match[2] or 0)
        parts.append("%" if key is None else Field(key, width, match[3] or match[4]))
        at = match.end()
    return tuple(part for part in [*parts, _literal(template, at, len(template))] if part)


def _literal(template: str, start: int, end: int) -> str:
    text = template[start:end]
    if "%" in text:
        raise UsageError(f"{text[text.index('%') :]!r} is none of %(key)s, %(key)d, %(key)0Nd and %%")
    return text


def template_pieces(template: str, types: Mapping[str, str]) -> tuple[Piece, ...]:
    """Return what a Butler template can give; `types` are column types (see `dbb.filetypes`), by default text.

    Raises
    ------
    UsageError
        As `template_parts`.
    """
    pieces: list[Piece] = []
    for part in template_parts(template):
        if isinstance(part, str):
            pieces += [Piece(frozenset(character)) for character in part]
        else:
            pieces += _of_type("int" if part.conversion == "d" else types.get(part.key, "str"), part.width)
    return tuple(pieces)


def pattern_pieces(pattern: Pattern, types: Mapping[str, str]) -> tuple[Piece, ...]:
    """Return what an archive pattern can give; `types` are column types, by default text."""
    pieces: list[Piece] = []
    for part in pattern.parts:
        if isinstance(part, str):
            pieces += [Piece(frozenset(character)) for character in part]
        else:
            pieces += _of_type(types.get(part.key, "str"), part.width)
    return tuple(pieces)


def _of_type(kind: str, width: int) -> Iterator[Piece]:
    if kind == "int":
        yield from _number(width)
    elif kind == "patch":
        yield from (*_number(0), Piece(frozenset(",x")), *_number(0))
    elif kind == "date":
        yield from (Piece(_DIGITS if character == "d" else frozenset(character)) for character in _DATE)
    else:
        yield from (Piece(None), Piece(None, many=True))


def _number(width: int) -> list[Piece]:
    return [Piece(_DIGITS)] * max(width, 1) + [Piece(_DIGITS, many=True)]


def common_path(one: Sequence[Piece], other: Sequence[Piece]) -> str | None:
    """Return a path that both can give, or None if there is none.

    Notes
    -----
    Costs at most the product of both lengths. That a key that comes twice has one value is not taken into account:
    where only this keeps two apart, a path is returned nevertheless.

    Examples
    --------
    >>> types = {"ccd": "int"}
    >>> common_path(template_pieces("a%(ccd)02d", types), template_pieces("%(name)s", types))
    'a00'
    """
    seen, waiting = {(0, 0)}, deque([(0, 0, "")])
    while waiting:
        at, to, text = waiting.popleft()
        if at == len(one) and to == len(other):
            return text
        for step in _steps(one, other, at, to):
            if step[:2] not in seen:
                seen.add(step[:2])
                waiting.append((step[0], step[1], text + step[2]))
    return None


def _steps(one: Sequence[Piece], other: Sequence[Piece], at: int, to: int) -> Iterator[tuple[int, int, str]]:
    first = one[at] if at < len(one) else None
    second = other[to] if to < len(other) else None
    if first is not None and first.many:
        yield at + 1, to, ""
    if second is not None and second.many:
        yield at, to + 1, ""
    if first is not None and second is not None:
        character = _shared(first.chars, second.chars)
        if character:
            yield at + (not first.many), to + (not second.many), character


def _shared(one: frozenset[str] | None, other: frozenset[str] | None) -> str:
    """Return a character of both, or an empty text."""
    if one is None and other is None:
        return "a"
    both = (other or frozenset()) - {"/"} if one is None else one - {"/"} if other is None else one & other
    return min(both, default="")
