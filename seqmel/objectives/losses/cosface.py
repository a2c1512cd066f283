"""CosFace over the clients of a batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from seqmel.objectives.losses.base import GrowingMargin, precisely
from seqmel.objectives.losses.blocks import over_rows
from seqmel.objectives.losses.pairs import masked_logsumexp, masked_mean, same_client
from seqmel.objectives.losses.prototypes import batch_centers

__all__ = ["CosFaceLoss"]


class CosFaceLoss(GrowingMargin):
    """CosFace over the clients of a batch.

    Wang et al.: CosFace, large margin cosine loss (CVPR 2018, arXiv 1801.09414, equation 4): with cos(x, w_j) the cosine of an
    embedding with the prototype of client j

        L = mean over embeddings x of  -log( exp(s (cos(x, w) - m)) / (exp(s (cos(x, w) - m)) + sum over others j of exp(s cos(x, w_j))) ).

    The paper learns a weight for each class. Here the prototype of a client is the direction of the mean of its embeddings in
    the batch, each other client of the batch once, and the own prototype leaves out the embedding itself: a softmax over the
    clients of the batch, not of all clients.

    Args:
        margin: m; by so much the own cosine is made smaller.
        margin_start: margin at the start of training, from which it grows linearly; None keeps it constant.
        scale: s; the inverse of a temperature.

    Shapes:
        embeddings (N, D) unit vectors; clients (N,) int64, the client of each embedding; the loss is a scalar.

    Examples:
        >>> import torch
        >>> from seqmel.losses import CosFaceLoss
        >>> embeddings = torch.nn.functional.normalize(torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]]), dim=1)
        >>> clients = torch.tensor([0, 0, 1, 1])
        >>> print(f"{CosFaceLoss()(embeddings, clients):.4f}")
        1.4869
    """

    def __init__(self, *, margin: float = 0.2, margin_start: float | None = None, scale: float = 16.0) -> None:
        super().__init__(margin=margin, margin_start=margin_start)
        self.scale = scale

    @precisely
    def forward(self, embeddings: Tensor, clients: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (N, D), unit vectors.
            clients: (N,) int64, the client of each embedding.

        Returns:
            A scalar, the mean over embeddings that have a positive; zero, with zero gradient, where none has.
        """
        own, centers, counts = batch_centers(embeddings, clients)
        same = self.scale * ((embeddings * F.normalize(own, dim=1)).sum(1) - self.margin)
        directions = F.normalize(centers, dim=1)

        def part(x: Tensor, rows: slice) -> tuple[Tensor]:
            _, other = same_client(clients, rows)
            # a client of c embeddings stands in c columns: each counts for 1 / c of it
            return (masked_logsumexp(self.scale * (x[rows] @ directions.t()) - counts.log(), other),)

        others = torch.cat([found for (found,) in over_rows(part, embeddings, len(clients))])
        return masked_mean(torch.logaddexp(same, others) - same, counts > 1)
