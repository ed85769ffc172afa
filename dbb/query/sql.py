"""Query trees as SQL conditions for SQLite and PostgreSQL; values are always bound."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol, TypeAlias

import sqlalchemy as sa

from dbb.errors import DbbError, NotFoundError, ParseError, UsageError
from dbb.query.nodes import And, Comparison, Glob, In, IsNull, Literal, Name, Node, Not, Or, Range
from dbb.query.values import fit, glob_regex

Clause: TypeAlias = sa.ColumnElement[bool]
Value: TypeAlias = int | float | str | bool | date
Bind: TypeAlias = Callable[[Value], sa.BindParameter[Any]]

_LONG_LIST = 500  # longer lists travel as one bound value: databases limit the number of them
_MOST_JOINED = 30  # SQLite refuses expressions deeper than 1000, and a flat list of ORs is as deep as it is long
_OPERATORS: dict[str, Callable[[Any, Any], Clause]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SQL_TYPES: dict[type, type[sa.types.TypeEngine[Any]]] = {  # bool before int and datetime before date, their bases
    bool: sa.Boolean,
    int: sa.BigInteger,
    float: sa.Float,
    datetime: sa.DateTime,
    date: sa.Date,
    str: sa.String,
}
_KINDS = {"int": "number", "float": "number", "date": "time", "datetime": "time"}


@dataclass(frozen=True, slots=True)
class Column:
    """What a name means in SQL.

    Parameters
    ----------
    expression
        The column, or what is computed from some. A ``date`` or ``datetime`` one holds ISO text, unless its SQLAlchemy
        type is a date or a time.
    type
        ``int``, ``float``, ``str``, ``date``, ``datetime``, ``patch`` (stored as ``8x6``) or ``bool``.
    equals
        Stands in for plain equality in ``=``, ``!=`` and IN. May raise ValueError for a value that makes no sense.
    wrap
        Put around each predicate on the column, such as an EXISTS over tags. The predicate of ``!=``, ``NOT IN``,
        ``NOT GLOB`` and ``IS NULL`` is wrapped in its positive form and then negated: ``tag != 'x'`` means "does not
        carry tag x" and ``tag IS NULL`` "carries no tag".
    """

    expression: sa.ColumnElement[Any]
    type: str
    equals: Callable[[object], Clause] | None = None
    wrap: Callable[[Clause], Clause] | None = None


class Scope(Protocol):
    """The names that a query may use."""

    def column(self, name: str) -> Column | None:
        """Return what `name` means, or None; asked with the name as written, then with the one of `names` that fits."""

    def names(self) -> Sequence[str]:
        """Return all names, for errors and for finding names without regard to case."""


class UnknownNameError(NotFoundError):
    """A query uses a name that its scope does not have; shows the known names and the text with a caret.

    Parameters
    ----------
    text
        The query.
    at
        Where in `text` the name stands.
    name
        The unknown name.
    known
        All known names.
    hint
        What to do, as a sentence.
    """

    def __init__(self, text: str, at: int, name: str, known: Iterable[str] = (), hint: str = "") -> None:
        super().__init__("name", name, known, hint)
        self.text, self.at = text, at
        self.args = (str(ParseError(text, at, str(self))),)


def bound(value: Value) -> sa.BindParameter[Any]:
    """Return a value as a statement takes it."""
    return sa.literal(value, sql_type(value))


def to_sql(node: Node, text: str, scope: Scope, dialect: str, bind: Bind = bound) -> Clause:
    """Turn a query into a condition for WHERE.

    Parameters
    ----------
    node
        The tree.
    text
        What it was parsed from, for errors: for `dbb.query.parse_ids`, the texts joined by newlines.
    scope
        What the names mean. Names match without regard to case.
    dialect
        ``"sqlite"`` or ``"postgresql"``.
    bind
        Makes the parameter of a value that is compared with a column: it is called for each in order.

    Returns
    -------
    ColumnElement of bool
        May be negated and combined with others.

    Raises
    ------
    UnknownNameError
        If `scope` does not have a name.
    ParseError
        If a value does not fit its column, or an operator its type.
    UsageError
        If the dialect is another one.

    Notes
    -----
    NULL is SQL's: a comparison with a column that has no value is neither true nor false, so a row without ``filter``
    fits neither ``filter = 'R2'`` nor ``filter != 'R2'`` nor ``NOT filter = 'R2'``; ask for ``filter IS
    NULL``. Columns with a wrap differ as `Column` says. Times of column types date and datetime compare as ISO text.
    A range costs the same however long it is; a list of more than 500 values is one bound value.
    """
    if dialect not in ("sqlite", "postgresql"):
        raise UsageError(f"queries cannot be written for {dialect!r}: expected 'sqlite' or 'postgresql'")
    return _Translator(text, scope, dialect, bind).clause(node)


class _Translator:
    def __init__(self, text: str, scope: Scope, dialect: str, bind: Bind) -> None:
        self._text, self._scope, self._bind = text, scope, bind
        self._postgresql = dialect == "postgresql"
        self._columns: dict[str, Column] = {}

    def clause(self, node: Node) -> Clause:
        match node:
            case And(items):
                return _joined(sa.and_, self._deepest_first(items))
            case Or(items):
                return _joined(sa.or_, self._deepest_first(items))
            case Not(item):
                return sa.not_(self.clause(item))
            case Comparison(right=Name()):
                return self._columns_compared(node)
            case Comparison():
                return self._comparison(node)
            case In():
                return self._in(node)
            case Glob():
                return self._glob(node)
            case IsNull(name, negated):
                column = self._column(name)
                return _finished(column, column.expression.is_not(None), negated=not negated)
            case Name():
                return self._truth(node)

    def _deepest_first(self, items: Sequence[Node]) -> list[Clause]:
        """Order clauses such that SQLite's parser, whose stack has 100 places, keeps few waiting for a deep one."""
        clauses = [(_depth(item), self.clause(item)) for item in items]
        return [clause for _, clause in sorted(clauses, key=operator.itemgetter(0), reverse=True)]

    def _column(self, name: Name, hint: str = "") -> Column:
        found = self._columns.get(name.name) or self._scope.column(name.name)
        if found is None:
            known = self._scope.names()
            other = next((other for other in known if other.lower() == name.name.lower()), None)
            found = None if other is None else self._scope.column(other)
            if found is None:
                raise UnknownNameError(self._text, name.at, name.name, known, hint)
        self._columns[name.name] = found
        return found

    def _truth(self, name: Name) -> Clause:
        column = self._column(name)
        if column.type != "bool":
            problem = f"column {name.name!r} is of type {column.type}: compare it with something"
            raise ParseError(self._text, name.at, problem)
        return _finished(column, column.expression == sa.literal(True, sa.Boolean))

    def _comparison(self, node: Comparison) -> Clause:
        column, literal = self._column(node.left), node.right
        assert isinstance(literal, Literal)
        value = self._value(column, node.left, literal)
        special = column.wrap is not None or column.equals is not None
        if node.op == "=" or (node.op == "!=" and special):
            return _finished(column, self._equal(column, value, literal), negated=node.op == "!=")
        return _finished(column, _OPERATORS[node.op](column.expression, self._bind(value)))

    def _columns_compared(self, node: Comparison) -> Clause:
        right_name = node.right
        assert isinstance(right_name, Name)
        left = self._column(node.left)
        right = self._column(right_name, f"Text stands in single quotes: '{right_name.name}'")
        kinds = [_KINDS.get(column.type, column.type) for column in (left, right)]
        if kinds[0] != kinds[1]:
            problem = f"{node.left} is of type {left.type}, {right_name} of type {right.type}: they cannot be compared"
            raise ParseError(self._text, right_name.at, problem)
        for column, name in ((left, node.left), (right, right_name)):
            if column.equals is not None:
                raise ParseError(self._text, name.at, f"column {name.name!r} compares with values only")
        wrapped = left.wrap is not None or right.wrap is not None
        op = "=" if wrapped and node.op == "!=" else node.op
        inner = _finished(right, _OPERATORS[op](left.expression, right.expression))
        return _finished(left, inner, negated=op != node.op)

    def _value(self, column: Column, name: Name, literal: Literal) -> Value:
        value = fit(literal, column.type, name.name, self._text)
        if isinstance(value, str) and column.type in ("date", "datetime"):
            return _time(value, column.expression.type)
        return value

    def _equal(self, column: Column, value: Value, literal: Literal) -> Clause:
        if column.equals is None:
            return column.expression == self._bind(value)
        try:
            return column.equals(value)
        except DbbError:
            raise
        except ValueError as error:
            raise ParseError(self._text, literal.at, str(error)) from error

    def _in(self, node: In) -> Clause:
        column = self._column(node.name)
        parts: list[Clause] = []
        values: dict[Value, Literal] = {}
        for item in node.items:
            if isinstance(item, Literal):
                values.setdefault(self._value(column, node.name, item), item)
            elif column.type == "int":
                parts.append(_within(column.expression, item))
            else:
                problem = f"column {node.name.name!r} is of type {column.type}: a range needs an integer column"
                raise ParseError(self._text, item.at, problem)
        if column.equals is not None:
            parts += [self._equal(column, value, literal) for value, literal in values.items()]
        else:
            parts += self._members(column.expression, values)
        return _finished(column, _joined(sa.or_, parts), negated=node.negated)

    def _members(self, expression: sa.ColumnElement[Any], values: Iterable[Value]) -> Iterable[Clause]:
        by_type: dict[type, list[Value]] = {}
        for value in values:
            by_type.setdefault(type(value), []).append(value)
        for kind, alike in by_type.items():
            type_ = sql_type(alike[0])
            if len(alike) == 1:
                yield expression == self._bind(alike[0])
            elif len(alike) <= _LONG_LIST or not (self._postgresql or kind in (int, str)):
                # also SQLite's floats, which would be rounded as JSON text, and its dates, which have no JSON form
                yield expression.in_(sa.bindparam(None, alike, type_=type_, expanding=True))
            elif self._postgresql:
                yield expression == sa.any_(sa.literal(alike, sa.ARRAY(type_)))
            else:
                rows = sa.func.json_each(sa.literal(json.dumps(alike), sa.String)).table_valued("value")
                yield expression.in_(sa.select(rows.c.value))

    def _glob(self, node: Glob) -> Clause:
        column, pattern = self._column(node.name), str(fit(node.pattern, "str", node.name.name, self._text))
        if column.type in ("float", "bool"):
            problem = f"column {node.name.name!r} is of type {column.type}: GLOB needs text"
            raise ParseError(self._text, node.name.at, problem)
        if column.type == "patch":
            pattern = pattern.replace(",", "x")
        expression = column.expression
        if column.type not in ("str", "patch"):
            expression = sa.cast(expression, sa.Text)
        if self._postgresql:
            return _finished(column, expression.bool_op("~")(self._bind(glob_regex(pattern))), negated=node.negated)
        return _finished(column, expression.bool_op("GLOB")(self._bind(pattern)), negated=node.negated)


def _depth(node: Node) -> int:
    match node:
        case And(items) | Or(items):
            return 1 + max(map(_depth, items))
        case Not(item):
            return 1 + _depth(item)
        case _:
            return 0


def _finished(column: Column, clause: Clause, *, negated: bool = False) -> Clause:
    if column.wrap is not None:
        clause = column.wrap(clause)
    return sa.not_(clause) if negated else clause


def _joined(join: Callable[..., Clause], clauses: Sequence[Clause]) -> Clause:
    """Join clauses in groups with parentheses, so that long lists do not become deep ones."""
    while len(clauses) > _MOST_JOINED:
        groups = [clauses[at : at + _MOST_JOINED] for at in range(0, len(clauses), _MOST_JOINED)]
        # the coercion keeps SQLAlchemy from joining the groups to one flat list again
        clauses = [sa.type_coerce(join(*group).self_group(), sa.Boolean) for group in groups]
    return join(*clauses)


def _within(expression: sa.ColumnElement[Any], numbers: Range) -> Clause:
    first, last, step = (sa.literal(n, sa.BigInteger) for n in (numbers.first, numbers.last, numbers.step))
    between = expression.between(first, last)
    if numbers.step == 1:
        return between
    return sa.and_(between, (expression - first) % step == sa.literal(0, sa.BigInteger))


def _time(value: str, type_: sa.types.TypeEngine[Any]) -> str | date:
    """Return ISO text as what a column of an SQLAlchemy date or time type takes, and as it is for one of text."""
    if isinstance(type_, sa.Date) and len(value) == len("2014-03-28"):
        return date.fromisoformat(value)
    return datetime.fromisoformat(value) if isinstance(type_, sa.Date | sa.DateTime) else value


def sql_type(value: Value) -> sa.types.TypeEngine[Any]:
    """Return the type to bind a value with: psycopg sends untyped text and short integers where none is named."""
    return next(type_() for kind, type_ in _SQL_TYPES.items() if isinstance(value, kind))
