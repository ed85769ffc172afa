"""Runs are written ``Ht0_r11p95``; ``r11p95`` means any unit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbb.errors import UsageError
from dbb.registry.runs import Run, full_run, parse_run

UNITS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,20}", fullmatch=True)
NUMBERS = st.integers(0, 999_999_999)


@given(UNITS, NUMBERS, NUMBERS)
def test_a_run_is_read_back_from_its_text(unit: str, request: int, attempt: int) -> None:
    run = Run(unit, request, attempt)
    assert parse_run(str(run)) == full_run(str(run)) == run


@given(NUMBERS, NUMBERS)
def test_a_run_of_any_unit_is_read_back_from_its_text(request: int, attempt: int) -> None:
    assert parse_run(str(Run("", request, attempt))) == Run("", request, attempt)


def test_attempts_have_two_digits_at_least() -> None:
    assert [str(parse_run(text)) for text in ("Ht0_r11p5", "r011p005", "a_b_r1p123")] == [
        "Ht0_r11p05",
        "r11p05",
        "a_b_r1p123",
    ]


@pytest.mark.parametrize(
    "text",
    ["", "Ht0", "Ht0_r11", "r11", "p95", "Ht0r11p95", "_r11p95", "Ht0_r11p95 ", "Ht0_r-1p1", "../x_r1p1"],
)
def test_what_is_no_run_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(UsageError, match="write UNIT_rREQUESTpATTEMPT"):
        parse_run(text)


def test_where_files_are_registered_a_run_must_name_its_unit() -> None:
    with pytest.raises(UsageError, match=r"names no unit: write e\.g\. Ht0_r11p95"):
        full_run("r11p95")
