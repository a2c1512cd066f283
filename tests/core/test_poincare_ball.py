"""Hyperbolic distances against a slow twin, and their gradients where they are delicate."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from seqmel.core.poincare_ball import PoincareBall


def mobius_distance(x: list[float], y: list[float], c: float) -> float:
    """d(x, y) = 2 / sqrt(c) artanh(sqrt(c) |-x + y|), the sum being that of Mobius."""
    dot = -sum(a * b for a, b in zip(x, y, strict=True))
    xx, yy = sum(a * a for a in x), sum(b * b for b in y)
    first, second = 1 + 2 * c * dot + c * yy, 1 - c * xx
    below = 1 + 2 * c * dot + c * c * xx * yy
    moved = [(-first * a + second * b) / below for a, b in zip(x, y, strict=True)]
    return 2 / math.sqrt(c) * math.atanh(math.sqrt(c * sum(m * m for m in moved)))


def drawn(count: int, *, length: float = 1.0) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return length * torch.randn(count, 4, generator=random, dtype=torch.float64)


@pytest.mark.parametrize("curvature", [0.1, 1.0])
def test_distances_are_those_of_mobius_addition(curvature: float) -> None:
    ball = PoincareBall(curvature, clip_radius=None)
    points = ball.points(drawn(6))
    expected = [
        [mobius_distance(x, y, curvature) for y in points.tolist()] for x in points.tolist()
    ]
    found = ball.cross_distances(points, points)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(ball.distances(points[:-1], points[1:]), found.diagonal(1))


def test_a_point_is_twice_as_far_from_the_origin_as_its_vector_is_long_up_to_the_clip() -> None:
    ball = PoincareBall(0.1, clip_radius=2.0)
    vectors = torch.tensor([[0.3, 0.4], [3.0, 4.0], [0.0, 0.0]])
    away = ball.distances(ball.points(vectors), torch.zeros(2))
    torch.testing.assert_close(away, torch.tensor([1.0, 4.0, 0.0]))


def test_small_curvature_is_euclidean() -> None:
    vectors = drawn(5)
    ball = PoincareBall(1e-8, clip_radius=None)
    points = ball.points(vectors)
    torch.testing.assert_close(
        ball.cross_distances(points, points), 2 * torch.cdist(vectors, vectors)
    )


@pytest.mark.parametrize("clip", [None, 2.3])
@pytest.mark.parametrize("length", [0.0, 1e-20, 1.0, 1e4])
def test_gradients_are_finite_at_zero_and_at_the_border(length: float, clip: float | None) -> None:
    ball = PoincareBall(1.0, clip)
    vectors = drawn(5, length=length).float()
    vectors[1] = vectors[0]  # a pair at distance zero
    vectors.requires_grad_()
    points = ball.points(vectors)
    apart = ball.cross_distances(points, points)
    (apart.sum() + ball.distances(points[:-1], points[1:]).sum()).backward()
    assert apart.isfinite().all()
    assert vectors.grad is not None
    assert vectors.grad.isfinite().all()
    assert (points.norm(dim=1) < 1).all()


def test_float32_keeps_the_distances_of_near_points_at_the_border() -> None:
    ball = PoincareBall(1.0, clip_radius=3.0)
    vectors = drawn(8, length=10.0)
    vectors[1:] = vectors[0] + 1e-2 * vectors[1:] / 10
    exact = ball.points(vectors)
    rounded = ball.points(vectors.float())
    torch.testing.assert_close(
        ball.cross_distances(rounded, rounded).double(),
        ball.cross_distances(exact, exact),
        rtol=1e-2,
        atol=1e-6,
    )


def test_bfloat16_vectors_are_compared_in_float32() -> None:
    ball = PoincareBall()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        points = ball.points(drawn(3).bfloat16())
        assert points.dtype == ball.cross_distances(points, points).dtype == torch.float32


def test_inner_products_order_points_as_their_distances_do() -> None:
    ball = PoincareBall(0.3)
    vectors = drawn(7)
    queries, items = ball.as_products(vectors)
    apart = ball.cross_distances(ball.points(vectors), ball.points(vectors))
    torch.testing.assert_close(queries @ items.t(), -torch.cosh(math.sqrt(0.3) * apart))
