"""L2-regularised linear models of any smooth loss, with one bias per output and shared weights.

The strength is chosen by cross-validation, as in `linear_models`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqmel.core.linear_models import Floats, Groups, spread_folds

__all__ = ["Losses", "fit_shared_weights"]

Losses = Callable[[Tensor, Tensor], Tensor]
"""(N, outputs) outputs and (N,) labels -> (N,) losses."""

# Sums of losses are penalised by half of these times the squared weights, smallest weights first.
_PENALTIES = tuple(10.0**power for power in np.arange(6.0, -0.1, -0.5))
_FOLDS = 5
_PATIENCE = 2  # along the penalties the loss falls and then rises
_ITERATIONS = 100


def fit_shared_weights(
    losses: Losses,
    outputs: int,
    x: npt.NDArray[np.float32],
    y: npt.NDArray[np.float32],
    w: Floats,
    seed: int,
    groups: Groups | None = None,
) -> tuple[Floats, Floats]:
    """Minimise the mean loss of outputs that share their weights and have a bias each.

    The bins of a time to an event are such outputs, as in proportional odds: bins with few events
    are fitted as well.

    Args:
        losses: The loss.
        outputs: The number of outputs.
        x: (L, D) standardised vectors.
        y: (L,) labels.
        w: (L,) weights of the clients, 1 on average.
        seed: The seed of the folds.
        groups: (L,) codes of the clients, if they have several rows. All rows of a client are in
            one fold.

    Returns:
        Weights (D,) and biases (outputs,).
    """
    parts = torch.from_numpy(x).double(), torch.from_numpy(y).double(), torch.from_numpy(w)
    penalty = _PENALTIES[0]
    count = min(_FOLDS, len(y) if groups is None else len(np.unique(groups)))
    if count > 1:
        owner = np.arange(len(y)) if groups is None else np.unique(groups, return_inverse=True)[1]
        by_owner = np.bincount(owner, y) / np.bincount(owner)
        fold = torch.from_numpy(spread_folds(by_owner, count, seed)[owner])
        penalty = _best_penalty(losses, outputs, parts, fold, count)
    solution = _solve(losses, outputs, *parts, penalty)
    return solution[: x.shape[1]].numpy(), solution[x.shape[1] :].numpy()


def _losses(losses: Losses, x: Tensor, y: Tensor, solution: Tensor) -> Tensor:
    """Return (N,) losses of (D + outputs,) weights and biases."""
    weight, bias = solution[: x.shape[1]], solution[x.shape[1] :]
    return losses((x @ weight)[:, None] + bias, y)


def _best_penalty(
    losses: Losses, outputs: int, parts: tuple[Tensor, Tensor, Tensor], fold: Tensor, count: int
) -> float:
    x, y, w = parts
    starts: list[Tensor | None] = [None] * count
    means: list[float] = []
    for penalty in _PENALTIES:
        loss = torch.zeros_like(y)
        for held in range(count):
            train = fold != held
            test = fold == held
            solved = _solve(losses, outputs, x[train], y[train], w[train], penalty, starts[held])
            loss[test] = w[test] * _losses(losses, x[test], y[test], solved)
            starts[held] = solved
        means.append(float(loss.mean()))
        best = int(np.argmin(means))
        if len(means) - 1 - best >= _PATIENCE:
            break
    return _PENALTIES[best]


def _solve(
    losses: Losses,
    outputs: int,
    x: Tensor,
    y: Tensor,
    w: Tensor,
    penalty: float,
    start: Tensor | None = None,
) -> Tensor:
    """Return (D + outputs,) weights and biases of the lowest penalised loss."""
    size = x.shape[1] + outputs
    solution = torch.zeros(size, dtype=x.dtype) if start is None else start.clone()
    solution.requires_grad_(True)
    search = torch.optim.LBFGS(
        [solution], max_iter=_ITERATIONS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        search.zero_grad()
        loss = (w * _losses(losses, x, y, solution)).sum() / len(y)
        loss = loss + penalty / 2 * solution[: x.shape[1]].square().sum() / len(y)
        loss.backward()
        return loss

    with torch.enable_grad():
        search.step(closure)
    return solution.detach()
