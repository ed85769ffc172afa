"""The picture of a plan: every job once, every dependency, bounded size, whatever names there are."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from dbb.errors import UsageError
from dbb.pipeline import Workflow
from dbb.pipeline.graph import Graph, graph_of
from dbb.pipeline.layered import lay_out
from dbb.pipeline.picture import draw, write_graph
from dbb.pipeline.workflow import Instance, Job
from dbb_cli.main import cli

SVG = "{http://www.w3.org/2000/svg}"
TWO_BLOCKS = Path(__file__).resolve().parents[2] / "examples/two_blocks.wcl"
HOSTILE = "<script>\"'&]]>\x00\x1b[31m\ud800\ufffe\u202e\n"


def workflow(*jobs: tuple[str, Sequence[str], Sequence[int]], keys: Mapping[str, str] | None = None) -> Workflow:
    """Return a workflow of jobs that are given as block, modules and numbers of the jobs waited for."""
    instances: list[Instance] = []
    made: list[Job] = []
    for number, (block, modules, after) in enumerate(jobs, 1):
        first = len(instances) + 1
        instances += [Instance(name, block, first + at, {}, [], [], [], [], "log") for at, name in enumerate(modules)]
        wrapnums = range(first, len(instances) + 1)
        names = [made[other - 1].name for other in after]
        made.append(Job(f"{block}_j{number:04d}", block, number, keys or {"visit": str(number)}, wrapnums, names))
    return Workflow({"reqnum": 1, "unitname": "U", "attnum": 1}, instances, made)


def picture(plan: Workflow, graph: Graph | None = None) -> ET.Element:
    return ET.fromstring("".join(draw(plan, graph or graph_of(plan))).encode())


def shown(root: ET.Element) -> str:
    return "\n".join("".join(one.itertext()) for one in root.iter(f"{SVG}text"))


def fan_out(jobs: int) -> Workflow:
    parts = [("b", ["part"], [1])] * jobs
    return workflow(("a", ["seed"], []), *parts, ("c", ["total"], range(2, jobs + 2)))


@st.composite
def workflows(draw_: st.DrawFn) -> Workflow:
    names = st.sampled_from(["one", "two", "three", ""])
    jobs: list[tuple[str, list[str], list[int]]] = []
    blocks = sorted(draw_(st.lists(st.integers(0, 60), max_size=40)))
    for number, block in enumerate(blocks, 1):
        after = draw_(st.lists(st.integers(1, number - 1), unique=True, max_size=5)) if number > 1 else []
        jobs.append((f"b{block}", [name for name in draw_(st.lists(names, max_size=3)) if name], after))
    return workflow(*jobs)


@given(workflows(), st.integers(1, 5))
def test_every_job_is_in_one_box_and_every_dependency_in_one_arrow_or_box(plan: Workflow, single: int) -> None:
    graph = graph_of(plan, single)
    assert sorted(job.jobnum for box in graph.boxes for job in box.jobs) == [job.jobnum for job in plan.jobs]
    home = {job.name: number for number, box in enumerate(graph.boxes) for job in box.jobs}
    wanted = {(home[name], home[job.name]) for job in plan.jobs for name in job.after}
    arrows = [(arrow.source, arrow.target) for arrow in graph.arrows]
    assert len(set(arrows)) == len(arrows)
    assert set(arrows) == {(source, target) for source, target in wanted if source != target}
    inside = Counter(home[job.name] for job in plan.jobs for name in job.after if home[name] == home[job.name])
    assert {number: box.inner for number, box in enumerate(graph.boxes) if box.inner} == inside


@given(workflows(), st.integers(1, 5))
def test_arrows_lead_down_and_blocks_stand_one_below_the_other(plan: Workflow, single: int) -> None:
    graph = graph_of(plan, single)
    assert all(graph.boxes[arrow.source].row < graph.boxes[arrow.target].row for arrow in graph.arrows)
    assert [box.stage for box in graph.boxes] == sorted(box.stage for box in graph.boxes)
    assert [box.row for box in graph.boxes] == sorted(box.row for box in graph.boxes)


@given(workflows())
def test_the_picture_holds_each_box_and_arrow_once(plan: Workflow) -> None:
    graph = graph_of(plan)
    root = picture(plan, graph)
    boxes = {one.get("data-box"): one.get("data-jobs") for one in root.iter(f"{SVG}g") if one.get("data-box")}
    assert boxes == {str(number): str(len(box.jobs)) for number, box in enumerate(graph.boxes)}
    lines = [(one.get("data-from"), one.get("data-to")) for one in root.iter(f"{SVG}path") if one.get("data-from")]
    assert sorted(lines) == sorted((str(arrow.source), str(arrow.target)) for arrow in graph.arrows)


@given(workflows())
def test_equal_workflows_give_equal_pictures(plan: Workflow) -> None:
    assert list(draw(plan, graph_of(plan))) == list(draw(plan, graph_of(plan)))


@given(st.text(max_size=50), st.text(max_size=50))
def test_any_name_can_be_drawn(name: str, value: str) -> None:
    picture(workflow((name, [name], []), (name, [value], [1]), keys={name: value}))


def test_hostile_names_are_text_and_nothing_else() -> None:
    root = picture(workflow((HOSTILE, [HOSTILE], []), keys={HOSTILE: HOSTILE}))
    assert [one.tag for one in root.iter() if one.tag == f"{SVG}script"] == []
    assert "<script>\"'&]]>\\x00\\x1b[31m\\ud800" in shown(root)


def test_a_long_name_is_cut() -> None:
    assert max(map(len, shown(picture(workflow(("b" * 9999, ["m" * 9999], []), keys={"k": "v" * 9999}))).split())) < 60


@pytest.mark.parametrize("jobs", [1, 8])
def test_few_jobs_of_a_kind_are_drawn_one_by_one(jobs: int) -> None:
    assert [len(box.jobs) for box in graph_of(fan_out(jobs)).boxes] == [1] * (jobs + 2)


def test_many_jobs_of_a_kind_are_one_box() -> None:
    plan = fan_out(9)
    assert [len(box.jobs) for box in graph_of(plan).boxes] == [1, 9, 1]
    assert "9 jobs" in shown(picture(plan))
    assert "one for each visit" in shown(picture(plan))


def test_an_arrow_says_for_how_many_of_many_jobs_each_waits() -> None:
    visits = [("a", ["processccd"], [])] * 20
    patches = [("b", ["coadd"], [1, 2]), ("b", ["coadd"], [3, 4, 5])]
    more = [("b", ["coadd"], range(1, 21))]
    told = shown(picture(workflow(*visits, *patches, *more))).splitlines()
    assert [line for line in told if line in {"2 of 20", "3 of 20", "all"}] == ["2 of 20", "3 of 20", "all"]
    many = shown(picture(workflow(*visits, *patches * 6))).splitlines()
    assert "2 to 3 of 20" in many


def test_jobs_of_equal_modules_at_other_points_of_a_block_are_of_other_kinds() -> None:
    chain = [("a", ["step"], [at] if at else []) for at in range(12)]
    assert [box.row for box in graph_of(workflow(*chain)).boxes] == list(range(12))


def test_a_block_with_too_many_kinds_is_one_box() -> None:
    chain = [("a", ["step"], [at] if at else []) for at in range(1000)]
    graph = graph_of(workflow(*chain, ("b", ["end"], [1000])))
    assert [(len(box.jobs), box.inner) for box in graph.boxes] == [(1000, 999), (1, 0)]


def test_too_many_blocks_are_drawn_several_at_once() -> None:
    graph = graph_of(workflow(*[(f"b{at}", ["step"], [at] if at else []) for at in range(1000)]))
    assert len(graph.boxes) == 20
    assert graph.stages[0] == ("b0 … b49", 50, 50, 50)


def test_a_block_that_is_listed_twice_is_drawn_twice() -> None:
    graph = graph_of(workflow(("a", ["one"], []), ("b", ["two"], [1]), ("a", ["one"], [2])))
    assert [stage.name for stage in graph.stages] == ["a", "b", "a"]


def test_a_picture_of_many_jobs_is_as_small_as_one_of_some() -> None:
    small, large = ("".join(draw(plan, graph_of(plan))) for plan in (fan_out(10), fan_out(20_000)))
    assert len(large) < len(small) + 200


def test_a_job_that_only_stands_between_blocks_is_explained() -> None:
    plan = workflow(("a", ["one"], []), ("b", [], [1]), ("b", ["two"], [2]))
    assert "nothing runs here" in shown(picture(plan))
    assert "2 jobs, 2 quanta, 2 blocks" in shown(picture(plan))


@given(
    st.lists(st.tuples(st.integers(0, 5), st.floats(1, 300)), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30),
)
def test_boxes_of_a_row_do_not_touch_and_lie_on_the_page(
    boxes: list[tuple[int, float]], pairs: list[tuple[int, int]]
) -> None:
    rows, widths = [row for row, _ in boxes], [width for _, width in boxes]
    edges = [(a, b) for a, b in pairs if a < len(rows) and b < len(rows) and rows[a] < rows[b]]
    layout = lay_out(rows, widths, edges, gap=10)
    for row in set(rows):
        spans = sorted(
            (layout.middles[at] - widths[at] / 2, layout.middles[at] + widths[at] / 2)
            for at, one in enumerate(rows)
            if one == row
        )
        assert all(after[0] - before[1] > 9.99 for before, after in pairwise(spans))
        assert spans[0][0] > -0.01
        assert spans[-1][1] < layout.width + 0.01
    assert [len(bends) for bends in layout.bends] == [rows[b] - rows[a] - 1 for a, b in edges]


def test_the_command_draws_and_lists_nothing(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["plan", str(TWO_BLOCKS), "--graph", str(tmp_path / "out.svg")])
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "41 quanta in 35 jobs\n")
    assert [one.name for one in tmp_path.iterdir()] == ["out.svg"]
    assert "32 jobs" in shown(ET.fromstring((tmp_path / "out.svg").read_bytes()))


@pytest.mark.parametrize("name", ["out.png", "out", "missing/out.svg", "folder.svg"])
def test_a_file_that_cannot_become_a_picture_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(UsageError, match=name):
        write_graph(fan_out(2), tmp_path / name)
    assert [one.name for one in tmp_path.iterdir()] == ["folder.svg"]
