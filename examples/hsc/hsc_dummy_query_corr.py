#!/usr/bin/env python3
"""The query program of the example: which calexps of a run go into which warp.

It reads what overlaps from a table, as ``dbb query-files raw --columns visit,ccd,filter,pointing`` and the overlap
version give it, and writes the lines that the module divides by tract, patch, visit and filter.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path


def main() -> None:
    """Write one line for each calexp on each patch of the tract."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--section", help="which database to ask; this program asks none")
    parser.add_argument("--tractinfo", type=Path, required=True, help="table of tract, patch, visit, ccd, filter, pointing")
    parser.add_argument("--tract", required=True)
    parser.add_argument("--qoutfile", type=Path, required=True)
    parser.add_argument("--pfw_attempt_id", required=True, help="the run whose calexps are meant, as r11p95")
    given = parser.parse_args()
    with given.tractinfo.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["tract"] == given.tract]
    lines = [wcl_line(number, row, given.pfw_attempt_id) for number, row in enumerate(rows, 1)]
    given.qoutfile.write_text("<list>\n<line>\n" + "".join(lines) + "</line>\n</list>\n", encoding="utf-8")


def wcl_line(number: int, row: dict[str, str], run: str) -> str:
    """Return one data line."""
    name = f"CORR-{int(row['visit']):07d}-{int(row['ccd']):03d}-{run}.fits"
    keys = "".join(f"{key} = {value}\n" for key, value in {"filename": name, **row}.items())
    return f"<line{number:05d}>\n<file>\n<img_corr>\n{keys}</img_corr>\n</file>\n</line{number:05d}>\n"


if __name__ == "__main__":
    main()
