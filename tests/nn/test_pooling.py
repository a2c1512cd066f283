"""Every way of pooling is the plain statistic of a sequence's events, and empty sequences give zeros."""

from __future__ import annotations

import pytest
import torch
from small import batch_of
from torch import Tensor

import seqmel.nn.pooling
from seqmel.data.batch import SequenceBatch
from seqmel.nn.pooling import POOLINGS, Pooling, segment_max

LENGTHS = [3, 0, 1, 9, 2, 0]
SIZE = 64


def made(*names: str, size: int = SIZE) -> Pooling:
    torch.manual_seed(0)
    return Pooling(names, size=size)


def states(batch: SequenceBatch, size: int = SIZE) -> Tensor:
    return torch.randn(batch.events, size, generator=torch.Generator().manual_seed(1))


def slow(pooling: Pooling, name: str, events: Tensor) -> Tensor:
    """One sequence, one way of pooling, event by event."""
    if len(events) == 0:
        return torch.zeros(events.shape[1])
    if name == "last":
        return events[-1]
    if name == "mean":
        return events.mean(0)
    if name == "max":
        return events.max(0).values
    if name == "std":
        return (events.var(0, correction=0) + 1e-6).sqrt() - 1e-3
    if name == "total":
        return events.sum(0).sign() * (1 + events.sum(0).abs()).log()
    assert pooling.scores is not None
    weights = torch.softmax(pooling.scores(events), dim=0)
    width = events.shape[1] // pooling.heads
    return torch.cat(
        [(weights[:, h, None] * events[:, h * width : (h + 1) * width]).sum(0) for h in range(pooling.heads)]
    )


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("lengths", [LENGTHS, [1], [0], [5, 5], [0, 0, 4]], ids=str)
def test_pooling_is_the_statistic_of_each_sequence(name: str, lengths: list[int]) -> None:
    batch, pooling = batch_of(lengths), made(name)
    x = states(batch)
    expected = torch.stack([slow(pooling, name, events) for events in x.split(lengths)])
    torch.testing.assert_close(pooling(x, batch), expected, rtol=1e-5, atol=1e-6)


def test_several_poolings_stand_side_by_side_in_the_order_of_their_names() -> None:
    batch, pooling = batch_of(LENGTHS), made("max", "mean", "last")
    x = states(batch)
    found = pooling(x, batch)
    assert found.shape == (len(LENGTHS), pooling.output_size)
    for name, columns in zip(pooling.names, found.split(SIZE, dim=1), strict=True):
        assert torch.equal(columns, made(name)(x, batch))


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_a_few_sequences_at_a_time_gives_the_same_to_the_bit(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, pooling = batch_of(LENGTHS), made(name)
    x = states(batch)
    whole = pooling(x, batch).detach()
    for numbers in (1, 4 * SIZE, 10 * SIZE, 1000 * SIZE):
        monkeypatch.setattr(seqmel.nn.pooling, "_BLOCK_NUMBERS", numbers)
        with torch.no_grad():
            assert torch.equal(pooling(x, batch), whole)
            assert torch.equal(pooling([x[:, :3], x[:, 3:]], batch), whole)


@pytest.mark.parametrize("name", POOLINGS)
def test_empty_sequences_give_zeros(name: str) -> None:
    for lengths in ([0, 4, 0], [0, 0]):
        batch = batch_of(lengths)
        found = made(name)(states(batch), batch)[batch.lengths == 0]
        torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-9)


def test_a_single_event_has_no_deviation() -> None:
    batch = batch_of([1, 1])
    found = made("std")(states(batch), batch)
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", POOLINGS)
def test_gradients_are_finite_and_numerically_right_where_all_events_are_equal(name: str) -> None:
    batch, pooling = batch_of([4, 1, 0, 3]), made(name)
    x = torch.ones(batch.events, SIZE).requires_grad_()
    pooling(x, batch).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", POOLINGS)
def test_gradients_are_those_of_the_slow_twin(name: str) -> None:
    batch, pooling = batch_of(LENGTHS), made(name)
    x = states(batch).requires_grad_()
    weights = torch.randn(len(LENGTHS), SIZE, generator=torch.Generator().manual_seed(2))
    expected = torch.stack([slow(pooling, name, events) for events in x.split(LENGTHS)])
    (mine,) = torch.autograd.grad((pooling(x, batch) * weights).sum(), x)
    (other,) = torch.autograd.grad((expected * weights).sum(), x)
    torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_of_equal_largest_events_the_first_takes_the_gradient() -> None:
    batch = batch_of([3])
    x = torch.tensor([[1.0], [2.0], [2.0]], requires_grad=True)
    segment_max(x, batch).sum().backward()
    assert x.grad is not None
    assert x.grad[:, 0].tolist() == [0.0, 1.0, 0.0]


def test_attention_with_large_scores_stays_finite() -> None:
    batch, pooling = batch_of(LENGTHS), made("attention")
    assert pooling(states(batch) * 1e3, batch).isfinite().all()


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.5, 1.0])
def test_the_merged_summaries_of_two_parts_are_that_of_the_whole(cut: float) -> None:
    batch, pooling = batch_of(LENGTHS), made(*POOLINGS)
    x = states(batch) * 3
    cuts = [int(cut * length) for length in LENGTHS]
    pieces = [(events[:k], events[k:]) for events, k in zip(x.split(LENGTHS), cuts, strict=True)]
    sizes = (cuts, [length - k for length, k in zip(LENGTHS, cuts, strict=True)])
    parts = [pooling.summarise(torch.cat([piece[side] for piece in pieces]), batch_of(sizes[side])) for side in (0, 1)]
    merged, whole = pooling.merge(*parts), pooling.summarise(x, batch)
    assert set(merged) == set(whole)
    for name in whole:
        torch.testing.assert_close(merged[name], whole[name], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pooling.read(merged), pooling(x, batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "heads"), [(64, 2), (48, 1), (7, 1), (96, 3), (100, 2)])
def test_attention_heads_divide_the_width(size: int, heads: int) -> None:
    assert made("attention", size=size).heads == heads


def test_pooling_of_half_precision_states_is_float32() -> None:
    batch = batch_of(LENGTHS)
    assert made(*POOLINGS)(states(batch).bfloat16(), batch).dtype == torch.float32
