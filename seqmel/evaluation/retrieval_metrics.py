"""Retrieval and verification metrics: can a client be recognised by its vector?

All similarities are inner products of unit vectors, computed by `_alike`. Only a chunk of the
query-gallery matrix is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seqmel.core.errors import InputError

__all__ = [
    "Figure",
    "OperatingPoint",
    "Verification",
    "relevant_ranks",
    "retrieval_figures",
    "verification",
]

Matrix: TypeAlias = npt.NDArray[np.float32]
Whole: TypeAlias = npt.NDArray[np.int64]

_CHUNK = 512
_RESAMPLES = 500
_LEAST_FALSE = 10  # minimum number of false accepts in calibration; with fewer a rate is mere noise
_ROC_POINTS = 200


@dataclass(frozen=True)
class Figure:
    """A mean over clients with its 95 % interval.

    Attributes:
        mean: the mean.
        low: lower end of the percentile bootstrap interval over clients.
        high: upper end of the interval.
    """

    mean: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Return values for JSON."""
        return {"mean": self.mean, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class OperatingPoint:
    """Verification at one false accept rate.

    Attributes:
        far: the false accept rate that the threshold was calibrated for, on half of the clients.
        threshold: pairs with a higher similarity are accepted; None if there are too few pairs for
            calibration.
        tar: true accept rate on the other half: the fraction of same-client pairs that are
            accepted. Its interval treats the threshold as fixed.
        measured_far: false accept rate on the other half: the fraction of different-client pairs
            that are accepted.
    """

    far: float
    threshold: float | None
    tar: Figure | None
    measured_far: float | None

    def to_json(self) -> dict[str, Any]:
        """Return values for JSON."""
        tar = self.tar.to_json() if self.tar else None
        return {
            "far": self.far,
            "threshold": self.threshold,
            "tar": tar,
            "measured_far": self.measured_far,
        }


@dataclass(frozen=True)
class Verification:
    """Results of deciding whether two parts belong to one client.

    They are measured on the half of the clients that is not used for calibration.

    Attributes:
        auroc: probability that a same-client pair is more similar than a different-client pair;
            ties count half.
        roc: (false accept rate, true accept rate) by decreasing threshold, at most 200 points.
        points: one operating point per false accept rate.
        calibration_pairs: number of different-client pairs in calibration.
    """

    auroc: float
    roc: tuple[tuple[float, float], ...]
    points: tuple[OperatingPoint, ...]
    calibration_pairs: int

    def to_json(self) -> dict[str, Any]:
        """Return values for JSON."""
        return {
            "auroc": self.auroc,
            "calibration_pairs": self.calibration_pairs,
            "points": [point.to_json() for point in self.points],
            "roc": [list(point) for point in self.roc],
        }


def relevant_ranks(
    query: Matrix,
    gallery: Matrix,
    query_clients: Whole,
    gallery_clients: Whole,
    *,
    without_itself: bool = False,
) -> Whole:
    """Rank the gallery by similarity to each query, and return the ranks of the relevant items.

    The relevant items are those of the query's client. An item of another client with the same
    similarity is ranked first, so that collapsed vectors retrieve nothing.

    Args:
        query: (Q, D) unit vectors.
        gallery: (G, D) unit vectors.
        query_clients: (Q,) client of each query; each has an item in the gallery.
        gallery_clients: (G,) client of each gallery item.
        without_itself: whether the gallery is the set of queries, so that a query must not find
            itself.

    Returns:
        (Q, R) increasing ranks from 1, padded with 0 for clients with fewer than R items.

    Raises:
        InputError: a query has no item of its client in the gallery.
    """
    most = max(1, int(np.unique(gallery_clients, return_counts=True)[1].max()) - without_itself)
    ranks = np.zeros((len(query), most), np.int64)
    for begin in range(0, len(query), _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        alike = _alike(query[rows], gallery)
        own = query_clients[rows, None] == gallery_clients[None]
        itself = np.arange(len(alike)), np.arange(begin, begin + len(alike))
        if without_itself:
            own[itself] = False
        if not own.any(1).all():
            raise InputError(
                "A query has no item of its own client in the gallery. Give each client one in "
                "both."
            )
        relevant = -np.sort(
            -np.partition(np.where(own, alike, -np.inf), -most, axis=1)[:, -most:], axis=1
        )
        others = np.where(own, -np.inf, alike)
        if without_itself:
            others[itself] = -np.inf
        for j in range(most):
            found = np.isfinite(relevant[:, j])
            before = (others >= relevant[:, j, None]).sum(1)
            ranks[rows, j] = np.where(found, before + j + 1, 0)
    return ranks


def retrieval_figures(
    ranks: Whole, at: Sequence[int], *, seed: int = 0, queries: int = 1
) -> dict[str, Figure]:
    """Compute recall, precision and CMC at k, and mean average precision, as means over queries.

    Let r_1 < ... < r_R be the ranks of the R relevant items of a query. Then:

    - recall@k is the fraction of the items with r_j <= k.
    - precision@k is the number of items with r_j <= k, divided by k.
    - CMC@k is whether r_1 <= k.
    - Average precision is the mean of j / r_j (Manning, Raghavan and Schütze, 2008, chapter 8).

    With R = 1 recall equals CMC, and average precision is the reciprocal rank.

    Args:
        ranks: (Q, R) ranks as `relevant_ranks` returns them.
        at: the values of k.
        seed: seed of the bootstrap over clients; the gallery is treated as fixed.
        queries: number of queries per client. The first query of every client comes first, then the
            second of every client in the same order, and so on.

    Returns:
        recall@k, precision@k and cmc@k for each k, and map.
    """
    found = ranks > 0
    relevant = found.sum(1)
    places = np.arange(1, ranks.shape[1] + 1)
    values: dict[str, npt.NDArray[Any]] = {}
    for k in at:
        within = (found & (ranks <= k)).sum(1)
        values |= {
            f"recall@{k}": within / relevant,
            f"precision@{k}": within / k,
            f"cmc@{k}": within > 0,
        }
    values["map"] = np.where(found, places / np.where(found, ranks, 1), 0).sum(1) / relevant
    table = np.stack([np.asarray(v, np.float64) for v in values.values()], axis=1)
    figures = _figures(table.reshape(queries, -1, table.shape[1]).mean(0), seed)
    return dict(zip(values, figures, strict=True))


def verification(
    query: Matrix, gallery: Matrix, *, fars: Sequence[float] = (1e-2, 1e-3, 1e-4), seed: int = 0
) -> Verification:
    """Decide for pairs of vectors whether they belong to the same client.

    Thresholds are calibrated on one half of the clients and measured on the other.

    Args:
        query: (N, D) unit vectors.
        gallery: (N, D) unit vectors; row i of both belongs to client i.
        fars: false accept rates to calibrate thresholds for. A rate that corresponds to fewer than
            ten pairs of the calibration half gets no threshold.
        seed: seed of the calibration split and the bootstrap.

    Returns:
        AUROC, ROC and one operating point per false accept rate.

    Raises:
        InputError: fewer than four clients.
    """
    if len(query) < 4:
        raise InputError(
            f"Verification needs four clients or more, two per half; there are {len(query)}."
        )
    mixed = np.random.default_rng(seed).permutation(len(query))
    calibration = mixed[: len(mixed) // 2]
    measured = mixed[len(mixed) // 2 :]
    pairs = len(calibration) * (len(calibration) - 1)
    usable = [far for far in fars if far * pairs >= _LEAST_FALSE]
    thresholds = dict(
        zip(usable, _thresholds(query[calibration], gallery[calibration], usable), strict=True)
    )
    own = _own(query[measured], gallery[measured])
    above, at_least = _impostors_beyond(query[measured], gallery[measured], np.sort(own))
    others = len(measured) * (len(measured) - 1)
    points = tuple(
        _operating(far, thresholds.get(far), own, query[measured], gallery[measured], seed)
        for far in fars
    )
    auroc = 1 - (above + at_least).mean() / (2 * others)
    return Verification(float(auroc), _roc(at_least / others), points, pairs)


def _operating(
    far: float, threshold: float | None, own: Matrix, query: Matrix, gallery: Matrix, seed: int
) -> OperatingPoint:
    if threshold is None:
        return OperatingPoint(far, None, None, None)
    wrong = sum(int((alike > threshold).sum()) for alike in _impostors(query, gallery))
    (tar,) = _figures((own > threshold).astype(np.float64)[:, None], seed)
    return OperatingPoint(far, threshold, tar, wrong / (len(own) * (len(own) - 1)))


def _alike(query: Matrix, gallery: Matrix) -> Matrix:
    """(Q, G) similarities, summed in float64 and rounded to float32.

    Equal pairs of vectors then get equal similarities, whatever the order of summation.
    """
    return np.asarray(query.astype(np.float64) @ gallery.T.astype(np.float64), np.float32)


def _own(query: Matrix, gallery: Matrix) -> Matrix:
    """(N,) similarities of the two parts of each client, equal to those of `_alike`."""
    return np.asarray((query.astype(np.float64) * gallery).sum(1), np.float32)


def _impostors(query: Matrix, gallery: Matrix) -> Iterator[Matrix]:
    """Yield the similarities of all different-client pairs, flat, in chunks of queries."""
    for begin in range(0, len(query), _CHUNK):
        alike = _alike(query[begin : begin + _CHUNK], gallery)
        rows = np.arange(len(alike))
        other = np.ones(alike.shape, bool)
        other[rows, rows + begin] = False
        yield alike[other]


def _thresholds(query: Matrix, gallery: Matrix, fars: Sequence[float]) -> list[float]:
    """Per rate the (k + 1)-th greatest similarity, where k is the number of pairs it allows."""
    if not fars:
        return []
    pairs = len(query) * (len(query) - 1)
    most = int(max(fars) * pairs) + 1
    greatest = np.empty(0, np.float32)
    for alike in _impostors(query, gallery):
        greatest = np.concatenate([greatest, alike])
        if len(greatest) > most:
            greatest = np.partition(greatest, -most)[-most:]
    ordered = -np.sort(-greatest)
    return [float(ordered[int(far * pairs)]) for far in fars]


def _impostors_beyond(query: Matrix, gallery: Matrix, own: Matrix) -> tuple[Whole, Whole]:
    """(N,) numbers of different-client pairs above, and at or above, each of N similarities.

    Args:
        query: (N, D) unit vectors.
        gallery: (N, D) unit vectors.
        own: (N,) increasing similarities.
    """
    left, right = np.zeros((2, len(own) + 1), np.int64)
    for alike in _impostors(query, gallery):
        alike.sort()  # sorted look-ups are cache-friendly
        left += np.bincount(np.searchsorted(own, alike, side="left"), minlength=len(left))
        right += np.bincount(np.searchsorted(own, alike, side="right"), minlength=len(right))
    return _from_each_on(left)[1:], _from_each_on(right)[1:]


def _from_each_on(counts: Whole) -> Whole:
    return counts[::-1].cumsum()[::-1]


def _roc(far: npt.NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    """ROC points, from the false accept rate at each same-client similarity, in rising order."""
    n = len(far)
    kept = np.unique(np.linspace(0, n - 1, min(n, _ROC_POINTS)).astype(int))[::-1]
    return tuple((float(far[i]), (n - int(i)) / n) for i in kept)


def _figures(values: npt.NDArray[np.float64], seed: int) -> list[Figure]:
    """M means with intervals, from (N, M) values of N clients."""
    random = np.random.default_rng(seed)
    count = len(values)
    means = np.stack([values[random.integers(0, count, count)].mean(0) for _ in range(_RESAMPLES)])
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return [
        Figure(float(m), float(a), float(b))
        for m, a, b in zip(values.mean(0), low, high, strict=True)
    ]
