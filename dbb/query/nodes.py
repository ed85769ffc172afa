"""The tree of a query; ``str`` of a node is text that parses back to an equal tree."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class _Placed:
    """What every node has: ``at``, its offset in the source, which does not count in comparisons."""

    at: int = field(default=0, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Name(_Placed):
    """A column by name; as a condition of its own, a boolean column that must be true."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Literal(_Placed):
    """A value; a `raw` one is text from a Gen2 data id, whose type the column decides.

    Times are texts in ISO form, ``2014-03-28T12:20:33``.
    """

    value: int | float | str | bool
    raw: bool = False

    def __str__(self) -> str:
        if isinstance(self.value, bool):
            return "TRUE" if self.value else "FALSE"
        if isinstance(self.value, str):
            return "'" + self.value.replace("'", "''") + "'"
        return repr(self.value)


@dataclass(frozen=True, slots=True)
class Range(_Placed):
    """The integers from `first` to `last`, which is included, by `step`; never empty."""

    first: int
    last: int
    step: int = 1

    def __post_init__(self) -> None:
        if self.step < 1 or self.last < self.first:
            raise ValueError(f"the range {self} is empty or its step is not positive")

    def __str__(self) -> str:
        return f"{self.first}..{self.last}" + (f":{self.step}" if self.step != 1 else "")


@dataclass(frozen=True, slots=True)
class Comparison(_Placed):
    """``left op right`` with `op` one of ``= != < <= > >=``."""

    op: str
    left: Name
    right: Name | Literal

    def __str__(self) -> str:
        return f"{self.left} {self.op} {self.right}"


@dataclass(frozen=True, slots=True)
class In(_Placed):
    """The column has one of the values, or with `negated` none of them; `items` is not empty."""

    name: Name
    items: tuple[Literal | Range, ...]
    negated: bool = False

    def __post_init__(self) -> None:
        if not self.items:
            raise ValueError("IN needs at least one value")

    def __str__(self) -> str:
        return f"{self.name} {'NOT ' if self.negated else ''}IN ({', '.join(map(str, self.items))})"


@dataclass(frozen=True, slots=True)
class Glob(_Placed):
    """The column matches a shell pattern with ``*``, ``?``, ``[a-z]`` and ``[^a-z]``, case counting."""

    name: Name
    pattern: Literal
    negated: bool = False

    def __str__(self) -> str:
        return f"{self.name} {'NOT ' if self.negated else ''}GLOB {self.pattern}"


@dataclass(frozen=True, slots=True)
class IsNull(_Placed):
    """The column has no value, or with `negated` has one."""

    name: Name
    negated: bool = False

    def __str__(self) -> str:
        return f"{self.name} IS {'NOT ' if self.negated else ''}NULL"


@dataclass(frozen=True, slots=True)
class Not(_Placed):
    """The opposite of a condition."""

    item: Node

    def __str__(self) -> str:
        return f"NOT {_inside(self.item, And, Or)}"


@dataclass(frozen=True, slots=True)
class And(_Placed):
    """All of two or more conditions."""

    items: tuple[Node, ...]

    def __post_init__(self) -> None:
        if len(self.items) < 2:
            raise ValueError("AND needs at least two conditions")

    def __str__(self) -> str:
        return " AND ".join(_inside(item, And, Or) for item in self.items)


@dataclass(frozen=True, slots=True)
class Or(_Placed):
    """Any of two or more conditions."""

    items: tuple[Node, ...]

    def __post_init__(self) -> None:
        if len(self.items) < 2:
            raise ValueError("OR needs at least two conditions")

    def __str__(self) -> str:
        return " OR ".join(_inside(item, Or) for item in self.items)


Node: TypeAlias = And | Comparison | Glob | In | IsNull | Name | Not | Or
"""A condition."""


def _inside(node: Node, *weaker: type) -> str:
    return f"({node})" if isinstance(node, weaker) else str(node)


def names_in(node: Node) -> frozenset[str]:
    """Return the names that a condition uses, in lower case.

    Examples
    --------
    >>> from dbb.query import parse
    >>> sorted(names_in(parse("Visit = 903334 AND NOT (ccd < 9 OR filter = band)")))
    ['band', 'ccd', 'filter', 'visit']
    """
    found: set[str] = set()
    waiting: list[Node | Literal] = [node]
    while waiting:
        match waiting.pop():
            case Name(name):
                found.add(name.lower())
            case And(items) | Or(items):
                waiting.extend(items)
            case Not(item):
                waiting.append(item)
            case Comparison(_, left, right):
                waiting += [left, right]
            case In(name=name) | Glob(name=name) | IsNull(name=name):
                waiting.append(name)
            case Literal():
                pass
    return frozenset(found)
