"""Reasons for scores from a file of `seqmel explain`: a timeline and the columns of each client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from seqmel.core.errors import InputError
from seqmel.evaluation.reasons_picture import column_totals, score_so_far
from seqmel.report.page import ColumnReason, Moment, Reason

__all__ = ["read_reasons", "reasons"]

_COLUMNS = ("output", "part", "event", "time", "column", "value", "contribution")
_MOST_CLIENTS = 20
_MOST_COLUMNS = 10


def read_reasons(path: str | Path) -> pd.DataFrame:
    """Read a file of `seqmel explain -o`.

    Raises:
        InputError: There is no such file, or it has other content.
    """
    try:
        found: pd.DataFrame = pd.read_parquet(path)
    except FileNotFoundError:
        raise InputError(
            f"No such file: {path}. Write one: seqmel explain MODEL EVENTS --client ID -o FILE"
        ) from None
    except (OSError, ValueError, pa.ArrowException):
        found = pd.DataFrame()
    named = tuple(name for name in found.columns[1:] if name != "source")  # of several tables
    if named[: len(_COLUMNS)] != _COLUMNS or found.empty:
        raise InputError(
            f"{path} is not what `seqmel explain -o` writes. Write one: seqmel explain MODEL EVENTS"
            " --client ID -o FILE"
        )
    return found


def reasons(table: pd.DataFrame) -> list[Reason]:
    """Return the timelines of the first clients of a table of `explain`."""
    groups = list(table.groupby(table.columns[0], sort=False))[:_MOST_CLIENTS]
    return [_reason(str(client), rows) for client, rows in groups]


def _reason(client: str, rows: pd.DataFrame) -> Reason:
    start = float(rows.loc[rows["part"] != "event", "contribution"].sum())
    found = score_so_far(rows)
    events = rows[rows["part"] == "event"]
    shown = events["value"].astype(object).map(lambda value: "null" if pd.isna(value) else value)
    words = (events["column"].astype(str) + ": " + shown.map(str)).groupby(events["event"])
    values = words.agg("\n".join)
    moments = [
        Moment(place, str(time), float(score), str(values.loc[event]))
        for place, (event, time, score) in zip(
            _places(found["time"]), zip(found.index, found["time"], found["score"], strict=True),
            strict=True,
        )
    ]  # fmt: skip
    totals = column_totals(rows)[:_MOST_COLUMNS]
    columns = [ColumnReason(str(name), float(total)) for name, total in totals.items()]
    score = float(rows["contribution"].sum())
    return Reason(client, str(rows["output"].iloc[0]), start, score, moments, columns)


def _places(times: pd.Series[Any]) -> list[float]:
    """Return where times lie between the first and the last, from 0 to 1."""
    numbers = (
        times.astype("int64") if pd.api.types.is_datetime64_any_dtype(times) else times
    ).to_numpy(np.float64)
    span = np.ptp(numbers) if len(numbers) else 0.0
    found: list[float] = ((numbers - numbers.min()) / span if span else numbers * 0.0).tolist()
    return found
