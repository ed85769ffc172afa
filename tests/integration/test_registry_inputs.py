"""Inputs of a pipeline that the registry answers: conditions, DESDM's query_fields, calibrations by date."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from demo_survey import CALIBS, RUN_A, RUN_B, Demo, Survey, counted, fill, make_demo
from registries import rows, small_registry
from sections import section, unknown

from dbb import Registry
from dbb.errors import PipelineError
from dbb.patch import stored_patch
from dbb.pipeline.inputs import query_lines
from dbb.pipeline.lines import ColumnLines, index_lines, known_keys
from dbb.pipeline.model import Data, Items
from dbb.pipeline.section import Line, Section

NOWHERE = Path("/nonexistent")
CALEXP = {"filetype": "calexp", "runs": f"{RUN_A}, r11p95"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return make_demo(tmp_path_factory)


@pytest.fixture(scope="module")
def registry(demo: Demo) -> Iterator[Registry]:
    with Registry(demo.url) as opened:
        yield opened


@pytest.fixture
def survey(tmp_path: Path, registry_url: str) -> Iterator[Survey]:
    made = Survey(tmp_path, registry_url)
    yield made
    made.registry.close()


def lines_of(registry: Registry, one: Section) -> list[Line]:
    lines = query_lines(one, registry, NOWHERE, unknown)
    assert lines is not None
    return list(lines)


def files_of(registry: Registry, kind: str = "list", **keys: object) -> list[dict[str, str]]:
    return [next(iter(line.values())) for line in lines_of(registry, section(kind, **keys))]


def failure(registry: Registry | None, one: Section) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        query_lines(one, registry, NOWHERE, unknown)
    return caught.value


def test_a_line_says_all_that_the_registry_knows(survey: Survey) -> None:
    survey.add(
        "deepcoadd_tempexp", "warp/a.fits.fz", run=RUN_B, content="12345",
        tract=0, patch="8,6", visit=903334, filter="HSC-R",
    )  # fmt: skip
    [line] = lines_of(survey.registry, section("file", filetype="deepcoadd_tempexp", where="patch = '8,6'"))
    assert line == {
        "imgs": {
            "filename": "a.fits", "compression": ".fz", "relpath": "warp/a.fits.fz", "archive": "home", "run": RUN_B,
            "filesize": "5", "md5sum": "827ccb0eea8a706c4c34a16891f84e7b",
            "tract": "0", "patch": "8x6", "visit": "903334", "filter": "HSC-R",
        }
    }  # fmt: skip


def test_numbers_texts_and_missing_values_are_the_same_on_both_databases(survey: Survey) -> None:
    survey.add("calexp", "a.fits", run=RUN_B, visit=1, ccd=2, filter="HSC-R", expTime=30, dateObs="2013-06-17")
    survey.add("calexp", "b.fits", run=RUN_B, visit=1, ccd=3, filter="HSC-R", expTime=0.1)
    one, two = files_of(survey.registry, filetype="calexp", where="visit = 1")
    assert (one["exptime"], one["dateobs"], two["exptime"]) == ("30.0", "2013-06-17", "0.1")
    assert not {"dateobs", "field", "pointing"} & two.keys()


def test_one_statement_serves_any_number_of_files(survey: Survey) -> None:
    files = [
        {"relpath": f"c/{number}.fits", "visit": number // 100, "ccd": number % 100, "filter": "HSC-R"}
        for number in range(6_000)
    ]
    survey.registry.ingest_table(files, filetype="calexp", archive="home", run=RUN_B)
    with counted(survey.registry) as few:
        assert len(files_of(survey.registry, filetype="calexp", where="visit = 7")) == 100
    with counted(survey.registry) as many:
        found = files_of(survey.registry, filetype="calexp", where="visit >= 0")
    assert len(many) == len(few)
    assert [(int(one["visit"]), int(one["ccd"])) for one in found] == [divmod(number, 100) for number in range(6_000)]


def test_lines_are_a_sequence_whose_lines_are_made_when_asked_for(registry: Registry) -> None:
    lines = query_lines(section(**CALEXP, where="visit > 0"), registry, NOWHERE, unknown)
    assert lines is not None
    whole = list(lines)
    assert [lines[number] for number in range(len(lines))] == whole
    assert (lines[-1], lines[1:7:2]) == (whole[-1], whole[1:7:2])
    with pytest.raises(IndexError):
        lines[len(lines)]


@pytest.mark.parametrize("keys", [("visit", "ccd"), ("filter",), ("relpath",), ()])
def test_lines_kept_by_column_are_grouped_as_lines_are(registry: Registry, keys: tuple[str, ...]) -> None:
    one = section(**CALEXP, where="visit > 0", divide_by=", ".join(keys))
    lines = query_lines(one, registry, NOWHERE, unknown)
    assert isinstance(lines, ColumnLines)
    assert index_lines(one, lines).groups == index_lines(one, list(lines)).groups
    assert known_keys(lines) == known_keys(list(lines))


def test_a_key_that_some_lines_lack_is_named_with_the_line(survey: Survey) -> None:
    survey.add("calexp", "a.fits", run=RUN_B, visit=1, ccd=1, filter="HSC-R", field="F")
    survey.add("calexp", "b.fits", run=RUN_B, visit=1, ccd=2, filter="HSC-R")
    one = section(filetype="calexp", where="visit = 1", divide_by="field")
    lines = query_lines(one, survey.registry, NOWHERE, unknown)
    assert lines is not None
    with pytest.raises(PipelineError, match="line 2 has no 'field'; it has archive, ccd"):
        index_lines(one, lines)


def test_runs_are_searched_in_order(registry: Registry) -> None:
    found = files_of(registry, **CALEXP, where="visit = 903334 AND ccd IN (16, 22)")
    other = files_of(registry, filetype="calexp", runs=f"r11p95, {RUN_A}", where="visit = 903334 AND ccd IN (16, 22)")
    assert [one["run"] for one in found] == [RUN_A, RUN_A]
    assert [one["run"] for one in other] == [RUN_B, RUN_B]


def test_two_files_of_one_data_id_without_an_order_are_an_error(registry: Registry) -> None:
    error = failure(registry, section(filetype="calexp", where="visit = 903334 AND ccd = 16"))
    assert "two files of calexp have the data id visit=903334 ccd=16" in str(error)
    assert error.exit_code == 4


def test_tract_and_patch_choose_exposures_through_overlaps(registry: Registry, demo: Demo) -> None:
    expected = {(r["visit"], r["ccd"]) for r in demo.rows("overlaps") if r["patch"] == "8,6" and r["tract"] == "0"}
    found = files_of(registry, **CALEXP, where="tract = 0 AND patch = '8,6'", overlaps="ci_hsc")
    assert {(one["visit"], one["ccd"]) for one in found} == expected


@pytest.mark.parametrize("keys", [{"output_fields": "tract, patch, filter"}, {"divide_by": "tract, patch, visit"}])
def test_a_file_has_a_line_for_each_patch_that_it_overlaps(
    registry: Registry, demo: Demo, keys: dict[str, str]
) -> None:
    where = "visit IN (903334, 903336)"
    exposures = {(one["visit"], one["ccd"]) for one in files_of(registry, **CALEXP, where=where)}
    overlaps = [
        (row["visit"], row["ccd"], row["tract"], stored_patch(row["patch"]))
        for row in demo.rows("overlaps")
        if (row["visit"], row["ccd"]) in exposures
    ]
    found = files_of(registry, **CALEXP, **keys, where=where)
    lines = [(one["visit"], one["ccd"], one["tract"], one["patch"]) for one in found]
    assert sorted(lines) == sorted(overlaps)
    assert lines == sorted(lines, key=lambda line: (int(line[0]), int(line[1]), int(line[2]), line[3]))


def test_lines_for_patches_are_those_for_which_the_condition_holds(registry: Registry, demo: Demo) -> None:
    where = "tract = 0 AND (patch = '8,6' OR patch = '8,7') AND NOT (patch = '8,7' AND ccd = 16)"
    found = files_of(registry, **CALEXP, where=where, divide_by="patch")
    assert {one["patch"] for one in found} == {"8x6", "8x7"}
    assert {one["ccd"] for one in found if one["patch"] == "8x7"} == {one["ccd"] for one in found} - {"16"}
    overlaps = {(r["visit"], r["ccd"], stored_patch(r["patch"])) for r in demo.rows("overlaps")}
    assert {(one["visit"], one["ccd"], one["patch"]) for one in found} <= overlaps


def test_files_with_a_patch_of_their_own_have_one_line(registry: Registry) -> None:
    where = {"filetype": "deepcoadd_calexp", "where": "tract = 0"}
    assert files_of(registry, **where, divide_by="patch") == files_of(registry, **where)


def test_overlaps_in_lines_are_the_same_on_both_databases_and_of_the_first_run(survey: Survey) -> None:
    for run, ccd in ((RUN_A, 1), (RUN_B, 1), (RUN_B, 2), (RUN_B, 3)):
        survey.add("calexp", f"{run}/{ccd}.fits", run=run, visit=1, ccd=ccd, filter="HSC-R")
    overlaps = [(1, 1, 1, "8,6"), (1, 1, 0, "8,6"), (1, 1, 0, "8,7"), (1, 2, 0, "8,7"), (2, 2, 0, "8,7")]
    survey.registry.load_overlaps(
        [dict(zip(("visit", "ccd", "tract", "patch"), row, strict=True)) for row in overlaps], version="v"
    )
    found = files_of(
        survey.registry, filetype="calexp", runs=f"{RUN_A}, {RUN_B}", where="filter = 'HSC-R'", match="patch"
    )
    assert [(one["run"], one["ccd"], one["tract"], one["patch"]) for one in found] == [
        (RUN_A, "1", "0", "8x6"), (RUN_A, "1", "0", "8x7"), (RUN_A, "1", "1", "8x6"), (RUN_B, "2", "0", "8x7"),
    ]  # fmt: skip
    error = failure(survey.registry, section(filetype="calexp", where="tract = 0", match="patch"))
    assert "two files of calexp have the data id visit=1 ccd=1" in str(error)


def test_live_overlaps_give_the_lines_that_computed_ones_give(registry_url: str, tmp_path: Path) -> None:
    (tmp_path / "places.toml").write_text(SKYMAP)
    with small_registry(registry_url, "calexp") as registry:
        registry.add_archive("home", str(tmp_path))
        images = [
            {"relpath": f"{ccd}.fits", "visit": 1, "ccd": ccd, "filter": "HSC-R", **corners(ra)}
            for ccd, ra in enumerate((0.0, 0.2, 0.35, 0.7, 90.0))
        ]
        registry.ingest_table(images, filetype="calexp", archive="home", run=RUN_B)
        registry.compute_overlaps(tmp_path / "places.toml", version="computed")
        registry.register_live_overlaps(tmp_path / "places.toml", version="live")
        for where in ("visit = 1", "patch = '1,1'", "ccd = 0 OR patch = '1,1'", "patch != '1,1' AND tract >= 0"):
            computed, live = (
                files_of(registry, filetype="calexp", where=where, overlaps=version, match="patch")
                for version in ("computed", "live")
            )
            assert computed == live, where
            assert computed


SKYMAP = """name = "places"
type = "explicit"
pixel_scale = 3.6
patch_inner = 300
patch_border = 20
[[tracts]]
id = 0
ra = 0.3
dec = 0.0
patches = [3, 2]
"""


def corners(ra: float) -> dict[str, float]:
    ras = {"ra_cent": ra, "rac1": ra - 0.05, "rac2": ra + 0.05, "rac3": ra + 0.05, "rac4": ra - 0.05}
    decs = {"dec_cent": 0.1, "decc1": 0.05, "decc2": 0.05, "decc3": 0.15, "decc4": 0.15}
    return {name: value % 360 for name, value in ras.items()} | decs


@pytest.mark.parametrize(
    ("patch", "where"),
    [
        ("8,6", "patch = '${patch}'"),
        ("8x6", "patch = '${patch}'"),
        ("8x6", "patch = :patch"),
        (Data("8,6"), "patch = '${patch}'"),
        (Data("8,6"), "patch = ${patch}"),
        (Data("8,6"), "patch = :patch"),
    ],
)
def test_a_patch_with_a_comma_is_one_value(registry: Registry, patch: str, where: str) -> None:
    found = files_of(registry, filetype="deepcoadd_calexp", where=where, top={"patch": patch})
    assert {one["patch"] for one in found} == {"8x6"}


def test_lists_and_ranges_of_the_operator_are_bound_for_in(registry: Registry) -> None:
    found = files_of(
        registry, **CALEXP, where="ccd IN (:ccds) AND visit = :visit", top={"ccds": "(15:17),22", "visit": "903334"}
    )
    assert [one["ccd"] for one in found] == ["16", "22"]


def test_several_values_of_a_program_are_bound_for_in(registry: Registry) -> None:
    top = {"ccds": Items((Data("16"), Data("22"))), "visit": 903334}
    assert len(files_of(registry, **CALEXP, where="ccd IN (:ccds) AND visit = ${visit}", top=top)) == 2


@pytest.mark.parametrize("where", ["field = ${evil}", "field = '${evil}'", "field = 'x${evil}'", "field = :evil"])
def test_a_value_from_data_is_never_part_of_the_question(registry: Registry, where: str) -> None:
    evil = Data("' OR visit > 0 OR field = '${x},*")
    error = failure(registry, section(**CALEXP, where=where, top={"evil": evil}))
    assert "no lines: no calexp fits where = " in str(error)
    assert error.exit_code == 5


def test_a_bound_text_takes_the_type_of_its_column(registry: Registry) -> None:
    top = {"visit": Data("903334"), "filter": Data("HSC-R"), "day": Data("2013-06-17")}
    where = "visit = ${visit} AND filter = ${filter} AND dateObs >= ${day}"
    assert files_of(registry, **CALEXP, where=where, top=top)
    wrong = failure(registry, section(**CALEXP, where="visit = ${filter}", top=top))
    assert "column 'visit' is of type int" in str(wrong)


def test_a_data_id_is_the_short_form(registry: Registry) -> None:
    found = files_of(registry, **CALEXP, id="visit=${visit} ccd=16^22", top={"visit": "903334"})
    assert [one["ccd"] for one in found] == ["16", "22"]
    error = failure(registry, section(**CALEXP, id="field=${x}", top={"x": Data("a^b")}))
    assert "id cannot hold the value 'a^b'" in str(error)


def test_output_fields_limit_the_columns(registry: Registry) -> None:
    one, *_ = files_of(registry, **CALEXP, where="visit = 903334", output_fields="filename, calexp.Filter")
    assert one.keys() - {"filesize", "md5sum"} == {
        "filename", "compression", "relpath", "archive", "run", "visit", "ccd", "filter"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "keys", "nick"),
    [
        ("file", {"columns": "a.fullname"}, "imgs"),
        ("list", {}, "calexp"),
        ("list", {"columns": "corr.fullname, $FMT{%05.2f,corr.ccd} visit"}, "corr"),
        ("list", {"columns": "a.fullname, b.fullname"}, "calexp"),
        ("list", {"columns": "a.fullname", "nick": "x"}, "x"),
    ],
)
def test_the_nickname_of_a_file(registry: Registry, kind: str, keys: dict[str, str], nick: str) -> None:
    [line] = lines_of(registry, section(kind, **CALEXP, id="visit=903334 ccd=16", **keys))
    assert [*line] == [nick]


@pytest.mark.parametrize(
    ("keys", "says", "code"),
    [
        ({"where": "visit = 1"}, "where and id need filetype (or dataset)", 2),
        ({"where": "visit = ", **CALEXP}, "where: expected", 2),
        ({"where": "vist = 1", **CALEXP}, "unknown", 5),
        ({"where": "visit = ${x}", **CALEXP}, "${x} has no value", 2),
        ({"where": "visit = :x", **CALEXP}, ":x has no value: give the section", 2),
        ({"where": "visit = '", **CALEXP}, "where: ", 2),
        ({"where": "visit = 1", "filetype": "calex"}, "unknown filetype 'calex'; known: calexp", 5),
        ({"where": "visit = 1", "filetype": "calexp", "runs": "Nobody_r1p1"}, "unknown run", 5),
        ({"where": "tract = 0", "overlaps": "x", **CALEXP}, "unknown overlap version 'x'", 5),
        ({"where": "visit = 903334", "output_fields": "visitt", **CALEXP}, "unknown column 'visitt'; known: visit", 5),
        ({"where": "ccd = 1", "filetype": "bias", "match": "patch"}, "bias have no tract and patch, nor visits", 2),
        ({"id": "visit", **CALEXP}, "id: expected key=value", 2),
        ({"query_fields": "visit", "visit": "1"}, "query_fields needs query_table", 2),
        ({"query_fields": "visit", "query_table": "x", "visit": "1"}, "unknown filetype 'x'", 5),
        ({"query_fields": "visit", "query_table": "calexp"}, "visit has no value", 2),
        ({"query_fields": "vist", "query_table": "calexp", "vist": "1"}, "unknown", 5),
        ({"query_fields": "task.id", "query_table": "calexp", "id": "1"}, "each say where", 2),
        ({"query_fields": "task.x", "query_table": "calexp", "x": "1"}, "can be asked, not of task", 2),
        ({"query_fields": "visit", "query_table": "calexp", "visit": "1", "join": "calexp.id=a.b"}, "not of a;", 2),
        ({"query_fields": "field", "query_table": "calexp", "field": "a*"}, "a regular expression cannot be asked", 2),
        ({"query_fields": "filetype", "query_table": "x", "filetype": "a,b"}, "one filetype, not a, b", 2),
        ({"calibs": CALIBS, "calibs_for": "list.x"}, "calibs needs filetype", 2),
        ({"calibs": CALIBS, "filetype": "bias"}, "calibs needs calibs_for = file.x or list.x", 2),
    ],
)
def test_what_cannot_be_asked_is_said(registry: Registry, keys: dict[str, str], says: str, code: int) -> None:
    error = failure(registry, section(**keys))
    assert says in str(error)
    assert str(error).startswith("module warp, list imgs")
    assert error.exit_code == code


def test_without_a_registry_the_section_says_that_it_needs_one() -> None:
    assert "where asks the registry: name one with --registry" in str(failure(None, section(**CALEXP, where="ccd = 1")))


def test_a_file_that_no_archive_keeps_is_no_input(survey: Survey) -> None:
    survey.add("calexp", "a.fits", run=RUN_B, visit=1, ccd=2, filter="HSC-R")
    with survey.registry.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM file_archive_info")
    assert "kept in no archive" in str(failure(survey.registry, section(filetype="calexp", where="visit = 1")))


@pytest.fixture
def bands(survey: Survey) -> Survey:
    for number, (filter_, field) in enumerate([("HSC-R", "A_1"), ("HSC-I", "AB1"), ("HSC-G", None)], start=1):
        survey.add("calexp", f"{number}.fits", run=RUN_B, visit=number, ccd=0, filter=filter_, field=field)
    return survey


@pytest.mark.parametrize(
    ("field", "value", "visits"),
    [
        ("filter", "HSC-R", "1"),
        ("filter", "HSC-R, HSC-G", "13"),
        ("filter", "!HSC-R", "23"),
        ("filter", "HSC-R,!HSC-G", "1"),
        ("filter", "%-R,HSC-I", "12"),
        ("filter", "!%-R", "23"),
        ("filter", "%R,%I,!HSC-I", "1"),
        ("calexp.visit", "1:2", "12"),
        ("calexp.visit", "(1:2),3", "123"),
        ("visit", "!2", "13"),
        ("field", "null", "3"),
        ("field", "!NULL", "12"),
        ("field", "null,A%", "123"),
        ("field", "A_1%", "12"),
        ("field", r"A\_1%", "1"),
        ("filter", Data("HSC-R"), "1"),
        ("filter", Items((Data("HSC-R"), Data("HSC-I"))), "12"),
        ("file_archive_info.archive", "home", "123"),
        ("wgb.reqnum", "11", "123"),
        ("filename", "%1%,%3%", "13"),
    ],
)
def test_query_fields_mean_what_they_mean_in_desdm(bands: Survey, field: str, value: object, visits: str) -> None:
    keys = {"query_fields": field, "query_table": "calexp", field.rpartition(".")[2]: value}
    assert "".join(one["visit"] for one in files_of(bands.registry, **keys)) == visits


def test_the_number_of_an_attempt_and_a_join_are_what_they_are_in_desdm(bands: Survey) -> None:
    [(attempt,)] = rows(bands.registry, "select id from pfw_attempt")
    keys = {"query_fields": "calexp.visit, desfile.pfw_attempt_id", "query_table": "calexp", "visit": "1:2"}
    found = files_of(bands.registry, **keys, pfw_attempt_id=attempt, join="calexp.desfile_id = desfile.id")
    assert [one["visit"] for one in found] == ["1", "2"]
    assert "no lines" in str(failure(bands.registry, section(**keys, pfw_attempt_id=attempt + 1)))


def test_a_field_is_looked_for_in_section_module_and_above(bands: Survey) -> None:
    keys = {"query_fields": "visit, filter, reqnum", "query_table": "calexp", "visit": "1:2"}
    found = files_of(bands.registry, **keys, module={"filter": "HSC-I", "visit": "3"}, top={"reqnum": "11"})
    assert [one["visit"] for one in found] == ["2"]


def test_a_name_with_a_list_in_it_is_looked_for_by_each_value(bands: Survey) -> None:
    keys = {
        "query_fields": "filename, filetype",
        "query_table": "images",
        "filetype": "calexp",
        "filename": "%${n}.fits",
    }
    assert [one["visit"] for one in files_of(bands.registry, **keys, top={"n": "1,3"})] == ["1", "3"]


def calibrations(registry: Registry, exposures: Sequence[Line], **keys: object) -> list[dict[str, str]]:
    one = section("file", **{"calibs": CALIBS, "calibs_for": "list.raws", "filetype": "bias", **keys})
    lines = query_lines(one, registry, NOWHERE, {"list.raws": exposures}.__getitem__)
    assert lines is not None
    return [line["imgs"] for line in lines]


def raws(registry: Registry, where: str = "visit > 0") -> list[Line]:
    return lines_of(registry, section("list", filetype="raw", where=where))


def test_each_exposure_gets_the_calibration_that_fits_its_day_and_detector(registry: Registry, demo: Demo) -> None:
    exposures = raws(registry)
    flats = calibrations(registry, exposures, dataset="flat", filetype="")
    valid = [row for row in demo.rows("calibs") if row["filetype"] == "flat"]
    for line, flat in zip(exposures, flats, strict=True):
        raw = line["hsc_raw"]
        assert [flat[key] for key in ("visit", "ccd", "filter", "taiobs")] == [
            raw[key] for key in ("visit", "ccd", "filter", "taiobs")
        ]
        [fitting] = [
            row["relpath"]
            for row in valid
            if (row["ccd"], row["filter"]) == (raw["ccd"], raw["filter"])
            and row["validStart"] <= raw["taiobs"] <= row["validEnd"]
        ]
        assert flat["relpath"] == fitting


def test_a_calibration_without_filter_carries_that_of_the_exposure(registry: Registry) -> None:
    [bias] = calibrations(registry, raws(registry, "visit = 903334 AND ccd = 16"))
    assert (bias["filter"], bias["filename"][:5], bias["archive"]) == ("HSC-R", "BIAS-", "home")
    assert "calibdate" in bias


def test_day_and_filter_of_a_line_without_them_are_those_of_the_raw(registry: Registry) -> None:
    lines = [{"x": {"filename": "f", "compression": "", "visit": "903334", "ccd": "16"}}]
    assert calibrations(registry, lines) == calibrations(registry, raws(registry, "visit = 903334 AND ccd = 16"))


def test_calibrations_take_the_same_statements_however_many_exposures(registry: Registry) -> None:
    one, many = raws(registry, "visit = 903334 AND ccd = 16"), raws(registry)
    with counted(registry) as few:
        calibrations(registry, one)
    with counted(registry) as more:
        calibrations(registry, many)
    assert (len(many) > len(one), len(more)) == (True, len(few))


def test_an_exposure_on_several_lines_gets_a_calibration_for_each_value_that_is_matched(registry: Registry) -> None:
    keys = {"filename": "f", "compression": "", "visit": "903334", "ccd": "16"}
    lines = [{"x": {**keys, "patch": patch}} for patch in ("8x6", "8x7")]
    assert len(calibrations(registry, lines, match="visit, ccd")) == 1
    assert [one["patch"] for one in calibrations(registry, lines, match="patch, visit")] == ["8x6", "8x7"]


def test_a_missing_calibration_names_the_exposure_unless_it_is_optional(registry: Registry) -> None:
    line = {"filename": "f", "compression": "", "visit": "7", "ccd": "16", "filter": "HSC-R", "taiobs": "1999-01-01"}
    with pytest.raises(PipelineError) as caught:
        calibrations(registry, [{"x": line}])
    assert f"no bias of version {CALIBS} fits exposure visit=7 ccd=16 (HSC-R, 1999-01-01)" in str(caught.value)
    assert caught.value.exit_code == 5
    assert calibrations(registry, [{"x": line}], optional="True") == []


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"visit": "1"}, "calibs_for = list.raws: the line of f has no visit and ccd"),
        ({"visit": "1", "ccd": "x"}, "f: ccd = x: expected an integer"),
        ({"visit": "1", "ccd": "16"}, "exposure visit=1 ccd=16 (None, None) has no date"),
    ],
)
def test_an_exposure_that_nobody_knows_enough_of_is_named(
    registry: Registry, values: dict[str, str], says: str
) -> None:
    with pytest.raises(PipelineError) as caught:
        calibrations(registry, [{"x": {"filename": "f", "compression": "", **values}}])
    assert says in str(caught.value)


def test_calibrations_are_the_same_on_both_databases(demo: Demo, registry: Registry, postgres_url: str) -> None:
    with fill(demo, postgres_url) as other:
        assert calibrations(other, raws(other)) == calibrations(registry, raws(registry))
