"""What the query language may import."""

from __future__ import annotations

import subprocess
import sys


def test_parsing_does_not_import_sqlalchemy() -> None:
    code = "import sys; from dbb.query import parse; parse('a = 1'); print('sqlalchemy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
