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

from seqmel.objectives.losses.base import GrowingMargin, precisely
from seqmel.objectives.losses.blocks import mean_over_rows, over_rows
from seqmel.objectives.losses.pairs import distances_of_rows, masked_logsumexp, masked_sum, root, same_client

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

        def nearness(x: Tensor, rows: slice) -> tuple[Tensor]:
            _, negative = same_client(clients, rows)
            return (masked_logsumexp(self.margin - root(distances_of_rows(x, rows)), negative),)

        near = torch.cat([found for (found,) in over_rows(nearness, embeddings, len(clients))])

        def part(x: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            positive, _ = same_client(clients, rows)
            apart = root(distances_of_rows(x, rows))
            costs = (apart + torch.logaddexp(near[rows].unsqueeze(1), near)).clamp(min=0).square() / 2
            return masked_sum(costs, positive)

        return mean_over_rows(part, embeddings, len(clients))
