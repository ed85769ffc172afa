"""Gen2 Butler repositories: made from the registry or a manifest, and read.

The names are given out on first use: a repository from a manifest must not pay for SQLAlchemy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbb.butler.harvest import Harvested, harvest_repo
    from dbb.butler.head import RepoReport
    from dbb.butler.importing import Imported, import_repo
    from dbb.butler.materialize import materialize_repo, plan_repo
    from dbb.butler.rebuild import materialize_manifest
    from dbb.butler.repository import Repository
    from dbb.butler.spec import CalibSpec, FileSpec, InputSpec, OutputSpec, RefcatSpec, RepoSpec

__all__ = [
    "CalibSpec",
    "FileSpec",
    "Harvested",
    "Imported",
    "InputSpec",
    "OutputSpec",
    "RefcatSpec",
    "RepoReport",
    "RepoSpec",
    "Repository",
    "harvest_repo",
    "import_repo",
    "materialize_manifest",
    "materialize_repo",
    "plan_repo",
]

_HOMES = {
    "Harvested": "harvest",
    "harvest_repo": "harvest",
    "Imported": "importing",
    "import_repo": "importing",
    "RepoReport": "head",
    "Repository": "repository",
    "materialize_manifest": "rebuild",
    "materialize_repo": "materialize",
    "plan_repo": "materialize",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'spec')}"), name)
