"""The map: clients in two dimensions by their embeddings, and their colours."""

from __future__ import annotations

import importlib
import importlib.util
import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmel.report.page import Colouring, Layout, Map

__all__ = ["colouring", "draw_map"]

_MAX_CLASSES = 8
_DIRECTIONS = 30  # principal components for t-SNE and UMAP; the others are noise and cost time
_MIN_CLIENTS = 10

Floats = npt.NDArray[np.float64]


def draw_map(
    vectors: npt.NDArray[np.float32], colourings: list[Colouring], *, seed: int
) -> Map | None:
    """Compute the layouts: PCA, t-SNE, and UMAP if it is installed.

    Args:
        vectors: (S, D) embeddings.
        colourings: What the points can be coloured by.
        seed: The seed of t-SNE and UMAP.

    Returns:
        The map, or None for fewer than ten clients.
    """
    if len(vectors) < _MIN_CLIENTS:
        return None
    points, fractions = _principal(vectors)
    noted = (
        f"two principal components, {fractions[0]:.0%} and {fractions[1]:.0%} of the variance "
        "of the standardised vectors"
    )
    layouts = [_layout("PCA", noted, points[:, :2])]
    layouts.append(
        _layout(
            "t-SNE",
            "neighbours stay near; distances between groups mean little",
            _tsne(points, seed),
        )
    )
    missing = []
    if importlib.util.find_spec("umap") is None:
        missing.append("UMAP is not installed (pip install umap-learn).")
    else:
        layouts.append(
            _layout(
                "UMAP",
                "neighbours stay near; distances between groups mean little",
                _umap(points, seed),
            )
        )
    return Map(layouts, colourings, missing)


def _principal(vectors: npt.NDArray[np.float32]) -> tuple[Floats, list[float]]:
    """Return (S, up to 30) principal components, and the fractions of variance of the first two.

    Vectors are standardised. The largest weight of each component is positive, so that the same
    vectors give the same map.
    """
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    spread = centred.std(0)
    varies = spread > 1e-9 * max(1.0, float(np.abs(vectors).max()))
    standard = centred[:, varies] / spread[varies]
    padded = np.pad(standard, ((0, 0), (0, max(0, 2 - standard.shape[1]))))
    left, singular, right = np.linalg.svd(padded, full_matrices=False)
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(1)])
    points = (left * singular * np.where(signs == 0, 1.0, signs))[:, :_DIRECTIONS]
    variance = singular**2 / max(1e-300, float((singular**2).sum()))
    return points, [float(v) for v in variance[:2]]


def _tsne(points: Floats, seed: int) -> Floats:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(points) - 1) / 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # if all points are equal it divides by zero
        fitted = TSNE(2, perplexity=perplexity, init="random", random_state=seed).fit_transform(
            points
        )
    return np.asarray(fitted, np.float64)


def _umap(points: Floats, seed: int) -> Floats:
    umap: Any = importlib.import_module("umap")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a seed disables its threads
        fitted = umap.UMAP(n_neighbors=min(15, len(points) - 1), random_state=seed).fit_transform(
            points
        )
    return np.asarray(fitted, np.float64)


def _layout(name: str, note: str, points: Floats) -> Layout:
    """Scale points to 0 ... 1000 on the longer axis, with the same scale on both axes."""
    points = np.nan_to_num(points)
    low, high = points.min(0), points.max(0)
    scale = float((high - low).max()) or 1.0
    placed = np.rint((points - (low + high) / 2) / scale * 1_000 + 500).astype(int)
    return Layout(name, note, placed[:, 0].tolist(), placed[:, 1].tolist())


def colouring(name: str, values: pd.Series[Any]) -> Colouring:
    """Colour by classes, for text, booleans and few distinct numbers, or else by a quantity.

    Classes are in their natural order. If there are more classes than colours, the most frequent
    ones have a colour and come first.

    Args:
        name: The name of the label.
        values: The labels by client. NaN or None is missing.
    """
    known = values.dropna()
    named = any(isinstance(value, (str, bool, np.bool_)) for value in known)
    quantity = not named and known.nunique() > _MAX_CLASSES
    if quantity:
        return Colouring(
            name, [], [None if pd.isna(v) else float(f"{float(v):.4g}") for v in values]
        )
    texts = known.map(_plain)
    counts = texts.value_counts()
    order = sorted(counts.index, key=lambda text: (-counts[text], text))
    if len(order) <= _MAX_CLASSES:
        classes = order = sorted(order, key=_natural)
    else:
        classes = [*order[: _MAX_CLASSES - 1], "all others"]
    place = {text: min(i, len(classes) - 1) for i, text in enumerate(order)}
    return Colouring(
        name, classes, [None if pd.isna(v) else float(place[_plain(v)]) for v in values]
    )


def _natural(text: str) -> tuple[bool, float, str]:
    number = float(text) if text.removeprefix("-").isdecimal() else math.inf
    return math.isinf(number), number, text


def _plain(value: object) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value)  # type: ignore[call-overload]
