"""A picture of the reasons for a score: when each event moved it, and by how much each column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqmel.core.colours import COLOURS, GREYS, INK

__all__ = ["column_totals", "draw_reasons", "score_so_far"]

_UP, _DOWN = COLOURS[:2]
_MOST_CLIENTS = 8
_MOST_COLUMNS = 10


def draw_reasons(path: Path, reasons: pd.DataFrame) -> None:
    """Write a PNG file with a row per client: a timeline of the events, and bars of the columns.

    The line is the score so far: the baseline with the facts and the events before those explained,
    then what each event adds. It ends at the score of the client.

    Args:
        path: the file to write.
        reasons: what `explain` returns. At most the first eight clients are drawn.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    client = reasons.columns[0]
    groups = list(reasons.groupby(client, sort=False))[:_MOST_CLIENTS]
    figure = Figure(figsize=(12, 3.6 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(groups), 2, squeeze=False, width_ratios=(3, 1))
    for (timeline, bars), (name, rows) in zip(panels, groups, strict=True):
        _draw_timeline(timeline, rows)
        total = rows["contribution"].sum()
        timeline.set_title(f"{client} {name}: {rows['output'].iloc[0]} is {total:.4g}", fontsize=10)
        _draw_columns(bars, rows)
        for axis in (timeline, bars):
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(labelsize=8)
    figure.savefig(path, format="png", dpi=120, metadata={"Software": None})


def score_so_far(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per event of a client: `time`, `contribution`, and the `score` after it.

    Args:
        rows: the reasons of one client.
    """
    events = rows[rows["part"] == "event"]
    found: pd.DataFrame = events.groupby("event").agg(
        time=("time", "first"), contribution=("contribution", "sum")
    )
    before = rows.loc[rows["part"] != "event", "contribution"].sum()
    found["score"] = before + found["contribution"].cumsum()
    return found


def column_totals(rows: pd.DataFrame) -> pd.Series[float]:
    """Return the contribution of each column or fact of a client, the largest first.

    Args:
        rows: the reasons of one client.
    """
    known = rows[rows["part"] != "baseline"]
    names = known["column"].where(known["column"].notna(), "earlier events")
    totals = known.groupby(names, sort=False)["contribution"].sum()
    found: pd.Series[float] = totals.iloc[np.argsort(-totals.abs().to_numpy(), kind="stable")]
    return found


def _draw_timeline(axis: Any, rows: pd.DataFrame) -> None:
    found = score_so_far(rows)
    start = rows.loc[rows["part"] != "event", "contribution"].sum()
    axis.set_ylabel("score", fontsize=8)
    if found.empty:
        axis.axhline(start, color=INK)
        return
    times = found["time"].to_numpy()
    before = np.append(start, found["score"].to_numpy()[:-1])
    colours = np.where(found["contribution"] >= 0, _UP, _DOWN)
    axis.vlines(times, before, found["score"], colors=colours, linewidth=3)
    axis.step(times, found["score"], where="post", color=INK, linewidth=0.8)
    axis.axhline(start, color=GREYS[0], linewidth=0.8, linestyle="--")


def _draw_columns(axis: Any, rows: pd.DataFrame) -> None:
    chosen = column_totals(rows)[:_MOST_COLUMNS][::-1]
    axis.barh(range(len(chosen)), chosen, color=np.where(chosen >= 0, _UP, _DOWN))
    axis.set_yticks(range(len(chosen)), [str(name) for name in chosen.index])
    axis.axvline(0, color=GREYS[0], linewidth=0.8)
