"""Expression text to tree."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import NoReturn

from dbb.errors import ParseError, known_names
from dbb.query.nodes import And, Comparison, Glob, In, IsNull, Literal, Name, Node, Not, Or, Range
from dbb.query.tokens import Token, tokenize
from dbb.query.values import in_64_bits, iso_time, read_int

MAX_DEPTH = 30  # far from the limits of Python's stack, in the parser and SQLAlchemy's compiler, and of SQLite's parser

_FLIPPED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_VALUES = frozenset({"int", "float", "string", "time", "bind", "TRUE", "FALSE", "NULL"})


def parse(text: str, binds: Mapping[str, object] | None = None) -> Node:
    """Read an expression.

    Parameters
    ----------
    text
        Comparisons (``= != <> < <= > >=``), ``[NOT] IN (1, 3..9:2, :more)``, ``[NOT] GLOB 'pat*'``,
        ``GLOB(name, 'pat*')``, ``IS [NOT] NULL`` and boolean columns, joined by ``AND``, ``OR``, ``NOT`` and
        parentheses. Text stands in single quotes, times are written ``T'2014-03-28 12:20:33'``. Ranges include their
        end. Keywords may have any case.
    binds
        Values for ``:name``: int, float, str, bool, date or datetime (one with a zone is turned into UTC), and for IN
        also a list, tuple or set of such. A raw `Literal` is a text whose type the column decides.

    Returns
    -------
    Node
        The tree, with the offsets in `text`.

    Raises
    ------
    ParseError
        If the text is empty, malformed or nested deeper than 30 levels, or a bind is missing or of no use.

    Examples
    --------
    >>> str(parse("ccd in (:good, 9..12) and not 'R2' = filter", {"good": [1, 2]}))
    "ccd IN (1, 2, 9..12) AND NOT filter = 'R2'"
    """
    if not text.strip():
        raise ParseError(text, 0, "the expression is empty: expected a condition such as visit = 903334")
    return _Parser(text, binds or {}).whole()


class _Parser:
    """Recursive descent, one method per precedence."""

    def __init__(self, text: str, binds: Mapping[str, object]) -> None:
        self._text, self._binds = text, binds
        self._tokens = tokenize(text)
        self._position = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._disjunction()
        if self._here.kind != "end":
            self._fail("AND, OR or the end")
        return node

    @property
    def _here(self) -> Token:
        return self._tokens[self._position]

    def _take(self) -> Token:
        token = self._here
        self._position += 1
        return token

    def _accept(self, kind: str) -> bool:
        if self._here.kind != kind:
            return False
        self._position += 1
        return True

    def _expect(self, kind: str, wanted: str) -> Token:
        if self._here.kind != kind:
            self._fail(wanted)
        return self._take()

    def _fail(self, wanted: str) -> NoReturn:
        token = self._here
        shown = token.text if len(token.text) <= 40 else token.text[:40] + "…"
        found = "the end" if token.kind == "end" else repr(shown)
        raise ParseError(self._text, token.at, f"expected {wanted}, found {found}")

    def _disjunction(self) -> Node:
        return self._chain("OR", Or, self._conjunction)

    def _conjunction(self) -> Node:
        return self._chain("AND", And, self._negation)

    def _chain(self, keyword: str, kind: type[And | Or], part: Callable[[], Node]) -> Node:
        first = part()
        items = [first]
        while self._accept(keyword):
            items.append(part())
        return kind(tuple(items), at=first.at) if len(items) > 1 else first

    def _negation(self) -> Node:
        if self._here.kind != "NOT":
            return self._condition()
        at = self._here.at
        return Not(self._nested(self._negation), at=at)

    def _nested(self, inner: Callable[[], Node]) -> Node:
        """Read what follows the present token, one level deeper."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ParseError(self._text, self._here.at, f"nested deeper than {MAX_DEPTH} levels")
        self._position += 1
        node = inner()
        self._depth -= 1
        return node

    def _condition(self) -> Node:
        kind = self._here.kind
        if kind == "(":
            node = self._nested(self._disjunction)
            self._expect(")", "AND, OR or ')'")
            return node
        if kind == "GLOB":
            return self._glob_call()
        if kind == "name":
            return self._after_name()
        if kind not in _VALUES:
            self._fail("a condition such as visit = 903334")
        return self._flipped()

    def _glob_call(self) -> Glob:
        at = self._take().at
        self._expect("(", "'(' as in GLOB(name, 'pattern')")
        name = self._name()
        self._expect(",", "',' as in GLOB(name, 'pattern')")
        pattern = self._pattern()
        self._expect(")", "')' as in GLOB(name, 'pattern')")
        return Glob(name, pattern, at=at)

    def _after_name(self) -> Node:
        name = self._name()
        if self._here.kind == "operator":
            op = self._operator()
            right = self._name() if self._here.kind == "name" else self._single()
            return Comparison(op, name, right, at=name.at)
        if self._accept("IS"):
            negated = self._accept("NOT")
            self._expect("NULL", "NULL" if negated else "NULL or NOT NULL")
            return IsNull(name, negated, at=name.at)
        negated = self._accept("NOT")
        if self._accept("IN"):
            return In(name, self._items(), negated, at=name.at)
        if self._accept("GLOB"):
            return Glob(name, self._pattern(), negated, at=name.at)
        if negated:
            self._fail("IN or GLOB")
        if self._here.kind == "(":
            problem = f"there is no function {name.name!r}: the only one is GLOB(name, 'pattern')"
            raise ParseError(self._text, name.at, problem)
        if self._here.kind not in ("AND", "OR", ")", "end"):
            self._fail("an operator (=, !=, <, <=, >, >=, IN, GLOB, IS), AND, OR or the end")
        return name

    def _flipped(self) -> Comparison:
        left = self._single()
        if self._here.kind != "operator":
            self._fail("one of =, !=, <, <=, >, >=")
        op = self._operator()
        if self._here.kind in _VALUES:
            self._fail("the name of a column, because the other side is a value")
        return Comparison(_FLIPPED[op], self._name(), left, at=left.at)

    def _name(self) -> Name:
        token = self._expect("name", "the name of a column")
        return Name(token.text, at=token.at)

    def _operator(self) -> str:
        op = self._take().text
        return "!=" if op == "<>" else op

    def _pattern(self) -> Literal:
        if self._here.kind not in ("string", "bind"):
            self._fail("a pattern in single quotes or a bind")
        pattern = self._single()
        if not isinstance(pattern.value, str):
            raise ParseError(self._text, pattern.at, f"expected a pattern, found {pattern}")
        return pattern

    def _items(self) -> tuple[Literal | Range, ...]:
        start = self._here.at
        items: list[Literal | Range] = []
        if self._here.kind == "bind":
            items += self._bound()
        else:
            self._expect("(", "'(' or a bind")
            items += self._item()
            while self._accept(","):
                items += self._item()
            self._expect(")", "',' or ')'")
        if not items:
            raise ParseError(self._text, start, "the bound lists are empty: IN needs at least one value")
        return tuple(items)

    def _item(self) -> list[Literal] | list[Range]:
        if self._here.kind == "bind":
            return self._bound()
        if self._here.kind == "int" and self._tokens[self._position + 1].kind == "..":
            return [self._range()]
        return [self._single()]

    def _range(self) -> Range:
        at = self._here.at
        first = self._int()
        self._take()
        last = self._int()
        step_at = self._here.at + 1
        step = self._int() if self._accept(":") else 1
        if step < 1:
            raise ParseError(self._text, step_at, f"the step of a range must be positive, not {step}")
        if last < first:
            raise ParseError(self._text, at, f"the range {first}..{last} is empty")
        return Range(first, last, step, at=at)

    def _int(self) -> int:
        token = self._expect("int", "an integer")
        return read_int(self._text, token.at, token.text)

    def _single(self) -> Literal:
        """Read one value."""
        if self._here.kind == "bind":
            token = self._here
            if isinstance(self._binds.get(token.text[1:]), list | tuple | set | frozenset):
                raise ParseError(self._text, token.at, f"the bind {token.text} is a list, which only IN takes")
            return self._bound()[0]
        if self._here.kind == "NULL":
            raise ParseError(self._text, self._here.at, "nothing compares with NULL: write IS NULL or IS NOT NULL")
        if self._here.kind not in _VALUES:
            self._fail("a value")
        token = self._take()
        return Literal(self._value(token), at=token.at)

    def _value(self, token: Token) -> int | float | str | bool:
        if token.kind == "int":
            return read_int(self._text, token.at, token.text)
        if token.kind == "float":
            number = float(token.text)
            if not math.isfinite(number):
                raise ParseError(self._text, token.at, f"{token.text} is too large for a number")
            return number
        if token.kind == "string":
            return token.text[1:-1].replace("''", "'")
        if token.kind == "time":
            time = iso_time(token.text[2:-1])
            if time is None:
                problem = f"{token.text} is no time: expected T'YYYY-MM-DD hh:mm:ss' without a zone"
                raise ParseError(self._text, token.at, problem)
            return time
        return token.kind == "TRUE"

    def _bound(self) -> list[Literal]:
        token = self._take()
        bind = token.text[1:]
        if bind not in self._binds:
            known = known_names(bind, list(self._binds)) or "; none is given"
            raise ParseError(self._text, token.at, f"no value for the bind {token.text}{known}")
        value = self._binds[bind]
        values = value if isinstance(value, list | tuple | set | frozenset) else [value]
        found = [self._literal(token, one) for one in values]
        if isinstance(value, set | frozenset):  # equal sets must give equal trees
            found.sort(key=lambda literal: (type(literal.value).__name__, literal.value))
        return found

    def _literal(self, token: Token, value: object) -> Literal:
        """Turn a bound value into a literal; numpy's numbers count as numbers."""
        plain: int | float | str | bool
        if isinstance(value, Literal):
            return Literal(value.value, value.raw, at=token.at)
        if isinstance(value, bool | str):
            plain = value if isinstance(value, bool) else str(value)
        elif isinstance(value, numbers.Integral) and in_64_bits(int(value)):
            plain = int(value)
        elif isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral) and math.isfinite(value):
            plain = float(value)
        elif isinstance(value, datetime):
            plain = (value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value).isoformat()
        elif isinstance(value, date):
            plain = value.isoformat()
        else:
            hint = ": write IS NULL" if value is None else ""
            raise ParseError(self._text, token.at, f"the bind {token.text} cannot be {value!r:.60}{hint}")
        return Literal(plain, at=token.at)
