"""A WCL file includes others, where the line stands, and never without end."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbb.errors import PipelineError
from dbb.pipeline.model import Pipeline, Place
from dbb_plugins.wcl import read_wcl


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(settings: dict[str, str] | None = None, **files: str) -> Pipeline:
    for name, text in files.items():
        Path(f"{name}.wcl").write_text(text, encoding="utf-8")
    return read_wcl(Path("a.wcl"), settings)


def error(settings: dict[str, str] | None = None, **files: str) -> str:
    with pytest.raises(PipelineError) as caught:
        read(settings, **files)
    return str(caught.value)


def test_an_included_file_is_merged_key_by_key() -> None:
    pipeline = read(
        a="x = 1\n<s>\na = 1\nb = 1\n</s>\n<<include b.wcl>>\n<s>\nc = 1\n</s>", b="<s>\nb = 2\n</s>\nx = 2"
    )
    assert pipeline.tree == {"x": "2", "s": {"a": "1", "b": "2", "c": "1"}}
    assert pipeline.place("s", "b") == Place("b.wcl", 2)
    assert pipeline.place("s", "c") == Place("a.wcl", 8)


def test_an_include_inside_a_section_is_merged_there() -> None:
    assert read(a="<s>\n<<include b.wcl>>\n</s>\ny = 1", b="X = 1").tree == {"s": {"x": "1"}, "y": "1"}


def test_an_include_inside_cmdline_keeps_the_case_of_keys() -> None:
    assert read(a="<cmdline>\n<<include b.wcl>>\n</cmdline>", b="X = 1").tree == {"cmdline": {"X": "1"}}


def test_the_name_of_an_include_may_hold_variables_read_so_far() -> None:
    assert read(a="w = b\n<<include ${w}.wcl>>\nw = c", b="x = 1").tree == {"w": "c", "x": "1"}


def test_a_setting_wins_in_the_name_of_an_include() -> None:
    pipeline = read({"w": "c", "s.v": "wcl"}, a="w = b\n<<include ${w}.${s.v}>>", b="x = 1", c="x = 2")
    assert pipeline.tree == {"w": "c", "x": "2", "s": {"v": "wcl"}}


def test_the_name_of_an_include_may_hold_environment_variables(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", str(folder))
    monkeypatch.setenv("HOME", str(folder))
    assert read(a="<<include $WHERE/b.wcl>>\n<<include ~/c.wcl>>", b="x = 1", c="y = 1").tree == {"x": "1", "y": "1"}


def test_an_include_is_looked_for_beside_its_file_first(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep/a.wcl").write_text("<<include b.wcl>>\n<<include c.wcl>>")
    (folder / "deep/b.wcl").write_text("x = beside")
    (folder / "b.wcl").write_text("x = here")
    (folder / "c.wcl").write_text("y = here")
    assert read_wcl(Path("deep/a.wcl")).tree == {"x": "beside", "y": "here"}


def test_a_commented_include_is_not_read() -> None:
    assert read(a="# <<include nowhere.wcl>>\nx = 1").tree == {"x": "1"}


def test_an_include_that_is_not_there_is_an_error_with_its_line() -> None:
    assert error(a="x = 1\n<<include no.wcl>>") == (
        "a.wcl:2: <<include no.wcl>>: expected a file, but there is no no.wcl"
    )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("<<include ${no}.wcl>>", "<<include ${no}.wcl>>: ${no} has no value"),
        ("<<include $NO_SUCH/b>>", "<<include …>>: the environment variable $NO_SUCH is not set"),
        ("x = <<include b.wcl>>", "x = <<include b.wcl>>: expected <<include FILE>>, alone on its line"),
        ("<<include>>", "<<include>>: expected <<include FILE>>, alone on its line"),
        (
            "<<inclfunc os.system(x)>>",
            "<<inclfunc os.system(x)>>: dbb runs no function that a file names; include a file with the values",
        ),
    ],
)
def test_an_include_that_says_no_file_is_an_error(line: str, problem: str) -> None:
    assert error(a=line) == f"a.wcl:1: {problem}"


def test_a_very_long_name_of_an_include_is_an_error() -> None:
    assert error(a=f"<<include {'x' * 5000}>>").startswith("a.wcl:1: <<include x")


def test_circular_includes_are_an_error() -> None:
    assert error(a="<<include b.wcl>>", b="x = 1\n<<include ./a.wcl>>") == (
        "b.wcl:2: <<include ./a.wcl>>: a.wcl is being read: includes are circular"
    )


def test_many_includes_of_includes_come_to_an_end() -> None:
    files = {f"f{depth}": f"<<include f{depth + 1}.wcl>>\n" * 2 for depth in range(19)}
    assert "more than 1000 includes" in error(a="<<include f0.wcl>>", **files, f19="")


def test_deep_includes_come_to_an_end() -> None:
    files = {f"f{depth}": f"<<include f{depth + 1}.wcl>>\n" for depth in range(30)}
    assert "20 of them inside each other" in error(a="<<include f0.wcl>>", **files)


def test_a_name_that_grows_without_end_is_an_error() -> None:
    doubling = "".join(f"x{number} = ${{x{number + 1}}}${{x{number + 1}}}\n" for number in range(60))
    assert "a.wcl:62" in error(a=f"{doubling}x60 = lol\n<<include ${{x0}}>>")


def test_an_included_file_closes_what_it_opens() -> None:
    assert error(a="<s>\n<<include b.wcl>>\n</s>", b="</s>") == "b.wcl:1: </s>: no section is open"
    assert error(a="<<include b.wcl>>\n</s>", b="<s>").splitlines() == [
        "b.wcl:1: <s>: expected </s> before the end of the file",
        "a.wcl:2: </s>: no section is open",
    ]


def test_errors_of_all_files_are_told_at_once() -> None:
    assert error(a="<<include b.wcl>>\n<x", b="<y").count("\n") == 1
