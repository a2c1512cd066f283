"""Contrastive loss over pairs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from seqmel.config.options.losses import Margin, MarginStart
from seqmel.objectives.losses.base import GrowingMargin, Takes, precisely
from seqmel.objectives.losses.pairs import (
    Pairs,
    distances,
    masked_mean,
    mined_sums,
    mining_statistics,
)

__all__ = ["ContrastiveLoss"]


class ContrastiveLoss(GrowingMargin):
    """Squared distance of positive pairs, max(0, margin - distance) squared of mined negatives.

    Hadsell, Chopra, LeCun: Dimensionality reduction by learning an invariant mapping (CVPR 2006),
    as CoLES uses it (arXiv 2002.08232, section 3.3): with d the Euclidean distance of two unit
    vectors and m the margin,

        L = mean over positive pairs of d^2  +  mean over mined negative pairs of max(0, m - d)^2.

    With `positive_margin` p above zero, a positive costs max(0, d - p)^power. Views of one client
    need not collapse to one point. With `power` 1 the costs are linear.

    With `reduction="sum"`, as in the MeLES preset, both terms are sums. The loss then grows with
    the batch.

    Args:
        margin: margin m: negatives at a larger distance have zero loss. Unit vectors are at
            most 2 apart.
        margin_start: margin at the start of training; it grows linearly to `margin`. None keeps it
            constant.
        positive_margin: margin p: positives at a smaller distance have zero loss.
        power: exponent of the excess over a margin: 2 as published, or 1.
        reduction: "mean" over the pairs of each kind, or "sum".

    Shapes:
        embeddings (N, D) unit vectors; `Pairs` of P positives and Q negatives from a miner; the
        loss is a scalar.

    Examples:
        >>> import torch
        >>> from seqmel.losses import ContrastiveLoss
        >>> from seqmel.miners import HardNegatives
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> pairs = HardNegatives(k=1).mine(embeddings, torch.tensor([0, 0, 1, 1]))
        >>> print(f"{ContrastiveLoss(margin=0.5)(embeddings, *pairs):.4f}")
        0.1322
    """

    default_miner: ClassVar[str | None] = "hard_negatives"
    how: ClassVar[str] = (
        "mean [d - p]+^2 over positives + mean [m - d]+^2 over negatives; p = 0 as published; "
        "`power: 1` makes it linear, `reduction: sum` is the MeLES preset"
    )
    source: ClassVar[str] = "Hadsell et al., CVPR 2006; Babaev et al., 2002.08232"
    when: ClassVar[str] = (
        "to reproduce CoLES as published, or with few clients per batch: its cost is counted "
        "in pairs, and a miner picks those that teach something"
    )
    hyperbolic: ClassVar[bool] = True
    takes: ClassVar[Takes] = "pairs"

    def __init__(
        self,
        *,
        margin: Margin = 0.5,
        margin_start: MarginStart = None,
        positive_margin: Annotated[float, Field(ge=0, lt=2)] = 0.0,
        power: Literal[1, 2] = 2,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__(margin=margin, margin_start=margin_start)
        self.positive_margin = positive_margin
        self.power = power
        self.reduction = reduction

    @precisely
    def forward(self, embeddings: Tensor, positives: Pairs, negatives: Pairs) -> Tensor:
        """The loss of the given pairs.

        Args:
            embeddings: (N, D), unit vectors.
            positives: P pairs; both embeddings of a pair belong to one client.
            negatives: Q pairs; the embeddings of a pair belong to two clients.

        Returns:
            A scalar. It is zero with zero gradient if there are no pairs.
        """
        first, second = (
            torch.cat(places) for places in zip(positives[:2], negatives[:2], strict=True)
        )
        # One product for both kinds of pairs.
        apart = distances(embeddings, first, second, ball=self.ball)
        of_one = len(positives.first)
        pull = apart[:of_one] - self.positive_margin
        push = self.margin - apart[of_one:]
        self.statistics = mining_statistics(
            mined_sums(
                push > 0,
                negatives.real,
                apart[:of_one],
                positives.real,
                apart[of_one:],
                negatives.real,
            )
        )
        return self._reduce(pull, positives.real) + self._reduce(push, negatives.real)

    def _reduce(self, excess: Tensor, real: Tensor) -> Tensor:
        costs = excess.clamp(min=0).pow(self.power)
        return (
            masked_mean(costs, real)
            if self.reduction == "mean"
            else torch.where(real, costs, 0.0).sum()
        )
