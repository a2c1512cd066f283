"""Batches of like length, and what several threads make of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from seqmel.config import EmbeddingOptions
from seqmel.token_batches import over_batches, token_batches

LENGTHS: list[list[int]] = [[], [0], [5], [0, 0, 0], [9, 1, 4, 4, 0, 100, 3], list(range(40))]
OPTIONS = EmbeddingOptions(batch_events=10)


@pytest.fixture(autouse=True, params=[1, 2, 3, 9])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("sizes", LENGTHS, ids=str)
@pytest.mark.parametrize("budget", [1, 10, 1_000])
def test_token_batches_hold_every_client_once_within_the_budget(sizes: list[int], budget: int) -> None:
    parts = list(token_batches(torch.tensor(sizes, dtype=torch.int64), budget))
    assert sorted(client for part in parts for client in part.tolist()) == list(range(len(sizes)))
    for part in parts:
        assert len(part) == 1 or sum(sizes[client] for client in part.tolist()) <= budget


@pytest.mark.parametrize("sizes", LENGTHS, ids=str)
def test_every_client_is_worked_on_once_and_comes_with_its_result(sizes: list[int]) -> None:
    lengths = torch.tensor(sizes, dtype=torch.int64)
    found = torch.full_like(lengths, -1)
    for part, result in over_batches(lambda part: lengths[part] * 3, lengths, OPTIONS, "cpu"):
        assert bool((found[part] == -1).all())
        found[part] = result
    assert torch.equal(found, lengths * 3)


def test_no_client_is_one_empty_batch() -> None:
    ((part, result),) = over_batches(len, torch.zeros(0, dtype=torch.int64), OPTIONS, "cpu")
    assert (len(part), result) == (0, 0)


def test_batches_are_worked_on_side_by_side_with_a_share_of_the_cores_each(threads: int) -> None:
    at_once = min(threads, 4)
    met = threading.Barrier(at_once, timeout=60)  # breaks where fewer come together

    def work(_: Tensor) -> int:
        met.wait()
        return torch.get_num_threads()

    cores = {found for _, found in over_batches(work, torch.full((24,), 5), OPTIONS, "cpu")}
    assert cores == {max(1, threads // at_once)}


def test_no_gradient_is_kept_and_the_caller_keeps_its_own() -> None:
    weight = torch.ones(1, requires_grad=True)
    lengths = torch.full((20,), 5)
    for _, found in over_batches(lambda part: weight * len(part), lengths, OPTIONS, "cpu"):
        assert not found.requires_grad
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


def test_what_fails_in_a_batch_fails_the_whole() -> None:
    def work(part: Tensor) -> Tensor:
        if 7 in part.tolist():
            raise ValueError("seven")
        return part

    with pytest.raises(ValueError, match="seven"):
        list(over_batches(work, torch.full((20,), 5), OPTIONS, "cpu"))


def test_who_stops_early_leaves_no_thread_behind(threads: int) -> None:
    before = threading.active_count()
    batches = over_batches(lambda part: part, torch.full((40,), 5), OPTIONS, "cpu")
    next(batches)
    batches.close()
    assert threading.active_count() == before
