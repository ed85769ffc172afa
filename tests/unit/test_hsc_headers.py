"""What the headers of HSC raws mean; astro-metadata-translator is the second opinion."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbb.errors import HeaderError
from dbb.filetypes import CONVERTERS
from dbb_mappers.hsc import dbb_mappers, dbb_translate_header
from dbb_mappers.hsc.headers import derive, translate

HEADER: dict[str, object] = {
    "OBJECT": "STRIPE82L",
    "EXP-ID": "HSCE00903334",
    "FRAMEID": "HSCA90333426",
    "DET-ID": 23,
    "MJD": 56460.5615290124,
    "DATE-OBS": "2013-06-17",
    "FILTER01": "HSC-r   ",
    "PROP-ID": "o13015  ",
    "EXPTIME": 30.0,
    "INST-PA": "-30.000 ",
    "T_AG": 5,
    "T_CCDTV": -99.5,
    "T_CFGFIL": "cfg.txt",
    "DATA-TYP": "OBJECT  ",
}
REQUIRED = sorted(HEADER.keys() - {"MJD", "T_AG", "T_CCDTV"})
LETTERS = st.sampled_from("ABCDFGHIJKLMNOPQRSTUVWXYZ")  # HSCE begins the names of today


def meaning(**cards: object) -> dict[str, object]:
    return translate(HEADER | {key.replace("_ID", "-ID"): value for key, value in cards.items()})


@pytest.fixture
def real_header(shared: Path) -> dict[str, object]:
    fits = pytest.importorskip("astropy.io.fits")
    text = (shared / "data/ci_hsc/HSCA90333426.hdr").read_text(encoding="ascii")
    cards = fits.Header.fromstring(text, sep="\n")
    return dict(cards.items())


def test_every_column_of_the_raw_filetype_is_translated_in_its_type() -> None:
    columns = dbb_mappers()[0].filetypes["hsc_raw"].columns
    found = translate(HEADER)
    assert list(found) == [column.name for column in columns]
    for column in columns:
        assert column.source == "mapper"
        stored = CONVERTERS[column.type](found[column.name])
        assert (type(stored), stored) == (type(found[column.name]), found[column.name])


def test_a_header_of_today_gives_the_values_of_the_gen2_ingest() -> None:
    assert translate(HEADER) == {
        "field": "STRIPE82L",
        "visit": 903334,
        "ccd": 23,
        "pointing": 533,
        "filter": "HSC-R",
        "proposal": "o13015",
        "dateObs": "2013-06-17",
        "taiObs": "2013-06-17",
        "expTime": 30.0,
        "pa": -30.0,
        "autoguider": 5,
        "ccdTemp": -99.5,
        "config": "cfg.txt",
        "frameId": "HSCA90333426",
        "expId": "HSCE00903334",
        "dataType": "OBJECT",
    }


def test_the_real_header_is_understood(real_header: dict[str, object]) -> None:
    assert translate(real_header) == {
        "field": "STRIPE82L",
        "visit": 903334,
        "ccd": 23,
        "pointing": 533,
        "filter": "HSC-R",
        "proposal": "o13015",
        "dateObs": "2013-06-17",
        "taiObs": "2013-06-17",
        "expTime": 30.0,
        "pa": 0.0,
        "autoguider": 0,
        "ccdTemp": 0.0,
        "config": "20130327.cfg",
        "frameId": "HSCA90333426",
        "expId": "HSCA90333400",
        "dataType": "OBJECT",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"EXP-ID": "HSCE00012345"},
        {"EXP-ID": "HSCB12345600", "FRAMEID": "HSCB12345677"},
        {"EXP-ID": "HSCA00000000", "FRAMEID": "HSCA00203107"},
        {"EXP-ID": "HSCC00000000", "FRAMEID": "HSCC00203007"},
        {"DET-ID": 0, "FILTER01": "HSC-I2"},
        {"DET-ID": 103, "FILTER01": "NB0921", "EXPTIME": 1200.5},
        {"DET-ID": 113, "MJD": 56320.9, "DATE-OBS": "2013-01-28"},
        {"DET-ID": 108, "MJD": 56318.0, "DATE-OBS": "2013-01-26"},
        {"DET-ID": 108, "MJD": 56331.999, "DATE-OBS": "2013-02-08"},
        {"DET-ID": 108, "MJD": 56332.001, "DATE-OBS": "2013-02-09"},
        {"DATE-OBS": "2016-02-29", "MJD": 57447.5},
    ],
)
def test_astro_metadata_translator_agrees(real_header: dict[str, object], changes: dict[str, object]) -> None:
    hsc = pytest.importorskip("astro_metadata_translator.translators.hsc")
    header = real_header | changes
    other, ours = hsc.HscTranslator(header), translate(header)
    assert ours["visit"] == other.to_exposure_id() == other.to_visit_id()
    assert ours["ccd"] == other.to_detector_num()
    assert ours["filter"] == other.to_physical_filter()
    assert ours["field"] == other.to_object()
    assert ours["expTime"] == other.to_exposure_time().to_value("s")
    assert ours["dateObs"] == other.to_datetime_begin().isot[:10]


@given(visit=st.integers(0, 99_999_999))
def test_new_exposure_names_hold_the_visit(visit: int) -> None:
    assert meaning(EXP_ID=f"HSCE{visit:08d}")["visit"] == visit


@given(letter=LETTERS, number=st.integers(1, 999_999))
def test_old_exposure_names_count_a_million_visits_for_each_letter(letter: str, number: int) -> None:
    visit = (ord(letter) - ord("A")) * 1_000_000 + number
    assert meaning(EXP_ID=f"HSC{letter}{number:06d}00")["visit"] == visit


@given(letter=LETTERS, number=st.integers(0, 499_999), odd=st.integers(0, 1), frame=st.integers(0, 99))
def test_a_visit_of_zero_comes_from_the_frame_and_is_even(letter: str, number: int, odd: int, frame: int) -> None:
    found = meaning(EXP_ID="HSCA00000000", FRAMEID=f"HSC{letter}{2 * number + odd:06d}{frame:02d}")
    assert found["visit"] == (ord(letter) - ord("A")) * 1_000_000 + 2 * number


@given(mjd=st.floats(51544, 70000))
def test_the_pointing_is_the_day_of_the_mjd(mjd: float) -> None:
    day = dt.date(1858, 11, 17) + dt.timedelta(days=int(mjd))
    assert meaning(MJD=mjd)["pointing"] == (day - dt.date(2012, 1, 1)).days


@given(day=st.dates(dt.date(2000, 1, 1), dt.date(2040, 1, 1)))
def test_without_an_mjd_the_pointing_comes_from_the_date(day: dt.date) -> None:
    noon = (day - dt.date(1858, 11, 17)).days + 0.5
    cards = HEADER | {"DATE-OBS": day.isoformat()}
    with_mjd = translate(cards | {"MJD": noon})
    cards.pop("MJD")
    assert translate(cards) == with_mjd


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("#", "UNKNOWN"),
        (" STRIPE82L ", "STRIPE82L"),
        ("ssp_wide-w12 (i2)", "SSP_WIDE_W12__I2_"),
        ("M31/disk", "M31_DISK"),
        ("##", "__"),
    ],
)
def test_the_field_is_fit_for_a_path(target: str, field: str) -> None:
    assert meaning(OBJECT=target)["field"] == field


@pytest.mark.parametrize(("written", "ccd"), [(107, 105), (108, 110), (112, 106), (113, 107), (114, 108), (115, 109)])
def test_focus_ccds_of_the_second_commissioning_run_are_renumbered(written: int, ccd: int) -> None:
    cards = HEADER | {"DET-ID": written}
    assert [translate(cards | {"MJD": 55927.5 + day})["ccd"] for day in (391, 404)] == [ccd, ccd]


def test_ccds_of_other_runs_keep_their_numbers() -> None:
    cards = HEADER | {"DET-ID": 108}
    assert [translate(cards | {"MJD": 55927.5 + day})["ccd"] for day in (390, 405)] == [108, 108]


@pytest.mark.parametrize(("written", "stored"), [(False, 0), (True, 1), (5, 5), ("5", 5), (5.0, 5)])
def test_the_autoguider_is_an_integer_whatever_the_card_holds(written: object, stored: int) -> None:
    found = meaning(T_AG=written)["autoguider"]
    assert (type(found), found) == (int, stored)


def test_cards_added_in_later_runs_may_be_missing() -> None:
    early = {key: value for key, value in HEADER.items() if key not in {"T_AG", "T_CCDTV"}}
    assert {key: translate(early)[key] for key in ("autoguider", "ccdTemp")} == {"autoguider": 0, "ccdTemp": 0.0}


def test_a_time_of_day_in_the_date_is_dropped() -> None:
    found = translate(HEADER | {"DATE-OBS": "2013-06-17T13:28:36.039"})
    assert (found["dateObs"], found["taiObs"]) == ("2013-06-17", "2013-06-17")


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_card_is_named(key: str) -> None:
    with pytest.raises(HeaderError, match="is missing") as caught:
        translate({name: value for name, value in HEADER.items() if name != key})
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("EXP-ID", "HSCE0090333"),
        ("EXP-ID", "HSCA90333426"),
        ("EXP-ID", "SUPA00123450"),
        ("EXP-ID", ""),
        ("DET-ID", 112),
        ("DET-ID", -1),
        ("DET-ID", 2.5),
        ("DET-ID", "##NODATA##"),
        ("OBJECT", "  "),
        ("DATE-OBS", "17/06/13"),
        ("DATE-OBS", "2013-02-30"),
        ("DATE-OBS", "20130617"),
        ("EXPTIME", "##NODATA##"),
        ("EXPTIME", float("nan")),
        ("MJD", "##NODATA##"),
        ("FILTER01", "HSC/R"),
        ("FILTER01", "HSC-*"),
        ("T_AG", 0.5),
    ],
)
def test_an_odd_card_is_named(key: str, value: object) -> None:
    with pytest.raises(HeaderError) as caught:
        translate(HEADER | {key: value})
    assert caught.value.key == key


def test_an_odd_frame_is_named_where_the_visit_must_come_from_it() -> None:
    with pytest.raises(HeaderError) as caught:
        translate(HEADER | {"EXP-ID": "HSCA00000000", "FRAMEID": "HSCA1"})
    assert caught.value.key == "FRAMEID"


def test_date_and_pointing_follow_from_the_date_of_observation() -> None:
    assert derive({"dateObs": "2013-11-02"}) == {"taiObs": "2013-11-02", "pointing": 671}


def test_nothing_known_is_derived_again() -> None:
    assert derive({"dateObs": "2013-11-02", "pointing": 670, "taiObs": None}) == {"taiObs": "2013-11-02"}


def test_nothing_follows_without_a_date() -> None:
    assert derive({"visit": 903334, "dateObs": None}) == {}


def test_only_raws_are_translated() -> None:
    assert dbb_translate_header(HEADER, "calexp") is None
    assert dbb_translate_header(HEADER, "hsc_raw") == translate(HEADER)
