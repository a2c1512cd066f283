"""Plots of curves: one panel per curve, one line per feature set, 95 % intervals as error bars."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqmel.core.colours import COLOURS, FAINT, GREYS
from seqmel.evaluation.curves import Curve, Point
from seqmel.evaluation.feature_sets import BASELINES

__all__ = ["Line", "Panel", "draw_curves", "draw_panels"]

_TITLES = {
    "label_fraction": "fraction of the training clients with a label",
    "bytes": "bytes per vector",
}
_MOST_TICKS = 8
_MOST_COLUMNS = 3


@dataclass(frozen=True)
class Line:
    """A line of a panel, with error bars.

    Attributes:
        name: label in the legend. Lines of the same name have the same colour in all panels.
        at: increasing x values; empty for a constant score, which is drawn as a horizontal line.
        mean: y values, one per x value; a single one for a constant score.
        low: lower ends of the error bars.
        high: upper ends of the error bars.
    """

    name: str
    at: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """Lines on common axes.

    Attributes:
        title: title of the panel.
        across: label of the x axis.
        lines: the lines.
    """

    title: str
    across: str
    lines: tuple[Line, ...]


def draw_curves(path: Path, curves: Sequence[Curve]) -> None:
    """Write a PNG file with one panel per curve.

    Args:
        path: the file to write.
        curves: the curves.
    """
    draw_panels([_panel(curve) for curve in curves]).savefig(path, format="png", dpi=130)


def draw_panels(panels: Sequence[Panel]) -> Any:
    """Draw panels, at most three in a row. They share one legend if all have the same lines.

    Args:
        panels: the panels.

    Returns:
        The `matplotlib.figure.Figure`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(len(panels), _MOST_COLUMNS)
    rows = math.ceil(len(panels) / columns)
    names = dict.fromkeys(
        line.name for panel in panels for line in panel.lines if line.name not in BASELINES
    )
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)} | dict(
        zip(BASELINES, GREYS, strict=True)
    )
    alike = len({frozenset(line.name for line in panel.lines) for panel in panels}) == 1
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08)
    figure = Figure(figsize=(4.8 * columns if columns > 1 else 6.4, 3.6 * rows), layout=layout)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        _draw(axis, panel, colours)
        if not alike or len(panels) == 1:
            axis.legend(fontsize=8, frameon=False)
    for axis in axes[len(panels) :]:
        axis.remove()
    if alike and len(panels) > 1:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=len(labels),
            fontsize=9,
            frameon=False,
        )
    return figure


def _panel(curve: Curve) -> Panel:
    points: dict[str, list[Point]] = {}
    for point in curve.points:
        kind = f" {point.settings['number_type']}" if curve.over == "bytes" else ""
        points.setdefault(point.features + kind, []).append(point)
    lines = (
        _line(name, sorted(of, key=lambda p: p.at), curve.primary) for name, of in points.items()
    )
    return Panel(
        f"{curve.target}: {curve.primary}, 95 % interval", _TITLES[curve.over], tuple(lines)
    )


def _line(name: str, points: Sequence[Point], metric: str) -> Line:
    scores = [point.score(metric) for point in points]
    low, high = zip(*(score.interval for score in scores), strict=True)
    return Line(
        name, tuple(point.at for point in points), tuple(score.mean for score in scores), low, high
    )


def _draw(axis: Any, panel: Panel, colours: dict[str, str]) -> None:
    places = sorted({place for line in panel.lines for place in line.at})
    log = places[0] > 0 and _evenness(list(map(math.log, places))) > _evenness(places)
    axis.set_xscale("log" if log else "linear")
    curves = [line for line in panel.lines if line.at]
    for line in panel.lines:
        if not line.at:
            _draw_level(axis, line, colours[line.name])
    for index, line in enumerate(curves):
        _draw_line(
            axis,
            line,
            _beside(line.at, places, log, index - (len(curves) - 1) / 2),
            colours[line.name],
        )
    if len(places) <= _MOST_TICKS:
        axis.set_xticks(places, [f"{place:g}" for place in places])
        axis.minorticks_off()
    axis.set_title(panel.title, loc="left", fontsize=10)
    axis.set_xlabel(panel.across, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color=FAINT)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8)


def _draw_level(axis: Any, line: Line, colour: str) -> None:
    axis.axhspan(line.low[0], line.high[0], color=colour, alpha=0.12, lw=0)
    axis.axhline(line.mean[0], color=colour, ls="--", lw=1.2, label=line.name)


def _draw_line(axis: Any, line: Line, at: list[float], colour: str) -> None:
    ends = [[m - low for m, low in zip(line.mean, line.low, strict=True)],
            [high - m for m, high in zip(line.mean, line.high, strict=True)]]  # fmt: skip
    axis.errorbar(
        at,
        line.mean,
        yerr=ends,
        color=colour,
        label=line.name,
        marker="o",
        markersize=4,
        lw=1.4,
        elinewidth=1,
        capsize=2,
    )


def _evenness(places: Sequence[float]) -> float:
    """Ratio of the smallest to the largest gap between neighbours."""
    gaps = [b - a for a, b in itertools.pairwise(places)]
    return min(gaps) / max(gaps) if gaps else 1.0


def _beside(at: Sequence[float], places: Sequence[float], log: bool, step: float) -> list[float]:
    """Shift x values by a fraction of the smallest gap, so that error bars do not overlap."""
    to, back = (math.log, math.exp) if log else (float, float)
    gaps = [to(b) - to(a) for a, b in itertools.pairwise(places)]
    return [back(to(place) + 0.05 * min(gaps, default=0.0) * step) for place in at]
