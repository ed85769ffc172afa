"""Exposures are found by tract and patch through a named version of overlaps, on one row of it at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from registries import contents, small_registry, statements

from dbb import Registry
from dbb.errors import DbbError, MissingError, NotFoundError, TableError, UsageError
from dbb.ingest import load_overlap_table
from dbb.registry.overlaps import overlap_versions

COLUMNS = ("tract", "patch", "visit", "ccd")
ROWS = [
    (0, "8,6", 1, 16),
    (0, "8,7", 1, 16),
    (0, "8,6", 2, 16),
    (0, "8,6", 2, 22),
    (1, "8,7", 2, 16),
    (1, "1,1", 3, 16),
]


@pytest.fixture
def registry(registry_url: str) -> Iterator[Registry]:
    """A registry with calexps of visits 1 to 4 and two ccds, and coadds, which know their own patch."""
    with small_registry(registry_url, "calexp", "deepcoadd_calexp", "deepcoadd_tempexp", "forced_src") as opened:
        opened.add_archive("home", "/data/home")
        calexps = [
            {"relpath": f"{visit}-{ccd}.fits", "visit": visit, "ccd": ccd, "filter": "HSC-R" if visit < 3 else "HSC-I"}
            for visit in (1, 2, 3, 4)
            for ccd in (16, 22)
        ]
        opened.ingest_table(calexps, filetype="calexp", archive="home", run="Ht0_r1p1")
        coadd = {"relpath": "coadd.fits", "tract": 0, "patch": "9,9", "filter": "HSC-R"}
        opened.ingest_table([coadd], filetype="deepcoadd_calexp", archive="home", run="Ht0_r1p1")
        yield opened


def load(registry: Registry, version: str = "v1", rows: Any = ROWS) -> int:
    return registry.load_overlaps([dict(zip(COLUMNS, row, strict=True)) for row in rows], version=version)


def found(registry: Registry, where: str | None = None, **question: Any) -> list[str]:
    return [str(record.filename).removesuffix(".fits") for record in registry.query("calexp", where=where, **question)]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("tract = 0 AND patch = '8,6'", ["1-16", "2-16", "2-22"]),
        ("tract = 0 AND patch = '8x6'", ["1-16", "2-16", "2-22"]),
        ("tract = 0 AND patch = '8,7'", ["1-16"]),
        ("tract = 1 AND patch = '8,6'", []),
        ("tract = 1", ["2-16", "3-16"]),
        ("patch IN ('1,1', '8x7')", ["1-16", "2-16", "3-16"]),
        ("patch = '8,6' AND NOT visit = 1", ["2-16", "2-22"]),
        ("tract = 0 AND patch = '8,6' AND filter = 'HSC-R' AND ccd = 22", ["2-22"]),
        ("tract = 0 AND patch = '8,6' AND band = 'r' AND run = 'r1p1' AND filename GLOB '2-*'", ["2-16", "2-22"]),
        ("tract = 0 AND patch = '8,6' AND patch = '8,7'", []),
        ("(tract = 0 AND patch = '8,7') OR (tract = 1 AND patch = '1,1')", ["1-16", "3-16"]),
        ("patch GLOB '8*' AND tract > 0", ["2-16"]),
    ],
)  # fmt: skip
def test_a_condition_holds_on_one_row_of_the_overlaps(registry: Registry, where: str, expected: list[str]) -> None:
    assert load(registry) == len(ROWS)
    assert found(registry, where) == expected


def test_a_data_id_may_name_tract_and_patch(registry: Registry) -> None:
    load(registry)
    assert found(registry, ids=["tract=0 patch=8,6 visit=2"]) == ["2-16", "2-22"]
    assert found(registry, ids=["tract=0 patch=8,7", "tract=1 patch=8,7"]) == ["1-16", "2-16"]
    assert found(registry, "ccd = 22", ids=["tract=0 patch=8x6"]) == ["2-22"]


def test_condition_and_data_ids_hold_on_the_same_row(registry: Registry) -> None:
    load(registry)
    assert found(registry, "tract = 0", ids=["patch=8,7"]) == ["1-16"]
    assert found(registry, "tract = 1 AND band = 'r'", ids=["patch=8,7", "patch=1,1"]) == ["2-16"]


def test_an_exposure_on_several_rows_is_given_once(registry: Registry) -> None:
    load(registry)
    assert found(registry, "tract >= 0") == ["1-16", "2-16", "2-22", "3-16"]


def test_an_alternative_needs_no_overlap(registry: Registry) -> None:
    load(registry)
    assert found(registry, "visit = 4 OR tract = 1") == ["2-16", "3-16", "4-16", "4-22"]


def test_filetypes_with_their_own_patch_need_no_overlaps(registry: Registry) -> None:
    [record] = registry.query("deepcoadd_calexp", where="tract = 0 AND patch = '9,9'")
    assert (record.filename, record["patch"]) == ("coadd.fits", "9x9")
    assert registry.query("deepcoadd_tempexp", where="patch = '8,6' AND visit = 1") == []


def test_a_filetype_with_its_own_tract_gets_only_the_patch_from_overlaps(registry: Registry) -> None:
    load(registry)
    table = [{"relpath": f"f{tract}.fits", "visit": 2, "ccd": 16, "tract": tract} for tract in (0, 1)]
    registry.ingest_table(table, filetype="forced_src", archive="home", run="Ht0_r1p1")
    assert [record["tract"] for record in registry.query("forced_src", where="tract = 1 AND patch = '8,7'")] == [1]


def test_one_version_needs_no_name_and_several_do(registry: Registry) -> None:
    with pytest.raises(MissingError, match="need an overlap table: load one with 'dbb overlaps load'") as caught:
        found(registry, "tract = 0")
    assert caught.value.exit_code == 5
    load(registry, "v1")
    assert found(registry, "tract = 1") == ["2-16", "3-16"]
    load(registry, "v2", [(1, "5,5", 4, 22)])
    with pytest.raises(UsageError, match=r"several overlap versions are loaded \(v1, v2\): say which with --overlaps"):
        found(registry, "tract = 1")
    assert found(registry, "tract = 1", overlaps="v1") == ["2-16", "3-16"]
    assert found(registry, "tract = 1", overlaps="v2") == ["4-22"]
    assert found(registry, "visit = 1 AND ccd = 16") == ["1-16"]
    with pytest.raises(NotFoundError, match=r"unknown overlap version 'w1'; known: v1, v2"):
        found(registry, "tract = 1", overlaps="w1")
    with registry.read() as conn:
        assert [(version.way, rows) for version, rows in overlap_versions(conn)] == [
            ("v1 (table)", 6),
            ("v2 (table)", 1),
        ]


def test_rows_are_added_to_a_version_once(registry: Registry) -> None:
    assert load(registry) == 6
    before = contents(registry)
    assert load(registry) == 0
    assert load(registry, rows=[(0, "8x6", 1, 16)]) == 0
    assert contents(registry) == before
    assert load(registry, rows=[*ROWS, (0, "8x6", 4, 16), (0, "8,6", 4, 16)]) == 1


def test_what_is_wrong_in_a_table_is_named_and_nothing_changes(registry: Registry) -> None:
    before = contents(registry)
    for problem, rows in (
        (r"row 2, column patch: '8-6' is no patch name", [ROWS[0], (0, "8-6", 1, 16)]),
        (r"row 1, column ccd: expected an integer, not 'a'", [(0, "8,6", 1, "a")]),
        (r"row 2, column visit: a value is missing", [ROWS[0], (0, "8,6", None, 16)]),
    ):
        with pytest.raises(TableError, match=problem):
            load(registry, rows=rows)
    with pytest.raises(TableError, match="there is no column ccd; it has tract, patch, visit"):
        registry.load_overlaps([{"tract": 0, "patch": "8,6", "visit": 1}], version="v1")
    for name in ("", " ", "two\nlines", "a" * 101):
        with pytest.raises(UsageError, match="is no name of an overlap version"):
            load(registry, name)
    assert contents(registry) == before


def test_a_rehearsal_loads_nothing(registry: Registry) -> None:
    before = contents(registry)
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]
    assert load_overlap_table(registry, rows, version="v1", dry_run=True) == 6
    assert contents(registry) == before


def test_overlaps_come_from_files_too(registry: Registry, tmp_path: Path) -> None:
    text = tmp_path / "overlaps.csv"
    text.write_text("CCD,Visit,patch,tract,remark\n" + "".join(f'{c},{v},"{p}",{t},x\n' for t, p, v, c in ROWS))
    assert registry.load_overlaps(text, version="csv") == 6
    database = tmp_path / "tracts.sqlite3"
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute("CREATE TABLE unrelated (visit int)")
        conn.execute('CREATE TABLE "odd ""name" (id integer primary key, tract int, patch text, visit int, ccd int)')
        conn.executemany('INSERT INTO "odd ""name" (tract, patch, visit, ccd) VALUES (?, ?, ?, ?)', ROWS)
    assert registry.load_overlaps(database, version="sqlite") == 6
    with closing(sqlite3.connect(database)) as writer, writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute('INSERT INTO "odd ""name" (tract, patch, visit, ccd) VALUES (5, ?, 5, 5)', ("5,5",))
        writer.commit()  # and stays open: the row is in the log alone
        assert registry.load_overlaps(database, version="sqlite") == 1
    for version in ("csv", "sqlite"):
        assert found(registry, "tract = 1", overlaps=version) == ["2-16", "3-16"]
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute('CREATE TABLE another AS SELECT * FROM "odd ""name"')
    with pytest.raises(TableError, match="expected one table with tract, patch, visit, ccd, found 2"):
        registry.load_overlaps(database, version="other")
    database.write_text("no database" * 100)
    with pytest.raises(DbbError, match="cannot be read as an SQLite file"):
        registry.load_overlaps(database, version="other")


def test_the_number_of_statements_does_not_depend_on_the_overlaps(registry: Registry) -> None:
    def load_and_ask(version: str, rows: Any) -> int:
        with statements(registry) as sent:
            load(registry, version, rows)
            found(registry, "tract = 0 AND patch = '8,6'", overlaps=version)
        return len(sent)

    found(registry)
    few = load_and_ask("few", ROWS)
    assert load_and_ask("many", [(0, f"{n},{m}", n, m) for n in range(60) for m in range(60)]) == few <= 12
