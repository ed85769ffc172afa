"""`check_file` tells each cause once, and all causes at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbb.pipeline import check_file

HEAD = """reqnum = 1
unitname = u
blocklist = b
<block b>
modulelist = {modules}
</block>
<directory_pattern plain>
runtime = r
ops = o
</directory_pattern>
"""
MAKES = """<module a>
{more}
<file x>
filename = {name}
dirpat = plain
</file>
<exec_1>
execname = prog
was_generated_by = file.x
</exec_1>
</module>
"""
READS = """<module c>
<file x>
depends = a.file.x
dirpat = plain
</file>
<exec_1>
execname = prog
used = file.x
</exec_1>
</module>
"""
ALONE = """<module d>
<exec_1>
execname = prog
<cmdline>
x = ${nope}
</cmdline>
</exec_1>
</module>
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(text: str) -> list[str]:
    path = Path("a.wcl")
    path.write_text(text)
    return [str(problem) for problem in check_file(path)]


def test_a_wrong_module_hides_no_other_and_what_depends_on_it_is_not_blamed() -> None:
    text = HEAD.format(modules="a,c,d") + MAKES.format(name="${nope}", more="") + READS + ALONE
    assert problems(text) == [
        "a.wcl:14: error: module a, file x, filename: ${nope} has no value",
        "a.wcl:36: error: module d, exec_1, cmdline, x: ${nope} has no value",
    ]


def test_a_module_that_is_not_there_is_told_once() -> None:
    text = HEAD.format(modules="a, nothing") + MAKES.format(name="x.fits", more="")
    assert problems(text) == ["a.wcl:5: error: block b: there is no module 'nothing'; known: a"]


def test_a_run_without_name_does_not_stop_the_search() -> None:
    text = HEAD.format(modules="a,d") + MAKES.format(name="x-${reqnum}.fits", more="") + ALONE
    assert problems(text.replace("reqnum = 1\n", "")) == [
        "a.wcl:25: error: module d, exec_1, cmdline, x: ${nope} has no value",
        "error: reqnum is missing: the run has no name without it",
    ]


def test_the_queries_of_all_sections_are_told() -> None:
    lists = "".join(f"<list l{n}>\nexec = none{n}.py\nfilepat = log\n</list>\n" for n in (1, 2))
    text = HEAD.format(modules="a") + MAKES.format(name="x.fits", more=lists)
    assert [problem.partition(" in ")[0] for problem in problems(text)] == [
        f"a.wcl:{line}: error: module a, list l{n}: there is no program none{n}.py" for n, line in ((1, 13), (2, 17))
    ]


def test_one_collision_is_told_where_all_quanta_collide() -> None:
    more = "wrapperloop = n\nn = 1:50\nmodnamepat = ${n}"
    found = problems(HEAD.format(modules="a") + MAKES.format(name="x.fits", more=more))
    assert len(found) == 1
    assert "two quanta would write one output x" in found[0]


def test_a_module_that_fails_at_one_of_its_quanta_leaves_the_rest_of_the_check_alone() -> None:
    more = "wrapperloop = n\nn = 1,x\nmodnamepat = ${n}"
    found = problems(HEAD.format(modules="a,d") + MAKES.format(name="x${n:2}.fits", more=more) + ALONE)
    assert [problem.partition("error: ")[2] for problem in found] == [
        "module a #2 (n=x): ${n:2} needs an integer, but the value is 'x'",
        "module d, exec_1, cmdline, x: ${nope} has no value",
    ]


def test_every_error_of_the_text_has_its_own_place() -> None:
    assert [problem.partition(": error")[0] for problem in problems("<a>\n</b>\n= 1\n</a>\n")] == ["a.wcl:2", "a.wcl:3"]


def test_a_line_that_lacks_what_another_has_is_an_error_where_that_is_wanted(folder: Path) -> None:
    (folder / "t.jsonl").write_text('{"filename": "a", "n": 1, "m": 1}\n{"filename": "b", "n": 2}\n')
    query = "<file in>\nquery = table\ntable = t.jsonl\nloopkey = n\ndirpat = plain\n</file>"
    more = f"wrapperloop = n\nloopobj = file.in\nmodnamepat = ${{n}}_${{m}}\n{query}"
    found = problems(HEAD.format(modules="a") + MAKES.format(name="x${n}.fits", more=more))
    assert found == ["a.wcl:11: error: module a #2 (n=2): ${m} is wanted, which a line that fits lacks"]
