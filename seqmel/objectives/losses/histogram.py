"""Histogram loss over all pairs of a batch."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from seqmel.core.scatter import sum_rows
from seqmel.objectives.losses.base import MetricLoss, precisely
from seqmel.objectives.losses.blocks import summed_over_rows
from seqmel.objectives.losses.pairs import same_client

__all__ = ["HistogramLoss"]

_STRIPS = 16  # Partial sums, which a GPU accumulates in parallel.


class HistogramLoss(MetricLoss):
    """Probability that a negative pair is more similar than a positive one, by histograms.

    Ustinova, Lempitsky: Learning deep embeddings with histogram loss (NIPS 2016, arXiv 1611.00822,
    equations 1 to 4). The cosine similarities of positive pairs and those of negative pairs each
    form a histogram over [-1, 1]. A similarity is distributed linearly over the two nearest nodes.
    The loss estimates the probability that a random negative pair is more similar than a random
    positive one:

        L = sum over nodes r of h-(r) * sum over nodes q <= r of h+(q).

    Its cost is O(N^2): all pairs, not all triplets. Cosines are clamped to [-1, 1], because
    rounding can exceed 1. The histograms need many pairs of each kind, so the loss takes no miner.

    Args:
        bins: number of nodes of a histogram; above 50 it matters little.

    Shapes:
        embeddings (N, D) unit vectors; clients (N,) int64, the client of each embedding; the loss
        is a scalar.

    Examples:
        >>> import torch
        >>> from seqmel.losses import HistogramLoss
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> clients = torch.tensor([0, 0, 1, 1])
        >>> print(f"{HistogramLoss()(embeddings, clients):.4f}")
        0.2281
    """

    how: ClassVar[str] = "sum over nodes r of h-(r) * sum over q <= r of h+(q), histograms of s"
    source: ClassVar[str] = "Ustinova, Lempitsky, 1611.00822"
    when: ClassVar[str] = (
        "no margin or temperature should be tuned; it needs large batches, as it estimates "
        "two distributions from them"
    )

    def __init__(self, *, bins: Annotated[int, Field(ge=3, le=10_000)] = 100) -> None:
        super().__init__()
        self.bins = bins

    @precisely
    def forward(self, embeddings: Tensor, clients: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (N, D), unit vectors.
            clients: (N,) int64, the client of each embedding.

        Returns:
            A scalar in [0, 1]. It is zero with zero gradient if there are no positive or no
            negative pairs.
        """

        def part(x: Tensor, rows: slice) -> tuple[Tensor, ...]:
            positive, negative = same_client(clients, rows)
            places = ((x[rows] @ x.t()).clamp(-1, 1) + 1) * ((self.bins - 1) / 2)
            left = places.detach().floor().long().clamp(0, self.bins - 2)
            share = places - left
            own = self._histogram(left, share, positive)
            others = self._histogram(left, share, negative)
            return own, positive.sum(), others, negative.sum()

        own, pairs, others, other_pairs = summed_over_rows(part, embeddings, len(clients))
        # Cumulative sum up to each node.
        up_to = torch.ones(self.bins, self.bins, dtype=own.dtype, device=own.device).tril()
        return (others / other_pairs.clamp(min=1) * (up_to @ own) / pairs.clamp(min=1)).sum()

    def _histogram(self, left: Tensor, share: Tensor, counted: Tensor) -> Tensor:
        """Return (bins,): the number of counted pairs at each node."""
        weight = counted.to(share.dtype)
        parts = torch.stack([(1 - share) * weight, share * weight], 2).view(-1, 2)
        strip = torch.arange(len(parts), device=left.device) % _STRIPS
        sums = sum_rows(parts, strip * self.bins + left.view(-1), _STRIPS * self.bins)
        low, high = sums.view(_STRIPS, self.bins, 2).sum(0).unbind(1)
        return low + F.pad(high[:-1], (1, 0))
