"""Fields between fixed texts: every match is one, and no parts and no text take long."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbb.errors import UsageError
from dbb.matching import Field, Matcher


def longest(text: str, at: int) -> Sequence[int]:
    return range(len(text), at, -1)


PARTS = st.lists(st.sampled_from(["-", "ab", "a", Field("x", longest), Field("y", longest)]), max_size=6)


@given(parts=PARTS, text=st.text(alphabet="ab-", max_size=9))
def test_a_match_gives_the_text_back_and_there_is_one_if_any_values_do(parts: list[str | Field], text: str) -> None:
    found = Matcher(parts, "it").match(text)
    pieces = ["".join(text[start:end]) for start, end in itertools.combinations(range(len(text) + 1), 2)]
    keys = sorted({part.key for part in parts if isinstance(part, Field)})
    every = (dict(zip(keys, values, strict=True)) for values in itertools.product(pieces, repeat=len(keys)))
    possible = [values for values in every if written(parts, values) == text]
    assert found is None if not possible else found in possible


def written(parts: Sequence[str | Field], values: dict[str, str]) -> str:
    return "".join(values[part.key] if isinstance(part, Field) else part for part in parts)


def test_what_is_preferred_counts() -> None:
    shortest = Field("x", lambda text, at: range(at + 1, len(text) + 1))
    assert Matcher([shortest, "-", Field("y", longest)], "it").match("a-b-c") == {"x": "a", "y": "b-c"}
    assert Matcher([Field("x", longest), "-", shortest], "it").match("a-b-a-b") == {"x": "a-b"}
    assert Matcher([Field("x", longest), "-", Field("y", longest)], "it").match("a-b-c") == {"x": "a-b", "y": "c"}


def test_many_fields_that_fit_nowhere_come_to_an_end() -> None:
    parts = [part for number in range(12) for part in (Field(f"k{number}", longest), "-")]
    assert Matcher([*parts, "+"], "it").match("-" * 60) is None


def test_fields_that_repeat_in_too_many_ways_are_an_error() -> None:
    parts = [Field(f"k{number % 6}", longest) for number in range(12)]
    with pytest.raises(UsageError, match="it can be read backwards in too many ways"):
        Matcher([*parts, "."], "it").match("ab" * 60 + "!.")
