"""The charts: seconds against inputs, a labelled line for each side; and all comparisons, a bar for each side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from report import Bar, Results

mpl.use("Agg")
mpl.rcParams["svg.hashsalt"] = "dbb"  # the same results give the same bytes
mpl.rcParams["svg.fonttype"] = "none"

STYLES = {
    "floor": ("#555555", "--", "the floor: sqlite3 + os.symlink"),
    "dbb": ("#c1272d", "-", "dbb, from the registry"),
    "dbb-manifest": ("#e58a8d", "-", "dbb, from a manifest"),
    "gen2": ("#1b6e53", "-", "Gen2 way: open every file"),
    "gen3-ingest": ("#12508f", "-", "Gen3 ingest"),
    "gen3-transfer": ("#5b93c9", "-", "Gen3 transfer_from"),
    "gen3-import": ("#8fb8de", "-", "Gen3 import"),
}
FLOOR, OURS, PEER = "#555555", "#c1272d", "#5b93c9"
GAP = 0.055  # of the axis height, between labels


def draw(results: Results, folder: Path) -> None:
    """Write ``repository.png`` and ``repository.svg``."""
    figure, axes = plt.subplots(figsize=(9, 5.2), layout="constrained")
    ends: list[tuple[float, float, str]] = []
    for side in results.sides():
        points = [(n, cost) for n in results.sizes() if (cost := results.counted(side, n)) is not None]
        colour, line, _ = STYLES[side]
        width = 2.6 if side == "dbb" else 1.6
        axes.plot(*zip(*points, strict=True), line, color=colour, marker="o", markersize=4, linewidth=width)
        ends.append((*points[-1], side))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}".replace(",", " ")))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} s"))
    axes.set_xlabel("inputs of the job (raws and calibrations)")
    axes.set_title("Making one job's registry and repository\n", loc="left", fontweight="bold")
    axes.text(0, 1.02, "time without importing libraries; lower is better", transform=axes.transAxes, color="#555555")
    axes.grid(which="major", color="#dddddd", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    _label(axes, ends)
    for name, extra in (("repository.png", {"dpi": 160}), ("repository.svg", {"metadata": {"Date": None}})):
        figure.savefig(folder / name, **extra)
    plt.close(figure)


def _label(axes: Axes, ends: list[tuple[float, float, str]]) -> None:
    """Name the lines at the right edge, pushed apart where they would overlap, each tied to its end."""
    low = -1.0
    for x, y, side in sorted(ends, key=lambda end: end[1]):
        colour, _, text = STYLES[side]
        height = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))[1]
        low = max(height, low + GAP)
        axes.annotate(
            text,
            xy=(x, y),
            xytext=(1.03, low),
            textcoords="axes fraction",
            color=colour,
            va="center",
            fontweight="bold" if side == "dbb" else "normal",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "linestyle": ":", "shrinkB": 5},
        )


def draw_comparison(bars: Sequence[Bar], folder: Path) -> None:
    """Write ``comparison.png`` and ``comparison.svg``: by topic, each side's cost as a multiple of the floor."""
    topics = list(dict.fromkeys(bar.topic for bar in bars))
    rows: list[Bar | str] = []
    for topic in topics:
        rows += [topic, *(bar for bar in bars if bar.topic == topic)]
    figure, axes = plt.subplots(figsize=(9, 0.27 * len(rows) + 1.1), layout="constrained")
    for place, row in enumerate(rows):
        if isinstance(row, str):
            axes.text(
                0,
                place,
                row,
                transform=axes.get_yaxis_transform(),
                va="center",
                fontweight="bold",
                backgroundcolor="white",
            )
            continue
        colour = OURS if row.ours else FLOOR if row.times == 1 else PEER
        axes.barh(place, row.times - 1e-9, left=1e-9, color=colour, height=0.72)
        axes.text(row.times * 1.06, place, f"{row.times:.3g} x", va="center", fontsize="small", color=colour)
    axes.set_yticks(
        [place for place, row in enumerate(rows) if isinstance(row, Bar)],
        [row.side for row in rows if isinstance(row, Bar)],
        fontsize="small",
    )
    axes.set_xscale("log")
    least, most = min(bar.times for bar in bars), max(bar.times for bar in bars)
    axes.set_xlim(min(0.3, least / 2), most * 4)
    axes.axvline(1, color=FLOOR, linewidth=0.8, linestyle="--")
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} x"))
    axes.set_title("Cost as a multiple of the least that does the job\n", loc="left", fontweight="bold")
    axes.text(0, 1.005, "red: dbb; shorter is better", transform=axes.transAxes, color="#555555", va="bottom")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    for name, extra in (("comparison.png", {"dpi": 140}), ("comparison.svg", {"metadata": {"Date": None}})):
        figure.savefig(folder / name, **extra)
    plt.close(figure)
