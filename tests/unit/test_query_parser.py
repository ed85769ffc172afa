"""Expressions become trees, trees print as expressions, faults are shown at their place."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbb.errors import ParseError
from dbb.query import And, Comparison, Glob, In, IsNull, Literal, Name, Node, Not, Or, Range, names_in, parse
from dbb.query.parser import MAX_DEPTH
from dbb.query.tokens import KEYWORDS

INTEGERS = st.integers(-(2**63), 2**63 - 1)
NAMES = (
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,8}", fullmatch=True).filter(lambda n: n.upper() not in KEYWORDS).map(Name)
)
TEXTS = st.text(max_size=8).map(Literal)
LITERALS = st.one_of(INTEGERS, st.floats(allow_nan=False, allow_infinity=False), st.booleans()).map(Literal) | TEXTS
RANGES = st.builds(
    lambda ends, step: Range(min(ends), max(ends), step), st.tuples(INTEGERS, INTEGERS), st.integers(1, 9)
)
LEAVES: st.SearchStrategy[Node] = st.one_of(
    NAMES,
    st.builds(Comparison, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), NAMES, NAMES | LITERALS),
    st.builds(In, NAMES, st.lists(LITERALS | RANGES, min_size=1, max_size=3).map(tuple), st.booleans()),
    st.builds(Glob, NAMES, TEXTS, st.booleans()),
    st.builds(IsNull, NAMES, st.booleans()),
)
TREES: st.SearchStrategy[Node] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=12,
)


def problem(text: str, binds: dict[str, object] | None = None) -> tuple[int, str]:
    """Return where parsing fails and why."""
    with pytest.raises(ParseError) as caught:
        parse(text, binds)
    assert caught.value.text == text
    return caught.value.at, caught.value.problem


@given(TREES)
def test_a_printed_tree_parses_back_to_an_equal_one(tree: Node) -> None:
    again = parse(str(tree))
    assert again == tree
    assert repr(again) == repr(tree)  # tells 1 from 1.0 and TRUE


@given(st.text(alphabet="ab19 .'()<>=!:,-+*TtINORANDotglbs\n\"", max_size=30))
def test_any_text_parses_or_is_refused_at_a_place_inside_it(text: str) -> None:
    try:
        tree, at = parse(text, {"a": 1, "b": [1, 2]}), None
    except ParseError as error:
        tree, at = None, error.at
    if tree is not None:
        assert parse(str(tree)) == tree
    assert at is None or 0 <= at <= len(text)


def test_the_example_of_the_manual_becomes_the_tree_it_says() -> None:
    tree = parse("visit IN (903334, 903340..903350:2) AND filter = 'HSC-R' AND NOT ccd = 9")
    assert tree == And(
        (
            In(Name("visit"), (Literal(903334), Range(903340, 903350, 2))),
            Comparison("=", Name("filter"), Literal("HSC-R")),
            Not(Comparison("=", Name("ccd"), Literal(9))),
        )
    )


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a = 1 or b = 2 and not c = 3", "a = 1 OR b = 2 AND NOT c = 3"),
        ("(a = 1 OR b = 2) AND c = 3", "(a = 1 OR b = 2) AND c = 3"),
        ("not (flag or bad)", "NOT (flag OR bad)"),
        ("((((a))))", "a"),
        ("NOT NOT a", "NOT NOT a"),
        ("a <> 1", "a != 1"),
        ("9 = ccd", "ccd = 9"),
        ("9 < ccd", "ccd > 9"),
        ("9 >= ccd", "ccd <= 9"),
        ("a=b", "a = b"),
        ("a = -5 AND b > +.5 AND c < 1.e3", "a = -5 AND b > 0.5 AND c < 1000.0"),
        ("a NOT IN (-3..-1)", "a NOT IN (-3..-1)"),
        ("a in (1 .. 3 : 1)", "a IN (1..3)"),
        ("a is null and b Is Not Null", "a IS NULL AND b IS NOT NULL"),
        ("glob(f, 'x*')", "f GLOB 'x*'"),
        ("f not glob '[ab]?'", "f NOT GLOB '[ab]?'"),
        ("object = 'O''Neil'", "object = 'O''Neil'"),
        ("a = true AND b = False", "a = TRUE AND b = FALSE"),
        ("detector.raft = 'S11'", "detector.raft = 'S11'"),
        ("t > T'2020-03-30 12:20:33'", "t > '2020-03-30T12:20:33'"),
        ("t > t'2020-03-30T12:20:33.25'", "t > '2020-03-30T12:20:33.25'"),
        ("T = 1\n AND\tt2 = 2", "T = 1 AND t2 = 2"),
    ],
)
def test_spellings_are_read_and_printed_in_one_form(text: str, printed: str) -> None:
    assert str(parse(text)) == printed


def test_nodes_know_where_they_stand_and_do_not_compare_it() -> None:
    tree = parse("ccd = 1 AND visit = 22")
    assert isinstance(tree, And)
    right = tree.items[1]
    assert isinstance(right, Comparison)
    assert (right.at, right.left.at, right.right.at) == (12, 12, 20)
    assert right == parse("visit = 22")


def test_names_are_collected_in_lower_case() -> None:
    assert names_in(parse("Visit = 1 AND (a = B OR NOT c IS NULL) AND d IN (1) AND e GLOB 'x' AND flag")) == {
        *("visit", "a", "b", "c", "d", "e", "flag")
    }


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        (7, Literal(7)),
        (1.5, Literal(1.5)),
        ("x'y", Literal("x'y")),
        (True, Literal(True)),
        (np.int64(7), Literal(7)),
        (np.float32(0.5), Literal(0.5)),
        (date(2014, 3, 28), Literal("2014-03-28")),
        (datetime(2014, 3, 28, 12, 20, 33), Literal("2014-03-28T12:20:33")),  # noqa: DTZ001  # times here have no zone
        (datetime(2014, 3, 28, 12, tzinfo=timezone(timedelta(hours=9))), Literal("2014-03-28T03:00:00")),
        (datetime(2014, 3, 28, 12, tzinfo=UTC), Literal("2014-03-28T12:00:00")),
    ],
)
def test_a_bound_value_stands_for_a_literal(value: object, literal: Literal) -> None:
    tree = parse("a = :v", {"v": value})
    assert tree == Comparison("=", Name("a"), literal)
    assert repr(tree.right) == repr(literal)


def test_bound_lists_add_to_the_values_of_in() -> None:
    binds: dict[str, object] = {"two": [1, 2], "one": 5, "few": {"b", "a"}, "none": ()}
    assert str(parse("a IN (0, :two, :none, 7..9, :one)", binds)) == "a IN (0, 1, 2, 7..9, 5)"
    assert str(parse("a NOT IN :few", binds)) == "a NOT IN ('a', 'b')"


def test_a_bound_text_cannot_change_the_query() -> None:
    assert parse("a = :v", {"v": "x' OR 'y' = b"}) == Comparison("=", Name("a"), Literal("x' OR 'y' = b"))


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("", 0, "empty"),
        (" \n ", 0, "empty"),
        ("a =", 3, "expected a value, found the end"),
        ("a = 1 b", 6, "expected AND, OR or the end, found 'b'"),
        ("a 3", 2, "expected an operator (=, !=, <, <=, >, >=, IN, GLOB, IS), AND, OR or the end, found '3'"),
        ("a = 1)", 5, "found ')'"),
        ("(a = 1", 6, "expected AND, OR or ')', found the end"),
        ("a AND", 5, "expected a condition such as visit = 903334, found the end"),
        ("a NOT 3", 6, "expected IN or GLOB"),
        ("a IS 3", 5, "expected NULL or NOT NULL"),
        ("a IN 3", 5, "expected '(' or a bind"),
        ("a IN ()", 6, "expected a value, found ')'"),
        ("a IN (1, 2", 10, "expected ',' or ')'"),
        ("a IN (1 2)", 8, "expected ',' or ')', found '2'"),
        ("a IN (9..3)", 6, "the range 9..3 is empty"),
        ("a IN (1..3:0)", 11, "must be positive"),
        ("a IN (1..3:-1)", 11, "must be positive"),
        ("a IN (1..x)", 9, "expected an integer, found 'x'"),
        ("a IN (1..2.5)", 9, "expected an integer, found '2.5'"),
        ("a IN (b)", 6, "expected a value, found 'b'"),
        ("1 = 2", 4, "the name of a column, because the other side is a value"),
        ("1", 1, "expected one of ="),
        ("a = NULL", 4, "IS NULL"),
        ("a IN (1, NULL)", 9, "IS NULL"),
        ('a = "x"', 4, "single quotes"),
        ("a = 'x", 4, "closing quote"),
        ("a = 'x''", 4, "closing quote"),
        ("a == 1", 2, "single ="),
        ("a = 1; drop", 5, "unexpected ';'"),
        ("filter = HSC-R", 12, "single quotes"),
        ("patch = 8x6", 8, "'8x6' is neither a number nor a name"),
        ("d > 2014-03-28", 4, "dates stand in single quotes: '2014-03-28'"),
        ("a = 9223372036854775808", 4, "64 bits"),
        ("a = " + "9" * 5000, 4, "64 bits"),
        ("a = 1e999", 4, "too large"),
        ("t = T'2020-02-30'", 4, "no time"),
        ("t = T'2020-02-01T00:00:00Z'", 4, "without a zone"),
        ("CIRCLE(1)", 0, "there is no function 'CIRCLE'"),
        ("GLOB 'x'", 5, "GLOB(name, 'pattern')"),
        ("GLOB(f 'x')", 7, "','"),
        ("f GLOB 3", 7, "expected a pattern in single quotes"),
    ],
)
def test_a_fault_is_shown_at_its_place_with_what_was_expected(text: str, at: int, says: str) -> None:
    place, why = problem(text)
    assert says in why
    assert place == at


def test_the_message_shows_the_line_with_a_caret() -> None:
    with pytest.raises(ParseError) as caught:
        parse("visit = 1\n AND ccd ! 9")
    assert str(caught.value) == "unexpected '!'\n     AND ccd ! 9\n             ^"


@pytest.mark.parametrize(
    ("text", "value", "at", "says"),
    [
        ("a = :v", [1], 4, "only IN takes"),
        ("a = :v", None, 4, "IS NULL"),
        ("a = :v", object(), 4, "cannot be"),
        ("a = :v", float("nan"), 4, "cannot be"),
        ("a = :v", 2**63, 4, "cannot be"),
        ("a IN (1, :v)", [1, [2]], 9, "cannot be [2]"),
        ("a IN (:v, :v)", [], 5, "empty"),
        ("a IN :v", set(), 5, "empty"),
        ("a GLOB :v", 3, 7, "expected a pattern, found 3"),
    ],
)
def test_a_bind_of_no_use_is_shown_at_its_place(text: str, value: object, at: int, says: str) -> None:
    place, why = problem(text, {"v": value})
    assert says in why
    assert place == at


def test_a_missing_bind_is_named_with_those_given() -> None:
    assert problem("a = :visits", {"visit": 1, "x": 2}) == (4, "no value for the bind :visits; known: visit, x")
    assert problem("a IN (:v)") == (6, "no value for the bind :v; none is given")


@pytest.mark.parametrize("opening", ["(", "NOT "])
def test_deep_nesting_is_refused_and_does_not_exhaust_the_stack(opening: str) -> None:
    place, why = problem(opening * 10_000 + "a")
    assert why == f"nested deeper than {MAX_DEPTH} levels"
    assert place == MAX_DEPTH * len(opening)


def test_nesting_up_to_the_limit_is_read() -> None:
    assert str(parse("(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH)) == "a"


@pytest.mark.parametrize(
    "make",
    [lambda: And((Name("a"),)), lambda: Or(()), lambda: In(Name("a"), ()), lambda: Range(3, 1), lambda: Range(1, 3, 0)],
)
def test_nodes_that_no_text_can_give_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=r"needs|empty"):
        make()
