"""Metrics of predictions: ranking, calibration and regression error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seqmel.core.correlation import correlation
from seqmel.core.survival import SURVIVAL_METRICS

__all__ = [
    "TOP_FRACTIONS",
    "Floats",
    "Ranking",
    "calibration_error",
    "classification_metrics",
    "metric_names",
    "regression_metrics",
    "top_recall",
]

Floats: TypeAlias = npt.NDArray[np.floating[Any]]

TOP_FRACTIONS = (0.01, 0.05, 0.1)
"""Fractions of top-ranked clients at which lift and recall are measured."""

_BINS = 10
_OF_CLASSES = ("accuracy", "auroc", "log_loss", "balanced_accuracy", "brier", "calibration_error")
_OF_TWO_CLASSES = ("average_precision", "gini", "ks")
_OF_QUANTITIES = ("r2", "rmse", "mae", "spearman")


def metric_names(classes: int, *, survival: bool = False) -> tuple[str, ...]:
    """Return the names of the metrics of a target.

    Args:
        classes: number of classes; 0 for a quantity.
        survival: whether the target is the time to an event.

    Returns:
        The names.
    """
    if survival:
        return SURVIVAL_METRICS
    if not classes:
        return _OF_QUANTITIES
    at_the_top = (
        f"{name}_at_{_percent(top)}" for top in TOP_FRACTIONS for name in ("lift", "recall")
    )
    return (*_OF_CLASSES, *_OF_TWO_CLASSES, *at_the_top) if classes == 2 else _OF_CLASSES


def classification_metrics(y: npt.NDArray[np.intp], probabilities: Floats) -> dict[str, float]:
    """Compute the classification metrics of `metric_names`.

    With more than two classes AUROC is one-vs-rest, averaged over the classes. With two classes,
    average precision, lift, recall, Gini (2 AUROC - 1) and KS are those of the second class.

    Args:
        y: (clients,) class codes; each class occurs at least once.
        probabilities: (clients, classes) predicted probabilities.

    Returns:
        Metric -> value.
    """
    classes = probabilities.shape[1]
    right = probabilities.argmax(1) == y
    counts = np.bincount(y, minlength=classes)
    rankings = [Ranking.of(y == code, probabilities[:, code]) for code in range(classes)]
    found = {
        "accuracy": float(right.mean()),
        "auroc": float(np.mean([ranking.auroc for ranking in rankings]))
        if classes > 2
        else rankings[1].auroc,
        "log_loss": _log_loss(y, probabilities),
        "balanced_accuracy": float((np.bincount(y, right, classes) / counts).mean()),
        "brier": _brier(y, probabilities),
        "calibration_error": calibration_error(y, probabilities),
    }
    if classes > 2:
        return found
    ranking = rankings[1]
    found |= {
        "average_precision": ranking.average_precision,
        "gini": 2 * ranking.auroc - 1,
        "ks": ranking.ks,
    }
    for top in TOP_FRACTIONS:
        recall = top_recall(y, probabilities[:, 1], top)
        found[f"lift_at_{_percent(top)}"] = recall * len(y) / _count_at(top, len(y))
        found[f"recall_at_{_percent(top)}"] = recall
    return found


@dataclass(frozen=True)
class Ranking:
    """The ROC and precision of a score at its T distinct values, in decreasing order.

    One sort serves all ranking metrics, since the bootstrap computes them hundreds of times. The
    values equal those of scikit-learn.

    Attributes:
        hits: (T,) true positive rate at each threshold.
        false_alarms: (T,) false positive rate at each threshold.
        precision: (T,) precision at each threshold.
    """

    hits: Floats
    false_alarms: Floats
    precision: Floats

    @classmethod
    def of(cls, there: npt.NDArray[np.bool_], score: Floats) -> Ranking:
        """Compute the ranking.

        Args:
            there: (clients,) whether a client belongs to the class; at least one of each kind.
            score: (clients,) scores.

        Returns:
            The ranking.
        """
        order = np.argsort(-score, kind="stable")
        last = np.flatnonzero(np.diff(score[order], append=np.nan) != 0)
        hits = np.cumsum(there[order])[last]
        return cls(hits / hits[-1], (last + 1 - hits) / (len(there) - hits[-1]), hits / (last + 1))

    @property
    def auroc(self) -> float:
        """The area under the ROC curve."""
        wide = np.diff(self.false_alarms, prepend=0)
        high = np.r_[0, self.hits[:-1]] + self.hits
        return float((wide * high).sum() / 2)

    @property
    def average_precision(self) -> float:
        """The precision at each threshold, weighted by the increase in recall."""
        return float((np.diff(self.hits, prepend=0) * self.precision).sum())

    @property
    def ks(self) -> float:
        """The Kolmogorov-Smirnov distance between the class and the others, from 0 to 1."""
        return float(np.abs(self.hits - self.false_alarms).max())


def regression_metrics(y: Floats, predicted: Floats) -> dict[str, float]:
    """Compute R2, RMSE, MAE and Spearman's rank correlation.

    Args:
        y: (clients,) quantities, at least two.
        predicted: (clients,) predictions.

    Returns:
        Metric -> value.
    """
    from sklearn.metrics import r2_score

    error = predicted - y
    return {
        "r2": float(r2_score(y, predicted)),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.abs(error).mean()),
        "spearman": _spearman(y, predicted),
    }


def top_recall(y: npt.NDArray[np.intp], score: Floats, top: float) -> float:
    """Compute the recall of the second class among the clients with the highest scores.

    Args:
        y: (clients,) codes 0 and 1, with at least one 1.
        score: (clients,) scores. Clients tied at the threshold count fractionally.
        top: fraction of top-ranked clients; at least one client is taken.

    Returns:
        The recall, from 0 to 1.

    Examples:
        >>> top_recall(np.array([1, 0, 0, 1]), np.array([0.9, 0.8, 0.2, 0.1]), top=0.5)
        0.5
    """
    count = _count_at(top, len(y))
    edge = np.partition(score, len(score) - count)[len(score) - count]
    above = score > edge
    at = score == edge
    hits = y[above].sum() + (count - above.sum()) * y[at].mean()
    return float(hits / y.sum())


def calibration_error(y: npt.NDArray[np.intp], probabilities: Floats) -> float:
    """Compute the expected calibration error (Guo et al., 2017, arXiv 1706.04599).

    It compares predicted probabilities with observed frequencies in ten bins of equal width. With
    two classes the probability is that of the second class, with more that of the most probable
    class.

    Args:
        y: (clients,) class codes.
        probabilities: (clients, classes) predicted probabilities.

    Returns:
        The error, from 0 to 1.
    """
    of_two = probabilities.shape[1] == 2
    said = probabilities[:, 1] if of_two else probabilities.max(1)
    came = y == 1 if of_two else probabilities.argmax(1) == y
    place = np.minimum((said * _BINS).astype(int), _BINS - 1)
    apart = np.bincount(place, came, _BINS) - np.bincount(place, said, _BINS)
    return float(np.abs(apart).sum() / len(y))


def _count_at(top: float, clients: int) -> int:
    return max(1, round(top * clients))


def _percent(top: float) -> str:
    return f"{top:.0%}".removesuffix("%")


def _log_loss(y: npt.NDArray[np.intp], probabilities: Floats) -> float:
    least = np.finfo(probabilities.dtype).eps
    clipped = np.clip(probabilities / probabilities.sum(axis=1, keepdims=True), least, 1 - least)
    return float(-np.log(clipped[np.arange(len(y)), y]).mean())


def _brier(y: npt.NDArray[np.intp], probabilities: Floats) -> float:
    """Mean squared error of the second class's probability; with more than two, summed over all."""
    if probabilities.shape[1] == 2:
        return float(np.mean((probabilities[:, 1] - y) ** 2))
    return float(np.mean(((probabilities - np.eye(probabilities.shape[1])[y]) ** 2).sum(1)))


def _spearman(a: Floats, b: Floats) -> float:
    """Rank correlation; 0 if one side is constant, where it is undefined."""
    from scipy.stats import rankdata

    return correlation(rankdata(a), rankdata(b))
