"""The plot of an experiment.

Points with intervals, or a curve over an option or label fractions.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmel.core.colours import COLOURS, INK
from seqmel.evaluation.feature_sets import (
    AGGREGATES,
    BASELINES,
    FACTS,
    beside_aggregates,
    beside_facts,
    few_label_probes,
    reference,
    standard_rows,
)
from seqmel.evaluation.picture import Line, Panel, draw_panels
from seqmel.experiment.intervals import grids, half_width
from seqmel.experiment.labels import with_fraction
from seqmel.experiment.plan import LABEL_FRACTIONS, Plan

__all__ = ["curve_panels", "picture"]

_KINDS = {"trees": "embeddings", "finetuned": "fine-tuned", "scratch": "from scratch"}


def picture(plan: Plan, results: pd.DataFrame) -> bytes:
    """Draw a PNG with one panel per data set and target.

    Args:
        plan: A plan with or without a curve.
        results: As from `long_results`.
    """
    figure = _points(results) if plan.curve is None else draw_panels(curve_panels(plan, results))
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120, metadata={"Software": None})
    return drawn.getvalue()


def curve_panels(plan: Plan, results: pd.DataFrame) -> list[Panel]:
    """Return the curves of each data set and target: one line per kind of score or set of features.

    A kind that is scored at a single position, such as the average of two models with all labels,
    has no line.
    """
    across = "fraction of the labels" if plan.curve == LABEL_FRACTIONS else str(plan.curve)
    places = {name: (line, at) for name, line, at in _places(plan)}
    panels = []
    for (data, target, metric), sets in grids(results).items():
        lines: dict[str, dict[float | None, npt.NDArray[np.float64]]] = {}
        for name, grid in sets.items():
            line, at = places[name]
            lines.setdefault(line, {})[at] = grid
        most = max(map(len, lines.values()))
        drawn = (
            _line(name, of) for name, of in lines.items() if None in of or len(of) > 1 or most == 1
        )
        panels.append(Panel(f"{data}: {target}, {metric}, 95 % interval", across, tuple(drawn)))
    return panels


def _places(plan: Plan) -> Iterator[tuple[str, str, float | None]]:
    """Yield each possible set of features, its line and its position.

    Aggregates have no position.
    """
    for row in (AGGREGATES, *plan.rows):
        for name, kind in _kinds(plan, row).items():
            for fraction in plan.label_fractions:
                if plan.curve == LABEL_FRACTIONS:
                    yield with_fraction(name, fraction), name, fraction
                else:
                    at = None if row == AGGREGATES else plan.place(row)
                    yield with_fraction(name, fraction), with_fraction(kind, fraction), at


def _kinds(plan: Plan, row: str) -> dict[str, str]:
    """Return the sets of features of a row, and their kinds."""
    if row == AGGREGATES:
        sets = (*BASELINES, FACTS, *map(beside_facts, BASELINES))
        return {name: name for name in (*sets, *few_label_probes(BASELINES))}
    probes, averages = standard_rows((row, *BASELINES, *map(beside_facts, BASELINES)))
    kinds = {row: _KINDS[plan.scored(row)], beside_aggregates(row): beside_aggregates("embeddings")}
    kinds |= {beside_facts(name): beside_facts(kind) for name, kind in kinds.items()}
    return kinds | dict.fromkeys(probes, "linear") | dict.fromkeys(averages, "averaged")


def _line(name: str, grid_at: Mapping[float | None, npt.NDArray[np.float64]]) -> Line:
    """Return a line with means and intervals by position."""
    places = sorted(at for at in grid_at if at is not None)
    of = [grid_at[at] for at in places] or list(grid_at.values())
    means = [float(grid.mean()) for grid in of]
    halves = [half_width(grid) for grid in of]
    low, high = (
        tuple(m + sign * h for m, h in zip(means, halves, strict=True)) for sign in (-1, 1)
    )
    return Line(name, tuple(places), tuple(means), low, high)


def _points(results: pd.DataFrame) -> Any:
    """Draw means and intervals as points with bars, and a line at what they are compared with."""
    from matplotlib.figure import Figure

    of = grids(results)
    most = max(len(sets) for sets in of.values())
    figure = Figure(figsize=(8, len(of) * (0.8 + 0.28 * most)), layout="constrained")
    for axes, ((data, target, metric), sets) in zip(
        figure.subplots(len(of), squeeze=False)[:, 0], of.items(), strict=True
    ):
        places = np.arange(len(sets))[::-1]
        widths = [half_width(grid) for grid in sets.values()]
        axes.errorbar(
            [g.mean() for g in sets.values()],
            places,
            xerr=widths,
            fmt="o",
            capsize=3,
            color=COLOURS[0],
        )
        compared_with = reference(sets)
        if compared_with is not None:
            axes.axvline(sets[compared_with].mean(), color=INK, linestyle="--", linewidth=1)
        axes.set_yticks(places, list(sets))
        axes.set_title(f"{data}: {target}, {metric}", loc="left", fontsize=10)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
