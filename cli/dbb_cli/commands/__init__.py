"""Our own commands, one small module per group, brought in by the same hook as anyone's."""

from __future__ import annotations

import importlib
import keyword
from collections.abc import Sequence

import click

from dbb.hookspecs import hookimpl

MODULES = {
    "archive": "archive",
    "attend": "submit",
    "cancel": "submit",
    "certify-calibrations": "calibrations",
    "check": "pipelines",
    "create": "registry",
    "explain": "query",
    "export": "exchange",
    "harvest-repo": "harvest",
    "import": "exchange",
    "import-repo": "moving",
    "ingest-files": "ingest",
    "ingest-packed": "ingest",
    "ingest-table": "ingest",
    "job": "status",
    "lineage": "lineage",
    "materialize-repo": "materialize",
    "merge": "merge",
    "messages": "status",
    "migrate": "registry",
    "overlaps": "exposures",
    "plan": "pipelines",
    "plugins": "plugins",
    "policy": "policy",
    "query-files": "query",
    "refcat": "refcat",
    "register-filetypes": "registry",
    "report": "status",
    "run-job": "jobs",
    "snapshot": "exchange",
    "status": "status",
    "submit": "submit",
    "tag": "tag",
    "verify": "verify",
    "visits": "exposures",
}
"""Command name to module; a command is called like its function, with dashes; that of Python's words ends in one."""


def load(name: str) -> click.Command | None:
    """Return one of our commands, or None if the name is not ours."""
    if name not in MODULES:
        return None
    module = importlib.import_module(f"{__name__}.{MODULES[name]}")
    function = f"{name}_" if keyword.iskeyword(name) else name.replace("-", "_")
    command: click.Command = getattr(module, function)
    return command


@hookimpl
def dbb_commands() -> Sequence[click.Command]:
    """Add our commands."""
    return [command for name in MODULES if (command := load(name)) is not None]
