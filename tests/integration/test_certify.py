"""Calibrations are certified for days that never overlap, from tables and from the Gen2 registries that exist."""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from registries import contents, rows, small_registry

from dbb import Registry
from dbb.errors import AmbiguousError, ConflictError, DbbError, MissingError, NotFoundError, TableError, UsageError
from dbb.ingest import certify_registry, certify_table
from dbb.plugins import plugins
from dbb.registry.calibs import Certified, version_types

CALIB_TABLE = """CREATE TABLE {0} (id integer primary key autoincrement, filter text, ccd int, calibDate text,
validStart text, validEnd text, unique(filter, ccd, calibDate))"""
Range = dict[str, str]


@pytest.fixture
def registry(registry_url: str) -> Iterator[Registry]:
    """A registry with biases of two ccds and flats of two filters, four dates each."""
    with small_registry(registry_url, "bias", "flat", "sky", "defects", "dark", "bfkernel", "calexp") as opened:
        opened.add_archive("home", "/data/home")
        biases = [
            {"relpath": bias(day, ccd), "ccd": ccd, "calibDate": f"2013-01-0{day}"}
            for day in (1, 2, 3, 4)
            for ccd in (0, 16)
        ]
        flats = [
            {"relpath": flat(day, band), "ccd": 16, "calibDate": f"2013-01-0{day}", "filter": band}
            for day in (1, 2, 3, 4)
            for band in ("HSC-R", "HSC-I")
        ]
        opened.ingest_table(biases, filetype="bias", archive="home")
        opened.ingest_table(flats, filetype="flat", archive="home")
        yield opened


def bias(day: int, ccd: int = 16) -> str:
    return f"BIAS/BIAS-2013-01-0{day}-{ccd:03d}.fits"


def flat(day: int, band: str) -> str:
    return f"FLAT/FLAT-2013-01-0{day}-{band}-016.fits"


def valid(relpath: str, start: str, end: str) -> Range:
    return {"relpath": relpath, "validStart": start, "validEnd": end}


def certify(registry: Registry, *table: Range, filetype: str = "bias", **options: Any) -> Certified:
    return registry.certify_calibrations(list(table), version="2014A", filetype=filetype, **options)


def certified(registry: Registry, filetype: str) -> dict[str, tuple[str, str]]:
    """The days of each certified file by name."""
    statement = (
        "select d.filename, c.valid_start, c.valid_end from certified_calibration c, desfile d"
        f" where c.desfile_id = d.id and c.filetype = '{filetype}'"
    )
    return {name: (start, end) for name, start, end in rows(registry, statement)}


def gen2_registry(path: Path, **tables: list[tuple[Any, ...]]) -> Path:
    """Write a calibRegistry as ingestCalibs makes it: filter, ccd, calibDate, validStart, validEnd."""
    with closing(sqlite3.connect(path)) as conn, conn:
        for name, given in tables.items():
            conn.execute(CALIB_TABLE.format(name))
            conn.executemany(f"INSERT INTO {name} VALUES (NULL, ?, ?, ?, ?, ?)", given)
    return path


def test_ranges_of_a_table_are_certified_once(registry: Registry) -> None:
    table = [valid(bias(1), "2013-01-01", "2013-01-31"), valid(bias(2), "2013-02-01", "2013-02-28")]
    assert certify(registry, *table) == Certified(2, 0)
    before = contents(registry)
    assert certify(registry, *table) == Certified(0, 2)
    assert contents(registry) == before
    assert certify(registry, *table, valid(bias(3), "2013-03-01", "2013-03-01")) == Certified(1, 2)
    assert certified(registry, "bias")["BIAS-2013-01-03-016.fits"] == ("2013-03-01", "2013-03-01")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("2013-01-01", "2013-01-31"), ("2013-01-31", "2013-02-28")),
        (("2013-01-01", "2013-12-31"), ("2013-05-01", "2013-05-02")),
        (("2013-05-01", "2013-05-02"), ("2013-01-01", "2013-12-31")),
        (("2013-05-01", "2013-05-02"), ("2013-05-01", "2013-05-02")),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_ranges_that_overlap_are_refused_and_both_named(
    registry: Registry, first: tuple[str, str], second: tuple[str, str], at_once: bool
) -> None:
    old, new = valid(bias(1), *first), valid(bias(2), *second)
    table = [old, new] if at_once else [new]
    if not at_once:
        certify(registry, old)
    before = contents(registry)
    with pytest.raises(ConflictError, match=r"bias calibrations overlap in version 2014A") as caught:
        certify(registry, valid(bias(3), "1999-01-01", "1999-01-02"), *table)
    for day, (start, end) in ((1, first), (2, second)):
        assert f"BIAS-2013-01-0{day}-016.fits: {start} to {end}" in str(caught.value)
    assert caught.value.exit_code == 4
    assert contents(registry) == before


def test_ranges_of_other_detectors_filters_types_and_versions_do_not_meet(registry: Registry) -> None:
    year = ("2013-01-01", "2013-12-31")
    certify(registry, valid(bias(1, 16), *year), valid(bias(1, 0), *year))
    certify(registry, valid(flat(1, "HSC-R"), *year), valid(flat(1, "HSC-I"), *year), filetype="flat")
    other = [valid(bias(2, 16), *year)]
    assert registry.certify_calibrations(other, version="2014B", filetype="bias") == Certified(1, 0)
    assert len(certified(registry, "bias")) == 3
    with registry.read() as conn:
        assert version_types(conn, "2014A") == ["bias", "flat"]
        assert version_types(conn, "2014B") == ["bias"]
        with pytest.raises(NotFoundError, match=r"unknown calibration version '2014C'; known: 2014[AB], 2014[AB]"):
            version_types(conn, "2014C")


def test_a_file_keeps_the_days_it_has(registry: Registry) -> None:
    certify(registry, valid(bias(1), "2013-01-01", "2013-01-31"))
    with pytest.raises(ConflictError, match=r"is certified in 2014A from 2013-01-01 to 2013-01-31, not from"):
        certify(registry, valid(bias(1), "2013-01-01", "2013-02-28"))


def test_a_range_must_not_end_before_it_begins(registry: Registry) -> None:
    with pytest.raises(ConflictError, match=r"valid from 2013-02-01 to 2013-01-31 is no range"):
        certify(registry, valid(bias(1), "2013-02-01", "2013-01-31"))


def test_files_may_be_named_without_their_folder(registry: Registry) -> None:
    row = {"FileName": "BIAS-2013-01-01-016.fits", "VALIDSTART": "2013-01-01", "validend": "2013-01-31"}
    assert certify(registry, row) == Certified(1, 0)


def test_a_name_that_fits_several_files_must_be_told_apart(registry: Registry) -> None:
    twin = {"relpath": "old/BIAS-2013-01-01-016.fits", "ccd": 16, "calibDate": "1999-01-01"}
    registry.ingest_table([twin], filetype="bias", archive="home")
    row = {"filename": "BIAS-2013-01-01-016.fits", "validStart": "2013-01-01", "validEnd": "2013-01-31"}
    with pytest.raises(
        AmbiguousError, match=r"row 1: 2 files are called 'BIAS-2013-01-01-016\.fits': give their relpath"
    ):
        certify(registry, row)
    assert certify(registry, valid(bias(1), "2013-01-01", "2013-01-31")) == Certified(1, 0)


def test_what_is_wrong_in_a_table_is_named_and_nothing_changes(registry: Registry, tmp_path: Path) -> None:
    before = contents(registry)
    good = valid(bias(1), "2013-01-01", "2013-01-31")
    unknown = {"relpath": "none.fits"}
    cases: list[tuple[type[DbbError], str, list[dict[str, Any]]]] = [
        (TableError, r"row 2, column validend: expected a date", [good, valid(bias(2), "2013-02-01", "soon")]),
        (TableError, r"row 1, column validstart: expected a date", [{**good, "validStart": None}]),
        (TableError, r"there is no column validend; it has relpath, validStart", [{"relpath": "a", "validStart": "x"}]),
        (TableError, r"neither a column relpath nor filename", [{"validStart": "2013-01-01", "validEnd": "x"}]),
        (MissingError, r"the given rows, row 2: no bias 'none\.fits' is registered: ingest it", [good, good | unknown]),
        (MissingError, r"no bias 'FLAT/.*' is registered", [{**good, "relpath": flat(1, "HSC-R")}]),
    ]  # fmt: skip
    for kind, problem, table in cases:
        with pytest.raises(kind, match=problem):
            certify(registry, *table)
    with pytest.raises(NotFoundError, match="unknown archive 'hom'; known: home"):
        certify(registry, good, archive="hom")
    with pytest.raises(UsageError, match="is no version name"):
        registry.certify_calibrations([good], version="best of", filetype="bias")
    with pytest.raises(UsageError, match="bfkernel has no data id"):
        certify(registry, good, filetype="bfKernel")
    assert contents(registry) == before


def test_a_rehearsal_certifies_nothing(registry: Registry) -> None:
    before = contents(registry)
    table = [valid(bias(1), "2013-01-01", "2013-01-31")]
    assert certify_table(registry, table, version="2014A", filetype="bias", dry_run=True) == Certified(1, 0)
    assert contents(registry) == before


def test_a_gen2_registry_is_taken_over(registry: Registry, tmp_path: Path) -> None:
    path = gen2_registry(
        tmp_path / "calibRegistry.sqlite3",
        bias=[("NONE", ccd, "2013-01-01", "2012-07-05", "2013-06-30") for ccd in (0, 16)],
        flat=[(band, 16, "2013-01-02", "2012-01-01", "2014-01-01") for band in ("HSC-R", "HSC-I")],
        dark=[],
        somebody_elses=[("NONE", 1, "2013-01-01", "x", "y")],
    )
    done = certify_registry(registry, path, version="2014A", archive="home")
    assert done == {"bias": Certified(2, 0), "flat": Certified(2, 0)}
    assert certified(registry, "bias") == {
        f"BIAS-2013-01-01-{ccd}.fits": ("2012-07-05", "2013-06-30") for ccd in ("000", "016")
    }
    again = certify_registry(registry, path, version="2014A", archive="home")
    assert again == {"bias": Certified(0, 2), "flat": Certified(0, 2)}


def test_a_shared_boundary_day_goes_to_the_later_range_and_that_is_said(registry: Registry, tmp_path: Path) -> None:
    starts = ["2013-01-01", "2013-03-01", "2013-05-01", "2013-08-01"]
    ends = ["2013-03-01", "2013-05-01", "2013-07-31", "2013-08-01"]
    given = [
        ("NONE", 16, f"2013-01-0{day}", start, end) for day, start, end in zip((1, 2, 3, 4), starts, ends, strict=True)
    ]
    path = gen2_registry(tmp_path / "calibRegistry.sqlite3", bias=[*given[2:], *given[:2]])
    done = certify_registry(registry, path, version="2014A", archive="home")["bias"]
    assert (done.added, done.known) == (4, 0)
    assert done.trimmed == (
        "BIAS-2013-01-01-016.fits: valid until 2013-02-28, as BIAS-2013-01-02-016.fits begins on 2013-03-01",
        "BIAS-2013-01-02-016.fits: valid until 2013-04-30, as BIAS-2013-01-03-016.fits begins on 2013-05-01",
    )
    assert sorted(certified(registry, "bias").values()) == [
        ("2013-01-01", "2013-02-28"),
        ("2013-03-01", "2013-04-30"),
        ("2013-05-01", "2013-07-31"),
        ("2013-08-01", "2013-08-01"),
    ]
    again = certify_registry(registry, path, version="2014A", archive="home")["bias"]
    assert (again.added, again.known) == (0, 4)


def test_longer_overlaps_of_a_gen2_registry_are_refused(registry: Registry, tmp_path: Path) -> None:
    given = [
        ("NONE", 16, "2013-01-01", "2013-01-01", "2013-03-02"),
        ("NONE", 16, "2013-01-02", "2013-03-01", "2013-05-01"),
    ]
    path = gen2_registry(tmp_path / "calibRegistry.sqlite3", bias=given)
    before = contents(registry)
    with pytest.raises(ConflictError, match="overlap in version 2014A"):
        certify_registry(registry, path, version="2014A", archive="home")
    assert contents(registry) == before


def test_a_gen2_registry_with_files_that_are_not_registered_is_refused(registry: Registry, tmp_path: Path) -> None:
    day = ("2013-01-01", "2013-01-01")
    path = gen2_registry(
        tmp_path / "a.sqlite3", bias=[("NONE", 16, "2013-01-01", *day), ("NONE", 17, "2013-01-01", *day)]
    )
    before = contents(registry)
    with pytest.raises(
        MissingError, match=r"no bias with calibDate=2013-01-01 ccd=17 is registered in archive home: ingest it first"
    ):
        certify_registry(registry, path, version="2014A", archive="home")
    twin = {"relpath": "old/BIAS.fits", "ccd": 16, "calibDate": "2013-01-01"}
    assert contents(registry) == before
    registry.ingest_table([twin], filetype="bias", archive="home")
    with pytest.raises(AmbiguousError, match=r"several bias files have calibDate=2013-01-01 ccd=16: BIAS.*, BIAS"):
        certify_registry(registry, path, version="2014A", archive="home")


def test_a_gen2_registry_is_matched_with_files_of_the_archive_asked_for(registry: Registry, tmp_path: Path) -> None:
    path = gen2_registry(tmp_path / "a.sqlite3", bias=[("NONE", 16, "2013-01-01", "2013-01-01", "2013-01-31")])
    registry.add_archive("other", "/data/other")
    with pytest.raises(MissingError, match="is registered in archive other: ingest it first"):
        certify_registry(registry, path, version="2014A", archive="other")
    twin = {"relpath": "old/TWIN.fits", "ccd": 16, "calibDate": "2013-01-01"}
    registry.ingest_table([twin], filetype="bias", archive="other")
    assert certify_registry(registry, path, version="2014A", archive="other") == {"bias": Certified(1, 0)}
    assert list(certified(registry, "bias")) == ["TWIN.fits"]


def test_files_that_no_date_tells_apart_are_not_certified(registry: Registry) -> None:
    with pytest.raises(UsageError, match="calexp has no calibDate among its keys"):
        certify(registry, valid("a.fits", "2013-01-01", "2013-01-02"), filetype="calexp")


def test_what_is_no_gen2_registry_is_named(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"unknown calibration registry .*none\.sqlite3"):
        certify_registry(registry, tmp_path / "none.sqlite3", version="2014A", archive="home")
    text = tmp_path / "text.sqlite3"
    text.write_text("no database" * 100)
    with pytest.raises(DbbError, match=r"text\.sqlite3 cannot be read as a Gen2 calibration registry"):
        certify_registry(registry, text, version="2014A", archive="home")
    path = gen2_registry(tmp_path / "a.sqlite3", bias=[("NONE", 16, "2013-01-01", "spring", "autumn")])
    with pytest.raises(TableError, match="holds 'spring' where a date must be"):
        certify_registry(registry, path, version="2014A", archive="home")


@pytest.fixture
def real(registry_url: str, shared: Path) -> Iterator[Registry]:
    """A registry with the 936 real calibration files, whose metadata are in their names."""
    hsc = plugins().mapper("hsc")
    names = ("bias", "dark", "flat", "sky", "defects")
    table = []
    with (shared / "data/ci_hsc/inventory.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            for name in names if row["path"].startswith("CALIB/") else ():
                pattern = hsc.filetypes[name].name_pattern
                assert pattern is not None
                found = pattern.invert(Path(row["path"]).name, hsc.filetypes[name].types)
                if found is not None:
                    table.append({"filetype": name, **row, "filter": row["path"].split("/")[3], **found})
    for row in table:
        if row["filetype"] == "defects":
            del row["filter"]
    with small_registry(registry_url, *names) as opened:
        opened.add_archive("home", "/data/ci_hsc")
        done = opened.ingest_table(table, archive="home", rename={"relpath": "path", "filesize": "size_bytes"})
        assert (done.added, done.refused) == (936, ())
        yield opened


def test_the_real_calibrations_are_found_by_their_data_ids(real: Registry) -> None:
    counts = {name: len(real.query(name)) for name in ("bias", "dark", "flat", "sky", "defects")}
    assert counts == {"bias": 16, "dark": 16, "flat": 32, "sky": 32, "defects": 840}
    [found] = real.query("flat", where="calibDate = '2013-06-17' AND ccd = 16 AND band = 'r'")
    assert found.relpath == "CALIB/FLAT/2013-06-17/HSC-R/FLAT-2013-06-17-HSC-R-016.fits"
    assert found.filesize == 85547520
    [found] = real.query("defects", ids=["ccd=16 calibDate=1970-01-01T00:00:00"])
    assert found.relpath == "CALIB/defects/1970-01-01T00:00:00/defects-1970-01-01T00:00:00-016.fits"


def test_the_real_calibration_registry_is_taken_over_range_by_range(real: Registry, shared: Path) -> None:
    path = shared / "data/ci_hsc/calibRegistry.sqlite3"
    done = certify_registry(real, path, version="2014A", archive="home")
    assert {name: one.added for name, one in done.items()} == {
        "bias": 16, "dark": 16, "flat": 32, "sky": 32, "defects": 840,
    }  # fmt: skip
    assert not any(one.trimmed for one in done.values())
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as conn:
        for name in done:
            query = f"SELECT ccd, calibDate, substr(validStart, 1, 10), substr(validEnd, 1, 10) FROM {name}"
            expected = sorted(conn.execute(query))
            statement = (
                f"select t.ccd, t.calibdate, c.valid_start, c.valid_end from {name} t, certified_calibration c"
                f" where t.desfile_id = c.desfile_id and c.version = '2014A' and c.filetype = '{name}'"
            )
            assert sorted(rows(real, statement)) == expected
