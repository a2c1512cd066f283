"""What a prediction is worth: how well it ranks, how right its probabilities are, how near its quantities come."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "TOP_FRACTIONS",
    "Floats",
    "calibration_error",
    "classification_metrics",
    "kolmogorov_smirnov",
    "metric_names",
    "regression_metrics",
    "top_recall",
]

Floats: TypeAlias = npt.NDArray[np.floating[Any]]

TOP_FRACTIONS = (0.01, 0.05, 0.1)
"""The parts of the clients at the top of a ranking that lift and recall are taken at."""

_BINS = 10
_OF_CLASSES = ("accuracy", "auroc", "log_loss", "balanced_accuracy", "brier", "calibration_error")
_OF_TWO_CLASSES = ("average_precision", "gini", "ks")
_OF_QUANTITIES = ("r2", "rmse", "mae", "spearman")


def metric_names(classes: int) -> tuple[str, ...]:
    """The metrics of so many classes, or of a quantity where there are none."""
    if not classes:
        return _OF_QUANTITIES
    at_the_top = (f"{name}_at_{_percent(top)}" for top in TOP_FRACTIONS for name in ("lift", "recall"))
    return (*_OF_CLASSES, *_OF_TWO_CLASSES, *at_the_top) if classes == 2 else _OF_CLASSES


def classification_metrics(y: npt.NDArray[np.intp], probabilities: Floats) -> dict[str, float]:
    """The metrics of `metric_names`.

    AUROC of several classes is that of one against the rest, averaged over the classes. Of two classes, average precision,
    lift, recall, Gini (2 AUROC - 1) and KS are of the second.

    Args:
        y: (clients,) codes, each class at least once.
        probabilities: (clients, classes).
    """
    from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

    classes = probabilities.shape[1]
    ranked = {"y_score": probabilities[:, 1]} if classes == 2 else {"y_score": probabilities, "multi_class": "ovr"}
    right = probabilities.argmax(1) == y
    found = {
        "accuracy": float(right.mean()),
        "auroc": float(roc_auc_score(y, **ranked)),
        "log_loss": float(log_loss(y, probabilities, labels=range(classes))),
        "balanced_accuracy": float((np.bincount(y, right, classes) / np.bincount(y, minlength=classes)).mean()),
        "brier": _brier(y, probabilities),
        "calibration_error": calibration_error(y, probabilities),
    }
    if classes > 2:
        return found
    of_second = probabilities[:, 1]
    found["average_precision"] = float(average_precision_score(y, of_second))
    found |= {"gini": 2 * found["auroc"] - 1, "ks": kolmogorov_smirnov(y, of_second)}
    for top in TOP_FRACTIONS:
        recall = top_recall(y, of_second, top)
        found[f"lift_at_{_percent(top)}"] = recall * len(y) / _count_at(top, len(y))
        found[f"recall_at_{_percent(top)}"] = recall
    return found


def regression_metrics(y: Floats, predicted: Floats) -> dict[str, float]:
    """Both (clients,), at least two of them."""
    from sklearn.metrics import r2_score

    error = predicted - y
    return {
        "r2": float(r2_score(y, predicted)),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.abs(error).mean()),
        "spearman": _spearman(y, predicted),
    }


def top_recall(y: npt.NDArray[np.intp], score: Floats, top: float) -> float:
    """Which part of the second class is among the clients with the highest scores.

    >>> top_recall(np.array([1, 0, 0, 1]), np.array([0.9, 0.8, 0.2, 0.1]), top=0.5)
    0.5

    Args:
        y: (clients,) codes 0 and 1, with at least one 1.
        score: (clients,); of clients with the same score at the edge an equal part of each counts.
        top: the part of all clients that is looked at; at least one client.
    """
    count = _count_at(top, len(y))
    edge = np.partition(score, len(score) - count)[len(score) - count]
    above, at = score > edge, score == edge
    hits = y[above].sum() + (count - above.sum()) * y[at].mean()
    return float(hits / y.sum())


def kolmogorov_smirnov(y: npt.NDArray[np.intp], score: Floats) -> float:
    """The largest distance between the distributions of the scores of the two classes, 0 to 1.

    >>> kolmogorov_smirnov(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.3, 0.9]))
    0.5
    """
    from sklearn.metrics import roc_curve

    false_positives, true_positives, _ = roc_curve(y, score)
    return float(np.abs(true_positives - false_positives).max())


def calibration_error(y: npt.NDArray[np.intp], probabilities: Floats) -> float:
    """The expected calibration error (Guo et al., 2017, arXiv 1706.04599): how far probabilities are from frequencies.

    Of two classes it is that of the second; of several, that of the most probable one. Ten bins of equal width.

    Args:
        y: (clients,) codes.
        probabilities: (clients, classes).
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


def _brier(y: npt.NDArray[np.intp], probabilities: Floats) -> float:
    """The mean squared error of the probability of the second of two classes, or the sum over several classes."""
    if probabilities.shape[1] == 2:
        return float(np.mean((probabilities[:, 1] - y) ** 2))
    return float(np.mean(((probabilities - np.eye(probabilities.shape[1])[y]) ** 2).sum(1)))


def _spearman(a: Floats, b: Floats) -> float:
    """Rank correlation; 0 where one side is constant, since it then orders nothing."""
    from scipy.stats import rankdata

    ranks = rankdata(a), rankdata(b)
    return 0.0 if min(r.std() for r in ranks) == 0 else float(np.corrcoef(*ranks)[0, 1])
