"""Whatever a program puts into a pipeline, checking it gives problems and no other error."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbb.pipeline.check import static_problems
from dbb.pipeline.model import Pipeline, Problem
from dbb_plugins.wcl import read_wcl

SUBMIT = """
reqnum = 1
unitname = u
visit = 1:3
blocklist = b
<block b>
    modulelist = first, warp
</block>
<filename_pattern>
    p = ${visit}.fits
</filename_pattern>
<directory_pattern plain>
    runtime = ${rundir}
</directory_pattern>
<module first>
    noop = True
</module>
<module warp>
    wrapperloop = visit
    loopobj = list.imgs
    <exec_1>
        execname = warp.py
        cmd_hyphen = alldouble
        <cmdline>
            _1 = x
        </cmdline>
        used = list.part.img, file.config
        was_generated_by = file.out
        ancestry = list.part.img:file.out
    </exec_1>
    <file>
        <img>
            listonly = True
        </img>
        <config>
            depends = first.file.config
        </config>
        <out>
            filepat = p
            dirpat = plain
            savefiles = False
        </out>
    </file>
    <list imgs>
        exec = query.py
        divide_by = visit
        columns = img.fullname, $FMT{%d,visit}
        format = textcsv
        dirpat = plain
        <div_list_by_col part>
            filepat = p
        </div_list_by_col>
    </list>
    <wrapper>
        per_file_cmdline = list.part.img:$(visit)
        add_cmdline = '^'.join(list.part.img.visit)
    </wrapper>
</module>
"""
PIECES = ["file", "list", ".", "img", ":", ",", " ", "(", ")", "0:999999999", "1", "${", "}", "visit", "${a}"]
TEXTS = st.lists(st.sampled_from([*PIECES, "${" * 150]), max_size=8).map("".join)
VALUES = st.one_of(
    TEXTS,
    st.text(max_size=5),
    st.integers(),
    st.booleans(),
    st.lists(TEXTS, max_size=3),
    st.dictionaries(TEXTS, TEXTS, max_size=2),
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("submit") / "a.wcl"
    path.write_text(SUBMIT)
    return read_wcl(path).tree


def paths(tree: Any, around: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in tree.items():
        yield (*around, key)
        if isinstance(value, dict):
            yield from paths(value, (*around, key))


def test_what_is_changed_here_is_right_but_for_what_is_not_there(tree: Any) -> None:
    texts = [problem.text for problem in static_problems(Pipeline.of(tree)) if problem.severity == "error"]
    assert texts == ["module warp: file config: depends = first.file.config: module first has no file section 'config'"]


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_change_of_a_pipeline(tree: Any, data: st.DataObject) -> None:
    changed = copy.deepcopy(tree)
    for _ in range(data.draw(st.integers(1, 3))):
        *outer, key = data.draw(st.sampled_from(list(paths(changed))))
        section = changed
        for name in outer:
            section = section[name]
        section[data.draw(st.one_of(st.just(key), st.text(max_size=4)))] = data.draw(VALUES)
    assert all(isinstance(one, Problem) for one in static_problems(Pipeline.of(changed, Path())))
