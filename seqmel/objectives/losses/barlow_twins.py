"""Barlow Twins."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from seqmel.config.options.base import NotNegative
from seqmel.core.scatter import take_rows
from seqmel.objectives.losses.base import MetricLoss, precisely
from seqmel.objectives.losses.pairs import neighbouring_views

__all__ = ["BarlowTwinsLoss"]


class BarlowTwinsLoss(MetricLoss):
    """Pulls the cross-correlation matrix of two views towards the identity; no negatives.

    Zbontar, Jing, Misra, LeCun, Deny: Barlow Twins (ICML 2021, arXiv 2103.03230, equations 1 and
    2): for n pairs of views, each pair of one client, standardise every dimension of each side over
    the n pairs. With C the (D, D) cross-correlation matrix of the two sides,

        L = sum over i of (1 - C_ii)^2  +  w * sum over i != j of C_ij^2.

    There are no negatives. Each dimension should agree across views, and different dimensions
    should be uncorrelated. Embeddings must not be unit vectors. A client's views 0, 1, 2 make the
    pairs (0, 1) and (1, 2); with two views per client, this is the loss of the paper. With few
    pairs per batch, the correlations are noise.

    Args:
        redundancy: weight w of the off-diagonal terms.

    Shapes:
        embeddings (N, D), not normalised; clients (N,) int64, the client of each embedding; the
        loss is a scalar.

    Examples:
        >>> import torch
        >>> from seqmel.losses import BarlowTwinsLoss
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> clients = torch.tensor([0, 0, 1, 1])
        >>> print(f"{BarlowTwinsLoss()(embeddings, clients):.4f}")
        0.0100
    """

    how: ClassVar[str] = (
        "sum (1 - C_kk)^2 + w * sum over k != l of C_kl^2, C the correlations across pairs of views"
    )
    source: ClassVar[str] = "Zbontar et al., 2103.03230"
    when: ClassVar[str] = (
        "as vicreg, without negatives; also for decorrelated dimensions. Large batches "
        "estimate the correlations better"
    )
    unit: ClassVar[bool] = False

    def __init__(self, *, redundancy: NotNegative = 0.005) -> None:
        super().__init__()
        self.redundancy = redundancy

    @precisely
    def forward(self, embeddings: Tensor, clients: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (N, D), not normalised.
            clients: (N,) int64, the client of each embedding.

        Returns:
            A scalar. It is zero with zero gradient if there are fewer than two pairs of views.
        """
        first, second, real = neighbouring_views(clients)
        weight = real.to(embeddings.dtype).unsqueeze(1)
        count = weight.sum()
        one, two = (_standardised(take_rows(embeddings, view), weight) for view in (first, second))
        correlations = one.t() @ two / count.clamp(min=1)
        own = correlations.diagonal()
        repeated = correlations.square().sum() - own.square().sum()
        return torch.where(count > 1, (1 - own).square().sum() + self.redundancy * repeated, 0.0)


def _standardised(side: Tensor, weight: Tensor) -> Tensor:
    """Standardise each dimension of (n, D) over the pairs that count.

    Pairs that do not count become zero.
    """
    count = weight.sum().clamp(min=1)
    centred = (side - (side * weight).sum(0) / count) * weight
    return centred * (centred.square().sum(0) / count + 1e-5).rsqrt()
