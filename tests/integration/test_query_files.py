"""Questions about files: expressions, data ids, runs in order; one SELECT, whatever the number of files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registries import execute, small_registry, statements

from dbb import Registry
from dbb.errors import AmbiguousError, NotFoundError, ParseError, UsageError
from dbb.filetypes import Column
from dbb.ingest import load_blacklist, load_visit_tags

OLD, NEW, OTHER_UNIT = "Ht0_r11p95", "Ht0_r12p01", "Wide_r11p95"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that tests only ask, one for each kind of database.

    It has calexps of visits 1 to 4 in OLD, of 3 to 6 in NEW and of 7 in another unit; and raws, which no run made.
    """
    if request.param == "sqlite":
        with filled(f"sqlite:///{tmp_path_factory.mktemp('query') / 'registry.db'}") as opened:
            yield opened
        return
    with request.getfixturevalue("postgres_server").database() as url, filled(url) as opened:
        yield opened


@pytest.fixture
def own(registry_url: str) -> Iterator[Registry]:
    """The same, to be changed."""
    with filled(registry_url) as opened:
        yield opened


def filled(url: str) -> Registry:
    opened = small_registry(url, "calexp", "hsc_raw", "deepcoadd_calexp", "deepcoadd_skymap")
    opened.add_archive("home", "/data/home")
    for run, made in ((OLD, range(1, 5)), (NEW, range(3, 7)), (OTHER_UNIT, [7])):
        opened.ingest_table([calexp(run, visit, ccd) for visit in made for ccd in (16, 22)], **AS_CALEXPS)
    raws = [{"relpath": f"raw/{visit}-16.fits", "visit": visit, "ccd": 16} for visit in range(1, 8)]
    opened.ingest_table(raws, filetype="raw", archive="home")
    return opened


AS_CALEXPS: dict[str, Any] = {"filetype": "calexp", "archive": "home"}


def calexp(run: str, visit: int, ccd: int) -> dict[str, Any]:
    return {
        "relpath": f"{run}/{visit}-{ccd}.fits",
        "run": run,
        "filesize": 1000 * visit + ccd,
        "visit": visit,
        "ccd": ccd,
        "filter": "HSC-R" if visit < 5 else "HSC-I2",
        "dateObs": f"2013-06-{10 + visit}",
        "expTime": 30.0 + visit,
        "field": None if visit == 6 else "STRIPE82L",
    }


def found(registry: Registry, where: str | None = None, **question: Any) -> list[str]:
    return [str(record.relpath) for record in registry.query("calexp", where=where, **question)]


def visits(registry: Registry, where: str | None = None, **question: Any) -> list[int]:
    return sorted({record["visit"] for record in registry.query("calexp", where=where, **question)})


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("visit IN (1, 3..5:2) AND ccd = 16", {1, 3, 5}),
        ("visit < 3 OR visit = 7", {1, 2, 7}),
        ("NOT visit < 6", {6, 7}),
        ("filter = 'HSC-I2'", {5, 6, 7}),
        ("band = 'r'", {1, 2, 3, 4}),
        ("band = 'i' AND detector = 22", {5, 6, 7}),
        ("band != 'r'", {5, 6, 7}),
        ("physical_filter = 'HSC-R' and DETECTOR = 16 and Exposure = 2", {2}),
        ("dateObs >= '2013-06-12' AND dateObs < '2013-06-14'", {2, 3}),
        ("day_obs = '2013-06-15'", {5}),
        ("exposure_time > 35.5", {6, 7}),
        ("field IS NULL", {6}),
        ("field IS NOT NULL AND visit >= 5", {5, 7}),
        ("field GLOB 'STRIPE*' AND visit > 4", {5, 7}),
        ("run = 'Ht0_r12p01'", {3, 4, 5, 6}),
        ("run = 'r11p95'", {1, 2, 3, 4, 7}),
        ("run = 'Ht0_r11p095'", {1, 2, 3, 4}),
        ("run != 'r11p95'", {3, 4, 5, 6}),
        ("run GLOB '*_r11p95'", {1, 2, 3, 4, 7}),
        ("run IN ('Wide_r11p95', 'Ht0_r12p1')", {3, 4, 5, 6, 7}),
        ("reqnum = 11 AND unitname = 'Wide' AND attnum = 95", {7}),
        ("reqnum = 11 AND attnum = 1", set()),
        ("filesize > 6000", {6, 7}),
        ("filename = '2-22.fits'", {2}),
        ("filename GLOB '[23]-16.fits'", {2, 3}),
        ("relpath = 'Wide_r11p95/7-16.fits'", {7}),
        ("relpath GLOB 'Wide_*'", {7}),
        ("archive = 'home' AND visit = 1", {1}),
        ("archive = 'none'", set()),
        ("filetype = 'calexp' AND visit = 1", {1}),
        ("md5sum IS NULL AND visit = 1", {1}),
        ("visit = 1 AND ra_cent IS NULL", {1}),
    ],
)  # fmt: skip
def test_an_expression_picks_the_files(registry: Registry, where: str, expected: set[int]) -> None:
    assert visits(registry, where) == sorted(expected)


def test_a_data_id_is_the_short_form(registry: Registry) -> None:
    assert found(registry, ids=["visit=1^5 ccd=16"]) == [f"{OLD}/1-16.fits", f"{NEW}/5-16.fits"]
    assert visits(registry, ids=["visit=1..7:3"]) == [1, 4, 7]
    assert visits(registry, ids=["visit=1", "visit=7 filter=HSC-I2"]) == [1, 7]
    assert visits(registry, "ccd = 22", ids=["visit=2^3", "band=i"]) == [2, 3, 5, 6, 7]


def test_values_may_be_bound(registry: Registry) -> None:
    assert visits(registry, "visit IN (:first, :second)", binds={"first": 2, "second": 6}) == [2, 6]
    assert visits(registry, "field = :f", binds={"f": "'; drop table desfile; --"}) == []
    assert len(found(registry)) == 18


def test_a_record_has_the_facts_of_the_file_and_its_metadata(registry: Registry) -> None:
    [record] = registry.query("calexp", where="visit = 6 AND ccd = 16")
    fixed = ("relpath", "filename", "archive", "run", "filesize", "md5sum")
    assert registry.record_columns("calexp")[:6] == list(fixed)
    assert list(record.as_dict()) == registry.record_columns("calexp")
    assert record.as_dict() == dict.fromkeys(registry.record_columns("calexp")) | {
        "relpath": f"{NEW}/6-16.fits",
        "filename": "6-16.fits",
        "archive": "home",
        "run": NEW,
        "filesize": 6016,
        "visit": 6,
        "ccd": 16,
        "filter": "HSC-I2",
        "pointing": 533 - 1,
        "dateObs": "2013-06-16",
        "taiObs": "2013-06-16",
        "expTime": 36.0,
    }
    with pytest.raises(NotFoundError, match=r"unknown column 'vist'; known: visit, "):
        record["vist"]


def test_unknown_names_list_the_known_ones_nearest_first(registry: Registry) -> None:
    for problem, question in (
        (r"unknown name 'vizit'; known: visit, ", {"where": "ccd = 1 AND vizit = 2"}),
        (r"unknown name 'cdd'; known: ccd, ", {"ids": ["visit=1 cdd=2"]}),
        (r"unknown run 'Ht0_r11p96'; known: Ht0_r11p95, ", {"runs": [OLD, "Ht0_r11p96"]}),
        (r"unknown tag 'BEST'", {"runs": ["tag:BEST"]}),
        (r"unknown column 'dateobz'; known: dateObs, ", {"order_by": ["dateobz"]}),
        (r"unknown overlap version 'v1'", {"where": "tract = 0", "overlaps": "v1"}),
    ):
        with pytest.raises(NotFoundError, match=problem) as caught:
            registry.query("calexp", **question)
        assert caught.value.exit_code == 5
    with pytest.raises(NotFoundError, match=r"unknown filetype 'calex'; known: calexp, "):
        registry.query("calex")


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ({"where": "visit = 'one'"}, ParseError),
        ({"where": "visit ="}, ParseError),
        ({"where": "visit = 99999999999999999999"}, ParseError),
        ({"where": "dateObs = 'yesterday'"}, ParseError),
        ({"where": "run = 'yesterday'"}, UsageError),
        ({"where": "relpath = '/etc/passwd'"}, ValueError),
        ({"ids": ["visit"]}, ParseError),
        ({"runs": ["yesterday"]}, UsageError),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    registry: Registry, question: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind) as caught:
        registry.query("calexp", **question)
    assert getattr(caught.value, "exit_code", None) == 2


def test_files_come_in_the_order_of_their_data_ids_or_as_asked(registry: Registry) -> None:
    keys = [(record["visit"], record["ccd"]) for record in registry.query("calexp")]
    assert keys == sorted(keys)
    by_size = [record.filesize for record in registry.query("calexp", order_by=["-filesize"])]
    assert by_size == sorted(by_size, reverse=True, key=lambda size: size or 0)
    two = [(record["ccd"], record["visit"]) for record in registry.query("calexp", order_by=["-ccd", "Visit"])]
    assert two == sorted(two, key=lambda pair: (-pair[0], pair[1]))
    assert registry.query("calexp", order_by=["field"])[0]["visit"] == 6
    assert [record["visit"] for record in registry.query("calexp", limit=2)] == [1, 1]
    assert [record["visit"] for record in registry.query("calexp", limit=2, order_by=["-visit"])] == [7, 7]
    assert registry.query("calexp", limit=0) == []


def test_the_first_run_that_has_a_data_id_wins(registry: Registry) -> None:
    new_first = {record["visit"]: record.run for record in registry.query("calexp", runs=[NEW, OLD])}
    assert new_first == {1: OLD, 2: OLD, 3: NEW, 4: NEW, 5: NEW, 6: NEW}
    old_first = {record["visit"]: record.run for record in registry.query("calexp", runs=[OLD, NEW])}
    assert old_first == {1: OLD, 2: OLD, 3: OLD, 4: OLD, 5: NEW, 6: NEW}
    assert len(registry.query("calexp", runs=[NEW, OLD])) == 12


def test_a_run_without_unit_means_all_units(registry: Registry) -> None:
    assert visits(registry, runs=["r11p95"]) == [1, 2, 3, 4, 7]
    assert visits(registry, runs=["Wide_r11p95"]) == [7]


def test_without_an_order_all_files_are_given(registry: Registry) -> None:
    assert len(found(registry, "visit = 3")) == 4


def test_files_that_no_run_made_are_not_filtered_by_runs(registry: Registry) -> None:
    assert len(registry.query("raw", runs=[NEW])) == 7
    assert len(registry.query("raw", runs=[NEW, OLD])) == 7


def test_a_condition_on_runs_does_not_hide_an_earlier_run(registry: Registry) -> None:
    assert {record.run for record in registry.query("calexp", where="visit = 3 AND reqnum = 11", runs=[NEW, OLD])} == {
        OLD
    }


@given(order=st.permutations([OLD, NEW, OTHER_UNIT]), most=st.integers(1, 3))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_order_of_runs_is_obeyed(registry: Registry, order: list[str], most: int) -> None:
    has = {OLD: range(1, 5), NEW: range(3, 7), OTHER_UNIT: range(7, 8)}
    expected = {
        visit: next(run for run in order[:most] if visit in has[run])
        for visit in range(1, 8)
        if any(visit in has[run] for run in order[:most])
    }
    assert {record["visit"]: record.run for record in registry.query("calexp", runs=order[:most])} == expected


def test_two_files_of_one_run_and_data_id_are_both_named(own: Registry) -> None:
    twin = calexp(OLD, 1, 16) | {"relpath": "other/1-16.fits"}
    own.ingest_table([twin], **AS_CALEXPS)
    assert len(found(own, "visit = 1 AND ccd = 16")) == 2
    with pytest.raises(AmbiguousError) as caught:
        own.query("calexp", where="visit = 1", runs=[OLD, NEW])
    message = str(caught.value)
    assert "two files of calexp have the data id visit=1 ccd=16" in message
    assert f"{OLD}/1-16.fits (home)" in message
    assert "other/1-16.fits (home)" in message
    assert caught.value.exit_code == 4


def test_runs_that_one_text_means_have_equal_rank(own: Registry) -> None:
    own.ingest_table([calexp(OTHER_UNIT, 1, 16)], **AS_CALEXPS)
    with pytest.raises(AmbiguousError, match="visit=1 ccd=16"):
        own.query("calexp", runs=["r11p95"])
    assert {record.run for record in own.query("calexp", where="visit = 1", runs=[OLD, "r11p95"])} == {OLD}


def test_a_tag_is_searched_in_the_order_it_was_given(own: Registry) -> None:
    own.tag("BEST", NEW, OLD)
    assert {record.run for record in own.query("calexp", where="visit = 3", runs=["tag:BEST"])} == {NEW}
    assert {record.run for record in own.query("calexp", where="visit = 3", runs=[OLD, "tag:BEST"])} == {OLD}
    assert visits(own, runs=["tag:BEST", OTHER_UNIT]) == [1, 2, 3, 4, 5, 6, 7]
    assert visits(own, "tag = 'BEST'") == [1, 2, 3, 4, 5, 6]
    assert visits(own, "tag != 'BEST'") == [7]
    assert visits(own, "tag IS NULL") == [7]


def test_visit_tags_and_the_blacklist_can_be_asked(own: Registry) -> None:
    assert load_visit_tags(own, [{"Visit": 1}, {"Visit": 5, "remark": "?"}], tag="cosmos") == 2
    load_visit_tags(own, [{"visit": 5}, {"visit": 6}], tag="good_seeing")
    load_visit_tags(own, [{"visit": 5}], tag="good_seeing")
    assert visits(own, "visit_tag = 'cosmos'") == [1, 5]
    assert visits(own, "visit_tag = 'cosmos' AND visit_tag = 'good_seeing'") == [5]
    assert visits(own, "visit_tag IS NULL") == [2, 3, 4, 7]
    assert visits(own, "visit_tag != 'cosmos'") == [2, 3, 4, 6, 7]
    black = [{"visit": 2, "ccd": 16, "remark": "glow"}, {"visit": 3, "ccd": None, "reason": "clouds"}]
    assert load_blacklist(own, black, reason="amplifier") == 2
    load_blacklist(own, [{"visit": 3, "ccd": 22}], reason="satellite")
    assert found(own, "blacklist = 'amplifier'") == [f"{OLD}/2-16.fits"]
    assert visits(own, "blacklist = 'clouds'") == [3]
    assert visits(own, "blacklist IS NOT NULL") == [2, 3]
    assert sorted(found(own, "visit IN (2, 3) AND blacklist IS NULL")) == [f"{OLD}/2-22.fits"]
    assert visits(own, "NOT blacklist IN ('clouds', 'amplifier')") == [1, 2, 4, 5, 6, 7]


def test_every_reason_on_the_blacklist_counts(own: Registry) -> None:
    for reason in ("a_first", "z_last"):
        load_blacklist(own, [{"visit": 1}], reason=reason)
    assert visits(own, "blacklist = 'a_first'") == visits(own, "blacklist = 'z_last'") == [1]
    assert visits(own, "blacklist != 'z_last'") == [2, 3, 4, 5, 6, 7]


def test_the_number_of_statements_does_not_depend_on_the_number_of_files(own: Registry) -> None:
    def asked() -> int:
        with statements(own) as sent:
            own.query("calexp", where="visit > 0 AND band = 'r'", ids=["ccd=0..103"], runs=[NEW, OLD])
        return len(sent)

    asked()  # reads the filetypes, once
    few = asked()
    many = [calexp(NEW, visit, 16) | {"filter": "HSC-R", "dateObs": None} for visit in range(100, 5100)]
    own.ingest_table(many, **AS_CALEXPS)
    assert len(found(own, runs=[NEW, OLD])) == 5012
    asked()
    assert asked() == few <= 6


PLAIN = [
    ("visit = {}", (3, 4, 99, 3)),
    ("visit = {} AND ccd < 20", (3, 7, 3.0, 3.5)),
    ("Visit >= {} AND ccd = 22", (5, 6.5, 1)),
    ("visit != {}", (1, 2)),
]


@pytest.mark.parametrize(("form", "values"), PLAIN)
def test_questions_of_one_form_have_each_their_own_answer(
    registry: Registry, form: str, values: tuple[float, ...]
) -> None:
    # what is in brackets is no plain question, whose statement would be kept
    for value in values:
        where = form.format(value)
        assert registry.query("calexp", where=where) == registry.query("calexp", where=f"({where}) OR visit = -1")


def test_a_kept_statement_serves_any_order_limit_and_runs(registry: Registry) -> None:
    for visit in (3, 4):
        where = f"visit = {visit}"
        every = registry.query("calexp", where=where, order_by=["-filesize"])
        assert [record["ccd"] for record in every] == [22, 22, 16, 16]
        assert registry.query("calexp", where=where, order_by=["-filesize"], limit=1) == every[:1]
        assert {record.run for record in registry.query("calexp", where=where, runs=[NEW, OLD])} == {NEW}


def test_a_kept_statement_is_forgotten_with_the_filetypes(own: Registry) -> None:
    assert len(own.query("calexp", where="visit = 1")) == 2
    kind = own.filetype("calexp")
    own.register_filetypes([replace(kind, columns=(*kind.columns, Column("seeing", "float")))], "hsc")
    [first, _] = own.query("calexp", where="visit = 1")
    assert first["seeing"] is None


def test_a_plain_question_is_one_statement_once_the_archives_are_known(registry: Registry) -> None:
    numbers = []
    for visit in (1, 2, 3):
        registry.query("calexp", where="visit = 1")
        with statements(registry) as sent:
            registry.query("calexp", where=f"visit = {visit}")
        numbers.append(len(sent))
    assert numbers == [1, 1, 1]


def test_an_archive_that_another_program_adds_takes_its_place_in_the_order(own: Registry) -> None:
    [first] = own.query("calexp", where="visit = 1 AND ccd = 16")
    copy = "INSERT INTO file_archive_info SELECT filename, path, compression, 'copy', desfile_id FROM file_archive_info"
    with Registry(own.url) as other:
        other.add_archive("copy", "/data/copy")
        execute(other, f"{copy} WHERE archive_name = 'home'")
    found = own.query("calexp", where="visit = 1 AND ccd = 16")
    assert [(record.relpath, record.archive) for record in found] == [(first.relpath, "copy"), (first.relpath, "home")]


def test_a_record_reads_like_a_mapping_and_is_equal_by_its_values(registry: Registry) -> None:
    [record] = registry.query("calexp", where="visit = 7 AND ccd = 16")
    assert record["VISIT"] == record.metadata["visit"] == record.as_dict()["visit"] == 7
    assert (record["relpath"], record["run"]) == (record.relpath, record.run)
    assert record == registry.query("calexp", where="visit = 7 AND ccd = 16", runs=[OTHER_UNIT])[0]
    assert repr(record).startswith("FileRecord(relpath='Wide_r11p95/7-16.fits'")
    with pytest.raises(NotFoundError, match="unknown column 'cdc'"):
        record["cdc"]
