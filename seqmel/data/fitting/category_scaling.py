"""Which numbers mean something only within their category: where it explains most of a number's ranks (a rank eta-squared)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seqmel.data.sources.source import EventSource, ident

__all__ = ["infer_within"]

_SHARE = 0.5  # of the variance of a number's ranks that lies between the categories
_ROWS = 200_000  # looked at where there are few columns
_FEWEST_ROWS = 10_000  # looked at of any table, and enough to pass over what is far from half
_CELLS = 20_000_000  # rows times columns that are held at once
_FEW_VALUES = 1_000  # a number with fewer among these rows is looked for further down

Codes = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.float64]


def infer_within(source: EventSource, kinds: list[str], numbers: list[str]) -> dict[str, str]:
    """For each number the category that explains most of its ranks, where that is more than half.

    Looks at the first rows: 200,000, of more than a hundred columns fewer; of a number that is rarely there, at the first
    that have it. Pairs that are far from half on some of these rows are not looked at on all.

    Args:
        source: the events.
        kinds: the categories, each with some thousand different values at most.
        numbers: columns with more than one value.
    """
    if not kinds or not numbers:
        return {}
    rows = min(_ROWS, max(_FEWEST_ROWS, _CELLS // (len(kinds) + len(numbers))))
    sample = _first_rows(source, [*kinds, *numbers], rows)
    codes = [_codes(sample[kind]) for kind in kinds]
    found: dict[str, str] = {}
    for number in numbers:
        values, beside = _known(sample[number], codes)
        if len(values) < min(_FEW_VALUES, rows) and sample.num_rows == rows:
            rare = _first_rows(source, [*kinds, number], rows, known=number)
            values, beside = _known(rare[number], [_codes(rare[kind]) for kind in kinds])
        near = np.arange(len(kinds))
        step = len(values) // _FEWEST_ROWS
        if step > 1:
            near = np.flatnonzero(_shares(values[::step], [c[::step] for c in beside]) > _SHARE / 2)
        if len(values) and len(near):
            shares = _shares(values, [beside[i] for i in near])
            if shares.max() > _SHARE:
                found[number] = kinds[near[shares.argmax()]]
    return found


def _first_rows(source: EventSource, columns: list[str], rows: int, *, known: str | None = None) -> pa.Table:
    condition = f"WHERE {ident(known)} IS NOT NULL" if known else ""
    names = ", ".join(map(ident, columns))
    return source.stream(f"SELECT {names} FROM events {condition} LIMIT {rows}", rows).read_all()


def _codes(column: pa.ChunkedArray) -> Codes:
    """The values by number, null as one of them."""
    encoded = pa.chunked_array([column.combine_chunks()]).dictionary_encode(null_encoding="encode")
    indices = encoded.combine_chunks().indices
    return np.asarray(indices.fill_null(len(encoded.chunk(0).dictionary) if len(encoded) else 0), dtype=np.int32)


def _known(column: pa.ChunkedArray, codes: list[Codes]) -> tuple[Numbers, list[Codes]]:
    """The values that are there, and the codes beside them."""
    values = np.asarray(pc.cast(column, pa.float64(), safe=False).fill_null(np.nan))
    there = ~np.isnan(values)
    return (values, codes) if there.all() else (values[there], [c[there] for c in codes])


def _shares(values: Numbers, codes: list[Codes]) -> Numbers:
    """What share of the variance of the values' ranks lies between the values of each category; equal values share a rank."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = ((counts.cumsum() - counts / 2) / len(values))[which] - 0.5
    between = [np.sum(np.bincount(c, weights=ranks) ** 2 / np.maximum(np.bincount(c), 1)) for c in codes]
    return np.array(between) / (np.sum(ranks**2) or 1.0)
