"""A workflow as an SVG picture."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from dbb.errors import UsageError
from dbb.pipeline.graph import SINGLE, Arrow, Box, Graph, graph_of
from dbb.pipeline.layered import Layout, lay_out
from dbb.pipeline.workflow import Workflow
from dbb.storage import new_file

_TIMES = "\N{MULTIPLICATION SIGN}"
_LETTER, _LINE = 7.4, 17.0  # width of a letter and height of a line, in pixels
_LONGEST, _MOST_LINES, _MOST_TITLE = 40, 12, 300
_GAP, _BETWEEN, _MARGIN, _HEAD = 26.0, 54.0, 24.0, 48.0
_COLOURS = ("#dbe9f9", "#fde5cb", "#dcf0d8", "#f3dcec", "#fdf3bf", "#d6f0ef", "#e6e0f5", "#f8d9d5")
_STYLE = """
text { font-family: "DejaVu Sans", Verdana, sans-serif; font-size: 12px; fill: #1b1f24 }
.name { font-weight: bold }
.run { font-size: 18px; font-weight: bold }
.note { font-size: 11px; fill: #57606a }
.block { fill: #f6f8fa; stroke: #d0d7de }
.box { stroke: #57606a }
.wait { fill: #ffffff; stroke: #8c959f; stroke-dasharray: 4 3 }
.arrow { fill: none; stroke: #57606a; stroke-width: 1.3 }
.count { font-size: 11px; fill: #57606a; text-anchor: middle }
"""


class _Row(NamedTuple):
    """Where a row of boxes begins and how high it is, in pixels."""

    top: float
    height: float


@dataclass(frozen=True, slots=True)
class _Page:
    """A graph with all places known."""

    graph: Graph
    texts: Sequence[Sequence[str]]
    widths: Sequence[float]
    layout: Layout
    rows: Sequence[_Row]
    colours: Sequence[str]

    def height(self, number: int) -> float:
        return len(self.texts[number]) * _LINE + 12


def write_graph(workflow: Workflow, file: Path, single: int = SINGLE) -> Graph:
    """Draw a workflow into an SVG file, there entirely or not at all, and return what was drawn.

    Parameters
    ----------
    workflow
        What to draw.
    file
        Ends in ``.svg``; one that is there is replaced.
    single
        As of `dbb.pipeline.graph.graph_of`.

    Raises
    ------
    UsageError
        If the file's name has another ending, it is a folder, or its own is not there.
    """
    check_name(file)
    graph = graph_of(workflow, single)
    with new_file(file) as stream:
        stream.writelines(piece.encode() for piece in draw(workflow, graph))
    return graph


def check_name(file: Path) -> None:
    """See to it that `write_graph` can write a file, before anything is planned.

    Raises
    ------
    UsageError
        As `write_graph`.
    """
    if file.suffix.lower() != ".svg":
        raise UsageError(f"{file}: pictures are SVG; give a name that ends in .svg")
    if file.is_dir() or not file.parent.is_dir():
        raise UsageError(f"{file}: it must be a file in a folder that is there")


def draw(workflow: Workflow, graph: Graph) -> Iterator[str]:
    """Give the picture of a workflow as SVG text, line by line; equal workflows give equal bytes."""
    page = _page(graph)
    legend = list(_legend(graph))
    run = workflow.run
    name = _label(f"{run['unitname']}_r{run['reqnum']}p{int(run['attnum']):02d}", _LONGEST)
    quanta, working = len(workflow.instances), sum(bool(job.wrapnums) for job in workflow.jobs)
    told = f"{_many(working, 'job')}, {_many(quanta, 'quantum', 'quanta')}, {_many(_blocks(graph), 'block')}"
    width = max(page.layout.width + 2 * _MARGIN, 620.0, 2 * _MARGIN + 11 * len(name)) + 2 * _MARGIN
    bottom = (page.rows[-1].top + page.rows[-1].height if page.rows else _HEAD + 34) + 2 * _MARGIN
    height = bottom + len(legend) * 24 + _MARGIN
    left = (width - page.layout.width) / 2
    yield f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
    yield f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">\n'
    yield f"<title>{escape(name)}: {told}</title>\n<style>{_STYLE}</style>\n"
    yield '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
    yield 'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#57606a"/></marker></defs>\n'
    yield f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>\n'
    yield f'<text class="run" x="{_MARGIN:.0f}" y="32">{escape(name)}</text>\n'
    yield f'<text class="note" x="{_MARGIN:.0f}" y="50">{told}</text>\n'
    yield from _stages(page, width)
    yield from _arrows(page, left)
    yield from _boxes(page, left)
    for number, (sample, text) in enumerate(legend):
        yield f'<g transform="translate({_MARGIN:.0f},{bottom + number * 24:.0f})">{sample}'
        yield f'<text class="note" x="58" y="13">{text}</text></g>\n'
    yield "</svg>\n"


def _page(graph: Graph) -> _Page:
    texts = [list(_texts(box)) for box in graph.boxes]
    widths = [max(90.0, 24 + _LETTER * max(map(_columns, lines))) for lines in texts]
    layout = lay_out(
        [box.row for box in graph.boxes], widths, [(arrow.source, arrow.target) for arrow in graph.arrows], _GAP
    )
    heights: dict[int, float] = {}
    first: dict[int, int] = {}
    for box, lines in zip(graph.boxes, texts, strict=True):
        heights[box.row] = max(heights.get(box.row, 0.0), len(lines) * _LINE + 12)
        first.setdefault(box.stage, box.row)
    begins = set(first.values())
    steps = [heights[row] + _BETWEEN + (_HEAD + 8 if row + 1 in begins else 0) for row in range(len(heights))]
    tops = accumulate(steps, initial=66 + _HEAD)
    rows = [_Row(top, heights[row]) for row, top in zip(range(len(heights)), tops, strict=False)]
    known = {kind: place for place, kind in enumerate(dict.fromkeys(tuple(box.modules) for box in graph.boxes))}
    colours = [_COLOURS[known[tuple(box.modules)] % len(_COLOURS)] for box in graph.boxes]
    return _Page(graph, texts, widths, layout, rows, colours)


def _texts(box: Box) -> Iterator[str]:
    """Give the lines of a box: which jobs, what tells them apart, and what runs in them."""
    jobs = box.jobs
    if not box.modules:
        yield "waits for all" if len(jobs) == 1 else _many(len(jobs), "job that waits", "jobs that wait")
        return
    keys = list(dict.fromkeys(key for job in jobs for key in job.keys))
    if len(jobs) == 1:
        yield f"job {jobs[0].jobnum}"
        if keys:
            yield _label(" ".join(f"{key}={value}" for key, value in jobs[0].keys.items()))
    else:
        yield f"{len(jobs)} jobs"
        if keys:
            yield _label("one for each " + ", ".join(keys))
    modules = list(box.modules.items())
    shown = modules if len(modules) <= _MOST_LINES else modules[: _MOST_LINES - 1]
    for module, count in shown:
        times = f" {_TIMES}{count}" if count > 1 else ""
        yield _label(module, _LONGEST - len(times)) + times
    if len(shown) < len(modules):
        yield f"… and {len(modules) - len(shown)} more modules"
    if box.inner:
        yield "some wait for others of these"


def _stages(page: _Page, width: float) -> Iterator[str]:
    for number, stage in enumerate(page.graph.stages):
        rows = [page.rows[box.row] for box in page.graph.boxes if box.stage == number]
        top, end = rows[0].top - _HEAD, rows[-1].top + rows[-1].height + 12
        name = ("block " if stage.blocks == 1 else f"{stage.blocks} blocks ") + _label(stage.name)
        told = f"{_many(stage.jobs, 'job')}, {_many(stage.quanta, 'quantum', 'quanta')}"
        yield f'<rect class="block" x="{_MARGIN:.0f}" y="{top:.0f}" width="{width - 2 * _MARGIN:.0f}" '
        yield f'height="{end - top:.0f}" rx="6"/>\n<text x="{_MARGIN + 10:.0f}" y="{top + 18:.0f}">'
        yield f'<tspan class="name">{escape(name)}</tspan><tspan class="note" dx="10">{told}</tspan></text>\n'


def _boxes(page: _Page, left: float) -> Iterator[str]:
    for number, (box, lines) in enumerate(zip(page.graph.boxes, page.texts, strict=True)):
        wide, high = page.widths[number], page.height(number)
        x, y = left + page.layout.middles[number] - wide / 2, page.rows[box.row].top
        yield f'<g data-box="{number}" data-jobs="{len(box.jobs)}" transform="translate({x:.1f},{y:.1f})">'
        yield f"<title>{escape(_label(_told(box), _MOST_TITLE))}</title>\n"
        frame = f'width="{wide:.1f}" height="{high:.1f}"'
        if not box.modules:
            yield f'<rect class="wait" {frame} rx="14"/>'
        else:
            for shift in (6, 3) if len(box.jobs) > 1 else ():
                yield f'<rect class="box" x="{shift}" y="{shift}" {frame} rx="4" fill="{page.colours[number]}"/>'
            yield f'<rect class="box" {frame} rx="4" fill="{page.colours[number]}"/>'
        for at, line in enumerate(lines):
            kind = ' class="name"' if at == 0 and box.modules else ""
            yield f'<text{kind} x="12" y="{at * _LINE + 19:.0f}">{escape(line)}</text>'
        yield "</g>\n"


def _told(box: Box) -> str:
    names = [job.name for job in box.jobs]
    return names[0] if len(names) == 1 else f"{len(names)} jobs: {', '.join(names[:3])} … {names[-1]}"


def _arrows(page: _Page, left: float) -> Iterator[str]:
    ends = _ports(page)
    counts: list[str] = []
    for number, (arrow, bends) in enumerate(zip(page.graph.arrows, page.layout.bends, strict=True)):
        upper, lower = page.graph.boxes[arrow.source], page.graph.boxes[arrow.target]
        begin = (left + ends[number][0], page.rows[upper.row].top + page.height(arrow.source))
        points = [begin]
        for row, bend in enumerate(bends, upper.row + 1):
            points += [(left + bend, page.rows[row].top), (left + bend, page.rows[row].top + page.rows[row].height)]
        points.append((left + ends[number][1], page.rows[lower.row].top))
        yield f'<path class="arrow" data-from="{arrow.source}" data-to="{arrow.target}" d="{_path(points)}" '
        yield 'marker-end="url(#head)"/>\n'
        if text := _count(arrow, page.graph):
            x, y = points[-1][0], points[-1][1] - 16
            wide = 6.5 * len(text) + 6  # on white, so that no line runs through it
            counts.append(
                f'<rect x="{x - wide / 2:.1f}" y="{y - 10:.1f}" width="{wide:.1f}" height="14" fill="#ffffff"/>'
            )
            counts.append(f'<text class="count" x="{x:.1f}" y="{y + 1:.1f}">{text}</text>\n')
    yield from counts


def _path(points: Sequence[tuple[float, float]]) -> str:
    """Return a line that is bent between rows and straight across them."""
    pieces = [f"M{points[0][0]:.1f},{points[0][1]:.1f}"]
    for at, (x, y) in enumerate(points[1:], 1):
        before_x, before_y = points[at - 1]
        half = (before_y + y) / 2
        pieces.append(
            f"L{x:.1f},{y:.1f}" if x == before_x else f"C{before_x:.1f},{half:.1f} {x:.1f},{half:.1f} {x:.1f},{y:.1f}"
        )
    return " ".join(pieces)


def _ports(page: _Page) -> list[tuple[float, float]]:
    """Return where along the edges of its boxes each arrow begins and ends, so that few lines cross there."""
    arrows, bends, middles = page.graph.arrows, page.layout.bends, page.layout.middles
    begins, ends = [0.0] * len(arrows), [0.0] * len(arrows)
    for box, middle in enumerate(middles):
        leaving = [number for number, arrow in enumerate(arrows) if arrow.source == box]
        coming = [number for number, arrow in enumerate(arrows) if arrow.target == box]
        leaving.sort(key=lambda number: bends[number][0] if bends[number] else middles[arrows[number].target])
        coming.sort(key=lambda number: bends[number][-1] if bends[number] else middles[arrows[number].source])
        for found, of_it in ((begins, leaving), (ends, coming)):
            room = page.widths[box] * 0.7
            for place, number in enumerate(of_it, 1):
                found[number] = middle + room * (place / (len(of_it) + 1) - 0.5)
    return list(zip(begins, ends, strict=True))


def _count(arrow: Arrow, graph: Graph) -> str:
    """Return what an arrow at a box of many jobs says: for how many each waits."""
    above, below = len(graph.boxes[arrow.source].jobs), len(graph.boxes[arrow.target].jobs)
    some = f"{arrow.waiting} of these: " if arrow.waiting < below else ""
    if above == 1:
        return some.removesuffix(": ")
    each = (
        "all"
        if arrow.least == above
        else f"{arrow.least}" + (f" to {arrow.most}" if arrow.most > arrow.least else "") + f" of {above}"
    )
    return some + each


def _legend(graph: Graph) -> Iterator[tuple[str, str]]:
    """Give sample and explanation of whatever the picture has."""
    box = '<rect class="box" x="{0}" y="{0}" width="36" height="14" rx="3" fill="#dbe9f9"/>'
    boxes = graph.boxes
    if any(one.modules and len(one.jobs) == 1 for one in boxes):
        yield box.format(0), f"a job: its modules run in it from top to bottom; {_TIMES}4: four quanta of the module"
    if any(one.modules and len(one.jobs) > 1 for one in boxes):
        sample = box.format(6) + box.format(3) + box.format(0)
        yield sample, f"many jobs, drawn as one box; {_TIMES}400: 400 quanta in all of them together"
    if any(not one.modules for one in boxes):
        yield (
            '<rect class="wait" width="36" height="14" rx="7"/>',
            "nothing runs here: stands for all arrows between two blocks",
        )
    if graph.arrows:
        arrow = '<path class="arrow" d="M0,8 L36,8" marker-end="url(#head)"/>'
        counted = any(_count(one, graph) for one in graph.arrows)
        more = "; 2 of 400: each job waits for two of the 400" if counted else ""
        yield arrow, f"begins when those it comes from have ended{more}"


def _many(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"


def _blocks(graph: Graph) -> int:
    return sum(stage.blocks for stage in graph.stages)


def _label(text: str, longest: int = _LONGEST) -> str:
    """Return a text that any picture can hold: on one line, without control characters, not too long."""
    plain = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[: longest + 1]
    )
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def _columns(text: str) -> int:
    """Return how many letters wide a text is."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
