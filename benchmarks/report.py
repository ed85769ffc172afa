"""Results as medians, the verdict on each target, and both as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

LABELS = {
    "floor": "floor: sqlite3 and os.symlink",
    "dbb": "dbb, from the registry",
    "dbb-manifest": "dbb, from a manifest",
    "gen2": "Gen2 way: open every file",
    "gen3-ingest": "Gen3 ingest",
    "gen3-transfer": "Gen3 transfer_from",
    "gen3-import": "Gen3 import",
}
HUNDRED = "dbb-hundred"


@dataclass(frozen=True, slots=True)
class Results:
    """All runs of one benchmark, each ``{"side", "inputs", "wall", "cpu", "peak", "seconds"}``."""

    runs: Sequence[dict[str, Any]]

    def median(self, side: str, inputs: int = 0, what: str = "wall") -> float | None:
        """Give the median of one quantity, or None if it was not measured."""
        values = [r[what] for r in self.runs if r["side"] == side and r["inputs"] == inputs and r[what] is not None]
        return statistics.median(values) if values else None

    def import_cost(self) -> float:
        """Give the seconds that ``import sqlalchemy`` adds to a Python process."""
        return (self.median("sqlalchemy") or 0.0) - (self.median("python") or 0.0)

    def counted(self, side: str, inputs: int) -> float | None:
        """Give the seconds that count: imports of libraries left out on every side, the floor whole."""
        wall = self.median(side, inputs)
        if side == "dbb" and wall is not None:
            return wall - self.import_cost()
        own = self.median(side, inputs, "seconds")
        return wall if own is None else own

    def unrest(self) -> float:
        """Give the floor's slowest run over its fastest at the size where they differ most."""
        walls: list[list[float]] = [
            [r["wall"] for r in self.runs if r["side"] == "floor" and r["inputs"] == n] for n in self.sizes()
        ]
        return max(max(times) / min(times) for times in walls)

    def peak(self, side: str) -> float | None:
        """Give the largest resident memory of a side at any size."""
        return max((run["peak"] for run in self.runs if run["side"] == side), default=None)

    def sizes(self) -> list[int]:
        """Give the numbers of inputs that were measured."""
        return sorted({run["inputs"] for run in self.runs if run["inputs"]})

    def sides(self) -> list[str]:
        """Give the sides that took part."""
        return [side for side in LABELS if any(run["side"] == side for run in self.runs)]


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio or amount with its limit; ``value`` is None if it was not measured."""

    text: str
    value: float | None
    limit: float
    at_least: bool = False
    unit: str = "times"

    @property
    def is_far_off(self) -> bool:
        """Whether a ratio misses its limit by more than a factor of two."""
        if self.value is None or self.unit not in {"times", "%"}:
            return False
        return self.value < self.limit / 2 if self.at_least else self.value > self.limit * 2

    @property
    def verdict(self) -> str:
        """Say ``ok``, ``MISSED`` or ``not measured``."""
        if self.value is None:
            return "not measured"
        return "ok" if (self.value >= self.limit if self.at_least else self.value <= self.limit) else "MISSED"

    def cells(self) -> list[str]:
        """Give the cells of a table row."""
        value = "" if self.value is None else f"{self.value:{'.0f' if self.value >= 100 else '.3g'}} {self.unit}"
        return [self.text, value, f"{'≥' if self.at_least else '≤'} {self.limit:g} {self.unit}", self.verdict]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the chart of comparisons: of a topic, what one side costs, as a multiple of the floor."""

    topic: str
    side: str
    times: float
    ours: bool


def ratio(one: float | None, other: float | None) -> float | None:
    """Divide, if both were measured."""
    return None if one is None or not other else one / other


def growth(results: Results, side: str) -> float | None:
    """Compare what one more input costs in the last step between sizes with what it costs in the step before."""
    points = [(n, cost) for n in results.sizes() if (cost := results.counted(side, n)) is not None][-3:]
    if len(points) < 3:
        return None
    steps = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(points)]
    return ratio(steps[1], steps[0])


def targets(results: Results) -> list[Target]:
    """Hold the results against what the project promises."""
    ten = results.counted("dbb", 10_000)
    hundred = results.median(HUNDRED, what="seconds")
    return [
        Target("10 000 inputs: dbb against the floor", ratio(ten, results.counted("floor", 10_000)), 1.5),
        Target("10 000 inputs: Gen2 way against dbb", ratio(results.counted("gen2", 10_000), ten), 40, at_least=True),
        Target("10 000 inputs: Gen3 ingest against dbb", ratio(results.counted("gen3-ingest", 10_000), ten), 3, True),
        Target("one more input, last step against the step before", growth(results, "dbb"), 1.5),
        Target(
            "100 inputs: whole process against one that reads one row with SQLAlchemy",
            ratio(results.median("dbb", 100), results.median("one-row")),
            1.5,
        ),
        Target(
            "100 inputs from a manifest: whole process against the floor's",
            ratio(results.median("dbb-manifest", 100), results.median("floor", 100)),
            4,
        ),
        Target("a hundred jobs of 100 inputs in one process: each", hundred and hundred * 10, 10, unit="ms"),
        Target("100 000 inputs: peak memory of dbb", results.median("dbb", 100_000, "peak"), 150, unit="MB"),
    ]


def repository_bars(results: Results, inputs: int) -> list[Bar]:
    """Give what each side costs at one size."""
    costs = {side: ratio(results.counted(side, inputs), results.counted("floor", inputs)) for side in results.sides()}
    topic = f"repository of a job with {inputs} inputs"
    return [Bar(topic, LABELS[side], cost, side.startswith("dbb")) for side, cost in costs.items() if cost is not None]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table, its columns aligned for people who read it as text."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    cells = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
    return "\n".join([cells[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *cells[1:]]) + "\n"


def verdicts(held: Sequence[Target]) -> str:
    """Lay out targets as a Markdown table."""
    return table(["", "measured", "limit", ""], [target.cells() for target in held])


def markdown(results: Results) -> str:
    """Write the whole report."""
    sizes = results.sizes()
    head = ["", *(f"{size:,}".replace(",", " ") for size in sizes)]
    seconds = [[LABELS[side], *(_seconds(results, side, n) for n in sizes)] for side in results.sides()]
    whole = [
        [LABELS[side], *(_cell(results.median(side, n), ".3g") for n in sizes), _cell(results.peak(side), ".0f")]
        for side in results.sides()
    ]
    small = [
        [text, _cell(results.median(side), ".3f")]
        for side, text in (
            ("python", "Python that does nothing"),
            ("sqlalchemy", "`import sqlalchemy`"),
            ("one-row", "import sqlalchemy, connect, select one row"),
        )
    ]
    return f"""Seconds to make the registries and links of one job, and how many times the floor that is, by number of
inputs (raws and the calibrations that fit them). Imports of libraries are left out on every side. Medians of one run in
which all sides took turns. An empty cell was not measured. The floor's runs at one size differ by up to
{results.unrest():.1f} times. Above 2, ratios are doubtful: a disk from which many files were just deleted makes links
slowly for some minutes (`--jobs /dev/shm` keeps the disk out).

{table(head, seconds)}
Whole processes, start to exit, imports included (seconds), and the largest resident memory at any size (MB):

{table([*head, "MB"], whole)}
Small processes (seconds):

{table(["", "s"], small)}"""


def _cell(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)


def _seconds(results: Results, side: str, inputs: int) -> str:
    value = results.counted(side, inputs)
    times = ratio(value, results.counted("floor", inputs))
    return "" if value is None or times is None else f"{value:.3g} ({times:.2g} x)"
