"""The status quo: open every file, translate its header, check, insert with a commit, link, as Gen2's ingest does.

    python benchmarks/gen2_ingest.py JOB.json JOB

JOB.json lists the files. The last line on stdout is JSON with the seconds spent after the imports.
"""

import argparse
import json
import re
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

from astropy.io import fits
from floor import CALIB_TYPES, RAW_TABLES, RAW_VISIT, calib_tables, link_calibs, link_raws

UNLIMITED = ("1970-01-01", "2037-12-31")

TRANSLATORS: dict[str, Callable[[fits.Header], object]] = {
    "field": lambda header: re.sub(r"\W", "_", header["OBJECT"].strip()).upper(),
    "visit": lambda header: int(re.fullmatch(r"HSCE(\d{8})", header["EXP-ID"].strip())[1]),
    "ccd": lambda header: int(header["DET-ID"]),
    "pointing": lambda header: int(header["MJD"]) - 55_927,
    "filter": lambda header: header["FILTER01"].strip().upper(),
    "proposal": lambda header: header["PROP-ID"].strip(),
    "dateObs": lambda header: header["DATE-OBS"].strip(),
    "taiObs": lambda header: header["DATE-OBS"].strip(),
    "expTime": lambda header: float(header["EXPTIME"]),
    "pa": lambda header: float(header["INST-PA"]),
    "autoguider": lambda header: int(header.get("T_AG", 0)),
    "ccdTemp": lambda header: float(header.get("T_CCDTV", 0)),
    "config": lambda header: header["T_CFGFIL"].strip(),
    "frameId": lambda header: header["FRAMEID"].strip(),
    "expId": lambda header: header["EXP-ID"].strip(),
    "dataType": lambda header: header["DATA-TYP"].strip(),
}


def read_header(path: str) -> fits.Header:
    """Read the primary header of one file."""
    with fits.open(path) as hdus:
        return hdus[0].header


def ingest_raws(paths: list[str], archive: str, root: str) -> None:
    """Make registry.sqlite3 and the raws' links."""
    db = sqlite3.connect(f"{root}/registry.sqlite3")
    for statement in RAW_TABLES:
        db.execute(statement)
    db.commit()
    slots = ", ".join("?" for _ in TRANSLATORS)
    made: set[str] = set()
    for path in paths:
        header = read_header(f"{archive}/{path}")
        row = {name: translate(header) for name, translate in TRANSLATORS.items()}
        key = (row["visit"], row["ccd"])
        if db.execute("SELECT count(*) FROM raw WHERE visit = ? AND ccd = ?", key).fetchone()[0]:
            continue
        names = ("field", "dateObs", "pointing", "filter", "visit", "ccd")
        link_raws([(path, *(row[name] for name in names))], archive, root, made)
        db.execute(f"INSERT INTO raw ({', '.join(row)}) VALUES ({slots})", tuple(row.values()))
        db.commit()
    db.execute(RAW_VISIT)
    db.commit()
    db.close()


def ingest_calibs(paths: dict[str, list[str]], archive: str, root: str) -> None:
    """Make calibRegistry.sqlite3 and the calibrations' links; the one calibration of each kind is valid for ever."""
    db = sqlite3.connect(f"{root}/CALIB/calibRegistry.sqlite3")
    for statement in calib_tables():
        db.execute(statement)
    db.commit()
    made: set[str] = set()
    for kind, files in paths.items():
        for path in files:
            words = dict(word.split("=") for word in read_header(f"{archive}/{path}")["CALIB_ID"].split())
            key = (words["filter"], int(words["ccd"]), words["calibDate"])
            known = f"SELECT count(*) FROM {kind} WHERE filter = ? AND ccd = ? AND calibDate = ?"
            if db.execute(known, key).fetchone()[0]:
                continue
            link_calibs(kind, [(path, *key)], archive, root, made)
            db.execute(f"INSERT INTO {kind} (filter, ccd, calibDate) VALUES (?, ?, ?)", key)
            db.commit()
        db.execute(f"UPDATE {kind} SET validStart = ?, validEnd = ?", UNLIMITED)
        db.commit()
    db.close()


def main() -> None:
    """Ingest one job's files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("job")
    given = parser.parse_args()
    wanted, job = json.loads(given.source.read_text()), given.job
    raws = [row["relpath"] for row in wanted["exposures"]]
    calibs = {kind: [row["relpath"] for row in wanted["calibs"] if row["type"] == kind] for kind in CALIB_TYPES}
    start = time.perf_counter()
    Path(job, "in", "CALIB").mkdir(parents=True)
    ingest_raws(raws, wanted["archive"], f"{job}/in")
    ingest_calibs(calibs, wanted["archive"], f"{job}/in")
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - start}) + "\n")


if __name__ == "__main__":
    main()
