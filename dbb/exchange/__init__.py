"""Registries as files: snapshots that jobs read without a server, and folders of Parquet that go in and out."""

from dbb.exchange.choice import Choice
from dbb.exchange.snapshot import Snapshot, write_snapshot

__all__ = ["Choice", "Snapshot", "write_snapshot"]
