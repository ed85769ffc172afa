#!/usr/bin/env python3
"""The query program of the example: which calexps of a run go into which warp.

It asks the registry which raws overlap which patch, and names the calexps that the run will make of them. A section
could ask by ``where`` itself; the note's module has a program for it, and so has this example.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from dbb import Registry
from dbb.config import registry_setting

HELP = "the run whose calexps are meant, and those of filters that come from another run"
OVERLAPS = """
SELECT overlap.patch, overlap.visit, overlap.ccd FROM overlap
JOIN overlap_version ON overlap_version.id = overlap.overlap_version_id
WHERE overlap_version.name = :version AND overlap.tract = :tract ORDER BY overlap.patch, overlap.visit, overlap.ccd
"""


def main() -> None:
    """Write one line for each calexp on each patch of the tract."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--section", help="URL of the registry; else $DBB_REGISTRY or dbb.toml")
    parser.add_argument("--tractinfo", required=True, metavar="VERSION", help="the overlap version to go by")
    parser.add_argument("--tract", type=int, required=True)
    parser.add_argument("--qoutfile", type=Path, required=True)
    parser.add_argument("--pfw_attempt_id", required=True, metavar="rNpN[,FILTER=rNpN]", help=HELP)
    given = parser.parse_args()
    with Registry(registry_setting(given.section or None).value) as registry:
        lines = list(rows(registry, given.tractinfo, given.tract, given.pfw_attempt_id))
    with given.qoutfile.open("w", encoding="utf-8") as stream:
        stream.write("<list>\n<line>\n")
        for number, row in enumerate(lines, 1):
            keys = "".join(f"{key} = {value}\n" for key, value in row.items())
            stream.write(f"<line{number:05d}>\n<file>\n<img_corr>\n{keys}</img_corr>\n</file>\n</line{number:05d}>\n")
        stream.write("</line>\n</list>\n")


def rows(registry: Registry, version: str, tract: int, attempts: str) -> Iterator[dict[str, object]]:
    """Give what is known of each calexp on each patch."""
    run, *others = attempts.split(",")
    runs = dict(other.split("=") for other in others)
    raws = {
        (one["visit"], one["ccd"]): one for one in registry.query("raw", where=f"tract = {tract}", overlaps=version)
    }
    with registry.read() as conn:
        overlaps = conn.exec_driver_sql(OVERLAPS, {"version": version, "tract": tract}).all()
    for patch, visit, ccd in overlaps:
        raw = raws[visit, ccd]
        known = {"tract": tract, "patch": patch, "visit": visit, "ccd": ccd}
        yield {
            "filename": f"CORR-{visit:07d}-{ccd:03d}-{runs.get(raw['filter'], run)}.fits",
            **known,
            "filter": raw["filter"],
            "pointing": raw["pointing"],
        }


if __name__ == "__main__":
    main()
