"""Expression text cut into tokens, each with its place."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dbb.errors import ParseError

KEYWORDS = frozenset({"AND", "FALSE", "GLOB", "IN", "IS", "NOT", "NULL", "OR", "TRUE"})

_TOKEN = re.compile(
    r"""
    (?P<blank>\s+)
    | (?P<time>[Tt]'[^']*(?:''[^']*)*'(?!'))
    | (?P<string>'[^']*(?:''[^']*)*'(?!'))
    | (?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})
    | (?P<float>[+-]?(?:(?:[0-9]+\.(?!\.)[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+))
    | (?P<int>[+-]?[0-9]+)
    | (?P<bind>:[A-Za-z_][A-Za-z0-9_]*)
    | (?P<name>[A-Za-z_][A-Za-z0-9_.]*)
    | (?P<operator>!=|<>|<=|>=|=(?!=)|<|>)
    | (?P<symbol>\.\.|[(),:])
    """,
    re.VERBOSE,
)
_WORD = re.compile(r"[A-Za-z0-9_.]*")
_HINTS = {
    '"': "text stands in single quotes",
    "'": "the closing quote is missing",
    "=": "equality is a single =",
    "-": "text stands in single quotes",
}


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text.

    ``kind`` is a keyword in upper case, a symbol, or one of ``name``, ``int``, ``float``, ``string``, ``time``,
    ``bind``, ``operator`` and ``end``; ``text`` is the piece as written.
    """

    kind: str
    text: str
    at: int


def tokenize(text: str) -> list[Token]:
    """Cut `text` into tokens; the last has kind ``end``.

    Raises
    ------
    ParseError
        At a character that begins no token.

    Examples
    --------
    >>> [token.kind for token in tokenize("ccd in (1..9)")]
    ['name', 'IN', '(', 'int', '..', 'int', ')', 'end']
    """
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            hint = _HINTS.get(text[at])
            raise ParseError(text, at, f"unexpected {text[at]!r}" + (f": {hint}" if hint else ""))
        kind, piece = str(match.lastgroup), match[0]
        if kind in ("date", "float", "int"):
            _check_number(text, at, kind, match.end())
        if kind != "blank":
            tokens.append(Token(_kind(kind, piece), piece, at))
        at = match.end()
    tokens.append(Token("end", "", len(text)))
    return tokens


def _kind(group: str, piece: str) -> str:
    if group == "symbol":
        return piece
    if group == "name" and piece.upper() in KEYWORDS:
        return piece.upper()
    return group


def _check_number(text: str, at: int, kind: str, end: int) -> None:
    if kind == "date":
        raise ParseError(text, at, f"dates stand in single quotes: '{text[at:end]}'")
    if end < len(text) and (text[end].isalpha() or text[end] == "_"):
        word = text[at : end + len(_WORD.match(text, end)[0])]  # type: ignore[index]  # the pattern fits the empty text
        raise ParseError(text, at, f"{word!r} is neither a number nor a name: text stands in single quotes")
