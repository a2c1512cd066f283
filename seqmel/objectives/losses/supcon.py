"""Supervised contrastive loss, the client being the class."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.objectives.losses.base import MetricLoss, precisely
from seqmel.objectives.losses.blocks import mean_over_rows
from seqmel.objectives.losses.pairs import masked_logsumexp, masked_sum, same_client

__all__ = ["SupConLoss", "costs_of_rows"]


class SupConLoss(MetricLoss):
    """Supervised contrastive loss, the client being the class.

    Khosla et al.: Supervised contrastive learning (NeurIPS 2020, arXiv 2004.11362, equation 2, the sum outside the log):
    with s the cosine similarity divided by the temperature and P(i) the other embeddings of i's client

        L = mean over i of  -1 / |P(i)| * sum over p in P(i) of ( s(i, p) - log sum over all k != i of exp s(i, k) ).

    Unlike in InfoNCE the other positives of i are in the sum too, so it does not reach zero with more than two views per client.

    Args:
        temperature: what similarities are divided by; smaller looks harder at the nearest negatives.

    Shapes:
        embeddings (N, D) unit vectors; clients (N,) int64, the client of each embedding; the loss is a scalar.

    Examples:
        >>> import torch
        >>> from seqmel.losses import SupConLoss
        >>> embeddings = torch.nn.functional.normalize(torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]]), dim=1)
        >>> clients = torch.tensor([0, 0, 1, 1])
        >>> print(f"{SupConLoss()(embeddings, clients):.4f}")
        0.5961
    """

    def __init__(self, *, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    @precisely
    def forward(self, embeddings: Tensor, clients: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (N, D), unit vectors.
            clients: (N,) int64, the client of each embedding.

        Returns:
            A scalar, the mean over embeddings that have a positive; zero, with zero gradient, where none has.
        """

        def part(x: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            similarity = x[rows] @ x.t() / self.temperature
            positive, negative = same_client(clients, rows)
            return masked_sum(*costs_of_rows(similarity, positive, positive | negative))

        return mean_over_rows(part, embeddings, len(clients))


def costs_of_rows(similarity: Tensor, positive: Tensor, compared: Tensor) -> tuple[Tensor, Tensor]:
    """(R,) the cost of each row, its mean over the positives, and (R,) bool: which rows have a positive.

    Args:
        similarity: (R, N), divided by the temperature.
        positive: (R, N) bool, P(i).
        compared: (R, N) bool, what the sum of exponentials is over.
    """
    costs = masked_logsumexp(similarity, compared).unsqueeze(1) - similarity
    counts = positive.sum(1)
    return torch.where(positive, costs, 0.0).sum(1) / counts.clamp(min=1), counts > 0
