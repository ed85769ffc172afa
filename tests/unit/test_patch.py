"""A patch has two spellings that mean the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbb.patch import butler_patch, stored_patch

INDEX = st.integers(0, 999_999)


@given(INDEX, INDEX)
def test_each_spelling_turns_into_the_other(x: int, y: int) -> None:
    stored, butler = f"{x}x{y}", f"{x},{y}"
    assert (stored_patch(stored), stored_patch(butler)) == (stored, stored)
    assert (butler_patch(stored), butler_patch(butler)) == (butler, butler)


@given(INDEX, INDEX)
def test_leading_zeros_make_no_other_patch(x: int, y: int) -> None:
    assert stored_patch(f"{x:06d},{y:06d}") == f"{x}x{y}"


@pytest.mark.parametrize("text", ["", "8", "8,", "8;6", "8X6", "8x6x1", " 8,6", "8,6\n", "-1,2", "1234567,0", "٨,6"])
def test_what_is_no_patch_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is no patch name"):
        stored_patch(text)
