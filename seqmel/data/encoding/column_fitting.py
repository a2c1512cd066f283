"""Statistics of whole columns that the vocabulary is fitted on: numbers, gaps and quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seqmel.data.encoding.columns import EventColumns
from seqmel.data.sources.source import EventSource

__all__ = ["finite", "gaps", "middle_magnitudes", "quantiles", "within"]

_QUANTILES = 32  # per query; the time of a query grows faster than its number of aggregates

Sorted: TypeAlias = npt.NDArray[Any]


def finite(columns: EventColumns, column: str) -> npt.NDArray[np.float64]:
    """Return the finite values of a number, sorted."""
    x = columns.numbers[column]
    return np.sort(x[np.isfinite(x)])


def gaps(columns: EventColumns) -> npt.NDArray[np.int64]:
    """Return the positive gaps between events of a client, in microseconds, sorted."""
    found = np.diff(columns.time)
    found[np.cumsum(columns.lengths[:-1]) - 1] = 0  # between two clients
    return np.sort(found[found > 0])


def within(columns: EventColumns, column: str, by: str) -> pa.Table:
    """Return a number as `x`, and as `key` the text of the category that it is scaled within."""
    category = columns.categories[by]
    x = columns.numbers[column]
    return pa.table(
        [category.texts.take(pa.array(category.index)), pa.array(x, from_pandas=True)], ["key", "x"]
    )


def middle_magnitudes(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the one or two middle order statistics of the non-zero absolute values of sorted `x`.

    Their median is that of all non-zero absolute values.
    """
    below = -x[: np.searchsorted(x, 0.0)][::-1]
    above = x[np.searchsorted(x, 0.0, "right") :]
    n = len(below) + len(above)
    return np.array([_kth_smallest(below, above, k) for k in ((n - 1) // 2, n // 2) if n])


def _kth_smallest(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], k: int) -> np.float64:
    """Return the k-th smallest of two sorted arrays, from 0 on.

    Bisects how many of the k smaller values are in `a`.
    """
    low = max(0, k - len(b))
    high = min(k, len(a))
    while low < high:
        i = (low + high) // 2
        if a[i] < b[k - i - 1]:
            low = i + 1
        else:
            high = i
    smallest: np.float64 = np.concatenate([a[low : low + 1], b[k - low : k - low + 1]]).min()
    return smallest


def quantiles(
    source: EventSource, requests: Sequence[tuple[Sorted, tuple[float, ...]]]
) -> list[list[float] | None]:
    """Compute quantiles of several sorted arrays, bit-identical to DuckDB's `quantile_cont`.

    Each quantile lies between two neighbouring values. DuckDB interpolates between these two,
    because no formula in numpy gives the same last bit.

    Args:
        source: The events. No row is read.
        requests: Sorted arrays, each with the fractions of its quantiles.

    Returns:
        The quantiles of each array, or None if it is empty.
    """
    low: list[float] = []
    high: list[float] = []
    parts: list[float] = []
    for x, fractions in requests:
        at = (len(x) - 1) * np.array(fractions if len(x) else ())
        floor = np.floor(at)
        parts += (at - floor).tolist()
        low += x[floor.astype(np.int64)].astype(np.float64).tolist()
        high += x[np.ceil(at).astype(np.int64)].astype(np.float64).tolist()
    found: list[float] = []
    for block in (slice(i, i + _QUANTILES) for i in range(0, len(parts), _QUANTILES)):
        found += _interpolate(source, low[block], high[block], parts[block])
    each = iter(found)
    return [[next(each) for _ in fractions] if len(x) else None for x, fractions in requests]


def _interpolate(
    source: EventSource, low: list[float], high: list[float], parts: list[float]
) -> list[float]:
    """Interpolate between pairs of numbers with DuckDB.

    Args:
        source: The events. No row is read.
        low: The lower number of each pair.
        high: The higher number of each pair.
        parts: The position between them, in [0, 1].
    """
    requests = [
        f"quantile_cont(x, '{part!r}'::DOUBLE) FILTER (k = {k})" for k, part in enumerate(parts)
    ]
    pairs = pa.table(
        [pa.array(low, pa.float64()), pa.array(high, pa.float64()), np.arange(len(low))],
        ["a", "b", "k"],
    )
    source.connection.register("pairs_given", pairs)
    found = source.row(
        f"SELECT {', '.join(requests)} FROM (SELECT unnest([a, b]) AS x, k FROM pairs_given)"
    )
    source.connection.unregister("pairs_given")
    return list(found)
