"""CosFace over the clients of a batch."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from seqmel.config.options.base import Above
from seqmel.config.options.losses import Margin, MarginStart
from seqmel.objectives.losses.base import GrowingMargin, precisely
from seqmel.objectives.losses.blocks import over_rows
from seqmel.objectives.losses.pairs import masked_logsumexp, masked_mean, same_client
from seqmel.objectives.losses.prototypes import batch_centers

__all__ = ["CosFaceLoss"]


class CosFaceLoss(GrowingMargin):
    """Softmax with a margin over the clients of the batch, each given by its mean direction.

    Wang et al.: CosFace, large margin cosine loss (CVPR 2018, arXiv 1801.09414, equation 4): with
    cos(x, w_j) the cosine of an embedding with the prototype of client j, and w the prototype of
    the client of x,

        L = mean over embeddings x of
                -log( e(x) / (e(x) + sum over others j of exp(s cos(x, w_j))) ),
        e(x) = exp(s (cos(x, w) - m)).

    The paper learns a weight for each class. Here, the prototype of a client is the direction of
    the mean of its embeddings in the batch. Each other client of the batch counts once. The
    prototype of the own client leaves out the embedding itself. So this is a softmax over the
    clients of the batch, not over all clients.

    Args:
        margin: margin m, subtracted from the cosine with the own prototype.
        margin_start: margin at the start of training; it grows linearly to `margin`. None keeps it
            constant.
        scale: scale s of the cosine, the inverse of a temperature.

    Shapes:
        embeddings (N, D) unit vectors; clients (N,) int64, the client of each embedding; the loss
        is a scalar.

    Examples:
        >>> import torch
        >>> from seqmel.losses import CosFaceLoss
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> clients = torch.tensor([0, 0, 1, 1])
        >>> print(f"{CosFaceLoss()(embeddings, clients):.4f}")
        1.4869
    """

    how: ClassVar[str] = (
        "softmax cross-entropy of g cos(x, client's mean direction), the own cosine less m; "
        "over the clients of the batch"
    )
    source: ClassVar[str] = "Wang et al., 1801.09414"
    when: ClassVar[str] = (
        "recognition of clients with a clear margin between them; many views per client make "
        "their mean directions reliable"
    )

    def __init__(
        self, *, margin: Margin = 0.2, margin_start: MarginStart = None, scale: Above = 16.0
    ) -> None:
        super().__init__(margin=margin, margin_start=margin_start)
        self.scale = scale

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
        own, centers, counts = batch_centers(embeddings, clients)
        same = self.scale * ((embeddings * F.normalize(own, dim=1)).sum(1) - self.margin)
        directions = F.normalize(centers, dim=1)

        def part(x: Tensor, rows: slice) -> tuple[Tensor]:
            _, other = same_client(clients, rows)
            # A client with c embeddings has c columns, so each column counts as 1 / c.
            return (
                masked_logsumexp(self.scale * (x[rows] @ directions.t()) - counts.log(), other),
            )

        others = torch.cat([found for (found,) in over_rows(part, embeddings, len(clients))])
        return masked_mean(torch.logaddexp(same, others) - same, counts > 1)
