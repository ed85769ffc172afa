"""The query language: texts become trees here; `dbb.query.sql` makes SQL of the trees and needs SQLAlchemy."""

from dbb.query.ids import expand_id, parse_ids
from dbb.query.nodes import And, Comparison, Glob, In, IsNull, Literal, Name, Node, Not, Or, Range, names_in
from dbb.query.parser import parse

__all__ = [
    "And",
    "Comparison",
    "Glob",
    "In",
    "IsNull",
    "Literal",
    "Name",
    "Node",
    "Not",
    "Or",
    "Range",
    "expand_id",
    "names_in",
    "parse",
    "parse_ids",
]
