"""Registries as files: snapshots that jobs read without a server, and folders of Parquet that go in and out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dbb.exchange.choice import Choice

if TYPE_CHECKING:
    from dbb.exchange.export import Exported, export_registry
    from dbb.exchange.importing import Imported, import_folder
    from dbb.exchange.snapshot import Snapshot, write_snapshot

__all__ = [
    "Choice",
    "Exported",
    "Imported",
    "Snapshot",
    "export_registry",
    "import_folder",
    "write_snapshot",
]

_HOMES = {
    "Exported": "export",
    "Imported": "importing",
    "Snapshot": "snapshot",
    "export_registry": "export",
    "import_folder": "importing",
    "write_snapshot": "snapshot",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for: pyarrow is not free, and who opens a registry needs none of it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
