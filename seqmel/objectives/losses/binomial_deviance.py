"""Binomial deviance over pairs."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from seqmel.config.options.base import Above, Cosine
from seqmel.objectives.losses.base import MetricLoss, Takes, precisely
from seqmel.objectives.losses.pairs import (
    Pairs,
    distances_of_cosines,
    masked_mean,
    mined_sums,
    mining_statistics,
    similarities,
)

__all__ = ["BinomialDevianceLoss"]


class BinomialDevianceLoss(MetricLoss):
    """Pairs: logistic regression of "same client" on the similarity.

    Yi, Lei, Li: Deep metric learning for practical person re-identification (arXiv 1407.4979,
    section 3.3), in the form of Ustinova, Lempitsky (arXiv 1611.00822, section 4): with s the
    cosine similarity of a pair

        L = mean over positive pairs of softplus(-a (s - b))
            + mean over negative pairs of softplus(a c (s - b)).

    This is the logistic regression of "same client" on the similarity: it is smooth and has no
    margin, so every pair has a gradient. `active` is the fraction of negatives with a similarity
    above b.

    Args:
        alpha: slope a around the threshold.
        beta: similarity b that separates positives from negatives.
        negative_cost: further factor c of the slope for negatives.

    Shapes:
        embeddings (N, D) unit vectors; `Pairs` of P positives and Q negatives from a miner; the
        loss is a scalar.

    Examples:
        >>> import torch
        >>> from seqmel.losses import BinomialDevianceLoss
        >>> from seqmel.miners import HardNegatives
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> pairs = HardNegatives(k=1).mine(embeddings, torch.tensor([0, 0, 1, 1]))
        >>> print(f"{BinomialDevianceLoss()(embeddings, *pairs):.4f}")
        7.8452
    """

    default_miner: ClassVar[str | None] = "hard_negatives"
    how: ClassVar[str] = (
        "mean softplus(-a (s - b)) over positives + mean softplus(a c (s - b)) over negatives"
    )
    source: ClassVar[str] = "Yi et al., 1407.4979"
    when: ClassVar[str] = (
        "a smooth form of contrastive: every pair keeps a small cost, so training does not "
        "stall when the margin is reached"
    )
    takes: ClassVar[Takes] = "pairs"

    def __init__(
        self, *, alpha: Above = 2.0, beta: Cosine = 0.5, negative_cost: Above = 10.0
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.negative_cost = negative_cost

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
        alike = similarities(embeddings, positives.first, positives.second) - self.beta
        unlike = similarities(embeddings, negatives.first, negatives.second) - self.beta
        near, far = (distances_of_cosines(s.detach() + self.beta) for s in (alike, unlike))
        self.statistics = mining_statistics(
            mined_sums(unlike > 0, negatives.real, near, positives.real, far, negatives.real)
        )
        pull = masked_mean(F.softplus(-self.alpha * alike), positives.real)
        return pull + masked_mean(
            F.softplus(self.alpha * self.negative_cost * unlike), negatives.real
        )
