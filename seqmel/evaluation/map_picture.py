"""Maps of clients as a picture: one panel per layout, with its scores below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqmel.core.colours import COLOURS, GREYS
from seqmel.evaluation.map_layouts import MapLayout

__all__ = ["colour_values", "draw_layouts"]

_MOST_CLASSES = 8


def draw_layouts(
    path: Path, layouts: Sequence[MapLayout], colours: pd.Series[Any] | None, *, suffix: str
) -> None:
    """Draw layouts side by side.

    Args:
        path: The file to write.
        layouts: At least one.
        colours: One value per point: numbers are a scale, other values are classes, and nulls are
            grey. None draws all points alike.
        suffix: The format, such as ".png".
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(layouts) + 0.8, 4.8), layout="constrained")
    panels = figure.subplots(1, len(layouts), squeeze=False)[0]
    size = float(np.clip(2_000 / len(layouts[0].points), 2, 20))
    number = colours is not None and pd.api.types.is_float_dtype(colours)
    for panel, layout in zip(panels, layouts, strict=True):
        x, y = layout.points.T
        panel.scatter(x, y, s=size, color=GREYS[0], linewidths=0)
        if colours is not None and number:
            shown = panel.scatter(x, y, s=size, c=colours, cmap="viridis", linewidths=0)
        elif colours is not None:
            for value, colour in zip(colours.dropna().unique(), COLOURS, strict=False):
                at = (colours == value).to_numpy()
                panel.scatter(x[at], y[at], s=size, color=colour, label=str(value), linewidths=0)
        panel.set_title(layout.name)
        panel.set_xticks([]), panel.set_yticks([])
        panel.set_xlabel(
            f"global score {layout.global_score:.2f}, neighbours kept {layout.neighbours:.2f}"
        )
    if colours is not None and number:
        figure.colorbar(shown, ax=panels[-1], label=str(colours.name))
    elif colours is not None:
        panels[-1].legend(
            title=str(colours.name), loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2
        )
    figure.savefig(path, format=suffix.removeprefix("."), dpi=150)


def colour_values(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return numbers as they are if they are many, else classes as text, the rarest joined."""
    number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if number and values.nunique() > _MOST_CLASSES:
        return values.astype(float)
    texts = values.astype(object)
    kept = texts.value_counts().index[: _MOST_CLASSES - 1]
    if texts.nunique() > _MOST_CLASSES:
        texts = texts.where(texts.isin(kept) | texts.isna(), "all others")
    found: pd.Series[Any] = texts.map(_plain)
    return found


def _plain(value: Any) -> str | None:
    if pd.isna(value):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
