"""Plots of predictions.

Classes get ROC, precision-recall and calibration curves; quantities get predicted against true
values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqmel.core.colours import COLOURS, FAINT, GREYS
from seqmel.evaluation.metrics import Floats
from seqmel.evaluation.predictions import ScoredPredictions

__all__ = ["draw_predictions"]

_MOST_CLASSES = len(COLOURS)
_BINS = 10
_MOST_POINTS = 5_000


def draw_predictions(path: Path, found: ScoredPredictions) -> None:
    """Write a PNG file: three panels for classes, two for a quantity, one for times to an event.

    Args:
        path: the file to write.
        found: the scored predictions. At most the six most frequent classes are drawn.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = 3 if found.classes else 1 if found.edges else 2
    figure = Figure(figsize=(4.4 * panels, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(1, panels))
    if found.classes:
        _draw_classes(axes, found)
    elif found.edges:
        _draw_horizons(axes[0], found)
    else:
        _draw_quantity(axes, found)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        axis.grid(color=FAINT)
        axis.set_axisbelow(True)
    figure.savefig(path, format="png", dpi=120, metadata={"Software": None})


def _draw_horizons(axis: Any, found: ScoredPredictions) -> None:
    """Draw the predicted probability of an event until each bound, and its estimate."""
    until = [row["bound"] for row in found.horizons]
    names = {"predicted": "predicted", "estimated": "Kaplan-Meier"}
    for (name, label), colour in zip(names.items(), COLOURS, strict=False):
        values = [row[name] for row in found.horizons]
        axis.plot(until, values, marker="o", color=colour, label=label)
    axis.set(xlabel=f"{found.target} until", ylabel="probability of an event", ylim=(0, None))
    axis.legend(frameon=False, fontsize=8)


def _draw_classes(axes: Any, found: ScoredPredictions) -> None:
    """Draw the second of two classes; of more classes each against the rest."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    roc, precision_recall, calibration = axes
    frequent = np.argsort(-np.bincount(found.y, minlength=len(found.classes)), kind="stable")[
        :_MOST_CLASSES
    ]
    drawn = [1] if len(found.classes) == 2 else sorted(frequent.tolist())
    for code, colour in zip(drawn, COLOURS, strict=False):
        there = found.y == code
        probability = found.predicted[:, code]
        name = found.classes[code]
        false_positives, true_positives, _ = roc_curve(there, probability)
        roc.plot(false_positives, true_positives, color=colour, label=name)
        precision, recall, _ = precision_recall_curve(there, probability)
        precision_recall.plot(recall, precision, color=colour, label=name)
        precision_recall.axhline(there.mean(), color=colour, lw=0.8, ls=":")
        calibration.plot(
            *_frequencies(there, probability), color=colour, marker="o", markersize=4, label=name
        )
    for axis in (roc, calibration):
        axis.plot([0, 1], [0, 1], color=GREYS[1], lw=0.8, ls=":")
    for axis, title, across, up in (
        (roc, "ROC", "false positive rate", "true positive rate"),
        (
            precision_recall,
            "Precision and recall; dotted: share of the class",
            "recall",
            "precision",
        ),
        (calibration, "Calibration, ten bins of equal size", "mean probability", "frequency"),
    ):
        axis.set_title(
            f"{found.target}: {title}" if axis is roc else title, loc="left", fontsize=10
        )
        axis.set_xlabel(across, fontsize=9)
        axis.set_ylabel(up, fontsize=9)
        axis.set_xlim(-0.02, 1.02)
        axis.set_ylim(-0.02, 1.02)
    roc.legend(fontsize=8, frameon=False)


def _frequencies(
    there: npt.NDArray[np.bool_], probability: Floats
) -> tuple[list[float], list[float]]:
    """Mean probability and observed frequency, in bins of equal size by probability."""
    bins = np.array_split(np.argsort(probability, kind="stable"), min(_BINS, len(probability)))
    return [float(probability[b].mean()) for b in bins], [float(there[b].mean()) for b in bins]


def _draw_quantity(axes: Any, found: ScoredPredictions) -> None:
    """Draw predicted against true values, per client and as means of bins of equal size."""
    points, bins = axes
    some = np.random.default_rng(0).permutation(len(found.y))[:_MOST_POINTS]
    points.scatter(found.predicted[some], found.y[some], s=6, alpha=0.4, color=COLOURS[0], lw=0)
    order = np.array_split(np.argsort(found.predicted, kind="stable"), min(_BINS, len(found.y)))
    means = [(float(found.predicted[b].mean()), float(found.y[b].mean())) for b in order]
    bins.plot(*zip(*means, strict=True), marker="o", markersize=4, color=COLOURS[0])
    for axis, title in (
        (points, f"{found.target}: each client"),
        (bins, "Means of ten bins of equal size"),
    ):
        low, high = (
            float(end)
            for end in (
                min(axis.get_xlim()[0], axis.get_ylim()[0]),
                max(axis.get_xlim()[1], axis.get_ylim()[1]),
            )
        )
        axis.plot([low, high], [low, high], color=GREYS[1], lw=0.8, ls=":")
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_xlabel("predicted", fontsize=9)
        axis.set_ylabel("true", fontsize=9)
