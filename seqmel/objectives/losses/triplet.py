"""Triplet loss."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from seqmel.config.options.losses import Margin, MarginStart
from seqmel.objectives.losses.base import GrowingMargin, Takes, precisely
from seqmel.objectives.losses.pairs import (
    Triplets,
    distances,
    masked_mean,
    mined_sums,
    mining_statistics,
)

__all__ = ["TripletLoss"]


class TripletLoss(GrowingMargin):
    """Triplets: the negative is farther away than the positive by a margin.

    Schroff, Kalenichenko, Philbin: FaceNet (CVPR 2015, arXiv 1503.03832), with plain distances as
    in Hermans, Beyer, Leibe: In defense of the triplet loss (arXiv 1703.07737, equation 2): for an
    anchor a, a positive p and a negative n

        L = mean over triplets of max(0, d(a, p) - d(a, n) + m).

    The sign matters: swapping the two distances, a common error, pushes the views of a client
    apart. Once most triplets have zero loss, the mean over all of them vanishes.
    `reduction="active"` averages over those with non-zero loss.

    Args:
        margin: margin m: a negative must be farther away than the positive by this distance.
        margin_start: margin at the start of training; it grows linearly to `margin`. None keeps it
            constant.
        reduction: "mean" over all triplets, or over the "active" ones with non-zero loss.

    Shapes:
        embeddings (N, D) unit vectors; T `Triplets` from a miner; the loss is a scalar.

    Examples:
        >>> import torch
        >>> from seqmel.losses import TripletLoss
        >>> from seqmel.miners import BatchAll
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> triplets, = BatchAll().mine(embeddings, torch.tensor([0, 0, 1, 1]))
        >>> print(f"{TripletLoss()(embeddings, triplets):.4f}")
        0.1076
    """

    default_miner: ClassVar[str | None] = "semi_hard"
    how: ClassVar[str] = "mean [d(a, p) - d(a, n) + m]+; `reduction: active` over those above zero"
    source: ClassVar[str] = "Schroff et al., 1503.03832; Hermans et al., 1703.07737"
    when: ClassVar[str] = (
        "only the order of distances matters, as in retrieval; it needs a good miner, since "
        "most triplets soon cost nothing"
    )
    hyperbolic: ClassVar[bool] = True
    takes: ClassVar[Takes] = "triplets"

    def __init__(
        self,
        *,
        margin: Margin = 0.3,
        margin_start: MarginStart = None,
        reduction: Literal["mean", "active"] = "mean",
    ) -> None:
        super().__init__(margin=margin, margin_start=margin_start)
        self.reduction = reduction

    @precisely
    def forward(self, embeddings: Tensor, triplets: Triplets) -> Tensor:
        """The loss of the given triplets.

        Args:
            embeddings: (N, D), unit vectors.
            triplets: T triplets.

        Returns:
            A scalar. It is zero with zero gradient if there are no triplets.
        """
        pull = distances(embeddings, triplets.anchor, triplets.positive, ball=self.ball)
        push = distances(embeddings, triplets.anchor, triplets.negative, ball=self.ball)
        costs = (pull - push + self.margin).clamp(min=0)
        self.statistics = mining_statistics(
            mined_sums(costs > 0, triplets.real, pull, triplets.real, push, triplets.real)
        )
        counted = triplets.real & (costs > 0) if self.reduction == "active" else triplets.real
        return masked_mean(costs, counted)
