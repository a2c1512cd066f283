"""Lifted structure loss."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from seqmel.config.options.losses import Margin, MarginStart
from seqmel.objectives.losses.base import GrowingMargin, precisely
from seqmel.objectives.losses.blocks import mean_over_rows, over_rows
from seqmel.objectives.losses.pairs import (
    distances_of_rows,
    masked_logsumexp,
    masked_sum,
    root,
    same_client,
)

__all__ = ["LiftedStructureLoss"]


class LiftedStructureLoss(GrowingMargin):
    """Each positive pair against all negatives of both its views.

    Oh Song, Xiang, Jegelka, Savarese: Deep metric learning via lifted structured feature embedding
    (CVPR 2016, arXiv 1511.06452, equation 4): with d the Euclidean distance, for every positive
    pair (i, j)

        J(i, j) = d(i, j) + log( sum over negatives k of i of exp(m - d(i, k))
                               + sum over negatives l of j of exp(m - d(j, l)) ),
        L = mean over positive pairs of max(0, J)^2 / 2.

    The log-sum-exp is the smooth form of the nearest negative. The paper optimises it too.

    Args:
        margin: margin m.
        margin_start: margin at the start of training; it grows linearly to `margin`. None keeps it
            constant.

    Shapes:
        embeddings (N, D) unit vectors; clients (N,) int64, the client of each embedding; the loss
        is a scalar.

    Examples:
        >>> import torch
        >>> from seqmel.losses import LiftedStructureLoss
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> clients = torch.tensor([0, 0, 1, 1])
        >>> print(f"{LiftedStructureLoss()(embeddings, clients):.4f}")
        2.2246
    """

    how: ClassVar[str] = (
        "mean [d(i,j) + log( sum over N(i) of e^(m - d(i,k)) + sum over N(j) of e^(m - "
        "d(j,l)) )]+^2 / 2"
    )
    source: ClassVar[str] = "Oh Song et al., 1511.06452"
    when: ClassVar[str] = (
        "triplets are too few: each positive pair is compared with all negatives of both its "
        "views at once"
    )

    hyperbolic: ClassVar[bool] = True

    def __init__(self, *, margin: Margin = 1.0, margin_start: MarginStart = None) -> None:
        super().__init__(margin=margin, margin_start=margin_start)

    @precisely
    def forward(self, embeddings: Tensor, clients: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (N, D), unit vectors.
            clients: (N,) int64, the client of each embedding.

        Returns:
            A scalar. It is zero with zero gradient if no client has two embeddings, or if there is
            only one client.
        """

        def nearness(x: Tensor, rows: slice) -> tuple[Tensor]:
            _, negative = same_client(clients, rows)
            return (
                masked_logsumexp(
                    self.margin - root(distances_of_rows(x, rows, ball=self.ball)), negative
                ),
            )

        near = torch.cat([found for (found,) in over_rows(nearness, embeddings, len(clients))])

        def part(x: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            positive, _ = same_client(clients, rows)
            apart = root(distances_of_rows(x, rows, ball=self.ball))
            costs = (apart + torch.logaddexp(near[rows].unsqueeze(1), near)).clamp(
                min=0
            ).square() / 2
            return masked_sum(costs, positive)

        return mean_over_rows(part, embeddings, len(clients))
