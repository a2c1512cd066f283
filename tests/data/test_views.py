"""Random slices: of the right client, within its sequence, of the right lengths, never the same twice."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from seqmel.data.views import RandomSlices, Views

LENGTHS = torch.tensor([2, 3, 4, 7, 25, 26, 49, 50, 51, 199, 200, 201, 1_000, 1])


def drawn(slices: RandomSlices, lengths: Tensor = LENGTHS, *, seed: int = 0) -> Views:
    return slices.draw(torch.arange(len(lengths)), lengths, torch.Generator().manual_seed(seed))


def triples(views: Views) -> list[tuple[int, int, int]]:
    return list(zip(views.clients.tolist(), views.starts.tolist(), views.lengths.tolist(), strict=True))


SLICES = [
    RandomSlices(count=5, min_length=25, max_length=200),
    RandomSlices(count=2, min_length=1, max_length=1),
    RandomSlices(count=9, min_length=3, max_length=4),
    RandomSlices(count=3, min_length=500, max_length=5_000),
]


@pytest.mark.parametrize("slices", SLICES, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_slices_lie_within_their_sequence_and_have_the_lengths_asked_for(slices: RandomSlices, seed: int) -> None:
    for client, start, length in triples(drawn(slices, seed=seed)):
        events = int(LENGTHS[client])
        assert 0 <= start <= start + length <= events
        assert min(slices.min_length, (events + 1) // 2) <= length <= min(slices.max_length, events)


@pytest.mark.parametrize("slices", SLICES, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_no_two_slices_of_a_client_are_equal_and_every_client_has_some(slices: RandomSlices, seed: int) -> None:
    found = triples(drawn(slices, seed=seed))
    assert len(set(found)) == len(found)
    assert set(Counter(client for client, _, _ in found)) == set(range(len(LENGTHS)))
    assert max(Counter(client for client, _, _ in found).values()) <= slices.count


def test_the_same_generator_seed_gives_the_same_slices_and_another_gives_others() -> None:
    slices = SLICES[0]
    assert triples(drawn(slices, seed=3)) == triples(drawn(slices, seed=3))
    assert triples(drawn(slices, seed=3)) != triples(drawn(slices, seed=4))


def test_the_views_of_a_client_stand_together_in_the_order_of_the_batch() -> None:
    views = SLICES[0].draw(torch.tensor([30, 10, 20]), torch.tensor([300, 100, 200]), torch.Generator().manual_seed(0))
    assert list(dict.fromkeys(views.clients.tolist())) == [30, 10, 20]
    assert views.clients.tolist() == sorted(views.clients.tolist(), key=[30, 10, 20].index)


def test_a_client_of_two_events_gives_its_three_different_parts() -> None:
    seen = {
        (start, length)
        for seed in range(30)
        for _, start, length in triples(drawn(SLICES[0], torch.tensor([2]), seed=seed))
    }
    assert seen == {(0, 1), (1, 1), (0, 2)}


def test_a_client_of_one_event_is_not_eligible_and_of_two_is() -> None:
    assert SLICES[0].eligible(torch.tensor([0, 1, 2, 50])).tolist() == [False, False, True, True]


def test_a_short_client_gives_different_parts_and_not_the_whole_again() -> None:
    found = triples(drawn(RandomSlices(count=5, min_length=25, max_length=200), torch.tensor([10]), seed=1))
    assert len(found) >= 2
    assert all(5 <= length <= 10 for _, _, length in found)


def test_lengths_and_starts_are_uniform() -> None:
    slices = RandomSlices(count=2, min_length=3, max_length=6)
    views = drawn(slices, torch.full((30_000,), 10))
    lengths = Counter(views.lengths.tolist())
    assert set(lengths) == {3, 4, 5, 6}
    shares = torch.tensor([lengths[n] / len(views.lengths) for n in (3, 4, 5, 6)])
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.01, rtol=0)
    starts = Counter(views.starts[views.lengths == 6].tolist())
    assert set(starts) == set(range(5))
    assert max(starts.values()) < 1.1 * min(starts.values())
