"""Trees become SQL: on SQLite they find the right rows, for PostgreSQL they compile with typed binds."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from dbb.errors import DbbError, NotFoundError, ParseError, UsageError
from dbb.query import parse, parse_ids
from dbb.query.parser import MAX_DEPTH
from dbb.query.sql import Column, UnknownNameError, to_sql
from dbb.query.values import glob_regex

POSTGRESQL = PGDialect_psycopg()
META = sa.MetaData()
FILE = sa.Table(
    "file",
    META,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("visit", sa.Integer),
    sa.Column("ccd", sa.Integer),
    sa.Column("filter", sa.Text),
    sa.Column("patch", sa.Text),
    sa.Column("dateobs", sa.Text),
    sa.Column("taiobs", sa.Text),
    sa.Column("stamp", sa.DateTime),
    sa.Column("day", sa.Date),
    sa.Column("exptime", sa.Float),
    sa.Column("good", sa.Boolean),
)
TAG = sa.Table("tag", META, sa.Column("file", sa.Integer), sa.Column("tag", sa.Text))
STAMPS = [datetime(2014, 3, 28, 12, 20, 33), datetime(2014, 3, 30)]  # noqa: DTZ001  # the registry's times have no zone
ROWS = [
    (1, 903334, 16, "HSC-R", "8x6", "2014-03-28", "2014-03-28T12:20:33", STAMPS[0], STAMPS[0].date(), 30.0, True),
    (2, 903334, 22, "HSC-R", "8x7", "2014-03-28", "2014-03-28T12:20:33", STAMPS[0], STAMPS[0].date(), 30.5, False),
    (3, 903336, 22, "HSC-I", "8x6", "2014-03-30", "2014-03-30T00:00:00", STAMPS[1], STAMPS[1].date(), 0.1, True),
    (4, 903340, -4, None, None, None, None, None, None, None, None),
]
TAGS = [(1, "a"), (1, "b"), (2, "b")]


def same_run(value: object) -> sa.ColumnElement[bool]:
    """Take 'any' as every filter there is, as a run without its request means any of them."""
    if value == "bad":
        raise ValueError("'bad' is no run")
    return FILE.c.filter.is_not(None) if value == "any" else FILE.c.filter == sa.literal(value)


def tagged(clause: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    return sa.exists().where(TAG.c.file == FILE.c.id, clause).correlate(FILE)


@dataclass(frozen=True)
class Names:
    columns: Mapping[str, Column] = field(
        default_factory=lambda: {
            "visit": Column(FILE.c.visit, "int"),
            "ccd": Column(FILE.c.ccd, "int"),
            "filter": Column(FILE.c.filter, "str"),
            "patch": Column(FILE.c.patch, "patch"),
            "dateObs": Column(FILE.c.dateobs, "date"),
            "taiObs": Column(FILE.c.taiobs, "datetime"),
            "stamp": Column(FILE.c.stamp, "datetime"),
            "day": Column(FILE.c.day, "date"),
            "expTime": Column(FILE.c.exptime, "float"),
            "good": Column(FILE.c.good, "bool"),
            "run": Column(FILE.c.filter, "str", equals=same_run),
            "tag": Column(TAG.c.tag, "str", wrap=tagged),
        }
    )

    def column(self, name: str) -> Column | None:
        return self.columns.get(name)

    def names(self) -> Sequence[str]:
        return list(self.columns)


@pytest.fixture(scope="module")
def conn() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")
    META.create_all(engine)
    with engine.connect() as connection:
        connection.execute(FILE.insert(), [dict(zip(FILE.c.keys(), row, strict=True)) for row in ROWS])
        connection.execute(TAG.insert(), [{"file": file, "tag": tag} for file, tag in TAGS])
        yield connection
    engine.dispose()


def found(conn: sa.Connection, clause: sa.ColumnElement[bool]) -> list[int]:
    return list(conn.scalars(sa.select(FILE.c.id).where(clause).order_by(FILE.c.id)))


def postgres(text: str, binds: Mapping[str, object] | None = None) -> str:
    clause = to_sql(parse(text, binds), text, Names(), "postgresql")
    compiled = clause.compile(dialect=POSTGRESQL, compile_kwargs={"render_postcompile": True})
    return re.sub(r"%\(\w+\)s", "?", str(compiled)).replace("file.", "")


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("visit = 903334", [1, 2]),
        ("VISIT = 903334.0 and Ccd > 16.5", [2]),
        ("ccd = 16.5", []),
        ("ccd IN (16.5, 16, 22.0)", [1, 2, 3]),
        ("visit IN (903334..903340:2) AND NOT ccd = 22", [1, 4]),
        ("visit IN (903335..903340)", [3, 4]),
        ("visit IN (1..1000000000)", [1, 2, 3, 4]),
        (
            "visit IN (-4..1000000000:7)",
            [n for n, visit in ((1, 903334), (3, 903336), (4, 903340)) if (visit + 4) % 7 == 0],
        ),
        ("ccd IN (-6..100:2)", [1, 2, 3, 4]),
        ("ccd NOT IN (-5..100:2)", [1, 2, 3, 4]),
        ("visit NOT IN (903330..903336, 1)", [4]),
        ("filter = 'HSC-R'", [1, 2]),
        ("filter != 'HSC-R'", [3]),
        ("NOT filter = 'HSC-R'", [3]),
        ("filter IS NULL OR filter > 'HSC-Q'", [1, 2, 4]),
        ("filter IS NOT NULL", [1, 2, 3]),
        ("filter GLOB 'HSC-[^R]'", [3]),
        ("filter NOT GLOB 'HSC-[^R]'", [1, 2]),
        ("visit GLOB '90333*'", [1, 2, 3]),
        ("patch = '8,6'", [1, 3]),
        ("patch = '8x6'", [1, 3]),
        ("patch != '8,6'", [2]),
        ("patch IN ('8,6', '08x07')", [1, 2, 3]),
        ("patch GLOB '8,?'", [1, 2, 3]),
        ("dateobs = '2014-03-28'", [1, 2]),
        ("dateobs > '2014-03-28 23:00:00'", [3]),
        ("taiobs <= T'2014-03-28 12:20:33'", [1, 2]),
        ("taiobs > '2014-03-29'", [3]),
        ("stamp = '2014-03-28 12:20:33'", [1, 2]),
        ("stamp > '2014-03-29'", [3]),
        ("day = '2014-03-28'", [1, 2]),
        ("day > '2014-03-28T12:00:00'", [3]),
        ("exptime = 30", [1]),
        ("exptime IN (30, 0.1)", [1, 3]),
        ("good", [1, 3]),
        ("NOT good", [2]),
        ("good = FALSE", [2]),
        ("visit > ccd", [1, 2, 3, 4]),
        ("visit != exptime", [1, 2, 3]),
        ("taiobs >= dateobs", [1, 2, 3]),
        ("run = 'any'", [1, 2, 3]),
        ("run != 'HSC-R'", [3]),
        ("run IN ('HSC-I', 'x')", [3]),
        ("run NOT IN ('HSC-I', 'x')", [1, 2]),
        ("tag = 'b'", [1, 2]),
        ("tag != 'b'", [3, 4]),
        ("NOT tag = 'b'", [3, 4]),
        ("tag = 'a' AND tag = 'b'", [1]),
        ("tag NOT IN ('a', 'x')", [2, 3, 4]),
        ("tag IS NULL", [3, 4]),
        ("tag IS NOT NULL", [1, 2]),
        ("tag GLOB '[ab]'", [1, 2]),
        ("tag NOT GLOB 'a*'", [2, 3, 4]),
        ("tag = filter", []),
        ("tag != filter", [1, 2, 3, 4]),
    ],
)
def test_a_condition_finds_the_rows_it_says(conn: sa.Connection, text: str, ids: list[int]) -> None:
    assert found(conn, to_sql(parse(text), text, Names(), "sqlite")) == ids


@pytest.mark.parametrize(
    ("texts", "ids"),
    [
        (["visit=903334^903336 ccd=16..22:6"], [1, 2, 3]),
        (["visit=0903334 patch=8,6", "ccd=-4"], [1, 4]),
        (["exptime=.1^30 filter=HSC-I"], [3]),
        (["good=True", "good=0"], [1, 2, 3]),
        (["dateObs=2014-03-30"], [3]),
    ],
)
def test_the_values_of_data_ids_take_the_type_of_their_column(
    conn: sa.Connection, texts: list[str], ids: list[int]
) -> None:
    assert found(conn, to_sql(parse_ids(texts), "\n".join(texts), Names(), "sqlite")) == ids


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("ccd = 'abc'", 6, "column 'ccd' is of type int: expected an integer of at most 64 bits, found 'abc'"),
        ("ccd = '9'", 6, "type int"),
        ("ccd = TRUE", 6, "found TRUE"),
        ("filter IN ('a', 3)", 16, "column 'filter' is of type str: expected text in single quotes, found 3"),
        ("exptime = 'x'", 10, "type float: expected a number"),
        ("exptime = FALSE", 10, "type float"),
        ("patch = '8-6'", 8, "column 'patch' is of type patch: expected a patch such as '8,6' or '8x6', found '8-6'"),
        ("patch = 86", 8, "type patch"),
        ("dateobs > 'May'", 10, "type date: expected a day such as '2014-03-28'"),
        ("dateobs > '2014-02-30'", 10, "type date"),
        ("taiobs > 20140328", 9, "type datetime"),
        ("good = 1", 7, "type bool: expected TRUE or FALSE, found 1"),
        ("visit = 1 AND ccd", 14, "column 'ccd' is of type int: compare it with something"),
        ("filter IN (1..3)", 11, "a range needs an integer column"),
        ("good GLOB 'x'", 0, "GLOB needs text"),
        ("visit = filter", 8, "visit is of type int, filter of type str: they cannot be compared"),
        ("run = filter", 0, "column 'run' compares with values only"),
        ("run IN ('any', 'bad')", 15, "'bad' is no run"),
        ("filter = 'a\0b'", 9, "expected text"),
        ("filter = '\ud800'", 9, "expected text"),
        ("filter GLOB '\0'", 12, "expected text"),
    ],
)
@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_a_value_that_does_not_fit_its_column_is_shown_at_its_place(
    text: str, at: int, says: str, dialect: str
) -> None:
    with pytest.raises(ParseError) as caught:
        to_sql(parse(text), text, Names(), dialect)
    assert says in caught.value.problem
    assert caught.value.at == at


@pytest.mark.parametrize("value", ["abc", "1.5", "", "9" * 19, "9" * 400, "１"])
def test_text_of_a_data_id_that_is_no_integer_is_refused_for_an_integer_column(value: str) -> None:
    text = f"ccd=16^{value or 'x'}"
    with pytest.raises(ParseError, match="type int") as caught:
        to_sql(parse_ids([text]), text, Names(), "sqlite")
    assert caught.value.at == len("ccd=16^")


def test_an_unknown_name_is_shown_with_the_known_ones_nearest_first() -> None:
    text = "ccd = 9 AND vist = 3"
    with pytest.raises(UnknownNameError) as caught:
        to_sql(parse(text), text, Names(), "sqlite")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("unknown name 'vist'; known: visit, ")
    assert lines[1:] == ["    ccd = 9 AND vist = 3", "                ^"]
    assert isinstance(caught.value, NotFoundError)
    assert (caught.value.exit_code, caught.value.at, caught.value.name) == (5, 12, "vist")


def test_an_unknown_name_on_the_right_is_told_about_quotes() -> None:
    with pytest.raises(UnknownNameError, match="Text stands in single quotes: 'r'"):
        to_sql(parse("filter = r"), "filter = r", Names(), "sqlite")


def test_another_dialect_is_refused() -> None:
    with pytest.raises(UsageError, match="'oracle'"):
        to_sql(parse("ccd = 1"), "ccd = 1", Names(), "oracle")


def test_errors_of_a_column_that_are_ours_pass_unchanged() -> None:
    def refuse(value: object) -> sa.ColumnElement[bool]:
        raise UsageError(f"no {value}")

    with pytest.raises(DbbError, match=r"^no x$"):
        to_sql(parse("a = 'x'"), "a = 'x'", Names({"a": Column(FILE.c.filter, "str", equals=refuse)}), "sqlite")


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_values_are_never_part_of_the_statement(dialect: str) -> None:
    text = "filter = 'one' OR filter IN ('one', 'two') OR filter GLOB 'two*' OR ccd IN (4711, 4712, 4713..4799:71)"
    statement = str(to_sql(parse(text), text, Names(), dialect).compile())
    assert not re.search("one|two|47|71", statement)


@pytest.mark.parametrize("count", [500, 501, 40_000])
def test_long_lists_of_integers_and_texts_work(conn: sa.Connection, count: int) -> None:
    many = {"v": list(range(903336, 903336 + count)), "f": ["HSC-R", *(f"ö'\"{n}" for n in range(count))]}
    for text, ids in [
        ("visit IN :v", [3, 4]),
        ("visit NOT IN :v", [1, 2]),
        ("filter IN :f", [1, 2]),
        ("filter NOT IN :f", [3]),
    ]:
        assert found(conn, to_sql(parse(text, many), text, Names(), "sqlite")) == ids


def test_long_lists_of_numbers_and_days_work(conn: sa.Connection) -> None:
    many = {"e": [0.1, *(n + 0.7 for n in range(600))], "d": [date.fromordinal(735320 - n) for n in range(600)]}
    assert found(conn, to_sql(parse("exptime IN :e", many), "", Names(), "sqlite")) == [3]
    assert found(conn, to_sql(parse("day IN :d", many), "", Names(), "sqlite")) == [1, 2]


def test_long_lists_are_one_bound_value() -> None:
    many = {"v": list(range(501)), "f": [str(n) for n in range(501)]}
    clause = to_sql(parse("visit IN :v AND filter IN :f", many), "", Names(), "sqlite")
    assert len(clause.compile().params) == 2
    assert postgres("visit IN :v AND filter IN :f", many) == "visit = ANY (?::BIGINT[]) AND filter = ANY (?::VARCHAR[])"


def test_thousands_of_data_ids_are_one_query(conn: sa.Connection) -> None:
    texts = [f"visit={visit} ccd=22" for visit in range(902_000, 904_500)]
    clause = to_sql(parse_ids(texts), "\n".join(texts), Names(), "sqlite")
    assert found(conn, clause) == [2, 3]
    assert found(conn, sa.not_(clause)) == [1, 4]


def test_thousands_of_conditions_that_must_all_hold_are_one_query(conn: sa.Connection) -> None:
    text = " AND ".join(f"visit != {n}" for n in range(903_334, 906_334, 2))
    assert found(conn, to_sql(parse(text), text, Names(), "sqlite")) == []


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_the_deepest_tree_compiles(conn: sa.Connection, dialect: str) -> None:
    text = "ccd = 1 OR ccd = 2 AND (" * MAX_DEPTH + "good" + ")" * MAX_DEPTH
    clause = to_sql(parse(text), text, Names(), dialect)
    if dialect == "sqlite":
        assert found(conn, sa.and_(FILE.c.id > 0, sa.or_(FILE.c.id < 0, clause))) == []
    else:
        assert str(clause.compile(dialect=POSTGRESQL)).count("AND") == MAX_DEPTH


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("ccd = 9", "ccd = ?::BIGINT"),
        ("ccd > 9.5", "ccd > ?"),
        ("filter != 'x'", "filter != ?::VARCHAR"),
        ("good", "good = ?"),
        ("stamp < '2014-03-28'", "stamp < ?::TIMESTAMP WITHOUT TIME ZONE"),
        ("day = '2014-03-28'", "day = ?::DATE"),
        ("dateobs = '2014-03-28'", "dateobs = ?::VARCHAR"),
        ("visit IN (1, 2)", "visit IN (?::BIGINT, ?::BIGINT)"),
        ("visit NOT IN (1, 2)", "(visit NOT IN (?::BIGINT, ?::BIGINT))"),
        ("visit IN (1..3)", "visit BETWEEN ?::BIGINT AND ?::BIGINT"),
        (
            "visit IN (1..9:2)",
            "visit BETWEEN ?::BIGINT AND ?::BIGINT AND (visit - ?::BIGINT) %% ?::BIGINT = ?::BIGINT",
        ),
        ("filter GLOB 'a*'", "filter ~ ?::VARCHAR"),
        ("filter NOT GLOB 'a*'", "NOT (filter ~ ?::VARCHAR)"),
        ("visit GLOB 'a*'", "CAST(visit AS TEXT) ~ ?::VARCHAR"),
    ],
)
def test_postgresql_gets_typed_binds(text: str, statement: str) -> None:
    assert postgres(text) == statement


def test_negating_a_long_list_on_postgresql_negates_the_whole_comparison() -> None:
    assert postgres("visit NOT IN :v", {"v": list(range(501))}) == "NOT (visit = ANY (?::BIGINT[]))"


SUBJECTS = st.text(alphabet="ab]^-[*?\\.z\n", max_size=6)


@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pattern=st.text(alphabet="ab]^-[[]*?\\.z\n", max_size=8), subject=SUBJECTS)
def test_the_regular_expression_of_a_glob_matches_what_sqlite_does(
    conn: sa.Connection, pattern: str, subject: str
) -> None:
    expected = conn.scalar(sa.select(sa.literal(subject).bool_op("GLOB")(sa.literal(pattern))))
    # Python differs from PostgreSQL in what $ and . mean, not in the sets
    regex = glob_regex(pattern).removesuffix("$") + r"\Z"
    assert bool(re.match(regex, subject, re.DOTALL)) == bool(expected)


@given(st.text(alphabet=string.printable.replace("*", "").replace("?", "").replace("[", "")))
def test_a_glob_without_special_characters_is_its_own_match(text: str) -> None:
    assert re.fullmatch(glob_regex(text).removesuffix("$"), text)
