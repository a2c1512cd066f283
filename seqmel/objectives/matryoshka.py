"""Matryoshka: a loss on the vector and on beginnings of it, so that these are of use alone.

Matryoshka representation learning (Kusupati et al., NeurIPS 2022, arXiv 2205.13147, equation 1): the loss L(W_m; z[:m]) is
taken for each nested size m with a head of its own, and averaged with equal weights. The average rather than the sum keeps
the weights of the parts of an objective comparable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from seqmel.objectives.encoded import Encoded

__all__ = ["Matryoshka"]


class Matryoshka(nn.Module):
    """A part of an objective, once for each size of the vector.

    Args:
        part: makes the part for vectors of so many numbers.
        sizes: all nested sizes, that of the whole vector included.
    """

    def __init__(self, part: Callable[[int], nn.Module], sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.parts = nn.ModuleList(part(size) for size in self.sizes)

    @property
    def figures(self) -> dict[str, Tensor]:
        """Those of the part that has the whole vector; see `MetricLoss`."""
        found: dict[str, Tensor] = getattr(self.parts[-1], "figures", {})
        return found

    def forward(self, encoded: Encoded) -> Tensor:
        """The mean of the losses, a scalar."""
        losses = [part(encoded.prefix(size)) for part, size in zip(self.parts, self.sizes, strict=True)]
        return torch.stack(losses).mean()
