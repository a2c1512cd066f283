"""Curves as a picture: a panel a curve, a line a set of features, the 95 % interval as a band."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqmel.evaluation.curves import Curve, Point

__all__ = ["draw_curves"]

_COLOURS = ("#2a6f97", "#e07a5f", "#81b29a", "#6d597a", "#b08968", "#888888")
_TITLES = {"label_share": "share of the training clients with a label", "bytes": "bytes a vector"}


def draw_curves(path: Path, curves: Sequence[Curve]) -> None:
    """Write a PNG with one panel a curve; the axis of what it costs is logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4 * len(curves), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(1, len(curves), squeeze=False)[0]
    for axis, curve in zip(axes, curves, strict=True):
        _draw(axis, curve)
    figure.savefig(path, format="png", dpi=130)


def _draw(axis: Any, curve: Curve) -> None:
    lines: dict[str, list[Point]] = {}
    for point in curve.points:
        kind = f" {point.settings['number_type']}" if curve.over == "bytes" else ""
        lines.setdefault(point.features + kind, []).append(point)
    for place, (name, points) in enumerate(lines.items()):
        _draw_line(axis, name, sorted(points, key=lambda p: p.at), curve.primary, _COLOURS[place % len(_COLOURS)])
    axis.set_xscale("log")
    axis.set_title(f"{curve.target}: {curve.primary}, 95 % interval", fontsize=10)
    axis.set_xlabel(_TITLES[curve.over], fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#eeeeee")
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8)
    axis.legend(fontsize=8, frameon=False)


def _draw_line(axis: Any, name: str, points: list[Point], metric: str, colour: str) -> None:
    at = [p.at for p in points]
    scores = [p.score(metric) for p in points]
    axis.plot(at, [s.mean for s in scores], marker="o", markersize=4, color=colour, label=name)
    axis.fill_between(
        at, [s.interval[0] for s in scores], [s.interval[1] for s in scores], color=colour, alpha=0.13, lw=0
    )
