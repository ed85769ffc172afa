"""Name patterns: what they expand to, how that is read back, and the Butler template that gives the same names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbb.errors import UnsafePathError, UsageError
from dbb.filetypes import Filetype
from dbb.patch import stored_patch
from dbb.patterns import RUN_KEYS, butler_spelling, is_safe_path, parse_pattern, safe_path
from dbb.plugins import plugins

HSC = plugins().mapper("hsc")
NAMED = sorted(name for name, filetype in HSC.filetypes.items() if filetype.name_pattern is not None)
FORBIDDEN = "*?[]\\\n\x00\x7f"
RUN = {"unitname": "Ht0", "reqnum": 11, "attnum": 95}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(0, 10**9),
    "float": st.floats(0, 1e6),
    "date": st.dates().map(lambda day: day.isoformat()),
    "patch": st.tuples(st.integers(0, 99), st.integers(0, 99)).map(lambda xy: f"{xy[0]}x{xy[1]}"),
    "bool": st.booleans(),
    "str": st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,8}", fullmatch=True),
}
SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "filter": st.sampled_from(sorted(HSC.bands)),
    "calibDate": st.dates().map(lambda day: day.isoformat())
    | st.datetimes().map(lambda time: time.isoformat(timespec="seconds")),
}


def types_of(filetype: Filetype) -> dict[str, str]:
    return {**filetype.types, "reqnum": "int", "attnum": "int"}


def values_for(filetype: Filetype, keys: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    types = types_of(filetype)
    return st.fixed_dictionaries({key: SPECIAL.get(key, VALUES[types.get(key, "str")]) for key in keys})


@settings(max_examples=300)
@given(st.sampled_from(NAMED), st.data())
def test_every_name_of_hsc_is_read_back(name: str, data: st.DataObject) -> None:
    filetype = HSC.filetypes[name]
    pattern = filetype.name_pattern
    assert pattern is not None
    values = data.draw(values_for(filetype, pattern.keys))
    assert pattern.invert(pattern.expand(values), types_of(filetype)) == values


@settings(max_examples=300)
@given(st.sampled_from(NAMED), st.data())
def test_the_butler_template_gives_the_same_path(name: str, data: st.DataObject) -> None:
    filetype = HSC.filetypes[name]
    for pattern in (filetype.name_pattern, filetype.directory):
        assert pattern is not None
        data_id = data.draw(values_for(filetype, tuple(key for key in pattern.keys if key not in RUN_KEYS)))
        template = pattern.template(filetype.types, RUN)
        assert template % data_id == pattern.expand({**data_id, **RUN})


@given(
    st.lists(
        st.sampled_from(["${visit:7}", "${ccd:3}", "${tract}", "r${reqnum}p${attnum:2}", "100%", "CORR", "."]),
        min_size=1,
        max_size=8,
    ),
    st.fixed_dictionaries(dict.fromkeys(("visit", "ccd", "tract", "reqnum", "attnum"), st.integers(0, 10**8))),
)
def test_numbers_between_separators_are_read_back(parts: list[str], values: dict[str, int]) -> None:
    pattern = parse_pattern("-".join(parts))
    types = dict.fromkeys(values, "int")
    expected = {key: values[key] for key in pattern.keys}
    assert pattern.invert(pattern.expand(values), types) == expected
    assert pattern.template(types, {}) % values == pattern.expand(values)


def test_a_key_that_comes_twice_must_agree_with_itself() -> None:
    pattern = parse_pattern("${tract}/calexp-${tract}-${patch}.fits")
    types = {"tract": "int", "patch": "patch"}
    assert pattern.invert("0/calexp-0-8x6.fits", types) == {"tract": 0, "patch": "8x6"}
    assert pattern.invert("0/calexp-1-8x6.fits", types) is None


@pytest.mark.parametrize(
    "name",
    [
        "CORR-903334-016.fits",
        "CORR-0903334-16.fits",
        "CORR-0903334-016.fits.fz",
        "xCORR-0903334-016.fits",
        "CORR-٠٩٠٣٣٣٤-016.fits",
    ],
)
def test_a_name_that_the_pattern_cannot_give_is_not_read(name: str) -> None:
    assert parse_pattern("CORR-${visit:7}-${ccd:3}.fits").invert(name, {"visit": "int", "ccd": "int"}) is None


def test_an_iso_date_in_a_text_stays_whole() -> None:
    pattern = parse_pattern("FLAT-${calibDate}-${filter}-${ccd:3}.fits")
    found = pattern.invert("FLAT-2013-11-03-HSC-I-016.fits", {"ccd": "int"})
    assert found == {"calibDate": "2013-11-03", "filter": "HSC-I", "ccd": 16}


def test_a_number_may_be_longer_than_its_width() -> None:
    pattern = parse_pattern("r${reqnum}p${attnum:2}")
    assert pattern.expand({"reqnum": 11, "attnum": 123}) == "r11p123"
    assert pattern.invert("r11p123", {"reqnum": "int", "attnum": "int"}) == {"reqnum": 11, "attnum": 123}


def test_a_missing_value_is_named_with_the_pattern() -> None:
    with pytest.raises(UsageError, match=r"pattern 'a-\$\{visit:7\}' needs a value for 'visit'"):
        parse_pattern("a-${visit:7}").expand({"visit": None})


@pytest.mark.parametrize("text", ["$visit", "${visit", "${}", "${vi sit}", "${visit:}", "${visit:abc}", "${1a}", "a$"])
def test_a_pattern_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write variables as"):
        parse_pattern(text)


def test_the_butler_gets_its_own_spelling_of_the_patch() -> None:
    assert butler_spelling({"patch": "8x6", "tract": 0}) == {"patch": "8,6", "tract": 0}
    assert butler_spelling({"tract": 0}) == {"tract": 0}


@pytest.mark.parametrize("path", ["a", "a/b.fits", ".hidden", "a/..b", "a b/c,d", "a.b/c..", "…/ü"])
def test_plain_relative_paths_are_safe(path: str) -> None:
    assert safe_path(path) == path


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a/.", *(f"a{c}b" for c in FORBIDDEN)])
def test_paths_that_leave_the_root_or_hold_glob_characters_are_refused(path: str) -> None:
    with pytest.raises(UnsafePathError, match=r"relpath .* is refused"):
        safe_path(path, "relpath")


@given(st.text("ab./*[]?\\\n", max_size=12))
def test_a_safe_path_never_leaves_its_root(path: str) -> None:
    if is_safe_path(path):
        parts = path.split("/")
        assert all(part not in {"", ".", ".."} for part in parts)
        assert not set(path) & set("*[]?\\\n")


@given(st.text("0123456789,x", max_size=8))
def test_only_patches_are_read_as_patches(text: str) -> None:
    found = parse_pattern("${patch}").invert(text, {"patch": "patch"})
    if found is not None and all(len(part) <= 6 for part in text.replace(",", "x").split("x")):
        assert stored_patch(str(found["patch"]))
