"""The folder in which the examples of the documentation run: what ``make demo`` leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def demo_said(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the demo made, and what it printed."""
    folder = tmp_path_factory.mktemp("docs") / "demo"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DBB_")}
    command = [sys.executable, str(PROJECT / "examples/ci_hsc_mini/demo.py"), "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


@pytest.fixture
def demo_folder(demo_said: tuple[Path, str]) -> Path:
    """The folder that the demo made; look, but do not write."""
    return demo_said[0]
