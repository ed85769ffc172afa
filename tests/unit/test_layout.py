"""The two SQLite files of a job hold what they were given, and refuse what could not be found again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from demo_survey import select
from hypothesis import given
from hypothesis import strategies as st

from dbb.butler.camera import camera_layout
from dbb.butler.layout import ExposureRegistry, Layout, write_calibrations
from dbb.errors import AmbiguousError, UsageError
from dbb.keys import CameraKeys
from dbb.plugins import plugins

LAYOUT = Layout(
    mapper_class="lsst.obs.x.XMapper",
    raw={"visit": "int", "ccd": "int", "filter": "text", "taiObs": "text", "expTime": "double"},
    visit=["visit", "filter", "taiObs"],
    exposure=["visit", "ccd"],
    calibrations=["bias", "flat"],
)
ROWS = [
    (1, 2, "r", "2013-06-17", 30.0),
    (1, 3, "r", "2013-06-17", None),
    (4, 2, None, "2013-06-18", 0.5),
]
BIAS: dict[str, Any] = {
    "dataset": "bias", "path": "in/CALIB/b", "data_id": {"ccd": 2, "calibDate": "2013-01-01"},
    "calib_date": "2013-01-01", "valid_start": "2013-01-01", "valid_end": "2014-01-01",
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite3"


def written(path: Path, rows: list[tuple[Any, ...]], layout: Layout = LAYOUT) -> Path:
    registry = ExposureRegistry(path, layout)
    for row in rows:
        registry.add(row)
    registry.close()
    return path


def test_rows_are_kept_in_order_with_one_row_per_visit(path: Path) -> None:
    written(path, ROWS)
    assert select(path, "SELECT id, visit, ccd, filter, taiObs, expTime FROM raw ORDER BY id") == [
        (number, *row) for number, row in enumerate(ROWS, start=1)
    ]
    assert select(path, "SELECT * FROM raw_visit ORDER BY visit") == [(1, "r", "2013-06-17"), (4, None, "2013-06-18")]


def test_the_first_row_of_a_visit_stands_for_it(path: Path) -> None:
    written(path, [(1, 2, "r", "2013-06-17", 1.0), (1, 3, "i", "2013-06-18", 1.0)])
    assert select(path, "SELECT * FROM raw_visit") == [(1, "r", "2013-06-17")]


def test_rows_are_given_back_as_they_were_added(path: Path) -> None:
    registry = ExposureRegistry(path, LAYOUT)
    for row in ROWS:
        registry.add(row)
    assert list(registry.rows()) == [dict(zip(LAYOUT.raw, row, strict=True)) for row in ROWS]
    registry.close()


@given(
    seconds=st.lists(st.none() | st.floats(allow_nan=False), min_size=1, max_size=4),
    text=st.text(st.characters(exclude_categories=("Cs",)), max_size=9),
)
def test_no_digit_of_a_number_and_no_character_of_a_text_is_lost(
    tmp_path_factory: pytest.TempPathFactory, seconds: list[float | None], text: str
) -> None:
    registry = ExposureRegistry(tmp_path_factory.mktemp("json") / "r.sqlite3", LAYOUT)
    rows = [(number, 1, text, "2013-06-17", value) for number, value in enumerate(seconds)]
    for row in rows:
        registry.add(row)
    assert list(registry.rows()) == [dict(zip(LAYOUT.raw, row, strict=True)) for row in rows]
    registry.close()


def test_rows_of_numbers_alone_and_without_any_are_given_back_too(tmp_path: Path) -> None:
    for kind, row in (("double", (0.1 + 0.2, 1.0)), ("int", (1, 2))):
        layout = replace(LAYOUT, raw={"visit": kind, "ccd": kind}, visit=["visit"])
        registry = ExposureRegistry(tmp_path / f"{kind}.sqlite3", layout)
        registry.add(row)
        assert list(registry.rows()) == [{"visit": row[0], "ccd": row[1]}]
        registry.close()


def test_many_rows_come_in_batches(path: Path) -> None:
    rows = [(visit, 1, "r", "2013-06-17", 1.0) for visit in range(12_001)]
    written(path, rows)
    assert select(path, "SELECT count(*), min(visit), max(visit) FROM raw") == [(12_001, 0, 12_000)]
    assert select(path, "SELECT count(*) FROM raw_visit") == [(12_001,)]


def test_no_journal_is_left_beside_the_file(path: Path) -> None:
    written(path, ROWS)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_values_are_bound_and_never_part_of_the_sql(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("sql") / "r.sqlite3"
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    written(path, [(number, 1, text, "x'; DROP TABLE raw; --", 1.0) for number, text in enumerate(texts)])
    assert [row[0] for row in select(path, "SELECT filter FROM raw ORDER BY id")] == texts


@pytest.mark.parametrize(
    "rows", [[(1, 2, "r", "d", 1.0)] * 2, [([1], 2, "r", "d", 1.0)], [(1 << 70, 2, "r", "d", 1.0)], [(1, 2)]]
)
def test_rows_that_cannot_be_stored_are_refused_in_words(path: Path, rows: list[tuple[Any, ...]]) -> None:
    with pytest.raises(UsageError, match="the exposures cannot be rows of the job's registry"):
        written(path, rows)


@pytest.mark.parametrize(
    "changes",
    [
        {"raw": {"visit": "int", "ccd; DROP": "int"}},
        {"raw": {"visit": "int", "ccd": "blob"}},
        {"raw": {"visit": "int", "ccd": "int) --"}},
        {"visit": ["visit", "other"]},
        {"visit": []},
        {"exposure": []},
        {"exposure": ["visit", "tract"]},
        {"calibrations": ["bias", "fl at"]},
        {"calibrations": ["bias", "BIAS"]},
        {"calibrations": ["bias", ""]},
        {"calibrations": ["a", "A_Visit"]},
        {"calibrations": ["raw"]},
        {"calibrations": ["Raw_Visit"]},
        {"calibrations": ["sqlite_sequence"]},
        {"raw": LAYOUT.raw | {"ID": "int"}},
        {"raw": LAYOUT.raw | {"VISIT": "int"}},
        {"visit": ["visit", "visit"]},
        {"exposure": ["visit", "ccd", "visit"]},
        {"mapper_class": "os.system"},
        {"mapper_class": "XMapper"},
        {"mapper_class": "lsst.obs..XMapper"},
        {"mapper_class": "lsst.obs.XMapper\n"},
    ],
)
def test_a_layout_holds_names_that_sql_can_have(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        replace(LAYOUT, **changes)


def test_names_may_be_words_of_sql(path: Path, tmp_path: Path) -> None:
    raw = {"select": "int", "order": "int", "table": "text"}
    layout = replace(LAYOUT, raw=raw, visit=["select", "table"], exposure=["select", "order"], calibrations=["SELECT"])
    registry = ExposureRegistry(path, layout)
    registry.add((1, 2, "x"))
    assert list(registry.rows()) == [{"select": 1, "order": 2, "table": "x"}]
    registry.close()
    assert select(path, "SELECT * FROM raw_visit") == [(1, "x")]
    write_calibrations(tmp_path / "calibs.sqlite3", layout, [BIAS | {"dataset": "SELECT"}])
    assert select(tmp_path / "calibs.sqlite3", 'SELECT ccd FROM "SELECT"') == [(2,)]
    assert select(tmp_path / "calibs.sqlite3", "SELECT filter FROM select_visit") == [("NONE",)]


def test_more_columns_than_a_table_can_have_are_refused(path: Path) -> None:
    layout = replace(LAYOUT, raw=LAYOUT.raw | {f"c{number}": "int" for number in range(3000)})
    with pytest.raises(UsageError, match="too many columns"):
        ExposureRegistry(path, layout)


def test_a_layout_comes_back_from_its_form_in_a_manifest() -> None:
    for layout in (LAYOUT, camera_layout(plugins().mapper("hsc"), "both")):
        assert Layout.from_dict(layout.as_dict()) == replace(
            layout, visit=list(layout.visit), exposure=list(layout.exposure), calibrations=list(layout.calibrations)
        )


@pytest.mark.parametrize("key", ["class", "raw", "visit", "exposure", "calibrations"])
def test_a_form_that_lacks_something_is_refused(key: str) -> None:
    form = {name: value for name, value in LAYOUT.as_dict().items() if name != key}
    with pytest.raises(UsageError, match=f"the manifest's entry 'butler' is incomplete: '{key}'"):
        Layout.from_dict(form)


def test_a_form_of_an_older_dbb_has_the_usual_keys() -> None:
    form = {name: value for name, value in LAYOUT.as_dict().items() if name not in {"keys", "calib_root"}}
    assert Layout.from_dict(form) == LAYOUT


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"calib_root": "../elsewhere"}, "calibrations lie in CALIB or in . of a repository"),
        ({"keys": {"detector": "x; drop"}}, "no Gen2 registry can have"),
        ({"keys": {"detector": "validstart"}}, "cannot have two of one name"),
        ({"keys": {"detector": "Filter"}}, "cannot have two of one name"),
        ({"keys": 5}, "is incomplete"),
    ],
)
def test_keys_that_cannot_be_columns_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Layout.from_dict(LAYOUT.as_dict() | changes)


def test_calibration_tables_have_the_cameras_own_columns(path: Path) -> None:
    keys = CameraKeys("night", "chip", "colour", "made", "none")
    raw = {"night": "int", "chip": "text", "colour": "text"}
    layout = Layout("a.BMapper", raw, ["night"], ["night", "chip"], ["bias"], keys, ".")
    write_calibrations(path, layout, [BIAS | {"data_id": {"chip": "N4", "made": "2013-01-01"}}])
    columns = "colour, chip, made, validStart"
    assert select(path, f"SELECT {columns} FROM bias") == [("none", "N4", "2013-01-01", "2013-01-01")]
    with pytest.raises(UsageError, match="has no chip in its data id"):
        write_calibrations(path.with_name("other"), layout, [BIAS])


@pytest.mark.parametrize("value", [None, 5, [1], {"a": 1}])
def test_a_form_of_wrong_types_is_refused(value: object) -> None:
    with pytest.raises(UsageError):
        Layout.from_dict(LAYOUT.as_dict() | {"raw": value})


def test_layouts_of_the_eras_differ_in_their_calibrations() -> None:
    camera = plugins().mapper("hsc")
    assert list(camera_layout(camera, "2017").calibrations) == ["bias", "dark", "flat", "fringe"]
    assert list(camera_layout(camera, "2021").calibrations) == ["bias", "dark", "flat", "fringe", "sky", "defects"]


def test_calibrations_without_a_filter_get_the_word_of_the_butlers_ingest(path: Path) -> None:
    flat = BIAS | {"dataset": "flat", "data_id": {"ccd": 2, "calibDate": "2013-01-01", "filter": "r"}}
    write_calibrations(path, LAYOUT, [BIAS, flat])
    columns = "filter, ccd, calibDate, validStart, validEnd"
    dates = ("2013-01-01", "2013-01-01", "2014-01-01")
    assert select(path, f"SELECT {columns} FROM bias") == [("NONE", 2, *dates)]
    assert select(path, f"SELECT {columns} FROM flat") == [("r", 2, *dates)]
    assert select(path, "SELECT * FROM flat_visit") == [("2013-01-01", "r")]


def test_tables_of_types_without_calibrations_are_there_and_empty(path: Path) -> None:
    write_calibrations(path, LAYOUT, [])
    assert select(path, "SELECT (SELECT count(*) FROM bias), (SELECT count(*) FROM flat_visit)") == [(0, 0)]


def test_two_calibrations_with_one_key_are_refused(path: Path) -> None:
    with pytest.raises(AmbiguousError, match=r"two bias .*filter=NONE ccd=2 calibDate=2013-01-01"):
        write_calibrations(path, LAYOUT, [BIAS, BIAS])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset": "dark"}, "'dark' is no calibration type of this camera; known: bias, flat"),
        ({"data_id": {}}, "the bias calibration in/CALIB/b has no ccd in its data id"),
        ({"valid_end": ["x"]}, "cannot be a row of a registry"),
    ],
)
def test_a_calibration_that_cannot_be_stored_is_named(path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        write_calibrations(path, LAYOUT, [BIAS | changes])
    assert words in str(caught.value)
