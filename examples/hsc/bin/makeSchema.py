#!/usr/bin/env python3
"""Write schemas: empty catalogues, each of the type that its file is named after.

``src_Vv1.fits`` is the schema of ``src`` in version v1 of the software.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hscdemo import VERSION
from hscdemo.catalogues import SCHEMAS, table_bytes


def write_schema(path: Path) -> None:
    """Write the schema of the catalogue whose type is the part of the file's name before ``_V``."""
    name = path.stem.rpartition("_V")[0]
    if name not in SCHEMAS:
        sys.exit(f"FATAL: {path} must be called TYPE_VVERSION.fits, with a TYPE out of {', '.join(SCHEMAS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(table_bytes(name, dict.fromkeys(SCHEMAS[name], ()), {}))
    print(path)


def main() -> None:
    """Write those that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="TYPE_VVERSION.fits", help="what to write")
    parser.add_argument("--version", action="version", version=VERSION)
    given = parser.parse_args()
    try:
        for path in given.files:
            write_schema(path)
    except OSError as error:
        sys.exit(f"FATAL: {error}")


if __name__ == "__main__":
    main()
