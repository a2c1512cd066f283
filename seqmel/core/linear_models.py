"""Linear models of dense vectors: logistic regression for classes, ridge for quantities, held down as far as it helps.

How strongly the weights are held down is chosen by cross-validation, from so strongly that little but the classes' shares
is left: hence a thousand numbers a client do no harm with a hundred labels.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from seqmel.core.random_streams import Stream
from seqmel.core.threads import solver_threads

__all__ = ["MAX_CLIENTS", "Floats", "logistic", "ridge"]

MAX_CLIENTS = 50_000
"""So many clients determine some hundred numbers well; more would only cost time and memory."""

Floats = npt.NDArray[np.float64]

_STRENGTHS = tuple(10.0**power for power in np.arange(-5.0, -0.9, 0.5))  # sklearn's C, weakest weights first
_FALLBACK = 1e-4  # where a class has too few clients for the folds
_ALPHAS = tuple(10.0**power for power in np.arange(0.0, 7.0, 0.5))
_FOLDS, _FOLDS_OF_MANY, _FEW = 5, 3, 2_000
_PATIENCE = 2  # the log-loss falls and then rises along the strengths
_ITERATIONS = 300


def ridge(x: npt.NDArray[np.float32], y: npt.NDArray[np.floating[Any]], w: Floats) -> tuple[Floats, Floats]:
    """The strength is chosen by the error of leaving out one client after the other, which ridge has in closed form.

    Args:
        x: (L, D) standardised vectors.
        y: (L,) quantities.
        w: (L,) weights of the clients, 1 on average.

    Returns:
        (1, D) weights and (1,) bias.
    """
    from sklearn.linear_model import RidgeCV

    with solver_threads(x.size):
        solved = RidgeCV(_ALPHAS).fit(x.astype(np.float64), y.astype(np.float64), sample_weight=w)
    return solved.coef_.reshape(1, -1), np.array([solved.intercept_])


def logistic(
    x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], w: Floats, classes: int, seed: int
) -> tuple[Floats, Floats]:
    """Multinomial logistic regression; the strength is chosen by the log-loss over folds (see `_weakest`).

    Args:
        x: (L, D) standardised vectors.
        y: (L,) codes of the classes.
        w: (L,) weights of the clients, 1 on average.
        classes: how many there are; one that is not among `y` is held to be very rare.
        seed: of the folds.

    Returns:
        (classes, D) weights and (classes,) biases of the logits.
    """
    with solver_threads(x.size):
        solved = _solved(x, y, w, _strength(x, y, w, seed))
    weight, bias = np.zeros((classes, x.shape[1])), np.full(classes, -10.0)
    if classes == 2:  # sklearn gives the difference of the two
        return np.concatenate([-solved.coef_, solved.coef_]) / 2, np.array([-1, 1]) * solved.intercept_[0] / 2
    weight[solved.classes_], bias[solved.classes_] = solved.coef_, solved.intercept_
    return weight, bias


def _solved(x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], w: Floats, strength: float, start: Any = None) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = start or LogisticRegression(max_iter=_ITERATIONS, tol=1e-4, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough: only the weakest penalties do not converge
        warnings.filterwarnings(
            "ignore", message="The number of unique classes"
        )  # a guess; here they are known to be classes
        return model.set_params(C=strength).fit(x, y, sample_weight=w)


def _strength(x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], w: Floats, seed: int) -> float:
    """By the log-loss over folds, in which all classes with enough clients take part."""
    folds = _FOLDS if len(y) < _FEW else _FOLDS_OF_MANY
    counts = np.bincount(y)
    enough = np.flatnonzero(counts[y] >= folds)
    if len(np.unique(y[enough])) < 2:
        return _FALLBACK
    x, y, w = x[enough], np.unique(y[enough], return_inverse=True)[1], w[enough]
    mixed = np.random.default_rng([seed, Stream.LINEAR_FOLDS]).permutation(len(y))
    fold = np.empty(len(y), np.int64)
    fold[mixed[np.argsort(y[mixed], kind="stable")]] = np.arange(len(y)) % folds
    models: list[Any] = [None] * folds
    losses: list[Floats] = []
    for strength in _STRENGTHS:
        loss = np.zeros(len(y))
        for held in range(folds):
            train, test = fold != held, fold == held
            models[held] = _solved(x[train], y[train], w[train], strength, models[held])
            right = models[held].predict_proba(x[test])[np.arange(test.sum()), y[test]]
            loss[test] = -w[test] * np.log(np.maximum(right, 1e-12))
        losses.append(loss)
        if len(losses) - 1 - int(np.argmin([each.mean() for each in losses])) >= _PATIENCE:
            break
    return float(_STRENGTHS[_weakest(np.array(losses))])


def _weakest(losses: Floats) -> int:
    """The first row whose mean is not more than one standard error above the best.

    The one-standard-error rule (Breiman, Friedman, Olshen, Stone, 1984, section 3.4.3), with the error of the difference to
    the best row: the same clients are in both. With few clients the lowest mean is mostly luck, with many the rule is that
    of the lowest mean.

    Args:
        losses: (strengths, clients), weakest weights first.
    """
    excess = losses - losses[losses.mean(1).argmin()]
    error = excess.std(1) / losses.shape[1] ** 0.5
    return int(np.flatnonzero(excess.mean(1) <= error)[0])
