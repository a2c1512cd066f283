"""Offline mining: nearest groups independent of blocks, bounded parts, shuffled epochs."""

from __future__ import annotations

import pytest
import torch
from test_samplers import epoch, segments_of, vocabulary
from torch import Tensor
from torch.nn import functional as F

from seqmel.data.samplers import OfflineHardSampler
from seqmel.data.samplers import offline_hard as module
from seqmel.data.samplers.offline_hard import near_groups


def unit(count: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)), dim=1)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sampler(clients: int, *, size: int = 6, **options: int) -> OfflineHardSampler:
    """For the clients from the third one on."""
    return OfflineHardSampler(
        segments_of({2: clients + 3}),
        vocabulary("kind"),
        torch.arange(3, clients + 3),
        size=size,
        **options,
    )


def slow_groups(vectors: Tensor, group: int) -> list[int]:
    left, found = list(range(len(vectors))), []
    while left:
        first, *rest = left
        rest.sort(key=lambda place: -float(vectors[first] @ vectors[place]))
        found += [first, *rest[: group - 1]]
        left = [place for place in left if place not in found]
    return found


@pytest.mark.parametrize("products", [1, 200, 4_000_000])
@pytest.mark.parametrize(("count", "group"), [(40, 2), (41, 5), (7, 9), (1, 2)])
def test_a_group_is_the_first_that_is_left_and_the_nearest_to_it(
    products: int, count: int, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_PRODUCTS", products)
    assert near_groups(unit(count), group).tolist() == slow_groups(unit(count), group)


def test_no_vectors_make_no_groups() -> None:
    assert near_groups(unit(0), 4).tolist() == []


def test_look_alikes_share_a_batch() -> None:
    made = sampler(24, group=3)
    alike = F.normalize(unit(8).repeat_interleave(3, 0) + 0.001 * unit(24, 1), dim=1)
    made.pool = made.mine(lambda clients: alike[clients - 3], seeded(0))
    for seed in range(5):
        for batch in epoch(made, seed):
            kinds = [(client - 3) // 3 for client in batch]
            assert sorted(kinds) == sorted(3 * list(set(kinds)))
    assert len({tuple(map(tuple, epoch(made, seed))) for seed in range(5)}) == 5


@pytest.mark.parametrize(
    ("among", "group", "most"), [(9, 4, 8), (16, 4, 16), (3, 5, 5), (100, 4, 50)]
)
def test_no_more_vectors_are_asked_for_at_a_time_than_may_be(
    among: int, group: int, most: int
) -> None:
    made, asked = sampler(50, group=group, pool_size=among), []
    vectors = unit(53)

    def embed(clients: Tensor) -> Tensor:
        asked.append(clients)
        return vectors[clients]

    pool = made.mine(embed, seeded(0))
    assert max(map(len, asked)) <= most
    assert sorted(torch.cat(asked).tolist()) == list(range(3, 53))
    assert sorted(pool.tolist()) == list(range(50))
    assert len(asked) == -(-50 // most)


def test_a_pool_follows_from_its_generator() -> None:
    made, vectors = sampler(30), unit(33)
    first, again, other = (
        made.mine(vectors.__getitem__, seeded(seed)).tolist() for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize("size", [2, 7, 29])
def test_with_a_pool_no_client_comes_twice_an_epoch_and_over_some_all_come(size: int) -> None:
    made = sampler(29, size=size, group=4)
    made.pool = made.mine(unit(32).__getitem__, seeded(0))
    epochs = [epoch(made, seed) for seed in range(9)]
    for batches in epochs:
        drawn = [client for batch in batches for client in batch]
        assert [len(batch) for batch in batches] == [size] * (29 // size)
        assert len(set(drawn)) == len(drawn)
    assert {client for batches in epochs for batch in batches for client in batch} == set(
        range(3, 32)
    )


@pytest.mark.parametrize(("refresh", "due"), [(1, [1, 2, 3, 4, 5, 6, 7]), (3, [1, 4, 7])])
def test_the_first_epoch_is_random_and_from_the_second_on_every_so_many_look_anew(
    refresh: int, due: list[int]
) -> None:
    made = sampler(8, refresh_every=refresh)
    assert [number for number in range(8) if made.due(number)] == due
