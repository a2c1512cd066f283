"""L2-regularised linear models of vectors: logistic regression for classes, ridge for quantities.

The strength is chosen by cross-validation, from strengths that leave little more than the class
frequencies on. So vectors of a thousand numbers can be used with a hundred labels.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from seqmel.core.random_streams import Stream
from seqmel.core.threads import solver_threads

__all__ = ["MAX_CLIENTS", "Floats", "logistic", "ridge", "softmax", "spread_folds"]

MAX_CLIENTS = 50_000
"""Enough clients to fit some hundred weights well. More would only cost time and memory."""

Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64]

# C of sklearn, smallest weights first.
_STRENGTHS = tuple(10.0**power for power in np.arange(-5.0, -0.9, 0.5))
_FALLBACK = 1e-4  # if a class has too few clients for the folds
_ALPHAS = tuple(10.0**power for power in np.arange(0.0, 7.0, 0.5))
_FOLDS = 5
_FOLDS_OF_MANY = 3
_FEW = 2_000
_PATIENCE = 2  # along the strengths the log-loss falls and then rises
_ITERATIONS = 300


def ridge(
    x: npt.NDArray[np.float32],
    y: npt.NDArray[np.floating[Any]],
    w: Floats,
    groups: Groups | None = None,
) -> tuple[Floats, Floats]:
    """Fit ridge regression. The strength is chosen by the leave-one-out error, in closed form.

    Args:
        x: (L, D) standardised vectors.
        y: (L,) quantities.
        w: (L,) weights of the clients, 1 on average.
        groups: (L,) codes of the clients, if they have several rows. Then the strength is chosen
            over folds of whole clients.

    Returns:
        Weights (1, D) and bias (1,).
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold

    count = 1 if groups is None else min(_FOLDS, len(np.unique(groups)))
    folds = list(GroupKFold(count).split(x, groups=groups)) if count > 1 else None
    with solver_threads(x.size):
        solved = RidgeCV(_ALPHAS, cv=folds).fit(
            x.astype(np.float64), y.astype(np.float64), sample_weight=w
        )
    return solved.coef_.reshape(1, -1), np.array([solved.intercept_])


def logistic(
    x: npt.NDArray[np.float32],
    y: npt.NDArray[np.int64],
    w: Floats,
    classes: int,
    seed: int,
    groups: Groups | None = None,
) -> tuple[Floats, Floats]:
    """Fit multinomial logistic regression. The strength is chosen by the log-loss over folds.

    Args:
        x: (L, D) standardised vectors.
        y: (L,) codes of the classes.
        w: (L,) weights of the clients, 1 on average.
        classes: The number of classes. A class missing from `y` gets logit -10.
        seed: The seed of the folds.
        groups: (L,) codes of the clients, if they have several rows. All rows of a client are in
            one fold.

    Returns:
        Weights (classes, D) and biases (classes,) of the logits.
    """
    with solver_threads(x.size):
        solved = _fit(x, y, w, _strength(x, y, w, seed, groups))
    weight = np.zeros((classes, x.shape[1]))
    bias = np.full(classes, -10.0)
    coefficients = solved.coef_
    intercepts = solved.intercept_
    if len(solved.classes_) == 2:  # sklearn gives the difference of the two logits
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.array([-1, 1]) * intercepts[0] / 2
    weight[solved.classes_] = coefficients
    bias[solved.classes_] = intercepts
    return weight, bias


def _fit(
    x: npt.NDArray[np.float32],
    y: npt.NDArray[np.int64],
    w: Floats,
    strength: float,
    start: Any = None,
) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = start or LogisticRegression(max_iter=_ITERATIONS, tol=1e-4, warm_start=True)
    with warnings.catch_warnings():
        # Only the weakest penalties do not converge, and they are near enough.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings(
            "ignore", message="The number of unique classes"
        )  # a guess; here they are known to be classes
        return model.set_params(C=strength).fit(x, y, sample_weight=w)


def _strength(
    x: npt.NDArray[np.float32],
    y: npt.NDArray[np.int64],
    w: Floats,
    seed: int,
    groups: Groups | None,
) -> float:
    """Choose the strength by the log-loss over folds, on all classes with enough clients."""
    folds = _FOLDS if len(y) < _FEW else _FOLDS_OF_MANY
    counts = np.bincount(y)
    enough = np.flatnonzero(counts[y] >= folds)
    if len(np.unique(y[enough])) < 2:
        return _FALLBACK
    x = x[enough]
    y = np.unique(y[enough], return_inverse=True)[1]
    w = w[enough]
    if groups is None:
        fold = spread_folds(y, folds, seed)
    else:
        owner = np.unique(groups[enough], return_inverse=True)[1]
        fold = spread_folds(np.bincount(owner, y) / np.bincount(owner), folds, seed)[owner]
        # A class must be in the training part of every fold: in two folds or more.
        shared = np.array([len(np.unique(fold[y == code])) > 1 for code in range(y.max() + 1)])[y]
        x = x[shared]
        y = y[shared]
        w = w[shared]
        fold = fold[shared]
        if len(np.unique(y)) < 2 or len(np.unique(fold)) < folds:
            return _FALLBACK
        y = np.unique(y, return_inverse=True)[1]
    models: list[Any] = [None] * folds
    losses: list[Floats] = []
    for strength in _STRENGTHS:
        loss = np.zeros(len(y))
        for held in range(folds):
            train = fold != held
            test = fold == held
            models[held] = _fit(x[train], y[train], w[train], strength, models[held])
            right = models[held].predict_proba(x[test])[np.arange(test.sum()), y[test]]
            loss[test] = -w[test] * np.log(np.maximum(right, 1e-12))
        losses.append(loss)
        if len(losses) - 1 - int(np.argmin([each.mean() for each in losses])) >= _PATIENCE:
            break
    return float(_STRENGTHS[_weakest(np.array(losses))])


def spread_folds(y: npt.NDArray[Any], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the fold of each row: equal values go to the folds in turn, in random order."""
    mixed = np.random.default_rng([seed, Stream.LINEAR_FOLDS]).permutation(len(y))
    fold = np.empty(len(y), np.int64)
    fold[mixed[np.argsort(y[mixed], kind="stable")]] = np.arange(len(y)) % folds
    return fold


def _weakest(losses: Floats) -> int:
    """Return the first row whose mean is at most one standard error above the best.

    This is the one-standard-error rule (Breiman, Friedman, Olshen, Stone, 1984, section 3.4.3),
    with the error of the difference to the best row, because both rows are of the same clients.
    With few clients the lowest mean is mostly luck. With many the rule chooses the lowest mean.

    Args:
        losses: (strengths, clients), smallest weights first.
    """
    excess = losses - losses[losses.mean(1).argmin()]
    error = excess.std(1) / losses.shape[1] ** 0.5
    return int(np.flatnonzero(excess.mean(1) <= error)[0])


def softmax(scores: Floats) -> Floats:
    """Return (N, classes) probabilities from (N, classes) scores."""
    terms = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(terms / terms.sum(axis=1, keepdims=True))
