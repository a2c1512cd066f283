"""Matryoshka: a loss on the vector and on its prefixes, so that these are usable embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from seqmel.objectives.encoded import Encoded

__all__ = ["Matryoshka"]


class Matryoshka(nn.Module):
    """One copy of a part of an objective for each nested size of the vector.

    Matryoshka representation learning (Kusupati et al., NeurIPS 2022, arXiv 2205.13147, equation
    1): the loss L(W_m; z[:m]) has a head of its own for each size m. The losses are averaged. The
    sum would change the weight of the part relative to the others.

    Args:
        part: Builds the part for vectors of a given size.
        sizes: All nested sizes, including that of the whole vector.
    """

    def __init__(self, part: Callable[[int], nn.Module], sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.parts = nn.ModuleList(part(size) for size in self.sizes)

    @property
    def statistics(self) -> dict[str, Tensor]:
        """Return the statistics of the part for the whole vector, see `MetricLoss`."""
        found: dict[str, Tensor] = getattr(self.parts[-1], "statistics", {})
        return found

    def forward(self, encoded: Encoded) -> Tensor:
        """Compute the mean of the losses, a scalar."""
        losses = [
            part(encoded.prefix(size)) for part, size in zip(self.parts, self.sizes, strict=True)
        ]
        return torch.stack(losses).mean()
