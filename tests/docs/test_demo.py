"""``make demo`` shows what it promises and spoils nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).resolve().parents[2] / "examples" / "ci_hsc_mini" / "demo.py"


def test_it_fits_on_a_page(demo_said: tuple[Path, str]) -> None:
    assert len(demo_said[1].splitlines()) <= 65


def test_it_says_that_no_input_was_opened(demo_said: tuple[Path, str]) -> None:
    assert re.search(r"^  dbb: .* files, which were opened 0 times$", demo_said[1], re.MULTILINE)


def test_it_stages_calexps_of_both_runs(demo_said: tuple[Path, str]) -> None:
    assert "9 calexps of Ht0_r12p01, 7 calexps of Ht0_r11p95" in demo_said[1]


def test_writing_an_output_leaves_the_input_alone(demo_folder: Path) -> None:
    staged = demo_folder / "job/in/00533/HSC-R/corr/CORR-0903334-016.fits"
    assert staged.is_symlink()
    assert staged.read_bytes().startswith(b"SIMPLE")


def test_a_folder_that_it_has_not_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    command = [sys.executable, str(DEMO), "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert f"{tmp_path} exists and was not made by this demo" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
