"""Circle loss."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from seqmel.config.options.base import Above
from seqmel.objectives.losses.base import MetricLoss, precisely
from seqmel.objectives.losses.blocks import mean_over_rows
from seqmel.objectives.losses.pairs import masked_logsumexp, masked_sum, same_client

__all__ = ["CircleLoss"]


class CircleLoss(MetricLoss):
    """Each similarity is weighted by its distance from its optimum.

    Sun et al.: Circle loss, a unified perspective of pair similarity optimization (CVPR 2020, arXiv
    2002.10857, equations 4 to 8): with s_p, s_n the cosine similarities of an anchor's positives
    and negatives and g the scale

        l = log( 1 + sum over n of exp(g a_n (s_n - m))
                     * sum over p of exp(-g a_p (s_p - (1 - m))) ),
        a_p = max(0, 1 + m - s_p),  a_n = max(0, s_n + m)   (weights without gradient),

    and the mean over anchors. Each similarity is weighted by its distance from its optimum.

    Args:
        margin: margin m: negatives should have a similarity below m, positives above 1 - m.
        scale: factor g of the similarities.

    Shapes:
        embeddings (N, D) unit vectors; clients (N,) int64, the client of each embedding; the loss
        is a scalar.

    Examples:
        >>> import torch
        >>> from seqmel.losses import CircleLoss
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> clients = torch.tensor([0, 0, 1, 1])
        >>> print(f"{CircleLoss()(embeddings, clients):.4f}")
        52.4499
    """

    how: ClassVar[str] = (
        "mean log(1 + sum over N of e^(g [s + m]+ (s - m)) * sum over P of e^(-g [1 + m - s]+ "
        "(s - 1 + m)))"
    )
    source: ClassVar[str] = "Sun et al., 2002.10857"
    when: ClassVar[str] = (
        "positives and negatives converge at different speeds: each similarity is weighted by "
        "what it still lacks"
    )

    def __init__(
        self, *, margin: Annotated[float, Field(gt=-1, lt=1)] = 0.25, scale: Above = 80.0
    ) -> None:
        super().__init__()
        self.margin = margin
        self.scale = scale

    @precisely
    def forward(self, embeddings: Tensor, clients: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (N, D), unit vectors.
            clients: (N,) int64, the client of each embedding.

        Returns:
            A scalar: the mean over anchors with a positive and a negative. It is zero with zero
            gradient if no anchor has both.
        """

        def part(x: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            positive, negative = same_client(clients, rows)
            similarity = x[rows] @ x.t()
            fixed = similarity.detach()
            pull = (
                -self.scale
                * (1 + self.margin - fixed).clamp(min=0)
                * (similarity - (1 - self.margin))
            )
            push = self.scale * (fixed + self.margin).clamp(min=0) * (similarity - self.margin)
            costs = F.softplus(masked_logsumexp(pull, positive) + masked_logsumexp(push, negative))
            return masked_sum(costs, positive.any(1) & negative.any(1))

        return mean_over_rows(part, embeddings, len(clients))
