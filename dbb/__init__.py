"""A mini Data BackBone: what files there are, what is known of them, and Gen2 Butler repositories made from that.

`Registry`, `materialize_repo`, `harvest_repo` and `RepoSpec` are given out on first use: they bring in SQLAlchemy,
which ``dbb --help`` must not pay for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbb.api import Registry
    from dbb.butler import RepoSpec, harvest_repo, materialize_repo

__all__ = ["Registry", "RepoSpec", "__version__", "harvest_repo", "materialize_repo"]
__version__ = "0.1.0"

_HOMES = {
    "Registry": "dbb.api",
    "RepoSpec": "dbb.butler",
    "harvest_repo": "dbb.butler",
    "materialize_repo": "dbb.butler",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
