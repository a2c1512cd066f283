"""What the vocabulary is fitted on, from whole columns: numbers, gaps, and their quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seqmel.data.encoding.columns import EventColumns
from seqmel.data.sources.source import EventSource

__all__ = ["finite", "gaps", "middle_magnitudes", "quantiles", "within"]

_QUANTILES = 32  # of one query: with the number of aggregates in it a query takes longer than in proportion

Sorted: TypeAlias = npt.NDArray[Any]


def finite(columns: EventColumns, column: str) -> npt.NDArray[np.float64]:
    """The finite values of a number, sorted."""
    x = columns.numbers[column]
    return np.sort(x[np.isfinite(x)])


def gaps(columns: EventColumns) -> npt.NDArray[np.int64]:
    """Those above zero between the events of a client, in microseconds, sorted."""
    found = np.diff(columns.time)
    found[np.cumsum(columns.lengths[:-1]) - 1] = 0  # from a client to the next
    return np.sort(found[found > 0])


def within(columns: EventColumns, column: str, by: str) -> pa.Table:
    """A number, and as `key` the text of the category that it lies within."""
    category, x = columns.categories[by], columns.numbers[column]
    return pa.table([category.texts.take(pa.array(category.index)), pa.array(x, from_pandas=True)], ["key", "x"])


def middle_magnitudes(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of the absolute values other than zero of sorted numbers the one or two in the middle, whose median is that of all."""
    below, above = -x[: np.searchsorted(x, 0.0)][::-1], x[np.searchsorted(x, 0.0, "right") :]
    n = len(below) + len(above)
    return np.array([_smallest(below, above, k) for k in ((n - 1) // 2, n // 2) if n])


def _smallest(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], k: int) -> np.float64:
    """The k-th smallest, from 0 on, of two runs of sorted numbers: how many of the k before it are of the first is bisected."""
    low, high = max(0, k - len(b)), min(k, len(a))
    while low < high:
        i = (low + high) // 2
        low, high = (i + 1, high) if a[i] < b[k - i - 1] else (low, i)
    smallest: np.float64 = np.concatenate([a[low : low + 1], b[k - low : k - low + 1]]).min()
    return smallest


def quantiles(source: EventSource, asked: Sequence[tuple[Sorted, tuple[float, ...]]]) -> list[list[float] | None]:
    """Quantiles of several runs of sorted numbers, as `quantile_cont` gives them; None where there are no numbers.

    Each lies between two numbers, and how it does is left to the engine, which is asked for it of the two alone: its last bit
    is that of no formula in numpy.

    Args:
        source: the events, of which no row is looked at.
        asked: numbers, and the shares of them.
    """
    low: list[float] = []
    high: list[float] = []
    parts: list[float] = []
    for x, shares in asked:
        at = (len(x) - 1) * np.array(shares if len(x) else ())
        floor = np.floor(at)
        parts += (at - floor).tolist()
        low += x[floor.astype(np.int64)].astype(np.float64).tolist()
        high += x[np.ceil(at).astype(np.int64)].astype(np.float64).tolist()
    found: list[float] = []
    for run in (slice(i, i + _QUANTILES) for i in range(0, len(parts), _QUANTILES)):
        found += _between(source, low[run], high[run], parts[run])
    each = iter(found)
    return [[next(each) for _ in shares] if len(x) else None for x, shares in asked]


def _between(source: EventSource, low: list[float], high: list[float], parts: list[float]) -> list[float]:
    """What lies at these parts of the way between two numbers, for each three."""
    asked = [f"quantile_cont(x, '{part!r}'::DOUBLE) FILTER (k = {k})" for k, part in enumerate(parts)]
    pairs = pa.table([pa.array(low, pa.float64()), pa.array(high, pa.float64()), np.arange(len(low))], ["a", "b", "k"])
    source.connection.register("pairs_given", pairs)
    found = source.row(f"SELECT {', '.join(asked)} FROM (SELECT unnest([a, b]) AS x, k FROM pairs_given)")
    source.connection.unregister("pairs_given")
    return list(found)
