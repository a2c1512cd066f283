"""The map: clients in two dimensions by their embeddings, and their colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmel.core.units import count_words
from seqmel.evaluation.map_layouts import MIN_CLIENTS, OPTIONAL, MapLayout, map_layouts
from seqmel.report.page import Colouring, Layout, Map, MapClient, MapPage

__all__ = ["colouring", "draw_map", "map_page"]

_MAX_CLASSES = 8

Floats = npt.NDArray[np.float64]


def draw_map(
    vectors: npt.NDArray[np.float32], colourings: list[Colouring], *, seed: int
) -> Map | None:
    """Compute the layouts; see `map_layouts`.

    Args:
        vectors: (S, D) embeddings.
        colourings: What the points can be coloured by.
        seed: The seed of the layouts.

    Returns:
        The map, or None for fewer than ten clients.
    """
    if len(vectors) < MIN_CLIENTS:
        return None
    return _as_map(map_layouts(vectors, seed=seed), colourings)


def map_page(
    layouts: Sequence[MapLayout], clients: Sequence[Any], labels: pd.Series[Any] | None, *, of: str
) -> MapPage:
    """Return a page with a map alone.

    Args:
        layouts: At least one.
        clients: The client ids, in the order of the points.
        labels: One value per client to colour by; None colours all alike.
        of: The file of the vectors, for the title.
    """
    colours = (
        Colouring("", ["client"], [0.0] * len(clients))
        if labels is None
        else colouring(str(labels.name), labels)
    )
    return MapPage(
        title=of,
        sample=f"{count_words(len(clients), 'client')} by their embeddings",
        map=_as_map(layouts, [colours]),
        clients=[MapClient(str(client)) for client in clients],
    )


def _as_map(found: Sequence[MapLayout], colourings: list[Colouring]) -> Map:
    layouts = [
        _layout(
            layout.name,
            f"{layout.note}; global score {layout.global_score:.2f}, neighbours kept "
            f"{layout.neighbours:.2f}",
            layout.points,
        )
        for layout in found
    ]
    missing = [
        f"{name} is not installed (pip install 'seqmel[{extra}]')."
        for name, extra in OPTIONAL.items()
        if name not in {layout.name for layout in found}
    ]
    return Map(layouts, colourings, missing)


def _layout(name: str, note: str, points: Floats) -> Layout:
    """Scale points to 0 ... 1000 on the longer axis, with the same scale on both axes."""
    points = np.nan_to_num(points)
    low = points.min(0)
    high = points.max(0)
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
