"""Reading a submit file by whichever plug-in knows its language."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dbb.errors import UsageError
from dbb.pipeline.model import Pipeline, Tree, merge
from dbb.plugins import plugins


def read_pipeline(path: Path, settings: Mapping[str, str] | None = None) -> Pipeline:
    """Read a submit file.

    Parameters
    ----------
    path
        The file.
    settings
        The operator's values from outside, which win over the file's.

    Raises
    ------
    PipelineError
        If the file is wrong; says where.
    UsageError
        If it is not there, or no plug-in knows its language.
    """
    if not path.is_file():
        raise UsageError(f"{path} is not there, or is no file")
    pipeline: Pipeline | None = plugins().hook.dbb_read_pipeline(path=path, settings=dict(settings or {}))
    if pipeline is None:
        raise UsageError(f"no plug-in reads {path}: submit files are .wcl or .des; 'dbb plugins' lists what is there")
    return pipeline


def with_settings(pipeline: Pipeline, settings: Mapping[str, str]) -> Pipeline:
    """Return a pipeline with the operator's values over its own; a dot in a name leads into a section."""
    tree = copy.deepcopy(pipeline.tree)
    for key, value in settings.items():
        *path, name = key.split(".")
        inner: Tree = {name: value}
        for section in reversed(path):
            inner = {section.lower(): inner}
        merge(tree, inner)
    return replace(pipeline, tree=tree)


def parse_settings(texts: Sequence[str]) -> dict[str, str]:
    """Turn ``key=value`` texts of a command line into settings.

    Raises
    ------
    UsageError
        If one has no ``=`` or no key.

    Examples
    --------
    >>> parse_settings(["attnum=95", "block.coadd.divide_jobs_by=tract"])
    {'attnum': '95', 'block.coadd.divide_jobs_by': 'tract'}
    """
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {text!r}: expected key=value")
        found[key.strip()] = value.strip()
    return found
