"""Heads: from the vector of a sequence to the outputs of each target."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Heads"]

_CLIP = 10.0


class Heads(nn.Module):
    """One linear layer for each target, on the standardised vector: (B, D) -> one (B, size) a target.

    An encoder that was never trained for a target gives numbers of any size, so they are standardised with the mean and
    deviation of the training clients before the first step; these stay as they are then. What lies more than ten
    deviations away is cut off: a pooled event that training saw in hardly any client would outweigh all else.

    Args:
        input_size: D, width of the vector.
        sizes: outputs of each target.
        dropout: share of the standardised numbers that training sets to zero.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, input_size: int, sizes: Sequence[int], *, dropout: float = 0.0) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.dropout = dropout
        self.register_buffer("center", torch.zeros(input_size))
        self.register_buffer("scale", torch.ones(input_size))
        self.linear = nn.Linear(input_size, sum(sizes))
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    @torch.no_grad()
    def fit_scale(self, vectors: Tensor) -> None:
        """Take mean and deviation from (N, D) vectors; a number that is the same for all clients counts as zero."""
        deviation = vectors.double().std(0, unbiased=False)
        constant = deviation <= 1e-6 * vectors.abs().amax(0).clamp(min=1.0)
        self.center.copy_(vectors.double().mean(0))
        self.scale.copy_(deviation.masked_fill(constant, torch.inf))

    def standardise(self, vectors: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        return ((vectors - self.center) / self.scale).clamp(-_CLIP, _CLIP)

    def forward(self, vectors: Tensor) -> tuple[Tensor, ...]:
        """The outputs of each target."""
        inputs = F.dropout(self.standardise(vectors), self.dropout, self.training)
        return self.linear(inputs).split(self.sizes, dim=1)
