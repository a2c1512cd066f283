"""Barlow Twins."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from seqmel.core.scatter import take_rows
from seqmel.objectives.losses.base import MetricLoss, precisely
from seqmel.objectives.losses.pairs import neighbouring_views

__all__ = ["BarlowTwinsLoss"]


class BarlowTwinsLoss(MetricLoss):
    """Barlow Twins.

    Zbontar, Jing, Misra, LeCun, Deny: Barlow Twins (ICML 2021, arXiv 2103.03230, equations 1 and 2): for the two sides of n
    pairs of views of one client each, every dimension brought to mean 0 and variance 1 over the n, and C the (D, D) matrix of
    their correlations across the sides

        L = sum over i of (1 - C_ii)^2  +  w * sum over i != j of C_ij^2.

    No negatives: each dimension has to say the same of both views, and no two dimensions the same. So the embeddings must not
    be unit vectors. A client's views 0, 1, 2 make the pairs (0, 1) and (1, 2); with two views per client it is the paper's loss.
    It wants more pairs in a batch than a few, or the correlations are noise.

    Args:
        redundancy: w.

    Shapes:
        embeddings (N, D) of any length, not normalised; clients (N,) int64, the client of each embedding; the loss is a scalar.

    Examples:
        >>> import torch
        >>> from seqmel.losses import BarlowTwinsLoss
        >>> embeddings = torch.nn.functional.normalize(torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]]), dim=1)
        >>> clients = torch.tensor([0, 0, 1, 1])
        >>> print(f"{BarlowTwinsLoss()(embeddings, clients):.4f}")
        0.0100
    """

    unit: ClassVar[bool] = False

    def __init__(self, *, redundancy: float = 0.005) -> None:
        super().__init__()
        self.redundancy = redundancy

    @precisely
    def forward(self, embeddings: Tensor, clients: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (N, D), of any length.
            clients: (N,) int64, the client of each embedding.

        Returns:
            A scalar; zero, with zero gradient, where there are fewer than two pairs of views.
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
    """(n, D) mean 0 and variance 1 over the pairs that count; zero for those that do not."""
    count = weight.sum().clamp(min=1)
    centred = (side - (side * weight).sum(0) / count) * weight
    return centred * (centred.square().sum(0) / count + 1e-5).rsqrt()
