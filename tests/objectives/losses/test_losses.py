"""Losses against twins written as loops, their gradients, and where there is nothing to compare."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import twins
from torch import Tensor
from torch.nn import functional as F

from seqmel.core.poincare_ball import PoincareBall
from seqmel.objectives.losses import (
    LOSSES,
    ContrastiveLoss,
    InfoNCELoss,
    MetricLoss,
    TripletLoss,
    blocks,
)
from seqmel.objectives.losses.pairs import Pairs, Triplets

CLIENTS = torch.tensor([0, 3, 0, 1, 1, 2, 3, 0, 3])

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in sorted(LOSSES)),
    ("contrastive", {"margin": 1.2, "reduction": "sum"}),
    ("contrastive", {"margin": 1.5, "positive_margin": 0.9, "power": 1}),
    ("binomial_deviance", {"alpha": 3.0, "beta": 0.1, "negative_cost": 1.0}),
    ("margin", {"margin": 0.6, "beta": 1.1, "beta_weight": 0.3}),
    ("triplet", {"margin": 0.05, "reduction": "active"}),
    ("infonce", {"temperature": 1.0}),
    ("infonce", {"temperature": 0.5, "debias": 0.05}),
    ("infonce", {"temperature": 1.0, "debias": 0.9}),
    ("supcon", {"temperature": 1.0}),
    ("histogram", {"bins": 5}),
    ("n_pair", {"length_weight": 0.5}),
    ("quadruplet", {"margin": 0.1, "other_margin": 0.01}),
    ("triplet_center", {"margin": 1.0}),
    ("lifted_structure", {"margin": 0.2}),
    ("multi_similarity", {"alpha": 1.0, "beta": 9.0, "threshold": 0.1, "epsilon": None}),
    ("cosface", {"margin": 0.4, "scale": 3.0}),
    ("circle", {"margin": 0.4, "scale": 5.0}),
    ("vicreg", {"invariance": 1.0, "variance": 2.0, "covariance": 3.0}),
    ("barlow_twins", {"redundancy": 1.0}),
]


def vectors(name: str, clients: Tensor = CLIENTS, *, seed: int = 0) -> Tensor:
    """Float64 embeddings such as the loss wants them."""
    random = torch.Generator().manual_seed(seed)
    drawn = torch.randn(len(clients), 5, dtype=torch.float64, generator=random)
    return F.normalize(drawn, dim=1) if LOSSES[name]().unit else drawn


def padded(chosen: list[tuple[int, ...]], width: int) -> list[Tensor]:
    """Columns of places, with some more that do not count, and which do."""
    rows = [*chosen, *[(0,) * width] * 3]
    columns = [torch.tensor([row[i] for row in rows]) for i in range(width)]
    return [*columns, torch.tensor([True] * len(chosen) + [False] * 3)]


def everything(loss: MetricLoss, clients: Tensor) -> tuple[Any, ...]:
    """What a loss takes besides the embeddings: all pairs, all triplets, or the clients."""
    if loss.takes == "pairs":
        return Pairs(*padded(twins.positives(clients), 2)), Pairs(
            *padded(twins.negatives(clients), 2)
        )
    return (
        (Triplets(*padded(twins.triplets(clients), 3)),) if loss.takes == "triplets" else (clients,)
    )


def slow(name: str, x: Tensor, clients: Tensor, options: dict[str, Any]) -> Tensor:
    if name in twins.PAIRS:
        return twins.PAIRS[name](x, twins.positives(clients), twins.negatives(clients), **options)
    if name in twins.TRIPLETS:
        return twins.TRIPLETS[name](x, twins.triplets(clients), **options)
    return twins.BATCH[name](x, clients, **options)


def test_every_loss_has_a_twin() -> None:
    assert set(twins.TWINS) == set(LOSSES)
    kinds = {"pairs": twins.PAIRS, "triplets": twins.TRIPLETS, "batch": twins.BATCH}
    assert all(name in kinds[LOSSES[name]().takes] for name in LOSSES)


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_a_loss_is_what_its_equation_says(name: str, options: dict[str, Any]) -> None:
    loss = LOSSES[name](**options)
    for clients in (CLIENTS, torch.tensor([5, 5, 7, 7, 9, 9])):
        x = vectors(name, clients)
        found, expected = loss(x, *everything(loss, clients)), slow(name, x, clients, options)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
        assert found > 0


@pytest.mark.parametrize("name", sorted(name for name in LOSSES if LOSSES[name]().hyperbolic))
def test_in_a_ball_a_loss_is_what_its_equation_says_of_hyperbolic_distances(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ball = PoincareBall(0.5)
    monkeypatch.setattr(twins, "d", lambda x, i, j: ball.distances(x[i], x[j]))
    monkeypatch.setattr(twins, "s", lambda x, i, j: -ball.distances(x[i], x[j]))
    loss = LOSSES[name]()
    euclidean = loss(vectors(name), *everything(loss, CLIENTS))
    loss.ball = ball
    x = ball.points(vectors(name))
    found = loss(x, *everything(loss, CLIENTS))
    torch.testing.assert_close(found, slow(name, x, CLIENTS, {}), rtol=1e-6, atol=1e-9)
    assert not torch.isclose(found, euclidean)


@pytest.mark.parametrize("debias", [0.0, 0.1])
def test_excluded_pairs_are_no_negatives(debias: float) -> None:
    x, loss = vectors("infonce"), InfoNCELoss(debias=debias)
    apart = CLIENTS.unsqueeze(1) != CLIENTS
    of_three = apart & ((CLIENTS == 3).unsqueeze(1) | (CLIENTS == 3))
    kept = CLIENTS != 3
    alone = loss(x[~kept], CLIENTS[~kept])
    assert alone == 0  # a client without negatives costs nothing
    pairs_kept, pairs_of_three = 3 * 2 + 2 * 1, 3 * 2
    expected = loss(x[kept], CLIENTS[kept]) * pairs_kept / (pairs_kept + pairs_of_three)
    torch.testing.assert_close(loss(x, CLIENTS, of_three), expected)


@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_the_gradient_of_the_debiased_loss_is_finite(temperature: float) -> None:
    x = vectors("infonce").float()
    x[1] = x[0]  # a negative as near as can be
    x.requires_grad_()
    InfoNCELoss(temperature=temperature, debias=0.3)(x, CLIENTS).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def curved(name: str) -> MetricLoss:
    """The loss with options with which it is smooth around the vectors of the test."""
    smooth: dict[str, dict[str, Any]] = {"circle": {"scale": 2.0}, "contrastive": {"margin": 1.7}}
    return LOSSES[name](**smooth.get(name, {}))


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"circle"}))
def test_gradients_are_the_numeric_ones(name: str) -> None:
    loss = curved(name)
    chosen = everything(loss, CLIENTS)
    assert torch.autograd.gradcheck(
        lambda v: loss(v, *chosen), vectors(name).requires_grad_(), atol=1e-5
    )


def test_the_gradient_of_circle_is_that_of_its_equation_whose_weights_have_none() -> None:
    x, y = vectors("circle").requires_grad_(), vectors("circle").requires_grad_()
    LOSSES["circle"](scale=5.0)(x, CLIENTS).backward()
    twins.circle(y, CLIENTS, scale=5.0).backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_the_boundary_of_the_margin_loss_is_learnt() -> None:
    loss = LOSSES["margin"]()
    loss(vectors("margin"), *everything(loss, CLIENTS)).backward()
    (beta,) = loss.parameters()
    assert beta.grad is not None
    assert beta.grad != 0
    assert [p.requires_grad for p in LOSSES["margin"](learn_beta=False).parameters()] == [False]


@pytest.mark.parametrize("beta", [0.9, 1.2])
def test_the_gradient_of_the_learnt_boundary_is_the_numeric_one(beta: float) -> None:
    loss, x = LOSSES["margin"](beta=beta, beta_weight=0.3), vectors("margin")
    chosen = everything(loss, CLIENTS)

    def of(boundary: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(loss, {"beta": boundary}, (x, *chosen))
        return found

    given = torch.tensor(beta, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(of, given, atol=1e-7)
    (slope,) = torch.autograd.grad(of(given), given)
    assert slope.abs() > 1e-3


CASES = {
    "identical vectors": (torch.ones(6, 4) / 2, torch.tensor([0, 0, 1, 1, 2, 2])),
    "opposite vectors": (
        torch.tensor([[1.0, 0], [-1, 0], [1, 0], [-1, 0]]),
        torch.tensor([0, 0, 1, 1]),
    ),
    "zero vectors": (torch.zeros(4, 3), torch.tensor([0, 0, 1, 1])),
    "no positives": (torch.eye(5), torch.arange(5)),
    "one client": (torch.eye(5), torch.zeros(5, dtype=torch.int64)),
    "one pair": (torch.eye(2), torch.zeros(2, dtype=torch.int64)),
    "one embedding": (torch.eye(1, 3), torch.zeros(1, dtype=torch.int64)),
    "two embeddings of two": (torch.eye(2), torch.arange(2)),
    "bfloat16": (vectors("infonce").bfloat16(), CLIENTS),
    "float16": (vectors("infonce").half(), CLIENTS),
    "identical in bfloat16": (
        torch.ones(4, 4, dtype=torch.bfloat16) / 2,
        torch.tensor([0, 0, 1, 1]),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_losses_and_gradients_are_finite(name: str, case: str) -> None:
    x, clients = CASES[case]
    loss, leaf = LOSSES[name](), x.clone().requires_grad_()
    found = loss(leaf, *everything(loss, clients))
    found.backward()
    assert found.isfinite()
    assert found.dtype == torch.float32
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_without_any_pair_or_triplet_a_loss_is_zero_with_zero_gradient(name: str) -> None:
    loss, clients = LOSSES[name](), torch.arange(5)
    x = vectors(name, clients).requires_grad_()
    nothing = (
        (Pairs(*padded([], 2)), Pairs(*padded([], 2)))
        if loss.takes == "pairs"
        else everything(loss, clients)
    )
    found = loss(x, *nothing)
    found.backward()
    assert found.item() == 0.0
    assert x.grad is not None
    assert not x.grad.any()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_half_precision_is_computed_in_float32_also_under_autocast(name: str) -> None:
    loss = LOSSES[name]()
    coarse = vectors(name).bfloat16()
    expected = loss(coarse.float(), *everything(loss, CLIENTS))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for x in (coarse, coarse.float()):
            assert torch.equal(loss(x, *everything(loss, CLIENTS)), expected)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_better_separation_has_a_smaller_loss(name: str) -> None:
    clients = torch.tensor([0, 0, 1, 1, 2, 2])
    good = torch.eye(3).repeat_interleave(2, 0) * (1 if LOSSES[name]().unit else 3)
    mixed = good[[0, 2, 1, 4, 3, 5]]
    loss = LOSSES[name]()
    assert loss(good, *everything(loss, clients)) < loss(mixed, *everything(loss, clients))


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"n_pair", "vicreg", "barlow_twins"}))
def test_the_order_of_the_batch_does_not_change_a_loss(name: str) -> None:
    order = torch.randperm(len(CLIENTS), generator=torch.Generator().manual_seed(1))
    loss, x = LOSSES[name](), vectors(name)
    one, other = (
        loss(x, *everything(loss, CLIENTS)),
        loss(x[order], *everything(loss, CLIENTS[order])),
    )
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["n_pair", "vicreg", "barlow_twins"])
def test_losses_on_two_views_do_not_hang_on_the_order_of_the_clients(name: str) -> None:
    clients = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    moved = torch.tensor([4, 5, 0, 1, 6, 7, 2, 3])
    loss, x = LOSSES[name](), vectors(name, clients)
    torch.testing.assert_close(loss(x, clients), loss(x[moved], clients[moved]))


def test_infonce_of_two_views_a_client_is_nt_xent_without_the_other_positives() -> None:
    clients = torch.tensor([0, 1, 2, 0, 1, 2])
    x = vectors("infonce", clients)
    similarity = (x @ x.t() / 0.1).fill_diagonal_(-torch.inf)
    nt_xent = F.cross_entropy(similarity, torch.tensor([3, 4, 5, 0, 1, 2]))
    torch.testing.assert_close(InfoNCELoss(temperature=0.1)(x, clients), nt_xent)


def test_negatives_beyond_the_margin_cost_nothing() -> None:
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    nothing, pair = Pairs(*padded([], 2)), Pairs(*padded([(0, 1)], 2))
    assert float(ContrastiveLoss(margin=1.9)(x, nothing, pair)) == 0.0
    assert float(ContrastiveLoss(margin=0.5)(x[[0, 0]], nothing, pair)) == pytest.approx(0.25)


def test_a_triplet_costs_when_the_negative_is_nearer() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    wrong, right = Triplets(*padded([(0, 1, 2)], 3)), Triplets(*padded([(0, 2, 1)], 3))
    assert float(TripletLoss(margin=0.3)(x, wrong)) == pytest.approx(2**0.5 + 0.3)
    assert float(TripletLoss(margin=0.3)(x, right)) == 0.0


GROWING = (
    "contrastive",
    "margin",
    "quadruplet",
    "triplet",
    "triplet_center",
    "lifted_structure",
    "cosface",
)


@pytest.mark.parametrize("name", GROWING)
def test_a_margin_grows_linearly_over_the_training(name: str) -> None:
    loss = LOSSES[name](margin=0.9, margin_start=0.1)
    x = vectors(name)
    for share, margin in ((0.0, 0.1), (0.25, 0.3), (1.0, 0.9), (1.5, 0.9)):
        loss.set_progress(share)
        expected = LOSSES[name](margin=margin)(x, *everything(loss, CLIENTS))
        torch.testing.assert_close(loss(x, *everything(loss, CLIENTS)), expected)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_nothing_grows_where_no_start_is_given(name: str) -> None:
    loss, x = LOSSES[name](), vectors(name)
    before = loss(x, *everything(loss, CLIENTS))
    loss.set_progress(0.7)
    assert torch.equal(loss(x, *everything(loss, CLIENTS)), before)


def repeated(chosen: tuple[Any, ...], times: int) -> tuple[Any, ...]:
    """The same pairs or triplets so many times."""
    return tuple(type(part)(*[torch.cat([column] * times) for column in part]) for part in chosen)


@pytest.mark.parametrize("name", sorted(twins.PAIRS | twins.TRIPLETS))
def test_a_mean_over_repeated_pairs_is_the_same_though_it_comes_from_one_matrix(name: str) -> None:
    loss = LOSSES[name](**({} if name == "binomial_deviance" else {"margin": 1.3}))
    few = tuple(type(part)(*[column[:12] for column in part]) for part in everything(loss, CLIENTS))
    one, many = vectors(name).requires_grad_(), vectors(name).requires_grad_()
    loss(one, *few).backward()
    loss(many, *repeated(few, 40)).backward()
    assert one.grad is not None
    torch.testing.assert_close(one.grad, many.grad)


def mined(name: str, x: Tensor) -> tuple[list[bool], list[float], list[float]]:
    """Return the fraction of active mined items, and mean distances of positives and negatives."""
    near, far = (
        [float(twins.d(x, i, j)) for i, j in pairs(CLIENTS)]
        for pairs in (twins.positives, twins.negatives)
    )
    if name in ("contrastive", "margin", "binomial_deviance"):
        bound = {"contrastive": 1.2, "margin": 1.4, "binomial_deviance": 1.0}[
            name
        ]  # s = .5 where d = 1
        return [d < bound for d in far], near, far
    chosen = twins.triplets(CLIENTS)
    if name == "quadruplet":
        chosen = [
            (a, p, n)
            for a, p, n in chosen
            if all(twins.d(x, a, n) <= twins.d(x, a, k) for k in twins.others(CLIENTS, a))
        ]
    if name == "multi_similarity":
        return informative(x)
    pairs = [(float(twins.d(x, a, p)), float(twins.d(x, a, n))) for a, p, n in chosen]
    costs = [p - n + 0.3 > 0 if name == "triplet" else p * p - n * n > 0.4 for p, n in pairs]
    return costs, [p for p, _ in pairs], [n for _, n in pairs]


def informative(x: Tensor) -> tuple[list[bool], list[float], list[float]]:
    """What the mining of multi_similarity keeps, with its default slack."""
    kept, near, far = [], [], []
    for i in range(len(x)):
        own, others = (
            [(float(x[i] @ x[j]), float(twins.d(x, i, j))) for j in places(CLIENTS, i)]
            for places in (twins.own, twins.others)
        )
        if own and others:
            kept += [s > min(own)[0] - 0.1 for s, _ in others]
            near += [d for s, d in own if s < max(others)[0] + 0.1]
            far += [d for s, d in others if s > min(own)[0] - 0.1]
    return kept, near, far


MINED = ["binomial_deviance", "contrastive", "margin", "multi_similarity", "quadruplet", "triplet"]


@pytest.mark.parametrize("cells", [2**22, 1])
@pytest.mark.parametrize("name", MINED)
def test_a_loss_over_what_is_mined_says_how_much_of_it_costs_and_how_far_apart_it_is(
    name: str, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_CELLS", cells)
    some_cost = {"contrastive": {"margin": 1.2}, "quadruplet": {"margin": -0.4}}
    loss, x = LOSSES[name](**some_cost.get(name, {})), vectors(name)
    assert loss.statistics == {}
    costs, near, far = mined(name, x)
    assert 0 < sum(costs) < len(costs)
    loss(x.requires_grad_(), *everything(loss, CLIENTS)).backward()
    expected = {"active": costs, "mined_positive_distance": near, "mined_negative_distance": far}
    assert set(loss.statistics) == set(expected)
    assert not any(value.requires_grad for value in loss.statistics.values())
    for figure, values in expected.items():
        assert float(loss.statistics[figure]) == pytest.approx(sum(values) / len(values), rel=1e-6)


@pytest.mark.parametrize("name", MINED)
def test_where_nothing_is_mined_the_figures_are_zero(name: str) -> None:
    loss, clients = LOSSES[name](), torch.arange(5)
    nothing = {
        "pairs": (Pairs(*padded([], 2)),) * 2,
        "triplets": (Triplets(*padded([], 3)),),
        "batch": (clients,),
    }
    loss(vectors(name, clients), *nothing[loss.takes])
    assert [float(value) for value in loss.statistics.values()] == [0.0] * 3


def test_what_takes_mined_pairs_or_triplets_or_mines_itself_is_watched() -> None:
    assert set(MINED) == set(twins.PAIRS) | set(twins.TRIPLETS) | {"quadruplet", "multi_similarity"}
