"""Conditions of sections: what came from data stays a value, whatever it contains."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sections import section

from dbb.errors import ParseError, PipelineError
from dbb.pipeline.inputs.conditions import where_query
from dbb.pipeline.model import Data
from dbb.query import And, Comparison, Literal, Name, Node, parse, parse_ids

TEXTS = st.text(st.sampled_from("a'\\ :${}(),^.%*=xORIN8\n\0"), min_size=1, max_size=12) | st.text(min_size=1)


def asked(where: str, **top: object) -> Node:
    query = where_query(section(filetype="calexp", where=where, top=top))
    assert query.where is not None
    return parse(query.where, query.binds)


@given(TEXTS)
def test_data_outside_of_quotes_is_one_value_whose_type_the_column_decides(value: str) -> None:
    assert asked("field = ${x}", x=Data(value)) == Comparison("=", Name("field"), Literal(value, raw=True))


@given(TEXTS)
def test_data_in_quotes_is_part_of_the_text(value: str) -> None:
    assert asked("field = 'it''s ${x}!' AND ccd = 1", x=Data(value)) == parse(
        "field = :x AND ccd = 1", {"x": f"it's {value}!"}
    )


@given(TEXTS)
def test_data_behind_another_variable_is_still_a_value(value: str) -> None:
    assert asked("${condition}", condition="field = ${x}", x=Data(value)) == Comparison(
        "=", Name("field"), Literal(value, raw=True)
    )


@given(TEXTS)
def test_data_in_a_data_id_is_one_value_or_refused(value: str) -> None:
    one = section(filetype="calexp", id="ccd=1 field=${x}", top={"x": Data(value)})
    try:
        ids = where_query(one).ids
        node = parse_ids(ids)
    except (PipelineError, ParseError):
        return
    pairs = ("ccd", "1"), ("field", value)
    assert node == And(tuple(Comparison("=", Name(name), Literal(text, raw=True)) for name, text in pairs))


def test_a_value_that_only_a_quantum_knows_chooses_nothing() -> None:
    with pytest.raises(PipelineError, match="a value that only a quantum or a step knows cannot"):
        asked("field = '$HEAD{a.fits,FIELD}'")
