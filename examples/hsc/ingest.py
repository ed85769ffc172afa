"""Make a registry of the survey that `make.py` wrote: ``python ingest.py FOLDER`` runs these ``dbb`` commands in it."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

COMMANDS = (
    "create sqlite:///survey.db --mapper hsc",
    "archive add home archive",
    "ingest-files --filetype raw --archive home 'archive/raw/*/*.fits'",
    "ingest-table calib_files.csv --archive home",
    "certify-calibrations --version 2014A --filetype bias bias_valid.csv",
    "certify-calibrations --version 2014A --filetype dark dark_valid.csv",
    "certify-calibrations --version 2014A --filetype flat flat_valid.csv",
    "refcat pack refcat/simstars archive/ref_cats/simstars.tar",
    "refcat add simstars ref_cats/simstars.tar --archive home",
    "ingest-table files.csv --archive home",
    "overlaps compute --skymap skyMap-4patch.toml --version 4patch",
)


def ingest(folder: Path) -> None:
    """Run the commands, each shown with what it says; ``dbb.toml`` names the registry from then on."""
    beside = Path(sys.executable).with_name("dbb")
    dbb = str(beside) if beside.exists() else shutil.which("dbb")
    if dbb is None:
        sys.exit(f"ingest: there is no dbb beside {sys.executable}: install it with 'make setup'")
    (folder / "archive/ref_cats").mkdir(exist_ok=True)
    (folder / "dbb.toml").write_text('registry = "sqlite:///survey.db"\n', encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DBB_")}
    for command in COMMANDS:
        print(f"$ dbb {command}", flush=True)
        done = subprocess.run([dbb, *shlex.split(command)], cwd=folder, env=environment, check=False)
        if done.returncode:
            sys.exit(f"ingest: dbb ended with exit code {done.returncode}")


def main() -> None:
    """Ingest the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="what make.py was given")
    folder = parser.parse_args().folder
    if not (folder / "calib_files.csv").is_file():
        parser.error(f"{folder} holds no survey: run make.py {folder} first")
    ingest(folder)


if __name__ == "__main__":
    main()
