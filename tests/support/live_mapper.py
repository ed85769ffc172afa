"""What the mapper classes of the real Gen2 stacks say, asked in a process of its own; and a data id with every key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

# The client knows one camera; the package of another one is named before it sets itself up.
_SETUP = """
import json, logging, sys, warnings
sys.path.insert(0, sys.argv[1])
import gen2env
gen2env.REAL += ({package!r},)
"""
_PROBE = """
import importlib
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
gen2env.setup(sys.argv[2])
module, _, name = sys.argv[4].rpartition(".")
mapper, found = getattr(importlib.import_module(module), name)(root=sys.argv[3]), {}
for section in ("exposures", "calibrations", "datasets", "images", "cameras"):
    for name, mapping in (getattr(mapper, section, None) or {}).items():
        try:
            template = mapping.template
        except RuntimeError:
            continue
        found[name] = {"section": section, "template": template, "tables": mapping.tables or []}
        found[name].update({key: getattr(mapping, key) or "" for key in ("python", "persistable", "storage")})
        found[name]["keys"] = sorted(mapping.keys())
print(json.dumps(found))
"""
VALUES: dict[str, object] = {
    "visit": 903334,
    "ccd": 23,
    "filter": "HSC-R",
    "pointing": 533,
    "field": "STRIPE82L",
    "dateObs": "2013-06-17",
    "taiObs": "2013-06-17",
    "expTime": 30.0,
    "tract": 0,
    "patch": "8,6",
    "name": "ps1",
    "pixel_id": "189584",
}
"""Of an HSC exposure, coadd and reference catalogue."""


def run_client(package: str, code: str, *arguments: object) -> str:
    """Run a program in the client's surroundings with a camera's package; give what it prints.

    Its first argument is the client's folder.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-B", "-c", _SETUP.format(package=package) + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout, done.stderr
    return done.stdout


def ask_mapper(package: str, shared: Path, sources: Path, root: Path, butler_class: str) -> dict[str, dict[str, Any]]:
    """Return section, template, tables, Python, storage and keys of every dataset type of a live mapper."""
    printed = run_client(package, _PROBE, shared / "gen2_client", sources, root, butler_class)
    found: dict[str, dict[str, Any]] = json.loads(printed.strip().splitlines()[-1])
    return found
