"""Lifted structure loss.

Oh Song, Xiang, Jegelka, Savarese: Deep metric learning via lifted structured feature embedding (CVPR 2016, arXiv
1511.06452, equation 4): with d the Euclidean distance, for every positive pair (i, j)

    J(i, j) = d(i, j) + log( sum over negatives k of i of exp(m - d(i, k)) + sum over negatives l of j of exp(m - d(j, l)) ),
    L = mean over positive pairs of max(0, J)^2 / 2.

The log of the sum of exponentials is the smooth form of the nearest negative, which the paper optimises as well.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.losses.base import GrowingMargin, precisely
from seqmel.losses.pairs import cross_distances, masked_logsumexp, masked_mean, root, same_client

__all__ = ["LiftedStructureLoss"]


class LiftedStructureLoss(GrowingMargin):
    """See the module's text.

    Args:
        margin: m.
        margin_start: where the margin begins to grow from; None keeps it as it is.
    """

    def __init__(self, *, margin: float = 1.0, margin_start: float | None = None) -> None:
        super().__init__(margin=margin, margin_start=margin_start)

    @precisely
    def forward(self, embeddings: Tensor, clients: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (N, D), unit vectors.
            clients: (N,) whose they are.

        Returns:
            A scalar; zero, with zero gradient, where no client has two embeddings or there is one client only.
        """
        positive, negative = same_client(clients)
        apart = root(cross_distances(embeddings))
        near = masked_logsumexp(self.margin - apart, negative)
        costs = (apart + torch.logaddexp(near.unsqueeze(0), near.unsqueeze(1))).clamp(min=0).square() / 2
        return masked_mean(costs, positive)
