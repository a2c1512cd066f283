"""Contrastive loss over pairs.

Hadsell, Chopra, LeCun: Dimensionality reduction by learning an invariant mapping (CVPR 2006), as CoLES uses it
(arXiv 2002.08232, section 3.3): with d the Euclidean distance of two unit vectors and m the margin,

    L = mean over positive pairs of d^2  +  mean over mined negative pairs of max(0, m - d)^2.

With `reduction="sum"` both are sums, which is the MeLES preset; its scale then grows with the batch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from seqmel.losses.pairs import Pairs, distances

__all__ = ["ContrastiveLoss"]


class ContrastiveLoss(nn.Module):
    """See the module's text.

    Args:
        margin: m; negatives farther apart than this cost nothing. Unit vectors are at most 2 apart.
        reduction: "mean" over the pairs of each kind, or "sum".
    """

    def __init__(self, *, margin: float = 0.5, reduction: Literal["mean", "sum"] = "mean") -> None:
        super().__init__()
        self.margin = margin
        self.reduction = reduction

    def forward(self, embeddings: Tensor, positives: Pairs, negatives: Pairs) -> Tensor:
        """The loss of the given pairs.

        Args:
            embeddings: (N, D), unit vectors.
            positives: P pairs of one client each.
            negatives: Q pairs of two clients each.

        Returns:
            A scalar; zero, with zero gradient, where there is no pair at all.
        """
        pull = distances(embeddings, positives).square()
        push = (self.margin - distances(embeddings, negatives)).clamp(min=0).square()
        return self._reduce(pull) + self._reduce(push)

    def _reduce(self, costs: Tensor) -> Tensor:
        return costs.sum() / max(1, len(costs)) if self.reduction == "mean" else torch.sum(costs)
