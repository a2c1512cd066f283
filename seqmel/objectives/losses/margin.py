"""Margin loss with a learnt boundary."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from seqmel.config.options.base import Distance, NotNegative, Only
from seqmel.config.options.losses import Margin, MarginStart
from seqmel.objectives.losses.base import GrowingMargin, Takes, precisely
from seqmel.objectives.losses.pairs import Pairs, distances, mined_sums, mining_statistics

__all__ = ["MarginLoss"]


class MarginLoss(GrowingMargin):
    """Pairs: a learnt boundary between near and far.

    Wu, Manmatha, Smola, Krähenbühl: Sampling matters in deep embedding learning (ICCV 2017, arXiv
    1706.07567, equation 6): with d the Euclidean distance of two unit vectors and b the boundary
    between near and far

        positives cost max(0, d - b + a),  negatives cost max(0, b - d + a),
        L = sum of the costs / number of non-zero costs  +  nu b.

    b is a parameter, trained with the weights. It is meaningful only with negatives of all
    distances, so use the miner `distance_weighted`. The boundary belongs to the objective, not to
    the encoder, and is discarded after training.

    Args:
        margin: half-width a of the margin: a pair at least this far on its side of the boundary
            has zero loss.
        margin_start: margin at the start of training; it grows linearly to `margin`. None keeps it
            constant.
        beta: boundary b, or its initial value if it is learnt.
        learn_beta: learn the boundary.
        beta_weight: weight nu of a learnt boundary; a positive value pulls the boundary down.

    Shapes:
        embeddings (N, D) unit vectors; `Pairs` of P positives and Q negatives from a miner; the
        loss is a scalar.

    Examples:
        >>> import torch
        >>> from seqmel.losses import MarginLoss
        >>> from seqmel.miners import HardNegatives
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> pairs = HardNegatives(k=1).mine(embeddings, torch.tensor([0, 0, 1, 1]))
        >>> print(f"{MarginLoss()(embeddings, *pairs):.4f}")
        0.9336
    """

    default_miner: ClassVar[str | None] = "distance_weighted"
    how: ClassVar[str] = (
        "[d - b + a]+ of positives and [b - d + a]+ of negatives, summed, by the number of "
        "those above zero; b is learnt"
    )
    source: ClassVar[str] = "Wu et al., 1706.07567"
    when: ClassVar[str] = (
        "clients differ in how much they vary, so that one fixed distance between near and "
        "far does not fit"
    )
    hyperbolic: ClassVar[bool] = True
    takes: ClassVar[Takes] = "pairs"

    def __init__(
        self,
        *,
        margin: Margin = 0.2,
        margin_start: MarginStart = None,
        beta: Distance = 1.2,
        learn_beta: bool = True,
        beta_weight: Annotated[NotNegative, Only(learn_beta=True)] = 0.0,
    ) -> None:
        super().__init__(margin=margin, margin_start=margin_start)
        self.beta = nn.Parameter(torch.tensor(beta), requires_grad=learn_beta)
        self.beta_weight = beta_weight

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
        pull = distances(embeddings, positives.first, positives.second, ball=self.ball)
        push = distances(embeddings, negatives.first, negatives.second, ball=self.ball)
        near = pull - self.beta + self.margin
        far = self.beta - push + self.margin
        real = torch.cat([positives.real, negatives.real])
        self.statistics = mining_statistics(
            mined_sums(far > 0, negatives.real, pull, positives.real, push, negatives.real)
        )
        costs = torch.where(real, torch.cat([near, far]).clamp(min=0), 0.0)
        return (
            costs.sum() / (costs > 0).sum().clamp(min=1) + self.beta_weight * self.beta * real.any()
        )
