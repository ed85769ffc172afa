"""Files are registered from tables of facts: known or new, all or none, and every format means the same."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import MaskedColumn
from astropy.table import Table as AstropyTable
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from registries import contents, rows, small_registry, statements

from dbb import Registry
from dbb.errors import NotFoundError, TableError, UnsafePathError, UsageError
from dbb.filetypes import load_filetypes
from dbb.ingest.rows import parse_map
from dbb.ingest.table import as_dict
from dbb.ingest.tables import BATCH
from dbb.registry.files import Refusal
from dbb.registry.relpaths import join_relpath, split_relpath

MD5 = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32
RUN = "Ht0_r11p95"
FORMATS = (".csv", ".jsonl", ".parquet", ".ecsv")
EVERYTHING = """
[filetypes.everything.columns]
number = "int"
share = "float"
remark = "str"
night = "date"
where = "patch"
good = "bool"
"""


@pytest.fixture
def registry(registry_url: str) -> Iterator[Registry]:
    """An empty registry for HSC with two archives."""
    with small_registry(registry_url, "bias", "calexp", "deepcoadd_calexp", "src") as opened:
        opened.add_archive("home", "/data/home")
        opened.add_archive("copy", "s3://bucket/copy")
        yield opened


@pytest.fixture
def everything(registry_url: str, tmp_path: Path) -> Iterator[Registry]:
    """A registry with one filetype that has a column of each type."""
    path = tmp_path / "filetypes.toml"
    path.write_text(EVERYTHING)
    with Registry.create(registry_url) as opened:
        opened.register_filetypes(list(load_filetypes(path).values()))
        opened.add_archive("home", "/data/home")
        yield opened


def calexp(number: int, **more: Any) -> dict[str, Any]:
    facts = {"relpath": f"corr/{number}.fits", "filesize": 100 + number, "md5sum": f"{number:032x}"}
    return {**facts, "visit": number, "ccd": 16, "filter": "HSC-R", **more}


def write(path: Path, table: Sequence[Mapping[str, Any]]) -> Path:
    """Write a table in the format that its suffix names."""
    if path.suffix == ".csv":
        lines = [",".join(table[0])]
        for row in table:
            fields = ["" if row[name] is None else str(row[name]).replace('"', '""') for name in table[0]]
            lines.append(",".join(f'"{field}"' if field else "" for field in fields))
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, default=str) + "\n" for row in table), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(table)), path)
    else:
        columns = {}
        for name in table[0]:
            values = [row[name] for row in table]
            some = next((value for value in values if value is not None), "")
            values = [str(value) if isinstance(value, dt.date) else value for value in values]
            filled = ["" if value is None and isinstance(some, dt.date) else value for value in values]
            filled = [type(some)() if value is None else value for value in filled]
            columns[name] = MaskedColumn(filled, mask=[row[name] is None for row in table])
        AstropyTable(columns).write(path, format="ascii.ecsv", overwrite=True)
    return path


def ingest(registry: Registry, source: Any, **options: Any) -> tuple[int, int, int]:
    done = registry.ingest_table(source, **{"filetype": "calexp", "archive": "home", "run": RUN, **options})
    return done.added, done.known, len(done.refused)


def test_a_table_taken_again_is_known_and_changes_nothing(registry: Registry) -> None:
    table = [calexp(n) for n in range(1, 6)]
    assert ingest(registry, table) == (5, 0, 0)
    before = contents(registry)
    assert ingest(registry, table) == (0, 5, 0)
    assert contents(registry) == before
    assert ingest(registry, [*table, calexp(6)]) == (1, 5, 0)
    assert len(registry.query("calexp")) == 6


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ({}, {"md5sum": OTHER}, f"registered with md5sum {1:032x}, now {OTHER}"),
        ({}, {"filesize": 1}, "registered with filesize 101, now 1"),
        ({"sha256": "a" * 64}, {"sha256": "b" * 64}, f"registered with sha256 {'a' * 64}, now {'b' * 64}"),
        ({}, {"run": "Ht0_r11p96"}, "registered for another run"),
        ({}, {"filetype": "src"}, "registered as filetype calexp, now src"),
    ],
)
def test_a_contradiction_is_refused_and_nothing_changes(
    registry: Registry, old: dict[str, Any], new: dict[str, Any], why: str
) -> None:
    ingest(registry, [calexp(1, **old), calexp(2)])
    before = contents(registry)
    table = [calexp(3), calexp(1, **old) | new, calexp(2), calexp(4, run="Ht0_r99p01")]
    done = registry.ingest_table(table, filetype="calexp", archive="home", run=RUN)
    assert (done.added, done.known, done.conflict) == (0, 0, True)
    assert done.refused == (Refusal("corr/1.fits", why),)
    assert as_dict(done) == {"added": 0, "known": 0, "refused": [{"relpath": "corr/1.fits", "why": why}]}
    assert contents(registry) == before


def test_all_conflicts_are_told_at_once(registry: Registry) -> None:
    ingest(registry, [calexp(n) for n in range(1, 4)])
    done = registry.ingest_table(
        [calexp(n, md5sum=OTHER) for n in range(1, 4)], filetype="calexp", archive="home", run=RUN
    )
    assert [one.relpath for one in done.refused] == ["corr/1.fits", "corr/2.fits", "corr/3.fits"]


def test_one_path_twice_in_a_table_must_agree_with_itself(registry: Registry) -> None:
    before = contents(registry)
    assert ingest(registry, [calexp(1), calexp(1, md5sum=OTHER)]) == (0, 0, 1)
    assert contents(registry) == before
    assert ingest(registry, [calexp(1), calexp(1)]) == (1, 1, 0)


def test_a_missing_checksum_contradicts_nothing(registry: Registry) -> None:
    bare = {"relpath": "corr/1.fits", "visit": 1, "ccd": 16}
    assert ingest(registry, [bare]) == (1, 0, 0)
    assert ingest(registry, [calexp(1)]) == (0, 1, 0)


def test_a_rehearsal_tells_what_would_happen_and_changes_nothing(registry: Registry) -> None:
    ingest(registry, [calexp(1)])
    before = contents(registry)
    assert ingest(registry, [calexp(1), calexp(2, run="Ht0_r12p01")], dry_run=True) == (1, 1, 0)
    assert contents(registry) == before


def test_a_run_of_the_row_wins_over_that_of_the_call(registry: Registry) -> None:
    ingest(registry, [calexp(1, run="Ht0_r12p01"), calexp(2, run=None)])
    assert [record.run for record in registry.query("calexp")] == ["Ht0_r12p01", RUN]
    ingest(registry, [{"relpath": "bias.fits", "calibDate": "2013-11-03", "ccd": 1}], filetype="bias", run=None)
    assert [record.run for record in registry.query("bias")] == [None]


def test_a_copy_in_another_archive_is_the_same_file(registry: Registry) -> None:
    assert ingest(registry, [calexp(1)]) == (1, 0, 0)
    assert ingest(registry, [calexp(1)], archive="copy") == (1, 0, 0)
    assert ingest(registry, [calexp(1)], archive="copy") == (0, 1, 0)
    assert rows(registry, "select count(*) from desfile") == [(1,)]
    assert sorted(record.archive or "" for record in registry.query("calexp")) == ["copy", "home"]
    # local archives come first where one copy must be chosen
    assert [record.archive for record in registry.query("calexp", runs=[RUN])] == ["home"]


def test_the_same_path_in_another_archive_may_be_another_file(registry: Registry) -> None:
    ingest(registry, [calexp(1)])
    assert ingest(registry, [calexp(1, md5sum=OTHER, ccd=17)], archive="copy") == (1, 0, 0)
    assert ingest(registry, [{"relpath": "corr/1.fits", "visit": 1, "ccd": 18}], archive="copy") == (0, 1, 0)
    found = {(record.archive, record["ccd"]): record.md5sum for record in registry.query("calexp")}
    assert found == {("home", 16): f"{1:032x}", ("copy", 17): OTHER}


def test_equal_names_in_different_folders_are_different_files(registry: Registry) -> None:
    table = [calexp(n, relpath=f"{n}/CORR.fits") for n in (1, 2)] + [calexp(3, relpath="CORR.fits")]
    assert ingest(registry, table) == (3, 0, 0)
    assert [record.relpath for record in registry.query("calexp", where="filename = 'CORR.fits'")] == [
        "1/CORR.fits",
        "2/CORR.fits",
        "CORR.fits",
    ]
    assert [record["visit"] for record in registry.query("calexp", where="relpath = '2/CORR.fits'")] == [2]


def test_a_compression_is_told_from_the_suffix_or_given(registry: Registry) -> None:
    table = [
        calexp(1, relpath="a/1.fits.fz", compression=None),
        calexp(2, relpath="a/2.fits", compression=".fz"),
        calexp(3, relpath="a/3.fits.gz", compression="gz"),
        calexp(4, relpath="a/4.fits", compression=None),
    ]
    assert ingest(registry, table) == (4, 0, 0)
    found = rows(registry, "select path, filename, compression from file_archive_info order by filename")
    assert found == [("a", "1.fits", ".fz"), ("a", "2.fits", ".fz"), ("a", "3.fits", ".gz"), ("a", "4.fits", "")]
    relpaths = [record.relpath for record in registry.query("calexp")]
    assert relpaths == ["a/1.fits.fz", "a/2.fits.fz", "a/3.fits.gz", "a/4.fits"]
    assert [record.filename for record in registry.query("calexp", where="relpath = 'a/1.fits.fz'")] == ["1.fits"]


def test_a_file_and_its_compressed_form_lie_side_by_side(registry: Registry) -> None:
    table = [calexp(1, relpath="1.fits"), calexp(1, relpath="1.fits.fz", md5sum=OTHER)]
    assert ingest(registry, table) == (2, 0, 0)
    assert {record.relpath for record in registry.query("calexp")} == {"1.fits", "1.fits.fz"}


@given(st.lists(st.text("ab.fzgz-", min_size=1, max_size=6), min_size=1, max_size=3).map("/".join))
def test_a_path_is_put_together_again_as_it_was(relpath: str) -> None:
    try:
        parts = split_relpath(relpath)
    except UnsafePathError:
        assert {".", ".."} & set(relpath.split("/"))
    else:
        assert join_relpath(*parts) == relpath
        assert "/" not in parts[1]


@pytest.mark.parametrize("relpath", ["/etc/passwd", "../x.fits", "a/../../x", "a//b", "a*.fits", "b[0].fits", "a\\b"])
def test_a_path_that_leaves_its_archive_is_refused_with_its_row(registry: Registry, relpath: str) -> None:
    before = contents(registry)
    with pytest.raises(UnsafePathError, match=r"row 2: relpath .* is refused") as caught:
        ingest(registry, [calexp(1), calexp(2, relpath=relpath)])
    assert caught.value.exit_code == 2
    assert contents(registry) == before


def test_a_patch_is_stored_in_one_spelling_and_found_by_both(registry: Registry) -> None:
    table = [
        {"relpath": f"{n}.fits", "tract": 0, "patch": patch, "filter": "HSC-R"}
        for n, patch in enumerate(["8,6", "8x6", "9,7"])
    ]
    ingest(registry, table, filetype="deepCoadd_calexp")
    assert rows(registry, "select patch from deepcoadd_calexp order by desfile_id") == [("8x6",), ("8x6",), ("9x7",)]
    for spelling in ("8,6", "8x6"):
        for question in (
            {"where": f"patch = '{spelling}'"},
            {"where": f"patch IN ('{spelling}', '1,1')"},
            {"ids": [f"tract=0 patch={spelling}"]},
            {"where": "patch = :p", "binds": {"p": spelling}},
            {"where": f"patch GLOB '{spelling[:2]}*' AND tract = 0"},
        ):
            found = registry.query("deepcoadd_calexp", **question)
            assert [record.relpath for record in found] == ["0.fits", "1.fits"], question


def test_names_of_columns_have_no_case(registry: Registry) -> None:
    table = [{"RelPath": "1.fits", "VISIT": 1, "Ccd": 2, "dateobs": "2013-06-17", "FileSize": 5, "MD5SUM": MD5.upper()}]
    ingest(registry, table)
    [found] = registry.query("calexp", where="DATEOBS = '2013-06-17' AND Visit = 1")
    assert (found.relpath, found["dateObs"], found["DATEOBS"], found.filesize) == (
        "1.fits",
        "2013-06-17",
        "2013-06-17",
        5,
    )
    assert found.md5sum == MD5


def test_columns_are_renamed_as_asked(registry: Registry) -> None:
    rename = parse_map("relpath=Path, filesize=size_bytes,expTime=exposure")
    assert rename == {"relpath": "Path", "filesize": "size_bytes", "exptime": "exposure"}
    table = [{"path": "1.fits", "SIZE_BYTES": 7, "visit": 1, "ccd": 2, "exposure": 30}]
    ingest(registry, table, rename=rename)
    [found] = registry.query("calexp")
    assert (found.relpath, found.filesize, found["expTime"]) == ("1.fits", 7, 30.0)


def test_a_renaming_of_a_column_that_is_not_there_lists_the_nearest_first(registry: Registry) -> None:
    with pytest.raises(
        NotFoundError, match=r"unknown column 'paths'; known: path, ccd, visit\. It is asked for .* by --map"
    ):
        ingest(registry, [{"path": "1.fits", "visit": 1, "ccd": 2}], rename={"relpath": "paths"})


def test_two_columns_cannot_stand_for_one(registry: Registry) -> None:
    with pytest.raises(TableError, match=r"two columns, one of them 'relpath', stand for relpath"):
        ingest(registry, [{"path": "1.fits", "relpath": "2.fits", "visit": 1, "ccd": 2}], rename={"relpath": "path"})


@pytest.mark.parametrize("text", ["", "relpath", "relpath=", "=path", "a=b,c"])
def test_a_renaming_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write relpath=path,filesize=size_bytes"):
        parse_map(text)


def test_what_follows_from_metadata_is_added(registry: Registry) -> None:
    ingest(
        registry, [calexp(1, dateObs="2013-06-17"), calexp(2, dateObs="2013-06-17", taiObs="2013-06-18", pointing=7)]
    )
    ingest(registry, [calexp(3)])
    found = [(record["taiObs"], record["pointing"]) for record in registry.query("calexp")]
    assert found == [("2013-06-17", 533), ("2013-06-18", 7), (None, None)]


def test_corners_given_in_a_table_are_kept(registry: Registry) -> None:
    names = ["ra_cent", "dec_cent", *(f"{axis}c{n}" for n in (1, 2, 3, 4) for axis in ("ra", "dec"))]
    ingest(registry, [calexp(1, **{name: 10.0 + n for n, name in enumerate(names)}), calexp(2, ra_cent=1.0)])
    [(_, *corners, cell)] = contents(registry)["image_corners"]
    assert corners == [10.0 + n for n in range(10)]
    assert cell > 0
    assert [record["visit"] for record in registry.query("calexp", where="dec_cent > 10 AND rac4 < 20")] == [1]


def test_a_table_may_mix_filetypes(registry: Registry) -> None:
    table = [
        {
            "relpath": "b.fits",
            "filetype": "deepCoadd_calexp",
            "tract": 0,
            "patch": "8x6",
            "filter": "HSC-I",
            "visit": None,
        },
        calexp(1, filetype="calexp", tract=None),
        {"relpath": "c.fits", "filetype": "src", "visit": 5, "ccd": 6},
    ]
    assert ingest(registry, table, filetype=None) == (3, 0, 0)
    assert [registry.query(name)[0].relpath for name in ("deepcoadd_calexp", "calexp", "src")] == [
        "b.fits",
        "corr/1.fits",
        "c.fits",
    ]


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("visit", "x", "expected an integer, not 'x'"),
        ("visit", "1_000", "expected an integer"),
        ("visit", "1" * 5000, r"expected an integer, not '1{58}…$"),
        ("expTime", "long", "expected a number"),
        ("visit", None, "it is empty, but filetype calexp must have it"),
        ("filesize", "-1", "a size cannot be negative"),
        ("md5sum", "12", "expected 32 hexadecimal digits"),
        ("sha256", "z" * 64, "expected 64 hexadecimal digits"),
        ("dateObs", "17.6.2013", "expected a date YYYY-MM-DD"),
        ("expTime", "nan", "expected a finite number"),
        ("relpath", None, "it is empty"),
    ],
)
def test_a_malformed_value_is_named_by_row_and_column_in_every_format(
    sqlite_registry: Registry, tmp_path: Path, column: str, value: Any, problem: str
) -> None:
    table = [{name: str(value) for name, value in calexp(n).items()} for n in (1, 2, 3)]
    for row in table:
        row.setdefault(column, {"sha256": "0" * 64, "dateObs": "2013-06-17", "expTime": "30"}.get(column, ""))
    broken = [table[0], table[1] | {column: value}, table[2]]
    before = contents(sqlite_registry)
    for suffix in FORMATS:
        path = write(tmp_path / f"table{suffix}", broken)
        with pytest.raises(TableError, match=rf"table{suffix}, row 2, column {column}: {problem}") as caught:
            ingest(sqlite_registry, path)
        assert caught.value.exit_code == 2
    assert contents(sqlite_registry) == before


@pytest.fixture
def sqlite_registry(sqlite_url: str) -> Iterator[Registry]:
    """A registry for what does not depend on the database."""
    with small_registry(sqlite_url, "calexp") as opened:
        opened.add_archive("home", "/data/home")
        yield opened


def test_a_malformed_value_far_down_leaves_nothing_behind(registry: Registry) -> None:
    before = contents(registry)
    table = [calexp(n) for n in range(BATCH + 10)]
    table[BATCH + 5]["ccd"] = "sixteen"
    with pytest.raises(TableError, match=rf"the given rows, row {BATCH + 6}, column ccd: .*, not 'sixteen'"):
        ingest(registry, table)
    assert contents(registry) == before


def test_an_unknown_name_lists_the_known_ones_nearest_first(registry: Registry) -> None:
    before = contents(registry)
    cases: list[tuple[str, list[dict[str, Any]], dict[str, Any]]] = [
        (r"unknown filetype 'calex'; known: calexp, ", [calexp(1)], {"filetype": "calex"}),
        (r"unknown filetype 'scr'; known: src, ", [calexp(1, filetype="scr")], {}),
        (r"unknown archive 'hom'; known: home, copy\. Add it with 'dbb archive add'", [calexp(1)], {"archive": "hom"}),
        (r"unknown column 'expotime'; known: expTime, .*filetype calexp does not", [calexp(1, expotime=3)], {}),
    ]
    for problem, table, options in cases:
        with pytest.raises(NotFoundError, match=problem) as caught:
            ingest(registry, table, **options)
        assert caught.value.exit_code == 5
    with pytest.raises(UsageError, match="names no unit"):
        ingest(registry, [calexp(1)], run="r11p95")
    with pytest.raises(TableError, match=r"row 1: no filetype; give one, or a column"):
        ingest(registry, [calexp(1)], filetype=None)
    with pytest.raises(TableError, match=r"there is no column relpath; it has path, visit \(see --map\)"):
        ingest(registry, [{"path": "a", "visit": 1}])
    assert contents(registry) == before


def test_a_column_nobody_filled_is_no_error(registry: Registry) -> None:
    assert ingest(registry, [calexp(1, remark=None, other="")]) == (1, 0, 0)


TEXTS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=12).filter(
    lambda text: text == text.strip()
)
ODD = (
    "nan",
    "None",
    "NULL",
    "1.0",
    "007",
    "true",
    "N/A",
    "--",
    "'",
    '"',
    "a,b",
    "%s",
    ":x",
    "\\",
    "#",
    "é",
    "\U0001f52d",
)
VALUES = st.fixed_dictionaries(
    {
        "number": st.none() | st.integers(-(2**63), 2**63 - 1),
        "share": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "remark": st.none() | TEXTS,
        "night": st.none() | st.dates(dt.date(1900, 1, 1)),
        "where": st.none() | st.tuples(st.integers(0, 99), st.integers(0, 99)).map(lambda xy: f"{xy[0]},{xy[1]}"),
        "good": st.none() | st.booleans(),
    }
)


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(table=st.lists(VALUES, min_size=1, max_size=20))
@example(table=[dict.fromkeys(("number", "share", "night", "where", "good")) | {"remark": text} for text in ODD])
def test_every_format_gives_back_what_was_put_in(
    everything: Registry, tmp_path: Path, table: list[dict[str, Any]]
) -> None:
    expected = [
        {name: str(value) if isinstance(value, dt.date) else value for name, value in row.items()} for row in table
    ]
    for row in expected:
        row["where"] = row["where"] and row["where"].replace(",", "x")
    for suffix in FORMATS:
        folder = f"{next(NUMBERS)}"
        named = [{"relpath": f"{folder}/{n}.fits", **row} for n, row in enumerate(table)]
        ingest(everything, write(tmp_path / f"table{suffix}", named), filetype="everything", run=None)
        found = everything.query("everything", where=f"relpath GLOB '{folder}/*'")
        assert [dict(record.metadata) for record in found] == expected, suffix


NUMBERS = itertools.count()


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_registers_the_same_rows(registry: Registry, tmp_path: Path, suffix: str) -> None:
    table = [
        calexp(1, dateObs=dt.date(2013, 6, 17), expTime=30.0, field="STRIPE82L", sha256="a" * 64),
        calexp(2, dateObs=None, expTime=None, field=None, sha256=None),
    ]
    ingest(registry, write(tmp_path / f"table{suffix}", table))
    found = contents(registry)
    facts = [row[1:7] for row in found["desfile"]]
    assert facts == [
        ("1.fits", "", "calexp", 101, f"{1:032x}", "a" * 64),
        ("2.fits", "", "calexp", 102, f"{2:032x}", None),
    ]
    names = registry.record_columns("calexp")[6:]
    stored = [dict(zip(names, row[1:], strict=True)) for row in found["calexp"]]
    shown = ("visit", "ccd", "filter", "dateObs", "taiObs", "pointing", "expTime", "field")
    assert [tuple(row[name] for name in shown) for row in stored] == [
        (1, 16, "HSC-R", "2013-06-17", "2013-06-17", 533, 30.0, "STRIPE82L"),
        (2, 16, "HSC-R", None, None, None, None, None),
    ]


def test_statements_grow_with_batches_and_not_with_files(registry: Registry) -> None:
    sent = []
    first = 0
    for size in (10, 60, BATCH, 2 * BATCH, 3 * BATCH):
        with statements(registry, in_transactions=True) as seen:
            assert ingest(registry, [calexp(first + n) for n in range(size)]) == (size, 0, 0)
        sent.append(len(seen))
        first += size
    few, some, one_batch, two, three = sent
    assert few >= some == one_batch < 30  # the first one makes the run
    # from two batches on PostgreSQL is told to look at its tables, once
    assert 0 <= two - one_batch - (three - two) <= 1
    assert three - two < 10


@pytest.mark.parametrize("clean", [True, False])
def test_any_text_comes_back_as_it_was(everything: Registry, clean: bool) -> None:
    texts = [
        "plain",
        None,
        "é",
        *([] if clean else [r"\N", "\\", "tab\there", "line\nfeed", "re\rturn", '"', "{a,b}", "\\."]),
    ]
    table = [
        {"relpath": f"{n}.fits", "remark": text, "number": None if n % 2 else n, "good": n > 2, "share": n / 3}
        for n, text in enumerate(texts)
    ]
    ingest(everything, table, filetype="everything", run=None)
    found = everything.query("everything")
    assert [record["remark"] for record in found] == texts
    assert [record["number"] for record in found] == [row["number"] for row in table]
    assert [(record["good"], record["share"]) for record in found] == [(row["good"], row["share"]) for row in table]


def test_names_that_look_like_quotes_are_known_again(registry: Registry) -> None:
    table = [calexp(n, relpath=f'"{n}",{{}}\'NULL.fits') for n in range(60)]
    assert ingest(registry, table) == (60, 0, 0)
    assert ingest(registry, table) == (0, 60, 0)


def test_progress_is_told_by_batches(sqlite_registry: Registry) -> None:
    from dbb.ingest import ingest_table

    told: list[int] = []
    table = [calexp(n) for n in range(BATCH + 1)]
    ingest_table(sqlite_registry, table, filetype="calexp", archive="home", run=RUN, progress=told.append)
    assert told == [BATCH, BATCH + 1]
