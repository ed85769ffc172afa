"""From a pipeline to a workflow: inputs, quanta, names and command lines."""

from __future__ import annotations

from dbb.pipeline.model import Data, Items, Pipeline, Place, Problem, Tree, Value

__all__ = ["Data", "Items", "Pipeline", "Place", "Problem", "Tree", "Value"]
