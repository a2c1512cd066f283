"""Evidence, from a sample of the events, whether the order of a column's values has a meaning.

It does not use the name of the column. For codes, a value is similar to the next one by chance
only. For counts, scores, ages and amounts, neighbouring values are similar: in the other columns of
their events, in the next event of the client, and in their frequency.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from seqmel.core.correlation import correlation
from seqmel.data.sources.source import EventSource, ident, is_integer, is_real

__all__ = ["OrderEvidence", "Sample", "order_evidence", "read_sample"]

_ROWS = 50_000  # Sampled rows, if there are few columns.
_FEWEST_ROWS = 5_000
_CELLS = 2_000_000  # Rows times columns in memory at once.
_BESIDE = 24  # Maximum number of features of the other columns.
_COMMONEST = 4  # Number of values of a category that become features.
_FEW_CLIENTS = 20  # Fewer clients cannot be split into two independent halves.
_BLOCKS = 200  # If values rarely repeat, neighbouring ones are grouped into this many blocks.

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """The first rows of the events.

    Attributes:
        columns: column -> (rows,) values as float64, NaN if missing, or codes; only comparable
            columns.
        features: (rows, F) float32, each with mean 0 and variance 1.
        owner: (F,) the source column of each feature.
        client: (rows,) client index.
        half: (rows,) bool, the half of the clients that an event belongs to.
        before, after: (P,) row indices of two successive events of one client.
    """

    columns: dict[str, Floats]
    features: npt.NDArray[np.float32]
    owner: list[str]
    client: Codes
    half: npt.NDArray[np.bool_]
    before: Codes
    after: Codes


@dataclass(frozen=True)
class OrderEvidence:
    """Evidence about the order of a column's values.

    Attributes:
        distinct: number of distinct values in the sample.
        alike: how much of what distinguishes a value is shared with its neighbours: about 0 for
            codes, 1 for numbers.
        certainty: `alike` in standard errors.
        smooth: correlation of the log-frequency of a value with that of its neighbour.
        ranked: correlation of the order of the values with their order by falling frequency. It is
            1 if codes were assigned by frequency; then `smooth` is no evidence.
        dense: fraction of the integers between the quartiles that occur.
        tail: maximum absolute value divided by the median.
        spread: interquartile range divided by the range: 0.5 for a uniform distribution.
    """

    distinct: int
    alike: float
    certainty: float
    smooth: float
    ranked: float
    dense: float
    tail: float
    spread: float

    @property
    def even(self) -> bool:
        """Whether the distribution is about uniform over its range, as for running numbers."""
        return self.spread > 0.25 and self.tail < 20


def read_sample(source: EventSource, client: str, columns: list[str]) -> Sample:
    """Read the first rows once: 50,000, or fewer if there are more than forty columns.

    Args:
        source: the events.
        client: the client column.
        columns: the columns to sample.

    Returns:
        The sample.
    """
    rows = min(_ROWS, max(_FEWEST_ROWS, _CELLS // max(1, len(columns))))
    names = ", ".join(map(ident, dict.fromkeys([client, *columns])))
    table = source.stream(f"SELECT {names} FROM events LIMIT {rows}", rows).read_all()
    who = _codes(table[client])
    order = np.argsort(who, kind="stable")
    same = who[order[1:]] == who[order[:-1]]
    values = {}
    features = []
    owner = []
    for column in columns:
        kind = source.columns[column]
        if is_integer(kind) or is_real(kind):
            values[column] = x = _numbers(table[column])
            found = [_ranks(x), np.isnan(x).astype(float)]
        else:
            codes = _codes(table[column])
            found = [
                codes == code
                for code in np.argsort(-np.bincount(codes), kind="stable")[:_COMMONEST]
            ]
        for feature in found:
            if feature.std() > 0.05:
                features.append(((feature - feature.mean()) / feature.std()).astype(np.float32))
                owner.append(column)
    lengths = np.bincount(who)[who] if len(who) else who
    if len(who) and lengths.std():
        length = _ranks(lengths.astype(float))
        features.append((length / length.std()).astype(np.float32))
        owner.append("")
    units = who if len(who) and who.max() >= _FEW_CLIENTS else np.arange(len(who))
    coins = np.random.default_rng(0).random(len(units) + 1) < 0.5
    return Sample(
        columns=values,
        features=np.stack(features, axis=1) if features else np.zeros((len(who), 0), np.float32),
        owner=owner,
        client=who,
        half=coins[units],
        before=order[:-1][same],
        after=order[1:][same],
    )


def order_evidence(sample: Sample, column: str) -> OrderEvidence:
    """Return the evidence about the order of the values of an integer column.

    Args:
        sample: the first rows.
        column: an integer column of the sample.
    """
    x = sample.columns[column]
    known = ~np.isnan(x)
    values, place, counts = np.unique(x[known], return_inverse=True, return_counts=True)
    others = [i for i, owner in enumerate(sample.owner) if owner != column]
    step = max(1, -(-len(others) // _BESIDE))
    features = np.concatenate([sample.features[:, others[::step]], _neighbours(sample, x)], axis=1)[
        known
    ]
    alike, certainty = _alike(place, len(values), features, sample.half[known])
    smooth, ranked = _histogram(values, counts)
    low, q1, q3, high = (
        np.quantile(x[known], [0.0, 0.25, 0.75, 1.0]) if len(values) else np.zeros(4)
    )
    middle = np.count_nonzero((values >= q1) & (values <= q3))
    return OrderEvidence(
        distinct=len(values),
        alike=alike,
        certainty=certainty,
        smooth=smooth,
        ranked=ranked,
        dense=middle / (q3 - q1 + 1),
        tail=max(abs(low), abs(high))
        / max(1.0, float(np.median(np.abs(x[known]))) if len(values) else 1.0),
        spread=(q3 - q1) / ((high - low) or 1.0),
    )


def _neighbours(sample: Sample, x: Floats) -> npt.NDArray[np.float32]:
    """Return (rows, 2): ranks of the next and the previous value of the client, 0 if equal.

    The mean rank of all other values is subtracted. It falls as the rank of the value grows, even
    for codes.
    """
    ranks = _ranks(x)
    known = ~np.isnan(x)
    _, place, counts = np.unique(x[known], return_inverse=True, return_counts=True)
    others = np.zeros(len(x))
    others[known] = -(ranks[known] * counts[place]) / np.maximum(len(place) - counts[place], 1)
    found = np.zeros((len(x), 2), np.float32)
    differ = known[sample.before] & known[sample.after] & (x[sample.before] != x[sample.after])
    before = sample.before[differ]
    after = sample.after[differ]
    found[before, 0], found[after, 1] = ranks[after] - others[before], ranks[before] - others[after]
    return found / (ranks.std() or 1.0)


def _alike(
    place: Codes, values: int, features: npt.NDArray[np.float32], half: npt.NDArray[np.bool_]
) -> tuple[float, float]:
    """Measure how similar values of one half of the clients are to neighbours of the other half.

    Similarity is between mean features. It is relative to the similarity with the same value in the
    other half. Both are covariances of independent halves, so chance has expectation zero. The
    features of the other columns and the neighbours in time are tried jointly and separately; the
    most certain result counts.

    Returns:
        The relative similarity, and its value in standard errors.
    """
    if values < 3 or features.shape[1] == 0:
        return 0.0, 0.0
    counts, sums = _by_value(place, values, features, half)
    both = (counts[0] > 0) & (counts[1] > 0)
    if both.mean() < 0.1 and values > _BLOCKS:
        place = place * _BLOCKS // values
        values = _BLOCKS
        counts, sums = _by_value(place, values, features, half)
        both = (counts[0] > 0) & (counts[1] > 0)
    best = (0.0, 0.0)
    own = features.shape[1] - 2
    for k in sorted({1, max(1, values // 50)}):
        lo = np.maximum(np.arange(values) - k, 0)
        hi = np.minimum(np.arange(values) + k + 1, values)
        n = np.concatenate([[0.0], counts[0].cumsum()])
        s = np.concatenate([np.zeros((1, features.shape[1])), sums[0].cumsum(axis=0)])
        n = n[hi] - n[lo] - counts[0]
        s = s[hi] - s[lo] - sums[0]
        usable = both & (n > 0)
        if usable.sum() < 3:
            continue
        weight = np.sqrt(np.minimum(np.minimum(counts[0], counts[1]), n))[usable, None]
        there = weight * sums[1][usable] / counts[1][usable, None]
        same = there * sums[0][usable] / counts[0][usable, None]
        near = there * s[usable] / n[usable, None]
        for some in (slice(None), slice(own), slice(own, None)):
            each = near[:, some].sum(axis=1)
            identity = same[:, some].sum()
            certainty = each.sum() / (np.sqrt((each**2).sum()) or 1.0)
            if identity > 0 and certainty > best[1]:
                best = (float(each.sum() / identity), float(certainty))
    return best


def _by_value(
    place: Codes, values: int, features: npt.NDArray[np.float32], half: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Return (2, V) event counts per half and value, and (2, V, F) sums of centered features."""
    group = place + values * half
    order = np.argsort(group, kind="stable")
    counts = np.bincount(group, minlength=2 * values).astype(float)
    begins = np.concatenate([[0], counts.cumsum()[:-1]]).astype(np.int64)
    sums = np.zeros((2 * values, features.shape[1]))
    some = counts > 0
    if some.any():
        sums[some] = np.add.reduceat(features[order].astype(float), begins[some], axis=0)
    events = counts.reshape(2, values)
    totals = sums.reshape(2, values, -1)
    mean = totals.sum(axis=1, keepdims=True) / np.maximum(events.sum(axis=1), 1)[:, None, None]
    return events, totals - events[:, :, None] * mean


def _histogram(values: Floats, counts: Codes) -> tuple[float, float]:
    """Return `smooth` and `ranked` of `OrderEvidence`."""
    if len(values) < 4 or counts.min() == counts.max():
        return 0.0, 0.0
    logs = np.log(counts)
    ranked = -correlation(np.arange(len(values)), _ranks(logs))
    span = values[-1] - values[0] + 1
    if span <= 2 * len(values):
        grid = np.full(int(span), np.log(0.5))
        grid[(values - values[0]).astype(np.int64)] = logs
        logs = grid
    return correlation(logs[1:], logs[:-1]), ranked


def _ranks(x: Floats) -> Floats:
    """Return centered ranks, ties with one rank; 0 if missing."""
    known = ~np.isnan(x)
    _, place, counts = np.unique(x[known], return_inverse=True, return_counts=True)
    ranks = np.zeros(len(x))
    if len(place):
        ranks[known] = (((counts.cumsum() - counts / 2) / len(place)) - 0.5)[place]
    return ranks


def _numbers(column: pa.ChunkedArray) -> Floats:
    values = np.asarray(pc.cast(column, pa.float64(), safe=False).fill_null(np.nan))
    return np.where(np.isfinite(values), values, np.nan)


def _codes(column: pa.ChunkedArray) -> Codes:
    encoded = pa.chunked_array([column.combine_chunks()]).dictionary_encode(null_encoding="encode")
    indices = encoded.combine_chunks().indices
    return np.asarray(
        indices.fill_null(len(encoded.chunk(0).dictionary) if len(encoded) else 0), dtype=np.int64
    )
