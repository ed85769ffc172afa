"""The Python that everything but Gen3 is measured with: dbb found as a plain installation, nothing else at start-up.

An editable installation, as development has it, adds an import hook of 20 ms to every start of Python, on all sides.
"""

from __future__ import annotations

import importlib.util
import sysconfig
import venv
from pathlib import Path

PACKAGES = ("dbb", "dbb_cli", "dbb_mappers", "dbb_plugins")


def make_environment(folder: Path) -> Path:
    """Make a virtual environment that shares this one's packages, with a ``dbb`` program; return its Python."""
    venv.create(folder, with_pip=False, symlinks=True, clear=True)
    python = folder / "bin" / "python"
    paths = dict.fromkeys([sysconfig.get_path("purelib"), *map(_home, PACKAGES)])
    places = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    (Path(places["purelib"]) / "benchmark.pth").write_text("\n".join(paths) + "\n")
    program = folder / "bin" / "dbb"
    program.write_text(f"#!{python}\nimport sys\nfrom dbb_cli.main import main\nsys.exit(main())\n")
    program.chmod(0o755)
    return python


def _home(package: str) -> str:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed: run make setup")
    return str(Path(spec.origin).parent.parent)
