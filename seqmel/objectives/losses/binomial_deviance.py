"""Binomial deviance over pairs.

Yi, Lei, Li: Deep metric learning for practical person re-identification (arXiv 1407.4979, section 3.3), in the form of
Ustinova, Lempitsky (arXiv 1611.00822, section 4): with s the cosine similarity of a pair

    L = mean over positive pairs of softplus(-a (s - b))  +  mean over negative pairs of softplus(a c (s - b)).

It is the logistic regression of "same client" on the similarity: smooth, with no margin beyond which nothing is learnt. So every pair costs something, and as
active it counts the negatives that are more alike than b.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from seqmel.objectives.losses.base import MetricLoss, Takes, precisely
from seqmel.objectives.losses.pairs import (
    Pairs,
    distances_of_cosines,
    figures_of,
    masked_mean,
    mined_sums,
    similarities,
)

__all__ = ["BinomialDevianceLoss"]


class BinomialDevianceLoss(MetricLoss):
    """See the module's text.

    Args:
        alpha: a; how steep the cost is around the threshold.
        beta: b; the similarity that tells positives from negatives.
        negative_cost: c; how much steeper it is for negatives.
    """

    takes: ClassVar[Takes] = "pairs"

    def __init__(self, *, alpha: float = 2.0, beta: float = 0.5, negative_cost: float = 10.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.negative_cost = negative_cost

    @precisely
    def forward(self, embeddings: Tensor, positives: Pairs, negatives: Pairs) -> Tensor:
        """The loss of the given pairs.

        Args:
            embeddings: (N, D), unit vectors.
            positives: P pairs of one client each.
            negatives: Q pairs of two clients each.

        Returns:
            A scalar; zero, with zero gradient, where there is no pair at all.
        """
        alike = similarities(embeddings, positives.first, positives.second) - self.beta
        unlike = similarities(embeddings, negatives.first, negatives.second) - self.beta
        near, far = (distances_of_cosines(s.detach() + self.beta) for s in (alike, unlike))
        self.figures = figures_of(mined_sums(unlike > 0, negatives.real, near, positives.real, far, negatives.real))
        pull = masked_mean(F.softplus(-self.alpha * alike), positives.real)
        return pull + masked_mean(F.softplus(self.alpha * self.negative_cost * unlike), negatives.real)
