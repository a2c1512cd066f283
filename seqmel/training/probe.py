"""Heads solved exactly on the vectors of a frozen encoder: logistic regression for classes, ridge for quantities.

Fine-tuning begins there rather than at random heads, whose first gradients would distort what the encoder knows (linear
probing, then fine-tuning: Kumar et al., ICLR 2022, arXiv 2202.10054). How strongly the weights are held down is chosen
by cross-validation, from so strongly that little but the classes' shares is left: hence no collapse with few labels.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqmel.nn.heads import Heads
from seqmel.training.batches import generator
from seqmel.training.labelled import Labelled

__all__ = ["MOST_CLIENTS", "solve_heads"]

MOST_CLIENTS = 50_000
"""So many clients determine some hundred numbers well; more would only cost memory."""

_STRENGTHS = tuple(10.0**power for power in np.arange(-5.0, -0.9, 0.5))  # sklearn's C, weakest weights first
_FALLBACK = 1e-4  # where a class has too few clients for the folds
_ALPHAS = tuple(10.0**power for power in np.arange(0.0, 7.0, 0.5))
_FOLDS, _FOLDS_OF_MANY, _FEW = 5, 3, 2_000
_ITERATIONS = 300

Floats = npt.NDArray[np.float64]


@torch.no_grad()
def solve_heads(heads: Heads, vectors: Tensor, labelled: Labelled, *, seed: int) -> None:
    """Fit the standardisation, then the weights of each target.

    Args:
        heads: on the CPU; changed in place.
        vectors: (L, D) float32, of the clients of `labelled`.
        labelled: what to learn, weights included.
        seed: of the folds.
    """
    heads.fit_scale(vectors)
    standardised = heads.standardise(vectors).numpy()
    begin = 0
    for column, target in enumerate(labelled.targets):
        known = labelled.known(column)
        x, y = standardised[known.numpy()], labelled.values[known, column].numpy()
        w = labelled.weights[known, column].double().numpy()
        w = w / w.mean()
        if target.classes:
            weight, bias = _logistic(x, y.astype(np.int64), w, target.size, seed)
        else:
            weight, bias = _ridge(x, y, w)
        end = begin + target.size
        heads.linear.weight[begin:end] = torch.from_numpy(weight)
        heads.linear.bias[begin:end] = torch.from_numpy(bias)
        begin = end


def _ridge(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32], w: Floats) -> tuple[Floats, Floats]:
    """The strength is chosen by the error of leaving out one client after the other, which ridge has in closed form."""
    from sklearn.linear_model import RidgeCV

    solved = RidgeCV(_ALPHAS).fit(x.astype(np.float64), y.astype(np.float64), sample_weight=w)
    return solved.coef_.reshape(1, -1), np.array([solved.intercept_])


def _logistic(
    x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], w: Floats, classes: int, seed: int
) -> tuple[Floats, Floats]:
    strength = _strength(x, y, w, seed)
    solved = _solved(x, y, w, strength)
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
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough: the encoder learns on from here
        return model.set_params(C=strength).fit(x, y, sample_weight=w)


def _strength(x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], w: Floats, seed: int) -> float:
    """By the log-loss over folds, in which all classes with enough clients take part; see `_weakest`."""
    folds = _FOLDS if len(y) < _FEW else _FOLDS_OF_MANY
    counts = np.bincount(y)
    enough = np.flatnonzero(counts[y] >= folds)
    if len(np.unique(y[enough])) < 2:
        return _FALLBACK
    x, y, w = x[enough], np.unique(y[enough], return_inverse=True)[1], w[enough]
    mixed = torch.randperm(len(y), generator=generator(seed, 12)).numpy()
    fold = np.empty(len(y), np.int64)
    fold[mixed[np.argsort(y[mixed], kind="stable")]] = np.arange(len(y)) % folds
    losses = np.zeros((len(_STRENGTHS), len(y)))
    for held in range(folds):
        train, test = fold != held, fold == held
        model = None
        for place, strength in enumerate(_STRENGTHS):
            model = _solved(x[train], y[train], w[train], strength, model)
            right = model.predict_proba(x[test])[np.arange(test.sum()), y[test]]
            losses[place, test] = -w[test] * np.log(np.maximum(right, 1e-12))
    return _STRENGTHS[_weakest(losses)]


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
