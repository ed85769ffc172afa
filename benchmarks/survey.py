"""The synthetic HSC-like survey that every side of the benchmark works on.

A survey folder holds ``archive/`` with as many real FITS files as the largest job needs, and tables of all rows:
``raw.parquet``, ``bias.csv``, … with the columns that ``dbb ingest-table`` takes, ``bias-validity.csv``, … with those
of ``dbb certify-calibrations``, and ``global.sqlite3``, the same rows for the floor. It is kept between runs: files and
rows are made once.

    python benchmarks/survey.py FOLDER --files 10752 --rows 1000000
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

CCDS = 112
FIRST_VISIT = 900_000
FIRST_DAY = date(2013, 11, 2)
FIRST_POINTING = 671  # the MJD of the first day, less 55 927
VISITS_A_NIGHT = 90
NIGHTS_A_CALIB = 30
FILTERS = ("HSC-R", "HSC-I")
FIELDS = ("STRIPE82L", "WIDE12H", "COSMOS")
CALIBS_VERSION = "2014A"
CALIB_TYPES = ("bias", "dark", "flat")
CALIB_TABLES = {
    "{}.csv": ("relpath", "filesize", "md5sum", "ccd", "filter", "calibDate"),
    "{}-validity.csv": ("relpath", "validStart", "validEnd"),
}
CHUNK = 50 * CCDS

Row = dict[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Job:
    """Consecutive visits, each with the ccds 0 to ``ccds - 1``, and the calibrations that fit them."""

    visits: int
    ccds: int
    start: int = 0

    @classmethod
    def of(cls, inputs: int, start: int = 0) -> Job:
        """Choose visits and ccds such that raws, biases, darks and flats together are ``inputs`` files."""
        ccds = 25 if inputs < 1000 else 100
        sets, rest = divmod(inputs, ccds)
        visits = 1 if sets == 4 else sets - 2 - len(FILTERS)  # a bias, a dark and a flat per filter for each ccd
        if rest or visits < 1 or (visits == 1) != (sets == 4):
            raise ValueError(f"no job has {inputs} inputs: take 100, or a multiple of {ccds} from {6 * ccds} on")
        return cls(visits, ccds, start)

    @property
    def first(self) -> int:
        """The first visit."""
        return FIRST_VISIT + 2 * self.start

    @property
    def last(self) -> int:
        """The last visit."""
        return self.first + 2 * (self.visits - 1)

    @property
    def files(self) -> int:
        """How many exposures, counted from the start of the survey, must be real for this job."""
        return (self.start + self.visits) * CCDS

    def data_id(self) -> str:
        """The exposures as a Gen2 data id."""
        visits = f"{self.first}..{self.last}:2" if self.visits > 1 else f"{self.first}"
        return f"visit={visits} ccd=0..{self.ccds - 1}"

    def exposures(self) -> Iterator[Row]:
        """Yield the raw rows, without size and checksum."""
        for index in range(self.start, self.start + self.visits):
            for ccd in range(self.ccds):
                yield raw_row(index * CCDS + ccd)

    def calibs(self) -> Iterator[Row]:
        """Yield the calibrations' rows, without size and checksum."""
        filters = {FILTERS[index % 2] for index in range(self.start, self.start + self.visits)} | {"NONE"}
        days = {night(index) // NIGHTS_A_CALIB for index in (self.start, self.start + self.visits - 1)}
        for period in sorted(days):
            yield from (row for row in calib_rows(period) if int(row["ccd"]) < self.ccds and row["filter"] in filters)


def night(index: int) -> int:
    """The night of a visit, both counted from 0."""
    return index // VISITS_A_NIGHT


def raw_row(number: int) -> Row:
    """Make the metadata of exposure ``number``, counted from 0."""
    index, ccd = divmod(number, CCDS)
    visit, day = FIRST_VISIT + 2 * index, night(index)
    frame = f"HSCA{visit + ccd // 100:06d}{ccd % 100:02d}"  # the camera's second hundred counts as the odd exposure
    observed = str(FIRST_DAY + timedelta(days=day))
    return {
        "relpath": f"raw/{frame}.fits",
        "visit": visit,
        "ccd": ccd,
        "filter": FILTERS[index % 2],
        "field": FIELDS[day % len(FIELDS)],
        "dateObs": observed,
        "taiObs": observed,
        "expTime": 30.0 + 10 * (index % 3),
        "pointing": FIRST_POINTING + day,
        "pa": -30.0,
        "autoguider": 5,
        "ccdTemp": -99.5 - ccd % 7 / 10,
        "config": "hsc.cfg",
        "frameId": frame,
        "expId": f"HSCE{visit:08d}",
        "dataType": "OBJECT",
        "proposal": "o13015",
    }


def calib_rows(period: int) -> Iterator[Row]:
    """Yield the bias, dark and flats of every ccd that are valid in one period of nights."""
    start = FIRST_DAY + timedelta(days=period * NIGHTS_A_CALIB)
    end = start + timedelta(days=NIGHTS_A_CALIB - 1)
    for kind in CALIB_TYPES:
        for name in FILTERS if kind == "flat" else ("NONE",):
            for ccd in range(CCDS):
                yield {
                    "type": kind,
                    "relpath": f"calib/{kind}_{start:%Y%m%d}_{name}_c{ccd:03d}.fits",
                    "ccd": ccd,
                    "filter": name,
                    "calibDate": str(start),
                    "validStart": str(start),
                    "validEnd": str(end),
                }


_CARDS = {
    "FRAMEID": "frameId",
    "EXP-ID": "expId",
    "DET-ID": "ccd",
    "OBJECT": "field",
    "FILTER01": "filter",
    "DATE-OBS": "dateObs",
    "MJD": "mjd",
    "EXPTIME": "expTime",
    "INST-PA": "pa",
    "T_AG": "autoguider",
    "T_CCDTV": "ccdTemp",
    "T_CFGFIL": "config",
    "PROP-ID": "proposal",
    "DATA-TYP": "dataType",
    "CALIB_ID": "calibId",
}


class Template:
    """One FITS file whose cards are patched as bytes, which is a hundred times faster than writing each anew."""

    _HEADER = 4 * 2880

    def __init__(self) -> None:
        import numpy as np
        from astropy.io import fits

        hdu = fits.PrimaryHDU(np.zeros((32, 32), dtype=np.int16))
        for key in _CARDS:
            hdu.header[key] = "x" * 60
        while len(hdu.header) < self._HEADER // 80 - 1:
            number = len(hdu.header)
            hdu.header[f"T_PAD{number:03d}"] = (number * 1.5, "what else a telescope says of itself")
        self._bytes = hdu.header.tostring().encode() + hdu.data.tobytes()
        self._bytes += bytes(-len(self._bytes) % 2880)
        self._at = {key: self._bytes.index(f"{key:<8}= ".encode()) for key in _CARDS}

    def fill(self, row: Row) -> bytes:
        """Return the file of one row."""
        content = bytearray(self._bytes)
        for key, at in self._at.items():
            value = row.get(_CARDS[key], "")
            text = f"'{value:<8}'" if isinstance(value, str) else f"{value:>20}"
            content[at + 10 : at + 80] = f"{text:<70}".encode()
        return bytes(content)

    def raw(self, row: Row) -> bytes:
        """Return the file of one raw."""
        return self.fill(row | {"mjd": int(row["pointing"]) + 55_927.25})

    def calib(self, row: Row) -> bytes:
        """Return the file of one calibration."""
        text = f"filter={row['filter']} ccd={row['ccd']} calibDate={row['calibDate']}"
        return self.fill({"calibId": text, "dateObs": row["calibDate"], "ccd": row["ccd"], "mjd": 0.0})


def _stamped(row: Row, content: bytes) -> Row:
    return row | {"filesize": len(content), "md5sum": hashlib.md5(content, usedforsecurity=False).hexdigest()}


def write_files(folder: Path, template: Template, done: int, wanted: int) -> None:
    """Write the real files of exposures ``done`` to ``wanted - 1``."""
    for name in ("raw", "calib"):
        (folder / "archive" / name).mkdir(parents=True, exist_ok=True)
    for number in range(done, wanted):
        row = raw_row(number)
        (folder / "archive" / str(row["relpath"])).write_bytes(template.raw(row))


def write_calibs(folder: Path, template: Template, rows: int) -> list[Row]:
    """Write all calibration files and their tables, and return the rows."""
    periods = night((rows - 1) // CCDS) // NIGHTS_A_CALIB + 1
    calibs: list[Row] = []
    for row in (row for period in range(periods) for row in calib_rows(period)):
        content = template.calib(row)
        (folder / "archive" / str(row["relpath"])).write_bytes(content)
        calibs.append(_stamped(row, content))
    for kind in CALIB_TYPES:
        for name, columns in CALIB_TABLES.items():
            with (folder / name.format(kind)).open("w", newline="") as stream:
                writer = csv.DictWriter(stream, columns, extrasaction="ignore")
                writer.writeheader()
                writer.writerows(row for row in calibs if row["type"] == kind)
    return calibs


def raw_columns(first: int, visits: int) -> dict[str, list[Any]]:
    """Make what `raw_row` makes for all ccds of some visits, as columns, twenty times as fast."""
    columns: dict[str, list[Any]] = {name: [] for name in raw_row(0)}
    ccds, temperatures = list(range(CCDS)), [raw_row(ccd)["ccdTemp"] for ccd in range(CCDS)]
    for index in range(first, first + visits):
        row = raw_row(index * CCDS)
        for name, value in row.items():
            columns[name] += [value] * CCDS
        visit = int(row["visit"])
        frames = [f"HSCA{visit:06d}{ccd:02d}" for ccd in ccds[:100]]
        frames += [f"HSCA{visit + 1:06d}{ccd - 100:02d}" for ccd in ccds[100:]]
        own = {"relpath": [f"raw/{frame}.fits" for frame in frames], "frameId": frames}
        for name, values in (own | {"ccd": ccds, "ccdTemp": temperatures}).items():
            columns[name][-CCDS:] = values
    return columns


def stamped_columns(rows: int, files: int, template: Template) -> Iterator[dict[str, list[Any]]]:
    """Yield the columns of all raws with sizes and checksums, a few thousand rows at a time.

    Beyond the real files the checksums are made up.
    """
    size, chance = len(template.raw(raw_row(0))), random.Random(files)
    for first in range(0, rows, CHUNK):
        count = min(CHUNK, rows - first)
        columns = raw_columns(first // CCDS, -(-count // CCDS))
        real = [str(_stamped(raw_row(n), template.raw(raw_row(n)))["md5sum"]) for n in range(first, min(files, rows))]
        sums = real[:count] + [chance.randbytes(16).hex() for _ in range(count - len(real))]
        columns |= {"filesize": [size] * count, "md5sum": sums}
        yield {name: values[:count] for name, values in columns.items()}


def write_rows(folder: Path, template: Template, rows: int, files: int, calibs: list[Row]) -> None:
    """Write all rows as Parquet, and as the SQLite file that the floor reads."""
    (folder / "global.sqlite3").unlink(missing_ok=True)
    db = sqlite3.connect(folder / "global.sqlite3", isolation_level=None)
    db.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -200000;")
    first = _stamped(raw_row(0), b"")
    columns = ", ".join(f"{name} {_sql_type(value)}" for name, value in first.items())
    db.execute(f"CREATE TABLE raw ({columns})")
    db.execute("BEGIN")
    for chunk in write_parquet(folder / "raw.parquet", stamped_columns(rows, files, template)):
        db.executemany(
            f"INSERT INTO raw VALUES ({', '.join('?' * len(first))})", zip(*(chunk[n] for n in first), strict=True)
        )
    db.execute("COMMIT")
    columns = ", ".join(f"{name} {_sql_type(value)}" for name, value in calibs[0].items())
    db.execute(f"CREATE TABLE calib ({columns})")
    db.executemany(f"INSERT INTO calib VALUES ({', '.join(f':{name}' for name in calibs[0])})", calibs)
    db.executescript("CREATE INDEX by_visit ON raw (visit, ccd); CREATE INDEX by_type ON calib (type, ccd); ANALYZE;")
    db.close()


def write_parquet(path: Path, chunks: Iterator[dict[str, list[Any]]]) -> Iterator[dict[str, list[Any]]]:
    """Write columns as Parquet, and pass them on."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for chunk in chunks:
        written = pa.table(chunk)
        writer = writer or pq.ParquetWriter(path, written.schema)
        writer.write_table(written)
        yield chunk
    if writer is not None:
        writer.close()


def _sql_type(value: object) -> str:
    return {int: "INTEGER", float: "DOUBLE"}.get(type(value), "TEXT")


def load_registry(url: str, folder: Path) -> None:
    """Load the tables of a survey folder into a new dbb registry at ``url``."""
    dbb = [str(Path(sys.executable).with_name("dbb"))]
    known = ["--registry", url]
    subprocess.run([*dbb, "create", url, "--mapper", "hsc"], check=True)
    subprocess.run([*dbb, "archive", "add", "survey", str(folder / "archive"), *known], check=True)
    for kind, table in (("hsc_raw", "raw.parquet"), *((kind, f"{kind}.csv") for kind in CALIB_TYPES)):
        ingest = [*dbb, "ingest-table", str(folder / table), "--filetype", kind, "--archive", "survey", *known]
        subprocess.run(ingest, check=True)
    for kind in CALIB_TYPES:
        certify = [*dbb, "certify-calibrations", str(folder / f"{kind}-validity.csv"), "--filetype", kind]
        subprocess.run([*certify, "--version", CALIBS_VERSION, *known], check=True)


def build(folder: Path, files: int, rows: int) -> None:
    """Make what the folder does not have yet."""
    state_file = folder / "survey.json"
    state = json.loads(state_file.read_text()) if state_file.exists() else {"files": 0, "rows": 0}
    if state["files"] >= files and state["rows"] == rows:
        return
    template, files = Template(), max(files, state["files"])
    write_files(folder, template, state["files"], files)
    write_rows(folder, template, rows, files, write_calibs(folder, template, rows))
    state_file.write_text(json.dumps({"files": files, "rows": rows}))


def main() -> None:
    """Build a survey folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, required=True, help="how many raws are real files")
    parser.add_argument("--rows", type=int, required=True, help="how many raws the tables list")
    parser.add_argument("--load", metavar="URL", help="also load the tables into a new dbb registry")
    options = parser.parse_args()
    if options.rows < options.files:
        sys.exit("--rows must be at least --files")
    build(options.folder, options.files, options.rows)
    if options.load:
        load_registry(options.load, options.folder)


if __name__ == "__main__":
    main()
