"""Principal components of the pooled states.

A contrastive objective trains about a thousand pooled numbers. Most of them vary together. LightGBM
and a linear model find more in what stands beside them, such as the last events of a client, if
they are few. So the vector has their first principal components over the training clients:

    y = W ((x - m) / s),        m, s: mean and standard deviation over the training clients,

with the rows of W the leading eigenvectors of the correlation matrix of x.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqmel.core.eigenvectors import leading_eigenvectors

__all__ = ["PrincipalComponents"]


class PrincipalComponents(nn.Module):
    """Map (B, size) to the first components, (B, dim). Zeros before `fit`.

    Args:
        size: Width of the input.
        dim: Number of components.
        of_last_event: Components of the last event, which stand beside these; None for none.
    """

    mean: Tensor
    weight: Tensor

    def __init__(
        self, size: int, dim: int, *, of_last_event: PrincipalComponents | None = None
    ) -> None:
        super().__init__()
        self.of_last_event = of_last_event
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("weight", torch.zeros(dim, size))

    @property
    def size(self) -> int:
        """Width of the input."""
        return len(self.mean)

    @property
    def dim(self) -> int:
        """Number of components."""
        return len(self.weight)

    def forward(self, vectors: Tensor) -> Tensor:
        """Compute the components, (B, dim), in float32.

        The sums are in float64 where the device has it. So rounding does not depend on the size of
        the batch.
        """
        wide = torch.float32 if vectors.device.type == "mps" else torch.float64
        return ((vectors.to(wide) - self.mean.to(wide)) @ self.weight.T.to(wide)).float()

    @torch.no_grad()
    def fit(self, vectors: Tensor) -> None:
        """Set the components of these vectors. The largest weight of each is positive.

        Columns that hardly vary have weight zero. So have components beyond the rank of the
        vectors.

        Args:
            vectors: (N, size).
        """
        rows = vectors.double()
        mean = rows.mean(0)
        deviation = rows.std(0, correction=0)
        varies = deviation > 1e-6 + 1e-2 * mean.abs()  # else float32 rounding would be magnified
        scale = torch.where(varies, 1 / deviation.clamp(min=1e-12), 0.0)
        rows = (rows - mean) * scale
        values, directions = leading_eigenvectors(rows.T @ rows / max(1, len(rows)), self.dim)
        directions = directions * (values > 1e-6 * values[:1].clamp(min=1e-6))
        self.mean.copy_(mean)
        self.weight.copy_((directions * scale.unsqueeze(1)).T)

    @torch.no_grad()
    def keep(self, components: Tensor) -> None:
        """Keep only some components.

        Args:
            components: (K,) int64, their positions.
        """
        self.weight = self.weight[components]
