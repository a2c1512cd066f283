"""The picture that `seqmel demo` ends with: a map of the clients, and what their embeddings are worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqmel.evaluation.results import Scores
from seqmel.evaluation.scoring import AGGREGATES

__all__ = ["draw_demo"]

_COLOURS = ("#c9d6df", "#2a6f97", "#e07a5f")


def draw_demo(
    path: Path,
    found: Sequence[Scores],
    embeddings: pd.DataFrame,
    labels: Sequence[pd.Series[Any]],
    history: list[dict[str, float]],
) -> None:
    """Two maps (one a label), a bar chart a target, and recall by epoch, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(2, 3)
    places = _map(embeddings)
    for axis, y in zip(axes[0, :2], labels, strict=True):
        _draw_map(axis, places, y)
    for axis, scores in zip(axes[1, :2], found, strict=True):
        _draw_scores(axis, scores)
    _draw_curve(axes[0, 2], history, "recall_at_1", "recall@1 on held-out clients")
    _draw_curve(axes[1, 2], history, "loss", "training loss")
    figure.suptitle("Each point a client, placed by its embedding (two principal components)", fontsize=11)
    figure.savefig(path, format="png", dpi=110)


def _map(embeddings: pd.DataFrame) -> pd.DataFrame:
    """The first two principal components of the standardised embeddings."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    points = PCA(2, random_state=0).fit_transform(StandardScaler().fit_transform(embeddings.to_numpy(np.float64)))
    return pd.DataFrame(points, index=embeddings.index, columns=["x", "y"])


def _draw_map(axis: Any, places: pd.DataFrame, y: pd.Series[Any]) -> None:
    shared = places.index.intersection(y.index)
    codes, names = pd.factorize(y.loc[shared], sort=True)
    points = places.loc[shared]
    drawn = axis.scatter(points["x"], points["y"], c=codes, cmap="viridis", s=5, alpha=0.7, linewidths=0)
    handles, _ = drawn.legend_elements()
    axis.legend(handles, [str(n) for n in names], title=str(y.name), fontsize=8, title_fontsize=8, loc="upper right")
    axis.set_title(f"clients by {y.name}", fontsize=10)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


def _draw_scores(axis: Any, scores: Scores) -> None:
    names = list(scores.matched)
    values = [scores.score(name) for name in names]
    kinds = [0 if name == AGGREGATES else 2 if AGGREGATES in name else 1 for name in names]
    axis.barh(
        [name.replace(": linear, ", ": linear,\n") for name in names],
        [v.mean for v in values],
        xerr=[v.half_width for v in values],
        color=[_COLOURS[kind] for kind in kinds],
        height=0.6,
    )
    chance = 0.5 if scores.primary == "auroc" else max(scores.classes.values()) / scores.clients
    axis.axvline(chance, color="#888", linewidth=1, linestyle=":")
    axis.set_xlim(max(0.0, chance - 0.05), 1.0)
    for place, value in enumerate(values):
        axis.text(value.mean + value.half_width + 0.01, place, f"{value.mean:.3f}", va="center", fontsize=8)
    axis.set_title(f"{scores.target}: {scores.primary}, 95 % interval (dotted: chance)", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _draw_curve(axis: Any, history: list[dict[str, float]], name: str, title: str) -> None:
    axis.plot([row["epoch"] for row in history], [row[name] for row in history], marker="o", color=_COLOURS[1])
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("epoch", fontsize=8)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
