"""Reasons for a score in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from seqmel.data.kinds.category import shortened

__all__ = ["in_short"]


def in_short(reasons: pd.DataFrame, top: int = 10) -> str:
    """Return the reasons of each client in words: the events and columns that moved it most.

    Args:
        reasons: what `explain` returns.
        top: number of events and of columns to show.
    """
    client = reasons.columns[0]
    parts = [_one_in_short(client, rows, top) for _, rows in reasons.groupby(client, sort=False)]
    return "\n\n".join(parts)


def _one_in_short(client: str, rows: pd.DataFrame, top: int) -> str:
    known = rows[rows["part"] != "baseline"]
    total = rows["contribution"].sum()
    baseline = rows["contribution"].iloc[0]
    start = "without events"
    start += " and with typical facts" if (rows["part"] == "fact").any() else ""
    lines = [
        f"{client} {rows[client].iloc[0]}: {rows['output'].iloc[0]} is {total:.4g}; {start} it is "
        f"{baseline:.4g}. The difference of {total - baseline:+.4g} comes from:"
    ]
    if not len(known):
        return f"{lines[0].partition('; ')[0]}. No event is known, so there is nothing to explain."
    names = known["column"].where(known["column"].notna(), "earlier events")
    lines += ["", _largest(_totals(known.groupby(names, sort=False)).rename_axis("column"), top)]
    events = known[known["part"] == "event"]
    if len(events):
        lines += ["", _largest(_by_event(events), top)]
    return "\n".join(lines)


def _totals(groups: Any) -> pd.DataFrame:
    """Return the contribution of each group, and its error as if those of its rows were apart."""
    found: pd.DataFrame = groups.agg(
        contribution=("contribution", "sum"), error=("error", lambda e: (e**2).sum() ** 0.5)
    )
    return found


def _by_event(events: pd.DataFrame) -> pd.DataFrame:
    """Return one row per event, with the values of its columns, the most important first."""
    totals = _totals(events.groupby("event"))
    firsts = events.groupby("event").first()
    totals.insert(0, "time", firsts["value"])
    if "source" in events:
        totals.insert(1, "source", firsts["source"])
    own = events[events.duplicated("event")]
    own = own.iloc[np.argsort(-own["contribution"].abs().to_numpy(), kind="stable")]
    values = own["column"] + "=" + own["value"].map(_shown)
    totals["values"] = values.groupby(own["event"]).agg(", ".join)
    return totals


def _largest(totals: pd.DataFrame, top: int) -> str:
    """Return the rows with the largest contributions as text."""
    order = np.argsort(-totals["contribution"].abs().to_numpy(), kind="stable")[:top]
    formats = {"contribution": "{:+.4f}".format, "error": "{:.4f}".format}
    chosen = totals.iloc[order].reset_index()
    if chosen["error"].isna().all():
        chosen = chosen.drop(columns="error")
    left = len(totals) - len(chosen)
    text: str = chosen.to_string(index=False, formatters=formats)
    return text + (f"\n... and {left} more" if left else "")


def _shown(value: object) -> str:
    """Return a value, fractional numbers with six digits."""
    if not isinstance(value, str):
        return "null"
    try:
        return f"{float(value):.6g}" if "." in value else shortened(value)
    except ValueError:
        return shortened(value)
