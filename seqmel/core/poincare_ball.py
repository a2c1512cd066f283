"""The Poincare ball: hyperbolic distances of vectors.

Nickel, Kiela: Poincare embeddings (arXiv 1705.08039); with a curvature and the exponential map as
in Khrulkov et al.: Hyperbolic image embeddings (CVPR 2020, arXiv 1904.02239). Volume in the ball
grows exponentially with the distance from the origin, as the nodes of a tree do with its depth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["PoincareBall"]

_EDGE = 1e-3  # points stay this fraction of the radius inside the ball, as float32 needs
_TINY = 1e-12  # squared length below which the direction of a vector is not defined


@dataclass(frozen=True)
class PoincareBall:
    """A ball of radius 1 / sqrt(curvature) with the hyperbolic metric.

    All results are in float32, or in float64 if the input is: bfloat16 has too few digits near the
    border.

    Attributes:
        curvature: c > 0; the curvature of the space is -c. Small values are nearly Euclidean.
        clip_radius: longer tangent vectors are shortened to this length, so that gradients do not
            vanish near the border (Guo et al.: Clipped hyperbolic classifiers, CVPR 2022, arXiv
            2107.11472); None clips nothing.

    Examples:
        >>> import torch
        >>> from seqmel.core.poincare_ball import PoincareBall
        >>> ball = PoincareBall(curvature=1.0)
        >>> points = ball.points(torch.tensor([[0.5, 0.0], [0.0, 0.0]]))
        >>> ball.distances(points[0], points[1])
        tensor(1.0000)
    """

    curvature: float = 0.1
    clip_radius: float | None = 2.3

    def points(self, vectors: Tensor) -> Tensor:
        """Map tangent vectors at the origin into the ball, by the exponential map.

        The distance of a point from the origin is twice the length of its tangent vector.

        Args:
            vectors: (..., D).

        Returns:
            (..., D) points. The gradient is finite everywhere, also at zero.
        """
        vectors = _exact(vectors)
        length = vectors.square().sum(-1, keepdim=True).clamp(min=_TINY).sqrt()
        kept = length if self.clip_radius is None else length.clamp(max=self.clip_radius)
        root = math.sqrt(self.curvature)
        radius = torch.tanh(root * kept).clamp(max=1 - _EDGE) / root
        return vectors * (radius / length)

    def distances(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distances of points, row by row.

        The distance is 2 / sqrt(c) arsinh(sqrt(c) |x - y| / sqrt((1 - c |x|^2) (1 - c |y|^2))),
        which is exact for near points, and has a finite gradient for equal ones.

        Args:
            first: (..., D) points.
            second: (..., D) points, of a shape that broadcasts to it.

        Returns:
            (...) distances. The gradient at distance zero is zero.
        """
        first, second = _exact(first), _exact(second)
        squared = (first - second).square().sum(-1)
        apart = torch.where(squared > 0, squared.clamp(min=_TINY**2).sqrt(), 0.0)
        return self._of(apart, self._shrinking(first) * self._shrinking(second))

    def cross_distances(self, first: Tensor, second: Tensor) -> Tensor:
        """Return (N, M) distances of all points to all others.

        Args:
            first: (N, D) points.
            second: (M, D) points.
        """
        first, second = _exact(first), _exact(second)
        # The matrix product that is faster would lose the distances of near points.
        apart = torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")
        shrinking = self._shrinking(first).unsqueeze(1) * self._shrinking(second).unsqueeze(0)
        return self._of(apart, shrinking)

    def as_products(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Write tangent vectors so that nearer points have larger inner products.

        They are points of the hyperboloid, a model of the same space: the inner product of a query
        and an item at distance d is -cosh(sqrt(c) d).

        Args:
            vectors: (N, D).

        Returns:
            (N, D + 1) queries and (N, D + 1) items.
        """
        points = self.points(vectors.double())
        squared = self.curvature * points.square().sum(1, keepdim=True)
        space = 2 * math.sqrt(self.curvature) * points / (1 - squared)
        time = (1 + squared) / (1 - squared)
        return torch.cat([space, time], dim=1), torch.cat([space, -time], dim=1)

    def _shrinking(self, points: Tensor) -> Tensor:
        """Return sqrt(1 - c |x|^2), by which lengths near a point are divided, up to a factor."""
        return (1 - self.curvature * points.square().sum(-1)).clamp(min=_EDGE).sqrt()

    def _of(self, apart: Tensor, shrinking: Tensor) -> Tensor:
        root = math.sqrt(self.curvature)
        return 2 / root * torch.asinh(root * apart / shrinking)


def _exact(vectors: Tensor) -> Tensor:
    return vectors if vectors.dtype == torch.float64 else vectors.float()
