"""Linear heads: from the vector of a sequence to the outputs of each target."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CLIP", "Heads"]

CLIP = 10.0


class Heads(nn.Module):
    """One linear layer per target on standardised vectors: (B, D) -> (B, size) for each target.

    Vectors have any scale, so they are standardised by the mean and deviation of the training
    clients, which are fixed before the first step. Values beyond ten deviations are clipped. Else a
    feature that hardly any training client has could outweigh all others.

    Args:
        input_size: D, width of the vector.
        sizes: Number of outputs of each target.
        dropout: Dropout probability of the standardised vector.
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

    @property
    def is_linear(self) -> bool:
        """Whether the outputs are linear in the inputs."""
        return True

    @torch.no_grad()
    def fit_scale(self, vectors: Tensor) -> None:
        """Fit mean and deviation on (N, D) vectors. Constant columns become zero."""
        deviation = vectors.double().std(0, unbiased=False)
        constant = deviation <= 1e-6 * vectors.abs().amax(0).clamp(min=1.0)
        self.center.copy_(vectors.double().mean(0))
        self.scale.copy_(deviation.masked_fill(constant, torch.inf))

    def standardise(self, vectors: Tensor) -> Tensor:
        """Standardise and clip vectors: (B, D) -> (B, D)."""
        return ((vectors - self.center) / self.scale).clamp(-CLIP, CLIP)

    def forward(self, vectors: Tensor, facts: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the outputs of each target: (B, D) -> tuple of (B, size).

        Args:
            vectors: (B, D) vectors.
            facts: None; `JointHeads` take facts about the clients.
        """
        assert facts is None, "these heads have no facts"
        inputs = F.dropout(self.standardise(vectors), self.dropout, self.training)
        return self.linear(inputs).split(self.sizes, dim=1)
