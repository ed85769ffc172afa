"""Words: the operator's text is split as a shell does, values are not."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbb.errors import MissingVariableError, PipelineError, VariableError
from dbb.pipeline.model import Data
from dbb.pipeline.values import Head, Hole
from dbb.pipeline.words import Template, Word, join_arguments, split_words

SHELL = st.text(st.sampled_from(list("ab= \t\n'\"\\#,$^é%")), max_size=20)
ANY_VALUE = st.text(st.characters(exclude_characters="\0"), min_size=1)


@given(SHELL)
def test_a_text_without_values_is_split_as_shlex_splits_it(text: str) -> None:
    try:
        expected = shlex.split(text)
    except ValueError:
        with pytest.raises(PipelineError):
            split_words((text,))
        return
    assert Template(split_words((text,))).fill({}) == expected


@given(ANY_VALUE, st.sampled_from(["--id patch=", "'a b", 'x"', "\\"]))
def test_a_value_is_never_split_whatever_it_holds(value: str, before: str) -> None:
    after = {"'": "'", '"': '"'}.get(next((char for char in before if char in "'\""), ""), "")
    of_hole = Template(split_words((before, Hole("v"), after))).fill({"v": value})
    of_data = Template(split_words((before, Data(value), after))).fill({})
    assert of_hole == of_data
    assert str(of_hole[-1]).endswith(value)
    assert len(of_hole) == len(shlex.split(before + "v" + after))


def test_a_value_beside_text_and_other_values_makes_one_word() -> None:
    template = Template(split_words(("patch=", Hole("x"), ",", Data("6 6"), " last")))
    assert template.fill({"x": "8 8"}) == ["patch=8 8,6 6", "last"]


def test_an_empty_value_is_no_word_unless_it_is_quoted() -> None:
    template = Template(split_words((Hole("a"), ' "', Hole("a"), '" x=', Hole("a"))))
    assert template.prune(template.fill({"a": ""})) == ["", "x="]


def test_percent_signs_stay() -> None:
    assert Template(split_words(("100%s %(a)s ", Hole("a")))).fill({"a": "%d"}) == ["100%s", "%(a)s", "%d"]


@pytest.mark.parametrize(("text", "problem"), [("a 'b", "not closed"), ("a\\", "backslash"), ("a\0b", "NUL")])
def test_a_text_that_is_no_line_of_words_is_refused(text: str, problem: str) -> None:
    with pytest.raises(PipelineError, match=problem):
        split_words((text,))


def test_a_value_with_a_nul_character_cannot_make_words() -> None:
    with pytest.raises(VariableError, match="NUL"):
        Template(split_words((Hole("a"),))).fill({"a": "x\0y"})


def test_words_that_are_the_same_for_all_are_shared_and_lists_are_not() -> None:
    template = Template(split_words(("prog --option ", Hole("a"))))
    first, second = template.fill({"a": "x"}), template.fill({"a": "y"})
    assert (first, second) == (["prog", "--option", "x"], ["prog", "--option", "y"])
    assert first[1] is second[1]


def test_a_value_that_is_not_given_is_named() -> None:
    with pytest.raises(MissingVariableError, match=r"\$\{ccd\} has no value"):
        Template(split_words((Hole("ccd"),))).fill({})


def test_a_value_is_padded() -> None:
    assert Template([Word((Hole("ccd", 3),))]).fill({"ccd": "7"}) == ["007"]


def test_a_value_to_be_padded_must_be_an_integer() -> None:
    with pytest.raises(VariableError, match="needs an integer"):
        Template([Word((Hole("ccd", 3),))]).fill({"ccd": "x"})


def test_header_values_are_left_for_the_running_step() -> None:
    head = Head((Hole("file.a.fullname"),), ("GAIN", "RDNOISE"))
    words = Template(split_words((head, " gain=", head, "_", Hole("n"))))
    later = {"head": {"file": "a.fits", "keys": ["GAIN", "RDNOISE"]}}
    assert words.fill({"file.a.fullname": "a.fits", "n": "1"}) == [later, {"join": ["gain=", later, "_1"]}]


def test_arguments_are_joined_with_header_values_in_them() -> None:
    later: dict[str, object] = {"head": {"file": "a.fits", "keys": ["GAIN"]}}
    assert join_arguments(join_arguments("a", later), "b", "c") == {"join": ["a", later, "bc"]}
