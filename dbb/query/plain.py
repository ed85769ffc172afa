"""Plain questions: columns compared with values and joined by AND; their SQL depends on their form alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from dbb.query.nodes import And, Comparison, Literal, Node
from dbb.query.values import fit

_TYPES = frozenset({"int", "float", "str", "patch"})  # values of the others change on their way into SQL


@dataclass(frozen=True, slots=True)
class Plain:
    """A plain question.

    Parameters
    ----------
    form
        What it is without its values.
    values
        These, as their columns hold them, in the order in which `dbb.query.sql.to_sql` binds them.
    """

    form: Hashable
    values: tuple[int | float | str | bool, ...]


def plain(node: Node, text: str, types: Mapping[str, str]) -> Plain | None:
    """Return the form and the values of a question, or None if it is not plain.

    Parameters
    ----------
    node
        The tree.
    text
        What it was parsed from, for errors.
    types
        The type of each column that it may use, by its name in lower case.

    Raises
    ------
    ParseError
        If a value does not fit its column.

    Examples
    --------
    >>> from dbb.query import parse
    >>> plain(parse("visit = 903334 AND ccd < 9"), "", {"visit": "int", "ccd": "int"}).values
    (903334, 9)
    >>> plain(parse("visit = 903334 OR ccd < 9"), "", {"visit": "int", "ccd": "int"})
    """
    form, values = [], []
    for item in node.items if isinstance(node, And) else (node,):
        if not isinstance(item, Comparison) or not isinstance(item.right, Literal):
            return None
        name = item.left.name.lower()
        if types.get(name) not in _TYPES:
            return None
        value = fit(item.right, types[name], item.left.name, text)
        form.append((name, item.op, type(value)))
        values.append(value)
    return Plain(tuple(form), tuple(values))
