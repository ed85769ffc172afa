"""From a pipeline to a workflow: inputs, quanta, names and command lines.

`plan`, `read_pipeline` and `check_file` are given out on first use: readers of submit languages need only the values.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from dbb.pipeline.model import Data, Items, Pipeline, Place, Problem, Tree, Value

if TYPE_CHECKING:
    from dbb.pipeline.checking import check_file
    from dbb.pipeline.planner import plan
    from dbb.pipeline.reading import read_pipeline
    from dbb.pipeline.workflow import Workflow

__all__ = [
    "Data",
    "Items",
    "Pipeline",
    "Place",
    "Problem",
    "Tree",
    "Value",
    "Workflow",
    "check_file",
    "plan",
    "read_pipeline",
]

_HOMES = {"Workflow": "workflow", "check_file": "checking", "plan": "planner", "read_pipeline": "reading"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
