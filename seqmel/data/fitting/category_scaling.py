"""Infer which numbers are comparable only within the values of a category.

An example is the measured `value` of a `parameter`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seqmel.data.sources.source import EventSource, ident

__all__ = ["infer_within"]

_SHARE = 0.5  # Minimum fraction of the variance of a number's ranks that lies between categories.
# A column with fewer values is preferred if it explains at most this much less.
_ABOUT_AS_GOOD = 0.05
_VARYING = 0.5  # Minimum fraction of events in categories within which the number varies.
_ROWS = 200_000  # Maximum number of sampled rows, if there are few columns.
_FEWEST_ROWS = 5_000  # Minimum number of sampled rows.
_CELLS = 1_000_000  # Rows times columns in memory at once.
# Numbers with fewer values than this in the sample are searched for in later rows.
_FEW_VALUES = 1_000

Codes = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.float64]


def infer_within(source: EventSource, kinds: list[str], numbers: list[str]) -> dict[str, str]:
    """Return number -> the category within which it is scaled, for numbers that need one.

    The category must explain more than half of the variance of the ranks of the number (epsilon
    squared of Kruskal and Wallis, which is adjusted for the number of values). The number must also
    vary within most values of the category: a price that is constant per product is a property of
    the product. Among categories that explain about the same, the one with the fewest values is
    taken. The first rows are read in one scan. A second scan reads the first rows that have the
    rare numbers.

    Args:
        source: the events.
        kinds: the categorical columns, each with at most a few thousand distinct values.
        numbers: numeric columns with more than one value.
    """
    if not kinds or not numbers:
        return {}
    rows = min(_ROWS, max(_FEWEST_ROWS, _CELLS // (len(kinds) + len(numbers))))
    sample = _first_rows(source, [*kinds, *numbers], rows)
    rare = [n for n in numbers if len(sample) - sample[n].null_count < min(_FEW_VALUES, rows)]
    if len(sample) < rows or not rare:
        return _within(sample, kinds, numbers)
    found = _within(sample, kinds, [n for n in numbers if n not in rare])
    return found | _within(_first_rows(source, [*kinds, *rare], rows, known=rare), kinds, rare)


def _first_rows(
    source: EventSource, columns: list[str], rows: int, *, known: list[str] | None = None
) -> pa.Table:
    condition = (
        f"WHERE coalesce({', '.join(f'{ident(c)}::DOUBLE' for c in known)}) IS NOT NULL"
        if known
        else ""
    )
    names = ", ".join(map(ident, columns))
    return source.stream(f"SELECT {names} FROM events {condition} LIMIT {rows}", rows).read_all()


def _within(sample: pa.Table, kinds: list[str], numbers: list[str]) -> dict[str, str]:
    if not numbers or not len(sample):
        return {}
    ranks = np.stack([_ranks(sample[number]) for number in numbers], axis=1)
    codes = [_codes(sample[kind]) for kind in kinds]
    shares = np.stack([_explained(of_kind, ranks) for of_kind in codes])  # (kinds, numbers).
    for i, j in np.argwhere(shares > _SHARE):
        if not _varies(codes[i], ranks[:, j]):
            shares[i, j] = 0.0
    sizes = [len(np.unique(of_kind)) for of_kind in codes]
    found = {}
    for number, of_kinds in zip(numbers, shares.T, strict=True):
        good = np.flatnonzero((of_kinds > _SHARE) & (of_kinds >= of_kinds.max() - _ABOUT_AS_GOOD))
        if len(good):
            found[number] = kinds[min(good, key=lambda i: (sizes[i], -of_kinds[i]))]
    return found


def _ranks(column: pa.ChunkedArray) -> Numbers:
    """Return (rows,) centered ranks of the values, ties with one rank; NaN if missing."""
    values = np.asarray(pc.cast(column, pa.float64(), safe=False).fill_null(np.nan))
    known = ~np.isnan(values)
    ranks = np.full(len(values), np.nan)
    if known.any():
        _, place, counts = np.unique(values[known], return_inverse=True, return_counts=True)
        ranks[known] = ((counts.cumsum() - counts / 2) / len(place))[place] - 0.5
    return ranks


def _codes(column: pa.ChunkedArray) -> Codes:
    """Return integer codes of the values; null has a code too."""
    encoded = pa.chunked_array([column.combine_chunks()]).dictionary_encode(null_encoding="encode")
    indices = encoded.combine_chunks().indices
    return np.asarray(
        indices.fill_null(len(encoded.chunk(0).dictionary) if len(encoded) else 0), dtype=np.int32
    )


def _explained(codes: Codes, ranks: Numbers) -> Numbers:
    """Return (N,) fractions of the variance of each number that the category explains."""
    order = np.argsort(codes, kind="stable")
    begins = np.flatnonzero(np.r_[True, np.diff(codes[order]) != 0])
    missing = np.isnan(ranks)
    sums = np.add.reduceat(np.where(missing, 0.0, ranks)[order], begins, axis=0)
    counts = np.repeat(np.diff(np.r_[begins, len(codes)])[:, None], ranks.shape[1], axis=1)
    some = np.flatnonzero(missing.any(axis=0))
    counts[:, some] -= np.add.reduceat(missing[:, some].astype(np.int32)[order], begins, axis=0)
    n = counts.sum(axis=0)
    groups = (counts > 0).sum(axis=0)
    total = np.nansum(ranks**2, axis=0)
    between = (sums**2 / np.maximum(counts, 1)).sum(axis=0)
    unexplained = 1 - between / np.where(total > 0, total, 1.0)
    share = 1 - unexplained * (n - 1) / np.maximum(n - groups, 1)
    found: Numbers = np.where((total > 0) & (n > groups), share, 0.0)
    return found


def _varies(codes: Codes, ranks: Numbers) -> bool:
    """Return whether most events have a value of the category within which the number varies."""
    known = ~np.isnan(ranks)
    order = np.lexsort((ranks[known], codes[known]))
    codes = codes[known][order]
    ranks = ranks[known][order]
    begins = np.flatnonzero(np.r_[True, np.diff(codes) != 0])
    ends = np.r_[begins[1:], len(codes)]
    varying = (ends - begins)[ranks[ends - 1] > ranks[begins]].sum()
    return bool(varying > _VARYING * len(codes))
