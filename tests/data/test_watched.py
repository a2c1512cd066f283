"""The two slices of a client by which training, report and retrieval watch it."""

from __future__ import annotations

import pytest
import torch

from seqmel.data.views.watched import watched_numbers, watched_views

LENGTHS = torch.tensor([2, 3, 4, 7, 30, 500]).repeat(200)
CLIENTS = torch.arange(len(LENGTHS))
NUMBERS = watched_numbers(len(CLIENTS), torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("least", "most"), [(1, 1), (3, 3), (5, 20), (500, 900)])
def test_each_client_has_two_different_slices_of_lengths_that_are_allowed(
    least: int, most: int
) -> None:
    views = watched_views(CLIENTS, LENGTHS, NUMBERS, min_length=least, max_length=most)
    assert torch.equal(views.clients, CLIENTS.repeat_interleave(2))
    slices = list(zip(views.starts.tolist(), views.lengths.tolist(), strict=True))
    for client, n in enumerate(LENGTHS.tolist()):
        first, second = slices[2 * client : 2 * client + 2]
        assert first != second
        for start, length in (first, second):
            assert min(least, (n + 1) // 2) <= length <= min(most, n)
            assert 0 <= start <= n - length


def test_the_slices_of_a_client_hang_on_its_own_numbers_alone() -> None:
    options = {"min_length": 5, "max_length": 20}
    together = watched_views(CLIENTS, LENGTHS, NUMBERS, **options)
    some = torch.tensor([700, 3, 44])
    alone = watched_views(some, LENGTHS[some], NUMBERS[some], **options)
    places = torch.stack([2 * some, 2 * some + 1], dim=1).reshape(-1)
    assert torch.equal(alone.starts, together.starts[places])
    assert torch.equal(alone.lengths, together.lengths[places])


def test_numbers_drawn_in_parts_are_those_drawn_at_once() -> None:
    random = torch.Generator().manual_seed(0)
    parts = [watched_numbers(n, random) for n in (1, 255, 300, 644)]
    assert torch.equal(torch.cat(parts), NUMBERS)


def test_slices_begin_and_end_anywhere() -> None:
    views = watched_views(CLIENTS, LENGTHS, NUMBERS, min_length=5, max_length=20)
    long = LENGTHS.repeat_interleave(2) == 30
    for values, low, high in ((views.lengths[long], 5, 20), (views.starts[long], 0, 25)):
        assert int(values.min()) == low
        assert int(values.max()) >= high - 2
