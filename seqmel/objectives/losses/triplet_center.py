"""Triplet-center loss with the centers of the batch."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from seqmel.config.options.losses import Margin, MarginStart
from seqmel.objectives.losses.base import GrowingMargin, precisely
from seqmel.objectives.losses.blocks import over_rows
from seqmel.objectives.losses.pairs import cross_distances, masked_mean, same_client
from seqmel.objectives.losses.prototypes import batch_centers

__all__ = ["TripletCenterLoss"]


class TripletCenterLoss(GrowingMargin):
    """The centre of the client's views is nearer than any other centre by a margin.

    He, Zhou, Zhou, Bai, Bai: Triplet-center loss for multi-view 3D object retrieval (CVPR 2018,
    arXiv 1803.06189, equation 4): with D half the squared distance, c the center of an embedding's
    own client and c_j those of others

        L = mean over embeddings x of max(0, D(x, c) - min over j of D(x, c_j) + m).

    The paper learns a center for each class. Here the classes are clients: there are many, each
    seen once per epoch, too seldom to learn centers. So a center is the mean of the embeddings of
    the client in the batch. The own center leaves out the embedding itself, which would otherwise
    be attracted to itself.

    Args:
        margin: margin m; D of unit vectors is at most 2.
        margin_start: margin at the start of training; it grows linearly to `margin`. None keeps it
            constant.

    Shapes:
        embeddings (N, D) unit vectors; clients (N,) int64, the client of each embedding; the loss
        is a scalar.

    Examples:
        >>> import torch
        >>> from seqmel.losses import TripletCenterLoss
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> clients = torch.tensor([0, 0, 1, 1])
        >>> print(f"{TripletCenterLoss()(embeddings, clients):.4f}")
        0.1598
    """

    how: ClassVar[str] = (
        "mean [D(x, own center) - min D(x, other center) + m]+, D = d^2 / 2; the centers are "
        "the batch's, not learnt"
    )
    source: ClassVar[str] = "He et al., 1803.06189"
    when: ClassVar[str] = (
        "many views per client, where their mean is a steadier target than single views"
    )

    def __init__(self, *, margin: Margin = 0.3, margin_start: MarginStart = None) -> None:
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
        own, centers, counts = batch_centers(embeddings, clients)
        pull = (embeddings - own).square().sum(1) / 2

        def nearest(x: Tensor, rows: slice) -> tuple[Tensor]:
            _, other = same_client(clients, rows)
            return ((cross_distances(x[rows], centers) / 2).masked_fill(~other, torch.inf).amin(1),)

        push = torch.cat([found for (found,) in over_rows(nearest, embeddings, len(clients))])
        counted = (counts > 1) & (push < torch.inf)
        costs = (pull - push.masked_fill(~counted, 0.0) + self.margin).clamp(min=0)
        return masked_mean(costs, counted)
