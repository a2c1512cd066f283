"""What a prediction is worth: accuracy, AUROC and log-loss of classes; R2, errors and rank correlation of quantities."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "classification_metrics", "regression_metrics"]

Floats: TypeAlias = npt.NDArray[np.floating[Any]]


def classification_metrics(y: npt.NDArray[np.intp], probabilities: Floats) -> dict[str, float]:
    """AUROC of several classes is that of one against the rest, averaged over the classes.

    Args:
        y: (clients,) codes, each class at least once.
        probabilities: (clients, classes).
    """
    from sklearn.metrics import log_loss, roc_auc_score

    classes = probabilities.shape[1]
    ranked = {"y_score": probabilities[:, 1]} if classes == 2 else {"y_score": probabilities, "multi_class": "ovr"}
    return {
        "accuracy": float((probabilities.argmax(1) == y).mean()),
        "auroc": float(roc_auc_score(y, **ranked)),
        "log_loss": float(log_loss(y, probabilities, labels=range(classes))),
    }


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


def _spearman(a: Floats, b: Floats) -> float:
    """Rank correlation; 0 where one side is constant, since it then orders nothing."""
    from scipy.stats import rankdata

    ranks = rankdata(a), rankdata(b)
    return 0.0 if min(r.std() for r in ranks) == 0 else float(np.corrcoef(*ranks)[0, 1])
