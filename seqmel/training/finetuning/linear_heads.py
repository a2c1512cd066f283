"""Heads fitted exactly to the vectors of a frozen encoder.

Fine-tuning starts from these heads. Gradients of random heads would distort the encoder's features
(linear probing, then fine-tuning: Kumar et al., ICLR 2022, arXiv 2202.10054). The regularisation
strength is chosen by cross-validation (see `seqmel.core.linear_models`), so they work with few
labels.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from seqmel.core.linear_models import logistic, ridge
from seqmel.core.shared_weights import fit_shared_weights
from seqmel.core.survival_loss import survival_losses
from seqmel.data.tables.targets import Target
from seqmel.nn.heads import Heads
from seqmel.training.finetuning.labelled import Labelled
from seqmel.training.finetuning.quantity_losses import quantity_losses

__all__ = ["solve_heads"]


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
            loss = functools.partial(_losses, target)
            shared, bias = fit_shared_weights(loss, target.size, x, y, w, seed, groups)
            weight = np.tile(shared, (target.size, 1))
        end = begin + target.size
        heads.linear.weight[begin:end] = torch.from_numpy(weight)
        heads.linear.bias[begin:end] = torch.from_numpy(bias)
        begin = end


def _losses(target: Target, out: Tensor, y: Tensor) -> Tensor:
    """Return (N,) losses of (N, size) outputs."""
    if target.edges:
        return survival_losses(out, y, target.edges)
    return quantity_losses(out[:, 0], y, target)
