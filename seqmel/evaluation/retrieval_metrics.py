"""Can a client be found, and told from others, by its vector: retrieval and verification figures, a chunk at a time.

All similarities are inner products of unit vectors, see `_alike`. Nothing here holds more than a chunk of the query-gallery
matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seqmel.core.errors import InputError

__all__ = ["Figure", "Operating", "Verification", "relevant_ranks", "retrieval_figures", "verification"]

Matrix: TypeAlias = npt.NDArray[np.float32]
Whole: TypeAlias = npt.NDArray[np.int64]

_CHUNK = 512
_RESAMPLES = 500
_LEAST_FALSE = 10  # impostor pairs that a threshold has to let through in calibration for its rate to mean anything
_ROC_POINTS = 200


@dataclass(frozen=True)
class Figure:
    """A mean over clients with the 95 % interval of the percentile bootstrap over them."""

    mean: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Plain values."""
        return {"mean": self.mean, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Operating:
    """Verification at one rate of false accepts.

    Attributes:
        far: the rate that the threshold was calibrated for, on the one half of the clients.
        threshold: similarities above it are accepted; None where there are too few pairs to calibrate.
        tar: share of same-client pairs accepted on the other half; its interval takes the threshold as fixed.
        measured_far: share of pairs of two clients accepted on that other half.
    """

    far: float
    threshold: float | None
    tar: Figure | None
    measured_far: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        tar = self.tar.to_json() if self.tar else None
        return {"far": self.far, "threshold": self.threshold, "tar": tar, "measured_far": self.measured_far}


@dataclass(frozen=True)
class Verification:
    """Whether two parts are of one client, on the half of the clients that no threshold was calibrated on.

    Attributes:
        auroc: the chance that a same-client pair is more alike than a pair of two clients, ties counted half.
        roc: (false accept rate, true accept rate), by falling threshold; at most 200 of the points.
        points: one a rate of false accepts.
        calibration_pairs: pairs of two clients that thresholds were calibrated on.
    """

    auroc: float
    roc: tuple[tuple[float, float], ...]
    points: tuple[Operating, ...]
    calibration_pairs: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "auroc": self.auroc,
            "calibration_pairs": self.calibration_pairs,
            "points": [point.to_json() for point in self.points],
            "roc": [list(point) for point in self.roc],
        }


def relevant_ranks(
    query: Matrix, gallery: Matrix, query_clients: Whole, gallery_clients: Whole, *, without_itself: bool = False
) -> Whole:
    """At which places of the gallery, ordered by similarity, the items of a query's own client stand.

    A tie with another client's item counts as lost, so that equal vectors find nothing.

    Args:
        query: (Q, D) unit vectors.
        gallery: (G, D) unit vectors.
        query_clients: (Q,) whose they are; each has an item in the gallery.
        gallery_clients: (G,) whose they are.
        without_itself: whether the gallery is the queries themselves, and each is searched for among the others.

    Returns:
        (Q, R) ranks from 1 on, rising; 0 behind them for a client with fewer than R items.

    Raises:
        InputError: a query without an item of its client in the gallery.
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
            raise InputError("A query has no item of its own client in the gallery. Give each client one in both.")
        relevant = -np.sort(-np.partition(np.where(own, alike, -np.inf), -most, axis=1)[:, -most:], axis=1)
        others = np.where(own, -np.inf, alike)
        if without_itself:
            others[itself] = -np.inf
        for j in range(most):
            found = np.isfinite(relevant[:, j])
            before = (others >= relevant[:, j, None]).sum(1)
            ranks[rows, j] = np.where(found, before + j + 1, 0)
    return ranks


def retrieval_figures(ranks: Whole, at: Sequence[int], *, seed: int = 0, queries: int = 1) -> dict[str, Figure]:
    """Recall, precision and CMC at k, and mean average precision, as means over queries.

    With R items of its client in the gallery and r_1 < ... < r_R their ranks, a query has: recall@k, the share of them with
    r_j <= k; precision@k, their number with r_j <= k, over k; CMC@k, whether r_1 <= k; average precision, the mean of
    j / r_j (Manning, Raghavan and Schütze, 2008, chapter 8). With R = 1 recall and CMC are one, and average precision is
    the reciprocal rank.

    Args:
        ranks: (Q, R) as from `relevant_ranks`.
        at: the values of k.
        seed: of the bootstrap over clients; the gallery is taken as fixed.
        queries: queries per client: first one of each client, then another of each in the same order, and so on.

    Returns:
        recall@k, precision@k and cmc@k for each k, and map.
    """
    found = ranks > 0
    relevant = found.sum(1)
    places = np.arange(1, ranks.shape[1] + 1)
    values: dict[str, npt.NDArray[Any]] = {}
    for k in at:
        within = (found & (ranks <= k)).sum(1)
        values |= {f"recall@{k}": within / relevant, f"precision@{k}": within / k, f"cmc@{k}": within > 0}
    values["map"] = np.where(found, places / np.where(found, ranks, 1), 0).sum(1) / relevant
    table = np.stack([np.asarray(v, np.float64) for v in values.values()], axis=1)
    figures = _figures(table.reshape(queries, -1, table.shape[1]).mean(0), seed)
    return dict(zip(values, figures, strict=True))


def verification(
    query: Matrix, gallery: Matrix, *, fars: Sequence[float] = (1e-2, 1e-3, 1e-4), seed: int = 0
) -> Verification:
    """Same client or not: thresholds from one half of the clients, their true and false accepts on the other.

    Args:
        query, gallery: (N, D) unit vectors; row i of both is of client i.
        fars: the rates of false accepts to calibrate thresholds for. A rate that fewer than ten pairs of the calibration
            half would make has no threshold.
        seed: of the halves and the bootstrap.

    Raises:
        InputError: fewer than four clients.
    """
    if len(query) < 4:
        raise InputError(f"Verification needs four clients or more, two a half; there are {len(query)}.")
    mixed = np.random.default_rng(seed).permutation(len(query))
    calibration, measured = mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :]
    pairs = len(calibration) * (len(calibration) - 1)
    usable = [far for far in fars if far * pairs >= _LEAST_FALSE]
    thresholds = dict(zip(usable, _thresholds(query[calibration], gallery[calibration], usable), strict=True))
    own = _own(query[measured], gallery[measured])
    above, at_least = _impostors_beyond(query[measured], gallery[measured], np.sort(own))
    others = len(measured) * (len(measured) - 1)
    points = tuple(_operating(far, thresholds.get(far), own, query[measured], gallery[measured], seed) for far in fars)
    auroc = 1 - (above + at_least).mean() / (2 * others)
    return Verification(float(auroc), _roc(at_least / others), points, pairs)


def _operating(
    far: float, threshold: float | None, own: Matrix, query: Matrix, gallery: Matrix, seed: int
) -> Operating:
    if threshold is None:
        return Operating(far, None, None, None)
    wrong = sum(int((alike > threshold).sum()) for alike in _impostors(query, gallery))
    (tar,) = _figures((own > threshold).astype(np.float64)[:, None], seed)
    return Operating(far, threshold, tar, wrong / (len(own) * (len(own) - 1)))


def _alike(query: Matrix, gallery: Matrix) -> Matrix:
    """(Q, G) similarities, summed in float64 and rounded to float32: equal pairs of vectors are equally alike, in whatever
    order a product of another shape sums them."""
    return np.asarray(query.astype(np.float64) @ gallery.T.astype(np.float64), np.float32)


def _own(query: Matrix, gallery: Matrix) -> Matrix:
    """(N,) similarities of each client's two parts, as `_alike` has them."""
    return np.asarray((query.astype(np.float64) * gallery).sum(1), np.float32)


def _impostors(query: Matrix, gallery: Matrix) -> Iterator[Matrix]:
    """The similarities of all pairs of two clients, some rows at a time, flat."""
    for begin in range(0, len(query), _CHUNK):
        alike = _alike(query[begin : begin + _CHUNK], gallery)
        rows = np.arange(len(alike))
        other = np.ones(alike.shape, bool)
        other[rows, rows + begin] = False
        yield alike[other]


def _thresholds(query: Matrix, gallery: Matrix, fars: Sequence[float]) -> list[float]:
    """For each rate the (k + 1)-th greatest similarity, above which k pairs are, the most that the rate allows."""
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
    """(N,) how many pairs of two clients are more alike than each of N rising similarities, and how many as alike or more."""
    left, right = np.zeros((2, len(own) + 1), np.int64)
    for alike in _impostors(query, gallery):
        alike.sort()  # a sorted look-up stays in the cache
        left += np.bincount(np.searchsorted(own, alike, side="left"), minlength=len(left))
        right += np.bincount(np.searchsorted(own, alike, side="right"), minlength=len(right))
    return _from_each_on(left)[1:], _from_each_on(right)[1:]


def _from_each_on(counts: Whole) -> Whole:
    return counts[::-1].cumsum()[::-1]


def _roc(far: npt.NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    """From the false accept rate at each same-client similarity, rising."""
    n = len(far)
    kept = np.unique(np.linspace(0, n - 1, min(n, _ROC_POINTS)).astype(int))[::-1]
    return tuple((float(far[i]), (n - int(i)) / n) for i in kept)


def _figures(values: npt.NDArray[np.float64], seed: int) -> list[Figure]:
    """(N, M) values of N clients -> M means with intervals."""
    random = np.random.default_rng(seed)
    count = len(values)
    means = np.stack([values[random.integers(0, count, count)].mean(0) for _ in range(_RESAMPLES)])
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return [Figure(float(m), float(a), float(b)) for m, a, b in zip(values.mean(0), low, high, strict=True)]
