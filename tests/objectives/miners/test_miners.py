"""Miners against twins written as loops: never one of the same client, and as many as there are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seqmel.core.poincare_ball import PoincareBall
from seqmel.objectives.miners import (
    MINERS,
    AllNegatives,
    BatchAll,
    BatchHard,
    BatchWeighted,
    DistanceWeighted,
    EasyPositive,
    HardNegatives,
    MemoryBank,
    Miner,
    RandomNegatives,
    SemiHard,
)
from seqmel.objectives.miners.base import NOBODY

CLIENTS = torch.tensor([4, 4, 4, 9, 9, 2, 7, 7, 7, 7])
COUNTING = [HardNegatives, RandomNegatives, DistanceWeighted]
PAIR_MINERS = sorted(name for name in MINERS if MINERS[name]().gives == "pairs")
TRIPLET_MINERS = sorted(set(MINERS) - set(PAIR_MINERS))


def unit(seed: int = 0, size: int = len(CLIENTS)) -> Tensor:
    return F.normalize(torch.randn(size, 6, generator=torch.Generator().manual_seed(seed)), dim=1)


def rows(chosen: Any) -> list[tuple[int, ...]]:
    """The pairs or triplets that count."""
    return [tuple(row[:-1]) for row in zip(*map(Tensor.tolist, chosen), strict=True) if row[-1]]


def mined(
    miner: Miner, embeddings: Tensor, clients: Tensor, **options: Any
) -> list[tuple[int, ...]]:
    """Negative pairs, or triplets."""
    return rows(miner.mine(embeddings, clients, **options)[-1])


def others(clients: Tensor, i: int) -> list[int]:
    return [j for j in range(len(clients)) if clients[j] != clients[i]]


def own(clients: Tensor, i: int) -> list[int]:
    return [j for j in range(len(clients)) if clients[j] == clients[i] and j != i]


def by_distance(x: Tensor, i: int, places: list[int]) -> list[int]:
    return sorted(places, key=lambda j: float((x[i] - x[j]).norm()))


# -----------------------------------------------------------------------------------------------
# all of them


@pytest.mark.parametrize("name", sorted(MINERS))
def test_no_miner_chooses_an_excluded_pair(name: str) -> None:
    torch.manual_seed(0)
    excluded = (CLIENTS.unsqueeze(1) + CLIENTS) % 2 == 0  # clients 4 and 2; 9 and 7
    found = mined(MINERS[name](), unit(), CLIENTS, excluded=excluded)
    assert {(int(CLIENTS[row[0]]), int(CLIENTS[row[-1]])) for row in found} <= {
        (a, b) for a in (4, 2) for b in (9, 7)
    } | {(b, a) for a in (4, 2) for b in (9, 7)}
    assert len(found) > 5
    whole = torch.ones(len(CLIENTS), len(CLIENTS), dtype=torch.bool)
    assert mined(MINERS[name](), unit(), CLIENTS, excluded=whole) == []


def test_in_a_ball_the_nearest_negatives_are_those_by_hyperbolic_distance() -> None:
    ball, miner = PoincareBall(1.0), HardNegatives(k=1)
    miner.ball = ball
    x = ball.points(torch.randn(10, 2, generator=torch.Generator().manual_seed(1)))

    def nearest(distance: Callable[[Tensor, Tensor], Tensor]) -> list[tuple[int, ...]]:
        return [
            (i, min(others(CLIENTS, i), key=lambda j: float(distance(x[i], x[j]))))
            for i in range(len(x))
        ]

    assert mined(miner, x, CLIENTS) == nearest(ball.distances)
    assert nearest(ball.distances) != nearest(lambda one, other: (one - other).norm())


@pytest.mark.parametrize("name", sorted(MINERS))
@pytest.mark.parametrize("seed", range(3))
def test_negatives_are_of_other_clients_and_positives_of_the_same_but_not_the_anchor(
    name: str, seed: int
) -> None:
    torch.manual_seed(seed)
    for chosen in rows(MINERS[name]().mine(unit(seed), CLIENTS)[-1]):
        assert CLIENTS[chosen[0]] != CLIENTS[chosen[-1]]
        if len(chosen) == 3:
            assert CLIENTS[chosen[0]] == CLIENTS[chosen[1]]
            assert chosen[0] != chosen[1]


@pytest.mark.parametrize("name", PAIR_MINERS)
def test_pair_miners_give_all_positive_pairs(name: str) -> None:
    expected = [(i, j) for i in range(len(CLIENTS)) for j in own(CLIENTS, i) if i < j]
    assert sorted(rows(MINERS[name]().mine(unit(), CLIENTS)[0])) == expected


@pytest.mark.parametrize("name", sorted(MINERS))
def test_one_client_alone_and_clients_without_positives_give_nothing_that_counts(name: str) -> None:
    assert mined(MINERS[name](), unit(size=4), torch.zeros(4, dtype=torch.int64)) == []
    if name in TRIPLET_MINERS:
        assert mined(MINERS[name](), unit(size=4), torch.arange(4)) == []


@pytest.mark.parametrize("name", sorted(MINERS))
def test_identical_and_half_precision_vectors_are_mined_like_others(name: str) -> None:
    usual = len(mined(MINERS[name](), unit(), CLIENTS))
    for x in (torch.ones_like(unit()), unit().bfloat16(), unit().half(), unit().double()):
        assert len(mined(MINERS[name](), x, CLIENTS)) == usual


@pytest.mark.parametrize("name", sorted(MINERS))
def test_mining_leaves_no_gradient(name: str) -> None:
    chosen = MINERS[name]().mine(unit().requires_grad_(), CLIENTS)
    assert not any(column.requires_grad for part in chosen for column in part)


@pytest.mark.parametrize("name", sorted(MINERS))
def test_shapes_hang_on_shapes_only_so_that_nothing_waits_for_a_device(name: str) -> None:
    """On the meta device there are no values: whatever asks for one fails."""
    miner = MINERS[name](views=4)
    x, clients = unit().to("meta"), CLIENTS.to("meta")
    here, there = miner.mine(unit(), CLIENTS), miner.mine(x, clients)
    assert [[c.shape for c in part] for part in there] == [[c.shape for c in part] for part in here]


@pytest.mark.parametrize(
    "name", sorted(set(MINERS) - {"random_negatives", "distance_weighted", "batch_weighted"})
)
@pytest.mark.parametrize("chunk_rows", [1, 3, 9, 100])
def test_a_few_anchors_at_a_time_choose_the_same(name: str, chunk_rows: int) -> None:
    assert mined(MINERS[name](chunk_rows=chunk_rows), unit(), CLIENTS) == mined(
        MINERS[name](), unit(), CLIENTS
    )


class Largest(torch.overrides.TorchFunctionMode):
    """Remembers the largest tensor that any function gave."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for part in found if isinstance(found, tuple) else (found,):
            if isinstance(part, Tensor) and part.untyped_storage().nbytes() != x_bytes(args):
                self.bytes = max(self.bytes, part.untyped_storage().nbytes())
        return found


def x_bytes(args: Any) -> int:
    return args[0].untyped_storage().nbytes() if args and isinstance(args[0], Tensor) else -1


@pytest.mark.parametrize("name", sorted(MINERS))
def test_what_is_held_at_once_is_a_block_and_what_is_chosen_and_never_a_matrix_of_all(
    name: str,
) -> None:
    """A block of 10 x 600 cells has at most 8 bytes per cell, plus a few columns of choices."""
    x, clients = unit(size=600), torch.arange(600) // 5
    bounded = {"all_negatives": {"max_pairs": 6_000}, "batch_all": {"max_triplets": 6_000}}.get(
        name, {}
    )
    with Largest() as largest:
        MINERS[name](chunk_rows=10, views=5, **bounded).mine(x, clients)
    assert 0 < largest.bytes <= 8 * 600 * 20
    assert largest.bytes < 600 * 600


def test_the_rows_of_a_block_are_so_many_that_it_stays_small_at_twenty_thousand_views() -> None:
    """A block of 4,096 clients with 5 views stays below 100 MB, a handful of copies included."""
    views = 4_096 * 5
    x, clients = (
        torch.empty(views, 256, device="meta"),
        torch.empty(views, dtype=torch.int64, device="meta"),
    )
    blocks = list(HardNegatives(views=5).blocks(x, clients, views))
    assert sum(block.rows.stop - block.rows.start for block in blocks) == views
    assert max(block.apart.numel() for block in blocks) * 4 < 100e6


# --------------------------------------------------------------------------------------------------
# negatives


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_hard_negatives_are_the_nearest_of_other_clients(count: int, seed: int) -> None:
    x = unit(seed)
    expected = {
        (i, j) for i in range(len(x)) for j in by_distance(x, i, others(CLIENTS, i))[:count]
    }
    assert set(mined(HardNegatives(k=count), x, CLIENTS)) == expected


@pytest.mark.parametrize(("count", "skip"), [(2, 1), (3, 3), (5, 2), (4, 50), (50, 3)])
def test_the_very_hardest_are_passed_over_as_far_as_enough_are_left(count: int, skip: int) -> None:
    x, expected = unit(), []
    for i in range(len(x)):
        near = by_distance(x, i, others(CLIENTS, i))
        begin = max(0, min(skip, len(near) - count))
        expected += [(i, j) for j in near[begin : begin + count]]
    assert sorted(mined(HardNegatives(k=count, skip_hardest=skip), x, CLIENTS)) == sorted(expected)


@pytest.mark.parametrize("kind", COUNTING)
@pytest.mark.parametrize("count", [1, 5, 7, 50])
def test_never_the_same_twice_and_as_many_as_there_are(
    kind: Callable[..., Miner], count: int
) -> None:
    torch.manual_seed(0)
    pairs = mined(kind(k=count), unit(), CLIENTS)
    assert len(set(pairs)) == len(pairs)
    assert Counter(i for i, _ in pairs) == {
        i: min(count, len(others(CLIENTS, i))) for i in range(len(CLIENTS))
    }


def test_random_negatives_take_every_other_client_equally_often() -> None:
    torch.manual_seed(0)
    clients = torch.arange(2_000) % 4
    seen = Counter(
        (int(clients[i]), int(clients[j]))
        for i, j in mined(RandomNegatives(k=3), unit(size=2_000), clients)
    )
    for i in range(4):
        assert all(seen[i, j] / 1_500 == pytest.approx(1 / 3, abs=0.05) for j in range(4) if i != j)


def test_what_is_random_follows_from_torchs_own_state() -> None:
    for name in ("random_negatives", "distance_weighted", "batch_weighted"):
        found = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            found.append(mined(MINERS[name](k=2), unit(), CLIENTS))
        assert found[0] == found[1] != found[2]


def test_distance_weighted_negatives_come_in_proportion_to_one_over_the_density() -> None:
    """Return an anchor with three negatives: below the bound, between, and beyond the cutoff."""
    torch.manual_seed(0)
    angles = torch.tensor([0.0, 0.2, 1.0, 1.2, 3.0])
    x = torch.zeros(5, 6)
    x[:, 0], x[:, 1] = angles.cos(), angles.sin()
    miner = DistanceWeighted(k=1, cutoff=0.5, nonzero_loss_cutoff=1.4)
    many = x[0].expand(1_200, 6)
    clients = torch.cat([torch.zeros(1_200), torch.arange(1, 5)]).long()
    drawn = Counter(
        j - 1_200 for _, j in mined(miner, torch.cat([many, x[1:]]), clients, anchors=1_200)
    )

    def density(d: float) -> float:
        return float(d**4 * (1 - d * d / 4) ** 1.5)

    weights = [1 / density(max(0.5, 2 * math.sin(angle / 2))) for angle in (0.2, 1.0, 1.2)]
    for j in range(3):
        assert drawn[j] / 1_200 == pytest.approx(weights[j] / sum(weights), abs=0.05)
    assert drawn[3] == 0


@pytest.mark.parametrize(("count", "skip"), [(1, 1), (3, 2), (4, 99), (50, 2)])
def test_distance_weighted_draws_the_very_nearest_only_where_there_are_no_others(
    count: int, skip: int
) -> None:
    x, seen = unit(), set()
    for seed in range(40):
        torch.manual_seed(seed)
        pairs = mined(DistanceWeighted(k=count, skip_hardest=skip), x, CLIENTS)
        assert Counter(i for i, _ in pairs) == {
            i: min(count, len(others(CLIENTS, i))) for i in range(len(CLIENTS))
        }
        seen |= set(pairs)
    for i in range(len(x)):
        near = by_distance(x, i, others(CLIENTS, i))
        passed = near[: min(skip, len(near) - count)] if count < len(near) else []
        assert skip >= len(near) or not {(i, j) for j in passed} & seen


def test_far_negatives_are_drawn_where_there_are_no_others() -> None:
    x = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [-1, 0, 0]])
    assert len(mined(DistanceWeighted(k=2), x, torch.tensor([0, 1, 2]))) == 2 * 3
    assert {j for i, j in mined(DistanceWeighted(k=2), x, torch.tensor([0, 1, 2])) if i == 0} == {
        1,
        2,
    }


def test_all_negatives_are_all_or_equally_many_random_ones() -> None:
    everyone = [(i, j) for i in range(len(CLIENTS)) for j in others(CLIENTS, i)]
    assert sorted(mined(AllNegatives(), unit(), CLIENTS)) == everyone
    some = mined(AllNegatives(max_pairs=30), unit(), CLIENTS)
    assert Counter(i for i, _ in some) == dict.fromkeys(range(len(CLIENTS)), 3)
    assert set(some) <= set(everyone)


# --------------------------------------------------------------------------------------------------
# triplets


def all_triplets(clients: Tensor) -> list[tuple[int, ...]]:
    return [
        (i, p, n) for i in range(len(clients)) for p in own(clients, i) for n in others(clients, i)
    ]


def test_batch_all_is_every_triplet_once_or_equally_many_random_ones() -> None:
    assert sorted(mined(BatchAll(), unit(), CLIENTS)) == sorted(all_triplets(CLIENTS))
    some = mined(BatchAll(max_triplets=60), unit(), CLIENTS)
    assert len(set(some)) == len(some) <= 60
    assert set(Counter((i, p) for i, p, _ in some).values()) == {2}
    assert set(some) <= set(all_triplets(CLIENTS))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("skip", [0, 2, 99])
def test_batch_hard_is_the_farthest_positive_and_the_nearest_negative(seed: int, skip: int) -> None:
    x, expected = unit(seed), []
    for i in range(len(x)):
        if own(CLIENTS, i):
            near = by_distance(x, i, others(CLIENTS, i))
            expected.append(
                (i, by_distance(x, i, own(CLIENTS, i))[-1], near[min(skip, len(near) - 1)])
            )
    assert mined(BatchHard(skip_hardest=skip), x, CLIENTS) == expected


def slow_semi_hard(x: Tensor, i: int, p: int) -> int:
    near = by_distance(x, i, others(CLIENTS, i))
    return next((n for n in near if (x[i] - x[n]).norm() > (x[i] - x[p]).norm()), near[-1])


@pytest.mark.parametrize("seed", range(3))
def test_semi_hard_is_the_nearest_negative_beyond_the_positive_or_else_the_farthest(
    seed: int,
) -> None:
    x = unit(seed)
    expected = [(i, p, slow_semi_hard(x, i, p)) for i in range(len(x)) for p in own(CLIENTS, i)]
    assert mined(SemiHard(), x, CLIENTS) == expected
    beyond = [(x[i] - x[n]).norm() > (x[i] - x[p]).norm() for i, p, n in expected]
    assert any(beyond)


@pytest.mark.parametrize("seed", range(3))
def test_an_easy_positive_is_the_nearest(seed: int) -> None:
    x = unit(seed)
    nearest = {i: by_distance(x, i, own(CLIENTS, i))[0] for i in range(len(x)) if own(CLIENTS, i)}
    assert mined(EasyPositive(), x, CLIENTS) == [
        (i, p, slow_semi_hard(x, i, p)) for i, p in nearest.items()
    ]
    hard = [(i, p, by_distance(x, i, others(CLIENTS, i))[0]) for i, p in nearest.items()]
    assert mined(EasyPositive(negative="hard"), x, CLIENTS) == hard
    second = [(i, p, by_distance(x, i, others(CLIENTS, i))[1]) for i, p in nearest.items()]
    assert mined(EasyPositive(negative="hard", skip_hardest=1), x, CLIENTS) == second


def test_batch_weighted_draws_far_positives_and_near_negatives_by_exponential_weight() -> None:
    torch.manual_seed(0)
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [0.6, 0.8]])
    clients, miner = torch.tensor([0, 0, 0, 1, 1]), BatchWeighted(k=1, temperature=0.5)
    drawn = [mined(miner, x, clients, anchors=1)[0] for _ in range(500)]
    for place, sign, (one, two) in ((1, 1, (1, 2)), (2, -1, (3, 4))):
        weights = [math.exp(sign * float((x[0] - x[j]).norm()) / 0.5) for j in (one, two)]
        seen = Counter(row[place] for row in drawn)
        assert seen[one] + seen[two] == len(drawn)
        assert seen[one] / len(drawn) == pytest.approx(weights[0] / sum(weights), abs=0.07)


def test_batch_weighted_never_draws_the_same_negative_twice_for_an_anchor() -> None:
    torch.manual_seed(0)
    found = mined(BatchWeighted(k=4), unit(), CLIENTS)
    assert len({(i, n) for i, _, n in found}) == len(found)
    assert Counter(i for i, _, _ in found) == {i: 4 for i in range(len(CLIENTS)) if own(CLIENTS, i)}


# --------------------------------------------------------------------------------------------------
# memory


def test_a_memory_keeps_the_last_embeddings_and_whose_they_are() -> None:
    bank = MemoryBank(size=4, width=2)
    assert bank.clients.tolist() == [NOBODY] * 4
    for begin in (0, 3, 6):
        bank.remember(
            torch.arange(begin, begin + 3.0).unsqueeze(1).expand(3, 2),
            torch.arange(begin, begin + 3),
        )
    assert sorted(bank.clients.tolist()) == [5, 6, 7, 8]
    assert bank.embeddings[:, 0].tolist() == bank.clients.tolist()
    bank.remember(torch.zeros(9, 2), torch.arange(20, 29))
    assert sorted(bank.clients.tolist()) == [25, 26, 27, 28]


def test_a_client_that_comes_again_is_remembered_by_its_newest_embeddings_alone() -> None:
    """Compare the memory over three epochs with a list that drops a client's old embeddings."""
    bank, kept = MemoryBank(size=30, width=1), list[tuple[int, float]]()
    for step, whose in enumerate(
        [[0, 1], [2, 3], [4, 5], [5, 0], [3, 1], [4, 2], [2, 3], [1, 0], [5, 4]]
    ):
        clients = torch.tensor(whose).repeat_interleave(2)
        x = 10.0 * step + torch.arange(4.0)
        bank.remember(x.unsqueeze(1), clients)
        kept = [one for one in kept if one[0] not in whose] + list(
            zip(clients.tolist(), x.tolist(), strict=True)
        )
        there = bank.clients != NOBODY
        assert sorted(
            zip(bank.clients[there].tolist(), bank.embeddings[there, 0].tolist(), strict=True)
        ) == sorted(kept)
    assert len(kept) == 12


@pytest.mark.parametrize("name", PAIR_MINERS)
def test_with_a_memory_larger_than_an_epoch_all_that_is_remembered_of_a_client_are_positives(
    name: str,
) -> None:
    """Bounded by twice the views of a client, as the objective bounds them."""
    clients, bank = torch.arange(5).repeat_interleave(3), MemoryBank(size=100, width=6)
    for epoch in range(4):
        bank.remember(unit(epoch, 15), clients)
    compared, whose = bank.with_stored(unit(9, 15), clients)
    found = set(rows(MINERS[name](views=2 * 3).mine(compared, whose, anchors=15)[0]))
    assert found == {
        (i, j) for i in range(15) for j in range(len(whose)) if i < j and whose[i] == whose[j]
    }
    assert len(found) == 15 * 1 + 15 * 3


def test_a_memory_comes_back_with_a_checkpoint() -> None:
    bank, again = MemoryBank(size=4, width=2), MemoryBank(size=4, width=2)
    bank.remember(torch.ones(3, 2), torch.tensor([5, 5, 6]))
    again.load_state_dict(bank.state_dict())
    for each in (bank, again):
        each.remember(2 * torch.ones(2, 2), torch.tensor([7, 7]))
    assert again.clients.tolist() == bank.clients.tolist() == [7, 5, 6, 7]
    assert torch.equal(again.embeddings, bank.embeddings)


@pytest.mark.parametrize("name", sorted(MINERS))
@pytest.mark.parametrize("filled", [0, 3, 8])
def test_remembered_embeddings_are_compared_with_but_are_no_anchors_and_empty_places_are_nobodys(
    name: str, filled: int
) -> None:
    torch.manual_seed(0)
    bank = MemoryBank(size=8, width=6)
    bank.remember(unit(1, filled), torch.tensor([4, 5, 5, 7, 2, 2, 2, 8])[:filled])
    compared, whose = bank.with_stored(unit(), CLIENTS)
    known = {*range(len(CLIENTS)), *range(len(CLIENTS), len(CLIENTS) + filled)}
    chosen = MINERS[name](views=12).mine(compared, whose, anchors=len(CLIENTS))
    found = rows(chosen[-1])
    assert found
    for part in chosen:
        assert {j for row in rows(part) for j in row} <= known
        assert {row[0] for row in rows(part)} <= set(range(len(CLIENTS)))
    assert all(whose[row[0]] != whose[row[-1]] for row in found)
    if filled == 8 and name in ("all_negatives", "batch_all"):
        assert {row[-1] for row in found} == known
    if filled == 8 and name not in TRIPLET_MINERS:
        expected = {(i, j) for i in range(10) for j in range(18) if whose[i] == whose[j] and i < j}
        assert set(rows(chosen[0])) == expected


def test_remembered_embeddings_have_no_gradient_and_those_of_the_batch_have() -> None:
    bank = MemoryBank(size=4, width=6)
    x = unit().requires_grad_()
    bank.remember(x, CLIENTS)
    compared, _ = bank.with_stored(x, CLIENTS)
    compared.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones_like(x))
    assert not bank.embeddings.requires_grad
