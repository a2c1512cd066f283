"""Losses against twins written as loops over pairs, and where there is nothing to compare."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seqmel.losses import ContrastiveLoss, InfoNCELoss
from seqmel.losses.pairs import Pairs, cross_distances, distances, positive_pairs

CLIENTS = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3])
NO_PAIRS = (torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))


def unit(clients: Tensor = CLIENTS, *, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(len(clients), 5, dtype=torch.float64, generator=random), dim=1)


def negative_pairs(clients: Tensor) -> Pairs:
    """All ordered pairs of two clients."""
    first, second = (clients.unsqueeze(0) != clients.unsqueeze(1)).nonzero(as_tuple=True)
    return first, second


def slow_contrastive(x: Tensor, positives: Pairs, negatives: Pairs, margin: float, reduction: str) -> Tensor:
    pull = [(x[i] - x[j]).norm() ** 2 for i, j in zip(*map(Tensor.tolist, positives), strict=True)]
    push = [F.relu(margin - (x[i] - x[j]).norm()) ** 2 for i, j in zip(*map(Tensor.tolist, negatives), strict=True)]
    totals = [torch.stack(costs).sum() for costs in (pull, push)]
    return totals[0] / len(pull) + totals[1] / len(push) if reduction == "mean" else totals[0] + totals[1]


def slow_infonce(x: Tensor, clients: Tensor, temperature: float) -> Tensor:
    costs = []
    for i, j in itertools.permutations(range(len(x)), 2):
        if clients[i] == clients[j]:
            others = [x[i] @ x[k] / temperature for k in range(len(x)) if clients[k] != clients[i]]
            own = x[i] @ x[j] / temperature
            costs.append(torch.logsumexp(torch.stack([own, *others]), 0) - own)
    return torch.stack(costs).mean()


@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_contrastive_is_the_sum_over_pairs(margin: float, reduction: str) -> None:
    x, positives, negatives = unit(), positive_pairs(CLIENTS), negative_pairs(CLIENTS)
    loss = ContrastiveLoss(margin=margin, reduction=reduction)(x, positives, negatives)  # type: ignore[arg-type]
    torch.testing.assert_close(loss, slow_contrastive(x, positives, negatives, margin, reduction))


@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_infonce_is_the_mean_over_positive_pairs(temperature: float) -> None:
    x = unit()
    torch.testing.assert_close(InfoNCELoss(temperature=temperature)(x, CLIENTS), slow_infonce(x, CLIENTS, temperature))


def test_infonce_of_two_views_a_client_is_nt_xent_without_the_other_positives() -> None:
    clients = torch.tensor([0, 1, 2, 0, 1, 2])
    x = unit(clients)
    similarity = (x @ x.t() / 0.1).fill_diagonal_(-torch.inf)
    nt_xent = F.cross_entropy(similarity, torch.tensor([3, 4, 5, 0, 1, 2]))
    torch.testing.assert_close(InfoNCELoss(temperature=0.1)(x, clients), nt_xent)


def test_gradients_are_the_numeric_ones() -> None:
    x, positives, negatives = unit().requires_grad_(), positive_pairs(CLIENTS), negative_pairs(CLIENTS)
    assert torch.autograd.gradcheck(lambda v: InfoNCELoss(temperature=0.5)(v, CLIENTS), x)
    assert torch.autograd.gradcheck(lambda v: ContrastiveLoss(margin=1.2)(v, positives, negatives), x)


def both(x: Tensor, clients: Tensor) -> list[Tensor]:
    contrastive = ContrastiveLoss(margin=0.5)(x, positive_pairs(clients), negative_pairs(clients))
    return [contrastive, InfoNCELoss(temperature=0.05)(x, clients)]


CASES = {
    "identical vectors": (torch.ones(6, 4) / 2, torch.tensor([0, 0, 1, 1, 2, 2])),
    "no positives": (unit(torch.arange(5)).float(), torch.arange(5)),
    "one client": (unit(torch.zeros(5)).float(), torch.zeros(5, dtype=torch.int64)),
    "one embedding": (unit(torch.zeros(1)).float(), torch.zeros(1, dtype=torch.int64)),
    "bfloat16": (unit().bfloat16(), CLIENTS),
    "identical in bfloat16": (torch.ones(4, 4, dtype=torch.bfloat16) / 2, torch.tensor([0, 0, 1, 1])),
    "opposite vectors": (torch.tensor([[1.0, 0], [-1, 0], [1, 0], [-1, 0]]), torch.tensor([0, 0, 1, 1])),
}


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_finite(case: str) -> None:
    x, clients = CASES[case]
    for loss in both(x.clone().requires_grad_(), clients):
        assert loss.isfinite()
    for i in range(2):
        leaf = x.clone().requires_grad_()
        both(leaf, clients)[i].backward()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


def test_bfloat16_is_near_float32() -> None:
    for half, whole in zip(both(unit().bfloat16(), CLIENTS), both(unit().float(), CLIENTS), strict=True):
        assert float(half) == pytest.approx(float(whole), rel=0.05)


def test_without_positives_infonce_is_zero_with_zero_gradient() -> None:
    x = unit(torch.arange(5)).requires_grad_()
    loss = InfoNCELoss()(x, torch.arange(5))
    loss.backward()
    assert loss.item() == 0.0
    assert x.grad is not None
    assert not x.grad.any()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_without_any_pair_contrastive_is_zero_with_zero_gradient(reduction: str) -> None:
    x = unit().requires_grad_()
    loss = ContrastiveLoss(reduction=reduction)(x, NO_PAIRS, NO_PAIRS)  # type: ignore[arg-type]
    loss.backward()
    assert loss.item() == 0.0
    assert x.grad is not None
    assert not x.grad.any()


def test_negatives_beyond_the_margin_cost_nothing() -> None:
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    pair = (torch.tensor([0]), torch.tensor([1]))
    assert float(ContrastiveLoss(margin=1.9)(x, NO_PAIRS, pair)) == 0.0
    assert float(ContrastiveLoss(margin=0.5)(x[[0, 0]], NO_PAIRS, pair)) == pytest.approx(0.25)


def test_a_better_separation_has_a_smaller_loss() -> None:
    clients = torch.tensor([0, 0, 1, 1])
    good = torch.tensor([[1.0, 0], [1, 0], [-1, 0], [-1, 0]])
    for better, worse in zip(both(good, clients), both(good[[0, 2, 1, 3]], clients), strict=True):
        assert better < worse


def test_the_order_of_the_batch_does_not_change_a_loss() -> None:
    order = torch.tensor([5, 2, 7, 0, 3, 1, 6, 4])
    for one, other in zip(both(unit(), CLIENTS), both(unit()[order], CLIENTS[order]), strict=True):
        torch.testing.assert_close(one, other)


def test_positive_pairs_are_each_unordered_pair_of_a_client_once() -> None:
    found = set(zip(*map(Tensor.tolist, positive_pairs(CLIENTS)), strict=True))
    assert found == {(i, j) for i, j in itertools.combinations(range(8), 2) if CLIENTS[i] == CLIENTS[j]}


def test_distances_are_euclidean_and_their_gradient_at_zero_is_zero() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0]], requires_grad=True)
    apart = distances(x, (torch.tensor([0, 1]), torch.tensor([1, 2])))
    assert apart.tolist() == [5.0, 0.0]
    apart.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor([[-0.6, -0.8], [0.6, 0.8], [0.0, 0.0]]))


def test_cross_distances_are_squared_distances_of_all_and_never_negative() -> None:
    x = unit()
    torch.testing.assert_close(cross_distances(x), torch.cdist(x, x) ** 2, atol=1e-9, rtol=1e-6)
    same = (torch.ones(50, 3) * math.pi).float()
    assert (cross_distances(same) >= 0).all()
