"""Whatever a submit file holds, reading it gives a pipeline or an error of dbb, and comes to an end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbb.errors import PipelineError
from dbb.pipeline.check import static_problems
from dbb_plugins.wcl import read_wcl, write_wcl

FUZZ = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
PIECES = st.one_of(
    st.sampled_from(["<", ">", "</", "a", "b", " ", "=", " = ", "\\", "\n", "\r", "#", "(", ",", "1:3", "${", "}"]),
    st.sampled_from(["<a>", "</a>", "<a b>", "<cmdline>", "</cmdline>", "${a}", "$opt{b", "\\\n", "<<inclfunc f()>>"]),
    st.sampled_from(["<<include ", ">>", "a.wcl>>", "<<include ${a}>>", "<<include $HOME>>", "<<include ~nobody/x>>"]),
    st.sampled_from(["\x00", "\x1c", "\x85", "\u2028", "\u00e9"]),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def must_end(content: bytes, outside: dict[str, str] | None = None) -> None:
    path = Path("a.wcl")
    path.write_bytes(content)
    try:
        pipeline = read_wcl(path, outside)
        static_problems(pipeline)
        written = write_wcl(pipeline.tree)
    except PipelineError as error:
        assert str(error)  # noqa: PT017  # either outcome is right
        return
    path.write_text(written, encoding="utf-8", newline="")
    assert read_wcl(path).tree == pipeline.tree


@FUZZ
@given(st.binary(max_size=200))
def test_any_bytes(folder: Path, content: bytes) -> None:
    must_end(content)


@FUZZ
@given(
    st.lists(PIECES, max_size=40).map("".join), st.dictionaries(st.text(max_size=5), st.text(max_size=3), max_size=2)
)
def test_any_pieces_of_the_language(folder: Path, text: str, outside: dict[str, str]) -> None:
    must_end(text.encode(), outside)


@pytest.fixture(scope="module")
def real_files(shared: Path) -> list[bytes]:
    paths = sorted([*shared.glob("desdm_wcl/**/*.wcl"), *shared.glob("desdm_cases/parse/*.wcl")])
    return [path.read_bytes() for path in paths]


RUNNABLE = b"""
reqnum = 1
unitname = u
blocklist = b
<block b>
modulelist = pixcorrect, mangle, immask, crosstalk-sci, se-scamp, bigquery, make_coadd_temp_exp, run-desmeds
</block>
"""


@FUZZ
@given(st.data())
def test_any_change_of_a_real_file(folder: Path, real_files: list[bytes], data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(real_files)))
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.sampled_from([0, 1, 5, 200]))
        content[start : start + length] = data.draw(
            st.one_of(st.binary(max_size=3), PIECES.map(os.fsencode), st.just(bytes(content[start : start + 400])))
        )
    must_end(bytes(content) + RUNNABLE)


@pytest.mark.parametrize(
    "piece",
    ["<a>\n", "<a b>\n", "</a>\n", "<a>\n<b>\n", "x", "x=", "\\\n", "<<include a.wcl>>\n", "${", "a = 1\n<a>\n</a>\n"],
)
def test_much_of_the_same_comes_to_an_end(folder: Path, piece: str) -> None:
    must_end(piece.encode() * 100_000)


def test_a_name_of_an_include_with_many_open_braces_comes_to_an_end(folder: Path) -> None:
    must_end(b"<<include " + b"${" * 90 + b">>")
