"""VICReg: variance, invariance, covariance."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from seqmel.config.options.base import NotNegative
from seqmel.core.scatter import take_rows
from seqmel.objectives.losses.base import MetricLoss, precisely
from seqmel.objectives.losses.pairs import neighbouring_views

__all__ = ["VICRegLoss"]


class VICRegLoss(MetricLoss):
    """Variance, invariance and covariance regularisation of two views; without negatives.

    Bardes, Ponce, LeCun: VICReg (ICLR 2022, arXiv 2105.04906, equations 1 to 6 but for the first
    term): for the two sides Z, Z' (n, D) of n pairs of views, each pair of one client,

        L = i * mean squared distance of a pair / D
            + v * [v(Z) + v(Z')],  v(Z) = mean over dimensions of max(0, 1 - sqrt(var + 1e-4))
            + c * [c(Z) + c(Z')],  c(Z) = sum of squared covariances of different dimensions / D.

    Equation 5 does not divide the squared distance by D. Algorithm 1 of the paper does: it takes
    the mean over all elements, and its weights are meant for it. This class follows
    Algorithm 1.

    There are no negatives. Collapse is prevented because every dimension must vary and dimensions
    must not be correlated. Embeddings must not be unit vectors. A client's views 0, 1, 2 make the
    pairs (0, 1) and (1, 2); with two views per client, this is Algorithm 1.

    Args:
        invariance: weight i of the squared distances.
        variance: weight v of the variance hinge.
        covariance: weight c of the squared covariances.

    Shapes:
        embeddings (N, D), not normalised; clients (N,) int64, the client of each embedding; the
        loss is a scalar.

    Examples:
        >>> import torch
        >>> from seqmel.losses import VICRegLoss
        >>> embeddings = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
        >>> embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        >>> clients = torch.tensor([0, 0, 1, 1])
        >>> print(f"{VICRegLoss()(embeddings, clients):.4f}")
        36.3418
    """

    how: ClassVar[str] = (
        "i * mean squared difference + v * mean [1 - std]+ + c * squared covariances, over "
        "pairs of views; the first a mean over dimensions too, as in Algorithm 1, not "
        "equation 5"
    )
    source: ClassVar[str] = "Bardes et al., 2105.04906"
    when: ClassVar[str] = (
        "many clients are near-duplicates, so that calling them negatives would be wrong; it "
        "keeps all dimensions in use"
    )
    unit: ClassVar[bool] = False

    def __init__(
        self,
        *,
        invariance: NotNegative = 25.0,
        variance: NotNegative = 25.0,
        covariance: NotNegative = 1.0,
    ) -> None:
        super().__init__()
        self.invariance = invariance
        self.variance = variance
        self.covariance = covariance

    @precisely
    def forward(self, embeddings: Tensor, clients: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (N, D), not normalised.
            clients: (N,) int64, the client of each embedding.

        Returns:
            A scalar. It is zero with zero gradient if there are fewer than two pairs of views.
        """
        first, second, real = neighbouring_views(clients)
        weight = real.to(embeddings.dtype).unsqueeze(1)
        count = weight.sum()
        one = take_rows(embeddings, first)
        two = take_rows(embeddings, second)
        near = ((one - two).square() * weight).sum() / (count * embeddings.shape[1]).clamp(min=1)
        spread = self._spread(one, weight) + self._spread(two, weight)
        return torch.where(count > 1, self.invariance * near + spread, 0.0)

    def _spread(self, side: Tensor, weight: Tensor) -> Tensor:
        """Return the variance and covariance terms of one side of the pairs."""
        count = weight.sum()
        centred = (side - (side * weight).sum(0) / count.clamp(min=1)) * weight
        covariances = centred.t() @ centred / (count - 1).clamp(min=1)
        variances = covariances.diagonal()
        flat = (1 - (variances + 1e-4).sqrt()).clamp(min=0).mean()
        repeated = (covariances.square().sum() - variances.square().sum()) / len(variances)
        return self.variance * flat + self.covariance * repeated
