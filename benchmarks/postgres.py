"""A PostgreSQL server for one measurement: the one that the tests throw away."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from throwaway_postgres import run_postgres

__all__ = ["run_postgres"]
