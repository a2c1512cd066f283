"""InfoNCE over the views of a batch."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from seqmel.config.options.base import Above, Share
from seqmel.objectives.losses.base import MetricLoss, precisely
from seqmel.objectives.losses.blocks import mean_over_rows
from seqmel.objectives.losses.pairs import (
    masked_logsumexp,
    masked_sum,
    same_client,
    similarities_of_rows,
)

__all__ = ["InfoNCELoss"]


class InfoNCELoss(MetricLoss):
    """Softmax over all views of the batch, for each positive pair; takes no miner.

    van den Oord, Li, Vinyals: Representation learning with contrastive predictive coding (arXiv
    1807.03748); in the form of NT-Xent (Chen et al., SimCLR, arXiv 2002.05709, equation 1) for any
    number of views per client: with s the cosine similarity divided by the temperature, for every
    ordered positive pair (i, j)

        l(i, j) = -s(i, j) + log( exp s(i, j)
                                  + sum over embeddings k of other clients of exp s(i, k) ),

    and the mean over all such pairs. The sum leaves out the other positives of i, because they are
    not negatives.

    With `debias` q, an estimate of the fraction of negatives that are really of the anchor's kind,
    the sum over the n negatives is replaced by (Chuang et al.: Debiased contrastive learning,
    NeurIPS 2020, arXiv 2007.00224, equation 8)

        n max( (mean over k of exp s(i, k) - q exp s(i, j)) / (1 - q),  exp(-1 / temperature) ).

    Args:
        temperature: divisor of the similarities. Small values weight the nearest negatives more.
        debias: fraction q of the negatives that are probably of the anchor's kind; 0 is InfoNCE as
            published.

    Shapes:
        embeddings (N, D) unit vectors; clients (N,) int64, the client of each embedding; the loss
        is a scalar.

    Examples:
        >>> import torch
        >>> from seqmel.losses import InfoNCELoss
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> clients = torch.tensor([0, 0, 1, 1])
        >>> print(f"{InfoNCELoss(temperature=0.1)(embeddings, clients):.4f}")
        0.5961
    """

    how: ClassVar[str] = (
        "mean over positive pairs of -log( e^(s(i,j)/t) / (e^(s(i,j)/t) + sum over N(i) of "
        "e^(s(i,k)/t)) )"
    )
    source: ClassVar[str] = "van den Oord et al., 1807.03748; Chen et al., 2002.05709"
    when: ClassVar[str] = (
        "the default. Large batches serve it well, since every view of another client is a "
        "negative; lower the temperature to look at the nearest ones"
    )

    hyperbolic: ClassVar[bool] = True
    leaves_out: ClassVar[bool] = True

    def __init__(self, *, temperature: Above = 0.1, debias: Share = 0.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.debias = debias

    @precisely
    def forward(
        self, embeddings: Tensor, clients: Tensor, excluded: Tensor | None = None
    ) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (N, D), unit vectors.
            clients: (N,) int64, the client of each embedding.
            excluded: (N, N) bool, pairs of clients that are no negatives; None excludes none.

        Returns:
            A scalar. It is zero with zero gradient if no client has two embeddings.
        """

        def part(x: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            similarity = similarities_of_rows(x, rows, ball=self.ball) / self.temperature
            positive, negative = same_client(clients, rows)
            if excluded is not None:
                negative = negative & ~excluded[rows]
            others = masked_logsumexp(similarity, negative).unsqueeze(1)
            if self.debias:
                others = self._debiased(similarity, others, negative.sum(1, keepdim=True))
            return masked_sum(torch.logaddexp(similarity, others) - similarity, positive)

        return mean_over_rows(part, embeddings, len(clients))

    def _debiased(self, similarity: Tensor, others: Tensor, count: Tensor) -> Tensor:
        """Return the logarithm of the debiased sum for each pair of an anchor and a positive.

        Args:
            similarity: (R, N), divided by the temperature.
            others: (R, 1) logarithm of the sum over negatives.
            count: (R, 1) number of negatives.
        """
        count = count.clamp(min=1).log()
        fraction = math.log(self.debias) + similarity - (others - count)
        rest = others - count + torch.log1p(-fraction.clamp(max=-1e-6).exp())
        least = torch.full_like(rest, -1 / self.temperature)
        mean = torch.where(fraction < -1e-6, rest - math.log(1 - self.debias), least)
        # Without negatives `others` is a large negative number, which stays.
        return torch.where(others > -1e4, torch.maximum(mean, least) + count, others)
