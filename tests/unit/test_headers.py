"""Header rules as data: a card becomes a column by pattern, values and type, or it is said which card is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbb.errors import HeaderError, UsageError
from dbb.filetypes import Column, Filetype
from dbb.headers import apply_rules, read_rules


def apply(rule: dict[str, Any], header: dict[str, object], type_: str = "str", *, required: bool = True) -> object:
    filetype = Filetype("raw", None, "raw", (Column("x", type_, "mapper", required),), ("x",))
    return apply_rules(read_rules({"x": rule}), header, filetype).get("x")


@pytest.mark.parametrize(
    ("rule", "header", "type_", "value"),
    [
        ({"card": "A"}, {"A": " b "}, "str", " b "),
        ({"card": "a"}, {"A": 5}, "int", 5),
        ({"card": "A|B"}, {"B": "7"}, "int", 7),
        ({"card": "A|B"}, {"A": 1, "B": 2}, "int", 1),
        ({"card": "A", "pattern": r"MINI-(\d+)"}, {"A": "MINI-000042"}, "int", 42),
        ({"card": "A", "pattern": r"\d+"}, {"A": "42 "}, "int", 42),
        ({"card": "A", "values": {"S29": 1}}, {"A": "S29"}, "int", 1),
        ({"card": "A", "values": {"Y": "y"}}, {"A": "g"}, "str", "g"),
        ({"card": "A", "pattern": r"(\S+).*", "values": {"Y": "y"}}, {"A": "Y DECam c0005"}, "str", "y"),
        ({"card": "A", "values": {"5": "five"}}, {"A": 5}, "str", "five"),
        ({"card": "A"}, {"A": "2013-06-17T03:12:00"}, "date", "2013-06-17"),
        ({"card": "A", "default": "UNKNOWN"}, {}, "str", "UNKNOWN"),
        ({"card": "A", "default": 3}, {"A": ""}, "int", 3),
        ({"card": "A"}, {"A": 0}, "int", 0),
    ],
)
def test_a_card_becomes_a_column(rule: dict[str, Any], header: dict[str, object], type_: str, value: object) -> None:
    assert apply(rule, header, type_) == value


def test_a_missing_card_is_an_error_only_where_the_column_is_required() -> None:
    with pytest.raises(HeaderError, match=r"A\|B: is missing; column x needs it"):
        apply({"card": "A|B"}, {})
    assert apply({"card": "A|B"}, {}, required=False) is None


@pytest.mark.parametrize(
    ("rule", "header", "words"),
    [
        ({"card": "A", "pattern": r"\d+"}, {"A": "four"}, r"A: 'four' does not fit the pattern"),
        ({"card": "A"}, {"A": "four"}, r"A: 'four' does not fit column x: expected an integer"),
    ],
)
def test_a_value_that_does_not_fit_names_the_card(rule: dict[str, Any], header: dict[str, object], words: str) -> None:
    with pytest.raises(HeaderError, match=words):
        apply(rule, header, "int")


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (5, "headers must be a table of rules"),
        ({"x": "A"}, r"headers\.x must be a table with card"),
        ({"x": {"pattern": "a"}}, r"headers\.x must be a table with card"),
        ({"x": {"card": "A", "patern": "a"}}, r"headers\.x must be a table with card"),
        ({"x": {"card": "A", "pattern": "("}}, r"headers\.x: pattern '\(' is no regular expression"),
        ({"x": {"card": "A", "values": [1]}}, r"headers\.x: values must be a table"),
    ],
)
def test_an_unusable_rule_is_named(rules: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_rules(rules)


def test_a_column_without_a_rule_is_named() -> None:
    filetype = Filetype("raw", None, "raw", (Column("y", "str", "mapper"),), ())
    with pytest.raises(UsageError, match="column y has the source mapper and no rule"):
        apply_rules(read_rules({"x": {"card": "A"}}), {"A": 1}, filetype)


@given(st.dictionaries(st.text("abc", min_size=1), st.integers(0, 99), min_size=1))
def test_a_table_of_values_is_looked_up_by_text(values: dict[str, int]) -> None:
    for written, number in values.items():
        assert apply({"card": "A", "values": values}, {"A": f" {written}"}, "int") == number
