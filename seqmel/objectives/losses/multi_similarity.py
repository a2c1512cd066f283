"""Multi-similarity loss."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from seqmel.config.options.base import Above, Cosine, NotNegative
from seqmel.objectives.losses.base import MetricLoss, precisely
from seqmel.objectives.losses.blocks import summed_over_rows
from seqmel.objectives.losses.pairs import (
    distances_of_cosines,
    masked_logsumexp,
    masked_sum,
    mined_sums,
    mining_statistics,
    same_client,
)

__all__ = ["MultiSimilarityLoss"]


class MultiSimilarityLoss(MetricLoss):
    """Pairs weighted by their similarity, and by that of other pairs of the anchor.

    Wang, Han, Huang, Dong, Scott: Multi-similarity loss with general pair weighting (CVPR 2019,
    arXiv 1904.06627, equations 7, 8 and 10): with s the cosine similarity and l a threshold

        L = mean over i of  1/a * log( 1 + sum over positives p of exp(-a (s(i, p) - l)) )
                          + 1/b * log( 1 + sum over negatives n of exp( b (s(i, n) - l)) ).

    The loss mines by itself. For each i it keeps the negatives with a similarity above that of the
    least similar positive minus epsilon, and the positives with a similarity below that of the most
    similar negative plus epsilon. Only these contribute. `active` is the fraction of the negatives
    that are kept.

    Args:
        alpha: slope a; larger values weight dissimilar positives more.
        beta: slope b; larger values weight similar negatives more.
        threshold: cosine similarity l at the decision boundary.
        epsilon: slack of the mining, in cosine similarity; None keeps all pairs.

    Shapes:
        embeddings (N, D) unit vectors; clients (N,) int64, the client of each embedding; the loss
        is a scalar.

    Examples:
        >>> import torch
        >>> from seqmel.losses import MultiSimilarityLoss
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> clients = torch.tensor([0, 0, 1, 1])
        >>> print(f"{MultiSimilarityLoss()(embeddings, clients):.4f}")
        0.4498
    """

    how: ClassVar[str] = (
        "mean of log(1 + sum over P of e^(-a (s - l))) / a + log(1 + sum over N of e^(b (s - "
        "l))) / b, over informative pairs"
    )
    source: ClassVar[str] = "Wang et al., 1904.06627"
    when: ClassVar[str] = (
        "pairs of very different difficulty: it chooses and weights the informative ones "
        "itself, without a miner"
    )

    def __init__(
        self,
        *,
        alpha: Above = 2.0,
        beta: Above = 50.0,
        threshold: Cosine = 0.5,
        epsilon: NotNegative | None = 0.1,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.threshold = threshold
        self.epsilon = epsilon

    @precisely
    def forward(self, embeddings: Tensor, clients: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (N, D), unit vectors.
            clients: (N,) int64, the client of each embedding.

        Returns:
            A scalar: the mean over embeddings with a positive and a negative. It is zero with zero
            gradient if no embedding has both.
        """

        def part(x: Tensor, rows: slice) -> tuple[Tensor, ...]:
            positive, negative = same_client(clients, rows)
            similarity = x[rows] @ x.t()
            whole = positive.any(1, keepdim=True) & negative.any(1, keepdim=True)
            positive = positive & whole
            negative = negative & whole
            every = negative
            if self.epsilon is not None:
                positive, negative = self._informative(similarity.detach(), positive, negative)
            pull = (
                F.softplus(masked_logsumexp(-self.alpha * (similarity - self.threshold), positive))
                / self.alpha
            )
            push = (
                F.softplus(masked_logsumexp(self.beta * (similarity - self.threshold), negative))
                / self.beta
            )
            apart = distances_of_cosines(similarity.detach())
            return *masked_sum(pull + push, whole.squeeze(1)), *mined_sums(
                negative, every, apart, positive, apart, negative
            )

        total, count, *mined = summed_over_rows(part, embeddings, len(clients))
        self.statistics = mining_statistics(tuple(mined))
        return total / count.clamp(min=1)

    def _informative(
        self, similarity: Tensor, positive: Tensor, negative: Tensor
    ) -> tuple[Tensor, Tensor]:
        assert self.epsilon is not None, "asked only with a slack"
        hardest_positive = similarity.masked_fill(~positive, torch.inf).amin(1, keepdim=True)
        hardest_negative = similarity.masked_fill(~negative, -torch.inf).amax(1, keepdim=True)
        kept = positive & (similarity < hardest_negative + self.epsilon)
        return kept, negative & (similarity > hardest_positive - self.epsilon)
