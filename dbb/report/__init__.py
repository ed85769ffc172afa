"""Answers about what happened: lineage of files, and its export."""

from dbb.report.lineage import Lineage, Node, lineage

__all__ = ["Lineage", "Node", "lineage"]
