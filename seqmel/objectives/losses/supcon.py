"""Supervised contrastive loss, the client being the class."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from seqmel.config.options.base import Above
from seqmel.objectives.losses.base import MetricLoss, precisely
from seqmel.objectives.losses.blocks import mean_over_rows
from seqmel.objectives.losses.pairs import (
    masked_logsumexp,
    masked_sum,
    same_client,
    similarities_of_rows,
)

__all__ = ["SupConLoss", "costs_of_rows"]


class SupConLoss(MetricLoss):
    """Supervised contrastive: softmax over all other views, with all positives in the numerator.

    Khosla et al.: Supervised contrastive learning (NeurIPS 2020, arXiv 2004.11362, equation 2, the
    sum outside the log): with s the cosine similarity divided by the temperature and P(i) the other
    embeddings of i's client

        L = mean over i of  -1 / |P(i)| * sum over p in P(i) of
                ( s(i, p) - log sum over all k != i of exp s(i, k) ).

    Unlike in InfoNCE, the sum includes the other positives of i. So the loss cannot reach zero with
    more than two views per client.

    Args:
        temperature: divisor of the similarities. Small values weight the nearest negatives more.

    Shapes:
        embeddings (N, D) unit vectors; clients (N,) int64, the client of each embedding; the loss
        is a scalar.

    Examples:
        >>> import torch
        >>> from seqmel.losses import SupConLoss
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> clients = torch.tensor([0, 0, 1, 1])
        >>> print(f"{SupConLoss()(embeddings, clients):.4f}")
        0.5961
    """

    how: ClassVar[str] = (
        "mean over i and P(i) of -log( e^(s(i,p)/t) / sum over all k != i of e^(s(i,k)/t) )"
    )
    source: ClassVar[str] = "Khosla et al., 2004.11362"
    when: ClassVar[str] = (
        "as infonce, with many views per client: positives share one softmax, so near ones "
        "are not pushed closer at the cost of far ones"
    )

    hyperbolic: ClassVar[bool] = True

    def __init__(self, *, temperature: Above = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    @precisely
    def forward(self, embeddings: Tensor, clients: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (N, D), unit vectors.
            clients: (N,) int64, the client of each embedding.

        Returns:
            A scalar: the mean over embeddings with a positive. It is zero with zero gradient if
            none has one.
        """

        def part(x: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            similarity = similarities_of_rows(x, rows, ball=self.ball) / self.temperature
            positive, negative = same_client(clients, rows)
            return masked_sum(*costs_of_rows(similarity, positive, positive | negative))

        return mean_over_rows(part, embeddings, len(clients))


def costs_of_rows(similarity: Tensor, positive: Tensor, compared: Tensor) -> tuple[Tensor, Tensor]:
    """Return (R,) costs, means over the positives of a row, and an (R,) mask of rows with any.

    Args:
        similarity: (R, N), divided by the temperature.
        positive: (R, N) bool, P(i).
        compared: (R, N) bool, the terms in the sum of exponentials.
    """
    costs = masked_logsumexp(similarity, compared).unsqueeze(1) - similarity
    counts = positive.sum(1)
    return torch.where(positive, costs, 0.0).sum(1) / counts.clamp(min=1), counts > 0
