"""The registry of files: tables, and what can be asked of them and added to them."""

from dbb.registry._connect import open_engine
from dbb.registry.database import Database

__all__ = ["Database", "open_engine"]
