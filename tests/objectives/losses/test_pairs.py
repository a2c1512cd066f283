"""Which embeddings are compared, and how far apart they are."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seqmel.objectives.losses.pairs import (
    Pairs,
    cross_distances,
    distances,
    masked_logsumexp,
    masked_mean,
    neighbouring_views,
    positive_pairs,
    positives_of,
    similarities,
)

CLIENTS = torch.tensor([0, 0, 3, 1, 1, 2, 3, 0])


def listed(pairs: Pairs) -> list[tuple[int, int]]:
    rows = zip(pairs.first.tolist(), pairs.second.tolist(), pairs.real.tolist(), strict=True)
    return [(i, j) for i, j, real in rows if real]


def test_positive_pairs_are_each_unordered_pair_of_a_client_once() -> None:
    expected = [(i, j) for i, j in itertools.combinations(range(8), 2) if CLIENTS[i] == CLIENTS[j]]
    assert sorted(listed(positive_pairs(CLIENTS))) == expected
    assert sorted(listed(positive_pairs(CLIENTS, most=7))) == expected


def test_with_anchors_positive_pairs_are_those_of_an_anchor() -> None:
    expected = [
        (i, j) for i, j in itertools.combinations(range(8), 2) if CLIENTS[i] == CLIENTS[j] and i < 2
    ]
    assert sorted(listed(positive_pairs(CLIENTS, anchors=2))) == expected


@pytest.mark.parametrize("most", [None, 2, 3, 4, 9])
def test_positives_are_the_others_of_a_client_up_to_the_bound(most: int | None) -> None:
    places, there = positives_of(CLIENTS, most=most)
    for i in range(len(CLIENTS)):
        expected = [j for j in range(len(CLIENTS)) if j != i and CLIENTS[j] == CLIENTS[i]][
            : most - 1 if most else None
        ]
        assert places[i][there[i]].tolist() == expected
    assert places.min() >= 0
    assert places.max() < len(CLIENTS)


def test_each_embedding_is_paired_with_the_next_of_its_client() -> None:
    assert sorted(listed(neighbouring_views(CLIENTS))) == [(0, 1), (1, 7), (2, 6), (3, 4)]


def test_distances_are_euclidean_and_their_gradient_at_zero_is_zero() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0]], requires_grad=True)
    apart = distances(x, torch.tensor([0, 1]), torch.tensor([1, 2]))
    assert apart.tolist() == [5.0, 0.0]
    apart.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor([[-0.6, -0.8], [0.6, 0.8], [0.0, 0.0]]))


@pytest.mark.parametrize("pairs", [3, 2_000])
def test_few_and_many_pairs_have_the_same_distances_and_similarities(pairs: int) -> None:
    random = torch.Generator().manual_seed(0)
    x = F.normalize(torch.randn(6, 4, dtype=torch.float64, generator=random), dim=1)
    first, second = torch.randint(0, 6, (2, pairs), generator=random)
    torch.testing.assert_close(
        distances(x, first, second), (x[first] - x[second]).norm(dim=1), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(similarities(x, first, second), (x[first] * x[second]).sum(1))


def test_cross_distances_are_squared_distances_of_all_and_never_negative() -> None:
    x = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(cross_distances(x), torch.cdist(x, x) ** 2, atol=1e-9, rtol=1e-6)
    torch.testing.assert_close(
        cross_distances(x[:3], x), torch.cdist(x[:3], x) ** 2, atol=1e-9, rtol=1e-6
    )
    same = (torch.ones(50, 3) * math.pi).float()
    assert (cross_distances(same) >= 0).all()


def test_what_is_masked_counts_for_nothing_and_a_mask_of_all_leaves_a_gradient_of_zero() -> None:
    values = torch.tensor([[1.0, torch.inf], [2.0, 3.0]], requires_grad=True)
    assert masked_mean(values, torch.tensor([[True, False], [True, False]])).item() == 1.5
    found: Tensor = masked_logsumexp(values, torch.tensor([[True, False], [False, False]]))
    assert found.tolist() == [1.0, -1e4]
    (found.sum() + masked_mean(values, torch.zeros(2, 2, dtype=torch.bool))).backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[1.0, 0.0], [0.0, 0.0]]
