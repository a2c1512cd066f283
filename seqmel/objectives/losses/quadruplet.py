"""Quadruplet loss."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from seqmel.config.options.losses import MarginStart
from seqmel.core.scatter import gather_2d
from seqmel.objectives.losses.base import GrowingMargin, precisely
from seqmel.objectives.losses.blocks import summed_over_rows
from seqmel.objectives.losses.pairs import (
    cross_distances,
    distances,
    distances_of_rows,
    masked_sum,
    mined_sums,
    mining_statistics,
    root,
    same_client,
)

__all__ = ["QuadrupletLoss"]


class QuadrupletLoss(GrowingMargin):
    """A triplet term, and one with negatives of two further clients.

    Chen, Chen, Zhang, Huang: Beyond triplet loss (CVPR 2017, arXiv 1704.01719, equation 6): for an
    anchor a, a positive p, and negatives n and k of two further clients, with squared distances

        L = mean of max(0, d(a, p)^2 - d(a, n)^2 + m1)
            + mean of max(0, d(a, p)^2 - d(n, k)^2 + m2).

    The second term separates clients other than the anchor's. The loss mines by itself and takes no
    miner: p is every positive of a, n is the nearest negative of a, and k is the embedding nearest
    to n of a third client. Its statistics describe the triplets (a, p, n).

    Args:
        margin: margin m1 of the first term, the larger one, in squared distance.
        margin_start: margin m1 at the start of training; it grows linearly to `margin`. None keeps
            it constant.
        other_margin: margin m2 of the second term, in squared distance.

    Shapes:
        embeddings (N, D) unit vectors; clients (N,) int64, the client of each embedding; the loss
        is a scalar.

    Examples:
        >>> import torch
        >>> from seqmel.losses import QuadrupletLoss
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> clients = torch.tensor([0, 0, 1, 1])
        >>> print(f"{QuadrupletLoss()(embeddings, clients):.4f}")
        0.3651
    """

    how: ClassVar[str] = (
        "mean [d(a,p)^2 - d(a,n)^2 + m1]+ + mean [d(a,p)^2 - d(n,k)^2 + m2]+, with the "
        "nearest n of a and k of n"
    )
    source: ClassVar[str] = "Chen et al., 1704.01719"
    when: ClassVar[str] = (
        "triplets leave clients of different groups too close: the second term also separates "
        "two negatives"
    )

    hyperbolic: ClassVar[bool] = True

    def __init__(
        self,
        *,
        margin: Annotated[float, Field(gt=0, le=4)] = 0.5,
        margin_start: MarginStart = None,
        other_margin: Annotated[float, Field(gt=0, le=4)] = 0.25,
    ) -> None:
        super().__init__(margin=margin, margin_start=margin_start)
        self.other_margin = other_margin

    @precisely
    def forward(self, embeddings: Tensor, clients: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (N, D), unit vectors.
            clients: (N,) int64, the client of each embedding.

        Returns:
            A scalar. A term without negatives, or without a third client, is zero with zero
            gradient.
        """

        def part(x: Tensor, rows: slice) -> tuple[Tensor, ...]:
            positive, negative = same_client(clients, rows)
            apart = distances_of_rows(x, rows, ball=self.ball)
            with torch.no_grad():
                nearest = apart.masked_fill(~negative, torch.inf).argmin(1)
                third = (clients[nearest].unsqueeze(1) != clients) & negative
                farther = cross_distances(x[nearest], x, ball=self.ball)
                farther = farther.masked_fill_(~third, torch.inf).argmin(1)
            push = gather_2d(
                apart, torch.arange(len(apart), device=apart.device), nearest
            ).unsqueeze(1)
            others = distances(x, nearest, farther, ball=self.ball).square().unsqueeze(1)
            first = (apart - push + self.margin).clamp(min=0)
            second = (apart - others + self.other_margin).clamp(min=0)
            real = positive & negative.any(1, keepdim=True)
            near = root(apart.detach())
            far = root(push.detach()).expand_as(apart)
            of_both = (
                *masked_sum(first, real),
                *masked_sum(second, positive & third.any(1, keepdim=True)),
            )
            return *of_both, *mined_sums(first > 0, real, near, real, far, real)

        total, count, other_total, other_count, *mined = summed_over_rows(
            part, embeddings, len(clients)
        )
        self.statistics = mining_statistics(tuple(mined))
        return total / count.clamp(min=1) + other_total / other_count.clamp(min=1)
