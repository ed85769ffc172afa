"""The registry of files: tables, and what can be asked of them and added to them."""

from dbb.registry._connect import open_engine
from dbb.registry.create import create_registry
from dbb.registry.database import Database

__all__ = ["Database", "create_registry", "open_engine"]
