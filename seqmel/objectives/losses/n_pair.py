"""N-pair loss."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from seqmel.config.options.base import NotNegative
from seqmel.core.scatter import take_rows
from seqmel.objectives.losses.base import MetricLoss, precisely
from seqmel.objectives.losses.blocks import mean_over_rows
from seqmel.objectives.losses.pairs import masked_logsumexp, masked_sum, neighbouring_views

__all__ = ["NPairLoss"]


class NPairLoss(MetricLoss):
    """Softmax over dot products of one pair of views against those of other clients.

    Sohn: Improved deep metric learning with multi-class N-pair loss objective (NIPS 2016, equations
    6 and 7): for pairs (a_i, p_i), each of one client, and dot products of vectors that are not
    normalised,

        L = mean over pairs i of
                log( 1 + sum over pairs j of other clients of exp(a_i . p_j - a_i . p_i) )
            + w * mean squared length of the embeddings.

    The paper has one pair per client. A client's views 0, 1, 2 make the pairs (0, 1) and (1, 2);
    with two views per client, this is the loss of the paper. Only w limits the norms of the
    vectors.

    Args:
        length_weight: weight w of the squared norms.

    Shapes:
        embeddings (N, D), not normalised; clients (N,) int64, the client of each embedding; the
        loss is a scalar.

    Examples:
        >>> import torch
        >>> from seqmel.losses import NPairLoss
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> clients = torch.tensor([0, 0, 1, 1])
        >>> print(f"{NPairLoss()(embeddings, clients):.4f}")
        0.6272
    """

    how: ClassVar[str] = (
        "mean log(1 + sum over other pairs of e^(a.p' - a.p)) + w * mean squared length"
    )
    source: ClassVar[str] = "Sohn, NIPS 2016"
    when: ClassVar[str] = (
        "two views per client and unscaled vectors, where lengths should carry meaning; a "
        "baseline from the literature"
    )
    unit: ClassVar[bool] = False

    def __init__(self, *, length_weight: NotNegative = 0.002) -> None:
        super().__init__()
        self.length_weight = length_weight

    @precisely
    def forward(self, embeddings: Tensor, clients: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (N, D), not normalised.
            clients: (N,) int64, the client of each embedding.

        Returns:
            A scalar. It is zero with zero gradient if no client has two embeddings.
        """
        first, second, real = neighbouring_views(clients)

        def part(x: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            one = take_rows(x, first[rows])
            two = take_rows(x, second[rows])
            other = (clients[first[rows]].unsqueeze(1) != clients[first]) & real
            costs = F.softplus(
                masked_logsumexp(one @ take_rows(x, second).t(), other) - (one * two).sum(1)
            )
            costs = torch.where(other.any(1), costs, 0.0)
            lengths = (one.square().sum(1) + two.square().sum(1)) / 2
            return masked_sum(costs + self.length_weight * lengths, real[rows])

        return mean_over_rows(part, embeddings, len(first))
