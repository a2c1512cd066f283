"""The plot of `seqmel demo`: a map of the clients, and the scores of their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd

from seqmel.core.colours import COLOURS, GREYS
from seqmel.evaluation.feature_sets import BASELINES
from seqmel.evaluation.results import TITLES, Scores

__all__ = ["draw_demo"]

_KINDS = ("#a9bcc8", *COLOURS[:2])


def draw_demo(
    path: Path,
    found: Sequence[Scores],
    embeddings: pd.DataFrame,
    labels: Sequence[pd.Series[Any]],
    history: list[dict[str, float]],
) -> None:
    """Draw a PNG: two maps by label, a bar chart per target, and metrics by epoch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(2, 3)
    for axis, y in zip(axes[0, :2], labels, strict=True):
        _draw_map(axis, _map(embeddings, y), y)
    for axis, scores in zip(axes[1, :2], found, strict=True):
        _draw_scores(axis, scores, named=axis is axes[1, 0])
    _draw_curve(axes[0, 2], history, "recall_at_1", "recall@1 on held-out clients")
    _draw_curve(axes[1, 2], history, "loss", "training loss")
    figure.suptitle(
        "Maps: each point is a client, placed by its embedding along directions that separate the "
        "labels,\nfound on the other half of the clients (linear discriminants)",
        fontsize=11,
    )
    figure.savefig(path, format="png", dpi=110)


def _map(embeddings: pd.DataFrame, y: pd.Series[Any]) -> pd.DataFrame:
    """Return two directions that separate the labels, for clients they were not fitted on.

    Regularised linear discriminants are fitted on half of the clients, and the other half is shown.
    Two classes have one discriminant; the second direction is then the first principal component of
    what the discriminant leaves.

    Args:
        embeddings: (clients, dimensions), indexed by client id.
        y: one label per client, indexed by client id.

    Returns:
        (clients shown, 2) with columns x and y.
    """
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    shared = embeddings.index.intersection(y.dropna().index)
    points = StandardScaler().fit_transform(embeddings.loc[shared].to_numpy(np.float64))
    codes = pd.factorize(y.loc[shared])[0]
    fitted, shown = train_test_split(np.arange(len(shared)), test_size=0.5, random_state=0)
    found = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
    found.fit(points[fitted], codes[fitted])
    directions = found.scalings_[:, : min(2, len(found.classes_) - 1)]
    directions = directions / np.linalg.norm(directions, axis=0)
    if directions.shape[1] < 2:
        rest = points[fitted] - points[fitted] @ directions @ directions.T
        directions = np.column_stack([directions, PCA(1, random_state=0).fit(rest).components_[0]])
    return pd.DataFrame(points[shown] @ directions, index=shared[shown], columns=["x", "y"])


def _draw_map(axis: Any, places: pd.DataFrame, y: pd.Series[Any]) -> None:
    shared = places.index.intersection(y.index)
    codes, names = pd.factorize(y.loc[shared], sort=True)
    points = places.loc[shared]
    colours = np.array(
        _colours(len(names), ordered=pd.api.types.is_numeric_dtype(y) and len(names) > 2)
    )
    axis.scatter(points["x"], points["y"], c=colours[codes], s=6, alpha=0.6, linewidths=0)
    handles = [axis.scatter([], [], color=colour, s=25) for colour in colours]
    axis.legend(
        handles,
        [str(n) for n in names],
        fontsize=8,
        ncols=8,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        frameon=False,
    )
    axis.set_title(f"clients by {y.name}", fontsize=10)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


def _colours(count: int, *, ordered: bool) -> list[str]:
    """Return one colour per class. Numeric classes have a colour scale."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    scale = colormaps["viridis"]
    return [
        to_hex(scale(i / (count - 1))) if ordered else COLOURS[i % len(COLOURS)]
        for i in range(count)
    ]


def _draw_scores(axis: Any, scores: Scores, *, named: bool) -> None:
    names = list(scores.matched)
    values = [scores.score(name) for name in names]
    kinds = [0 if name in BASELINES else 2 if BASELINES[0] in name else 1 for name in names]
    colours = [_KINDS[kind] for kind in kinds]
    axis.barh(
        names,
        [v.mean for v in values],
        xerr=[v.half_width for v in values],
        color=colours,
        height=0.6,
    )
    axis.set_yticks(
        range(len(names)), [fill(name, 18) for name in names] if named else [""] * len(names)
    )
    axis.invert_yaxis()
    chance = 0.5 if scores.primary == "auroc" else max(scores.classes.values()) / scores.clients
    axis.axvline(chance, color=GREYS[1], linewidth=1, linestyle=":")
    axis.set_xlabel("dotted: chance", fontsize=8)
    axis.set_xlim(max(0.0, chance - 0.05), 1.0)
    for place, value in enumerate(values):
        axis.text(
            value.mean + value.half_width + 0.01,
            place,
            f"{value.mean:.3f}",
            va="center",
            fontsize=8,
        )
    axis.set_title(f"{scores.target}: {TITLES[scores.primary]}, 95 % interval", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _draw_curve(axis: Any, history: list[dict[str, float]], name: str, title: str) -> None:
    axis.plot(
        [row["epoch"] for row in history],
        [row[name] for row in history],
        marker="o",
        color=COLOURS[0],
    )
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("epoch", fontsize=8)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
