"""Gen2 data ids become conditions and lists of data ids."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbb.errors import ParseError
from dbb.query import And, Comparison, In, Literal, Name, Or, Range, expand_id, parse_ids

VALUES = st.lists(st.from_regex(r"[A-Za-z0-9,_=-]{1,5}", fullmatch=True), min_size=1, max_size=3)
CHOICES = st.dictionaries(st.sampled_from(["visit", "ccd", "patch", "filter"]), VALUES, min_size=1)


def raw(*values: str) -> tuple[Literal, ...]:
    return tuple(Literal(value, raw=True) for value in values)


def test_the_example_of_the_manual_becomes_the_tree_it_says() -> None:
    assert parse_ids(["visit=903334^903336 ccd=0..8:2 patch=8,6"]) == And(
        (
            In(Name("visit"), raw("903334", "903336")),
            In(Name("ccd"), (Range(0, 8, 2),)),
            Comparison("=", Name("patch"), *raw("8,6")),
        )
    )


def test_several_texts_are_alternatives() -> None:
    first, second = Comparison("=", Name("a"), *raw("1")), Comparison("=", Name("b"), *raw("2"))
    assert parse_ids(["a=1", "  b=2 "]) == Or((first, second))
    assert parse_ids(["a=1"]) == first


def test_only_integers_make_ranges() -> None:
    assert parse_ids(["a=x..y^1..2^-3..-1^1.5..2"]) == In(
        Name("a"), (*raw("x..y"), Range(1, 2), Range(-3, -1), *raw("1.5..2"))
    )


def test_offsets_are_in_the_texts_joined_by_newlines() -> None:
    texts = ["visit=1", "visit=2 ccd=3^44"]
    tree = parse_ids(texts)
    assert isinstance(tree, Or)
    second = tree.items[1]
    assert isinstance(second, And)
    ccds = second.items[1]
    assert isinstance(ccds, In)
    assert "\n".join(texts)[ccds.items[1].at :] == "44"


@given(CHOICES)
def test_a_data_id_expands_to_the_product_of_its_values(choices: dict[str, list[str]]) -> None:
    text = " ".join(f"{key}={'^'.join(values)}" for key, values in choices.items())
    assert expand_id(text) == [dict(zip(choices, one, strict=True)) for one in itertools.product(*choices.values())]


def test_ranges_expand_with_their_end_and_the_last_key_varies_fastest() -> None:
    assert expand_id("visit=1^7 ccd=0..4:2") == [
        {"visit": visit, "ccd": ccd} for visit in ("1", "7") for ccd in ("0", "2", "4")
    ]


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("", 0, "empty"),
        ("  ", 0, "empty"),
        ("visit=1 ccd", 8, "expected key=value, found 'ccd'"),
        ("visit=1 =3", 8, "expected key=value, found '=3'"),
        ("8x=3", 0, "expected key=value"),
        ("visit=1 ccd=2 Visit=3", 14, "'Visit' is given twice"),
        ("visit=", 6, "a value of 'visit' is empty"),
        ("visit=1^^2", 8, "is empty"),
        ("visit=1^", 8, "is empty"),
        ("ccd=1^9..3", 6, "the range '9..3' is empty"),
        ("ccd=1..9:0", 9, "the step of a range must be a positive integer, not '0'"),
        ("ccd=1..9:x", 9, "must be a positive integer"),
        ("ccd=1..9:", 9, "must be a positive integer"),
        ("ccd=1..99999999999999999999", 7, "64 bits"),
    ],
)
def test_a_fault_is_shown_at_its_place(text: str, at: int, says: str) -> None:
    with pytest.raises(ParseError) as expanding:
        expand_id(text)
    with pytest.raises(ParseError) as parsing:
        parse_ids(["visit=1", text])
    assert says in expanding.value.problem
    assert (expanding.value.at, parsing.value.at) == (at, at + len("visit=1\n"))
    assert str(parsing.value) == str(expanding.value)  # shows the text at fault only


def test_no_text_at_all_is_refused() -> None:
    with pytest.raises(ParseError, match="no data id"):
        parse_ids([])


def test_a_product_too_large_to_list_is_refused_before_it_is_made() -> None:
    with pytest.raises(ParseError, match="can be listed"):
        expand_id("visit=1..1000000000 ccd=1..1000000000")
