"""The figures by which a training is watched, against figures worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from seqmel.core.embedding_metrics import effective_rank, embedding_metrics, unit_vectors

PAIRS = torch.tensor([0, 0, 1, 1, 2, 2])


def at(*degrees: float) -> Tensor:
    """Points on the unit circle; chosen so that their mean is zero, which the figures take off."""
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1).float()


def test_clients_that_stand_apart_are_all_recalled() -> None:
    found = embedding_metrics(at(-5, 5, 115, 125, 235, 245), PAIRS)
    assert found["recall_at_1"] == found["recall_at_10"] == 1.0
    assert found["positive_distance"] == pytest.approx(2 * math.sin(math.radians(5)), abs=1e-4)
    gaps = [110.0] * 3 + [120.0] * 6 + [130.0] * 3
    expected = sum(2 * math.sin(math.radians(gap / 2)) for gap in gaps) / len(gaps)
    assert found["negative_distance"] == pytest.approx(expected, abs=1e-4)


def test_recall_counts_the_views_whose_nearest_other_is_of_the_same_client() -> None:
    # 0 and 10 are each other's nearest and of two clients; 95 is nearest to 100 of its own client,
    # and 100 to 95
    clients = torch.tensor([0, 1, 2, 2, 0, 1])
    found = embedding_metrics(at(0, 10, 95, 100, 180, 275), clients)
    assert found["recall_at_1"] == pytest.approx(2 / 6)


def test_recall_at_10_looks_at_ten_others() -> None:
    angles = torch.arange(40) * 9.0
    clients = torch.arange(40) % 20  # the other view of a client is on the other side
    assert embedding_metrics(at(*angles.tolist()), clients)["recall_at_10"] == 0.0
    neighbours = (torch.arange(40) // 6).clamp(max=5)
    assert embedding_metrics(at(*angles.tolist()), neighbours)["recall_at_10"] == 1.0


def test_a_common_offset_and_the_lengths_of_vectors_say_nothing() -> None:
    vectors = at(-5, 5, 115, 125, 235, 245)
    plain, moved = (
        embedding_metrics(vectors, PAIRS),
        embedding_metrics(vectors * 100 + 1_000, PAIRS),
    )
    assert moved == pytest.approx(plain, abs=1e-3)


def test_the_order_of_the_views_says_nothing() -> None:
    vectors, order = at(-5, 20, 100, 125, 235, 245), torch.tensor([3, 0, 5, 1, 4, 2])
    assert embedding_metrics(vectors[order], PAIRS[order]) == pytest.approx(
        embedding_metrics(vectors, PAIRS), abs=1e-5
    )


@pytest.mark.parametrize("directions", [1, 2, 5])
def test_the_effective_rank_of_equally_used_directions_is_their_number(directions: int) -> None:
    axes = torch.eye(directions, 8) * 3.0
    assert effective_rank(torch.cat([axes, -axes]) + 100.0) == pytest.approx(directions, abs=1e-4)


def test_the_effective_rank_is_the_exponential_of_an_entropy() -> None:
    axes = torch.diag(torch.tensor([3.0, 1.0]))
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert effective_rank(torch.cat([axes, -axes])) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("value", [0.0, 7.0, 1e6])
def test_equal_embeddings_have_no_rank(value: float) -> None:
    assert effective_rank(torch.full((9, 4), value)) == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_what_rounding_leaves_of_equal_embeddings_is_no_direction(seed: int) -> None:
    one = torch.randn(1, 64, generator=torch.Generator().manual_seed(seed))
    same = one.repeat(500, 1)
    assert effective_rank(same) == 0.0
    assert not unit_vectors(same).any()
    apart = same.clone()
    apart[::2] *= 1 + 1e-4
    assert effective_rank(apart) == pytest.approx(1.0, abs=1e-2)
    assert unit_vectors(apart).norm(dim=1).numpy() == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_embeddings_that_are_no_numbers_have_no_rank(bad: float) -> None:
    vectors = torch.randn(9, 4)
    vectors[3, 2] = bad
    assert effective_rank(vectors) == 0.0


def test_few_views_still_give_all_figures() -> None:
    found = embedding_metrics(at(0, 90, 180, 270), torch.tensor([0, 0, 1, 1]))
    assert all(math.isfinite(value) for value in found.values())
