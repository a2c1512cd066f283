"""Miners give negatives of other clients only, as many as there are up to the number asked for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seqmel.miners import HardNegatives, RandomNegatives

CLIENTS = torch.tensor([4, 4, 4, 9, 9, 2, 7, 7, 7, 7])


def unit(seed: int = 0, size: int = len(CLIENTS)) -> Tensor:
    return F.normalize(torch.randn(size, 6, generator=torch.Generator().manual_seed(seed)), dim=1)


def mined(miner: Any, embeddings: Tensor, clients: Tensor) -> list[tuple[int, int]]:
    anchors, negatives = miner.mine(embeddings, clients)
    return list(zip(anchors.tolist(), negatives.tolist(), strict=True))


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_hard_negatives_are_the_nearest_of_other_clients(count: int, seed: int) -> None:
    x = unit(seed)
    expected = set()
    for i in range(len(x)):
        others = [j for j in range(len(x)) if CLIENTS[j] != CLIENTS[i]]
        expected |= {(i, j) for j in sorted(others, key=lambda j: float((x[i] - x[j]).norm()))[:count]}
    assert set(mined(HardNegatives(count=count), x, CLIENTS)) == expected


@pytest.mark.parametrize("kind", [HardNegatives, RandomNegatives])
@pytest.mark.parametrize("count", [1, 5, 7, 50])
def test_never_one_of_the_same_client_never_the_same_twice_and_as_many_as_there_are(kind: Any, count: int) -> None:
    torch.manual_seed(0)
    pairs = mined(kind(count=count), unit(), CLIENTS)
    assert all(CLIENTS[i] != CLIENTS[j] for i, j in pairs)
    assert len(set(pairs)) == len(pairs)
    others = [int((client != CLIENTS).sum()) for client in CLIENTS]
    assert Counter(i for i, _ in pairs) == {i: min(count, n) for i, n in enumerate(others)}


@pytest.mark.parametrize("kind", [HardNegatives, RandomNegatives])
def test_one_client_alone_has_no_negatives(kind: Any) -> None:
    assert mined(kind(count=5), unit(size=4), torch.zeros(4, dtype=torch.int64)) == []


@pytest.mark.parametrize("kind", [HardNegatives, RandomNegatives])
def test_identical_and_half_precision_vectors_are_mined_like_others(kind: Any) -> None:
    for x in (torch.ones_like(unit()), unit().bfloat16(), unit().half()):
        pairs = mined(kind(count=2), x, CLIENTS)
        assert len(pairs) == 2 * len(CLIENTS)
        assert all(CLIENTS[i] != CLIENTS[j] for i, j in pairs)


@pytest.mark.parametrize("kind", [HardNegatives, RandomNegatives])
def test_mining_leaves_no_gradient(kind: Any) -> None:
    x = unit().requires_grad_()
    anchors, negatives = kind(count=2).mine(x, CLIENTS)
    assert not anchors.requires_grad
    assert not negatives.requires_grad


def test_random_negatives_take_every_other_client_equally_often() -> None:
    torch.manual_seed(0)
    clients = torch.tensor([0, 1, 1, 2])
    seen = Counter(pair for _ in range(2_000) for pair in mined(RandomNegatives(count=1), unit(size=4), clients))
    for j in (1, 2, 3):
        assert seen[0, j] / 2_000 == pytest.approx(1 / 3, abs=0.05)
