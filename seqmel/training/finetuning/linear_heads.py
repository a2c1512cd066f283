"""Heads fitted exactly to the vectors of a frozen encoder.

Fine-tuning starts from these heads. Gradients of random heads would distort the encoder's features
(linear probing, then fine-tuning: Kumar et al., ICLR 2022, arXiv 2202.10054). The regularisation
strength is chosen by cross-validation (see `seqmel.core.linear_models`), so they work with few
labels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from seqmel.core.linear_models import Floats, Groups, logistic, ridge, spread_folds
from seqmel.data.tables.targets import Target
from seqmel.nn.heads import Heads
from seqmel.training.finetuning.labelled import Labelled
from seqmel.training.finetuning.quantity_losses import quantity_losses
from seqmel.training.finetuning.survival import survival_losses

__all__ = ["solve_heads"]

# Sums of losses are penalised by half of these times the squared weights, smallest weights first.
_PENALTIES = tuple(10.0**power for power in np.arange(6.0, -0.1, -0.5))
_FOLDS = 5
_PATIENCE = 2  # along the penalties the loss falls and then rises
_ITERATIONS = 100


@torch.no_grad()
def solve_heads(heads: Heads, vectors: Tensor, labelled: Labelled, *, seed: int) -> None:
    """Fit the standardisation, then the weights of each target.

    Args:
        heads: Heads on the CPU. They are modified.
        vectors: (L, D) float32, the vectors of the samples of `labelled`.
        labelled: The labels and their weights.
        seed: The seed of the folds.
    """
    heads.fit_scale(vectors)
    standardised = heads.standardise(vectors).numpy()
    begin = 0
    for column, target in enumerate(labelled.targets):
        known = labelled.known(column)
        x = standardised[known.numpy()]
        y = labelled.values[known, column].numpy()
        w = labelled.weights[known, column].double().numpy()
        w = w / w.mean()
        groups = None if labelled.owners is None else labelled.owners[known].numpy()
        if target.classes:
            weight, bias = logistic(x, y.astype(np.int64), w, target.size, seed, groups)
        elif target.loss == "squared" and not target.edges:
            weight, bias = ridge(x, y, w, groups)
        else:
            weight, bias = _minimise_loss(target, x, y, w, seed, groups)
        end = begin + target.size
        heads.linear.weight[begin:end] = torch.from_numpy(weight)
        heads.linear.bias[begin:end] = torch.from_numpy(bias)
        begin = end


def _minimise_loss(
    target: Target,
    x: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    y: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    w: Floats,
    seed: int,
    groups: Groups | None,
) -> tuple[Floats, Floats]:
    """Fit a quantity or time by its own loss. The penalty is chosen over folds of clients.

    The bins of a time have a bias each and share their weights, as proportional odds do: bins with
    few events are fitted as well.

    Args:
        target: Names the loss.
        x: (L, D) standardised vectors.
        y: (L,) encoded quantities.
        w: (L,) weights of the clients, 1 on average.
        seed: The seed of the folds.
        groups: (L,) codes of the clients, if they have several rows.

    Returns:
        Weights (size, D) and bias (size,).
    """
    parts = torch.from_numpy(x).double(), torch.from_numpy(y).double(), torch.from_numpy(w)
    penalty = _PENALTIES[0]
    count = min(_FOLDS, len(y) if groups is None else len(np.unique(groups)))
    if count > 1:
        owner = np.arange(len(y)) if groups is None else np.unique(groups, return_inverse=True)[1]
        by_owner = np.bincount(owner, y) / np.bincount(owner)
        fold = torch.from_numpy(spread_folds(by_owner, count, seed)[owner])
        penalty = _best_penalty(target, parts, fold, count)
    solution = _solve(target, *parts, penalty)
    weight, bias = solution[: x.shape[1]], solution[x.shape[1] :]
    return weight.expand(target.size, -1).numpy(), bias.numpy()


def _losses(target: Target, x: Tensor, y: Tensor, solution: Tensor) -> Tensor:
    """Return (N,) losses of (D + size,) weights and biases."""
    weight, bias = solution[: x.shape[1]], solution[x.shape[1] :]
    if target.edges:
        return survival_losses((x @ weight)[:, None] + bias, y, target)
    return quantity_losses(x @ weight + bias, y, target)


def _best_penalty(
    target: Target, parts: tuple[Tensor, Tensor, Tensor], fold: Tensor, count: int
) -> float:
    x, y, w = parts
    starts: list[Tensor | None] = [None] * count
    losses: list[float] = []
    for penalty in _PENALTIES:
        loss = torch.zeros_like(y)
        for held in range(count):
            train = fold != held
            test = fold == held
            solved = _solve(target, x[train], y[train], w[train], penalty, starts[held])
            loss[test] = w[test] * _losses(target, x[test], y[test], solved)
            starts[held] = solved
        losses.append(float(loss.mean()))
        best = int(np.argmin(losses))
        if len(losses) - 1 - best >= _PATIENCE:
            break
    return _PENALTIES[best]


def _solve(
    target: Target, x: Tensor, y: Tensor, w: Tensor, penalty: float, start: Tensor | None = None
) -> Tensor:
    """Return (D + size,) weights and biases of the lowest penalised loss."""
    size = x.shape[1] + target.size
    solution = torch.zeros(size, dtype=x.dtype) if start is None else start.clone()
    solution.requires_grad_(True)
    search = torch.optim.LBFGS(
        [solution], max_iter=_ITERATIONS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        search.zero_grad()
        loss = (w * _losses(target, x, y, solution)).sum() / len(y)
        loss = loss + penalty / 2 * solution[: x.shape[1]].square().sum() / len(y)
        loss.backward()
        return loss

    with torch.enable_grad():
        search.step(closure)
    return solution.detach()
