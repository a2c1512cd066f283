"""Times to an event with censoring: how labels are read, and how they are encoded.

A label is the time from the moment to the event, or to the end of the observation if no event was
observed until then (a censored time). Both are one signed number: a censored time is negative, so
-0.0 is an observation that ended at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from seqmel.core.errors import InputError, SchemaError, shown
from seqmel.core.survival import Bools, Floats
from seqmel.core.units import count_words

__all__ = ["observed_times", "signed_times", "time_edges"]

_MOST_BINS = 10
_EVENTS_PER_BIN = 5


def signed_times(times: pd.Series[Any], observed: pd.Series[Any]) -> pd.Series[Any]:
    """Return the times, negative where they are censored.

    Args:
        times: times of 0 or more, indexed by client (and moment).
        observed: whether the event was observed, indexed likewise: booleans, or 0 and 1.

    Returns:
        Signed times, indexed and named like `times`.

    Raises:
        SchemaError: `observed` is neither boolean nor 0 and 1.
        InputError: a time is no number or negative, a row has a time and no `observed`, or no event
            is observed.
    """
    if not pd.api.types.is_numeric_dtype(times) or pd.api.types.is_bool_dtype(times):
        raise InputError(
            f"The target {times.name!r} holds {times.iloc[0]!r}. Expected numbers: the time to the"
            " event, or to the end of the observation."
        )
    numbers = times.to_numpy(np.float64)
    if numbers.min() < 0:
        raise InputError(
            f"The target {times.name!r} has the time {numbers.min():g}. Expected times of 0 or"
            " more."
        )
    known = observed.reindex(times.index)
    if known.isna().any():
        row = times.index[known.isna()][:1].tolist()[0]
        raise InputError(
            f"{row!r} has a time in {times.name!r} and nothing in {observed.name!r}. Expected true"
            " or false in each row with a time."
        )
    if not set(known.unique()) <= {False, True}:
        raise SchemaError(
            f"The column {observed.name!r} says whether the event was observed, and holds"
            f" {shown(map(repr, known.unique()), 3)}. Expected true and false, or 1 and 0."
        )
    happened = known.to_numpy(bool)
    if not happened.any():
        raise InputError(
            f"No event of {times.name!r} is observed: {observed.name!r} is false in all"
            f" {count_words(len(times), 'row')}. Expected some."
        )
    signed: pd.Series[Any] = pd.Series(
        np.where(happened, numbers, -numbers), times.index, name=times.name
    )
    return signed


def observed_times(signed: npt.NDArray[np.floating[Any]]) -> tuple[Floats, Bools]:
    """Return (N,) times, and whether the event was observed; the inverse of `signed_times`."""
    return np.abs(signed.astype(np.float64)), ~np.signbit(signed)


def time_edges(signed: Floats) -> tuple[float, ...]:
    """Return the upper bounds of the bins of time: rounded quantiles of the observed times.

    A bin has five events or more, and there are at most ten. The last bound is not below the last
    event.
    """
    times, observed = observed_times(signed)
    events = times[observed]
    count = int(np.clip(len(events) // _EVENTS_PER_BIN, 1, _MOST_BINS))
    found = {_rounded(x) for x in np.quantile(events, np.arange(1, count) / count)} - {0.0}
    last = _rounded(float(events.max()), up=True) or 1.0
    return (*sorted(edge for edge in found if edge < last), last)


def _rounded(number: float, *, up: bool = False) -> float:
    """Return a number with three digits; never a smaller one if `up`."""
    if not number:
        return 0.0
    step = 10.0 ** (np.floor(np.log10(number)) - 2)
    return float(f"{(np.ceil if up else np.round)(number / step) * step:.6g}")
