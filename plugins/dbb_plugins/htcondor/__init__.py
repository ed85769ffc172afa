"""The engine ``htcondor``: a run becomes a DAG that HTCondor's DAGMan works off by itself."""

from __future__ import annotations

from collections.abc import Sequence

from dbb.engine import Engine
from dbb.hookspecs import hookimpl
from dbb_plugins.htcondor.engine import HTCondorEngine

__all__ = ["HTCondorEngine", "dbb_engines"]


@hookimpl
def dbb_engines() -> Sequence[Engine]:
    """Add HTCondor."""
    return [HTCondorEngine()]
