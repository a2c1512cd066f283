"""Every pooling is the plain statistic of the events; empty sequences give zeros."""

from __future__ import annotations

from dataclasses import replace

import pytest
import small
import torch
from torch import Tensor

import seqmel.nn.pooling
from seqmel.config import Config
from seqmel.config.options.network import CategoryMeanOptions
from seqmel.core.errors import ConfigError
from seqmel.core.scatter import _SumRows
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.vocabulary import CategoryCodes, NumericScale, NumericScales, TimeScale, Vocabulary
from seqmel.nn.by_category import ByCategory, column_to_pool_by
from seqmel.nn.encoder import SequenceEncoder
from seqmel.nn.pooling import POOLINGS, Pooling
from seqmel.nn.segments import (
    _largest_and_places,
    _largest_and_places_on_cpu,
    segment_max,
    segment_sum,
)

LENGTHS = [3, 0, 1, 9, 2, 0]
SIZE = 64
KINDS = 7  # codes of the column, of which the last two have no place of their own


def made(*names: str, size: int = SIZE) -> Pooling:
    torch.manual_seed(0)
    kinds = ByCategory(
        "kind", KINDS, input_size=size, options=CategoryMeanOptions(values=3, size=2)
    )
    return Pooling(names, size=size, by_category=kinds)


def batch_of(lengths: list[int]) -> SequenceBatch:
    """Of sequences with a kind for each event."""
    batch = small.batch_of(lengths)
    kinds = torch.randint(
        KINDS, (batch.events,), dtype=torch.int32, generator=torch.Generator().manual_seed(3)
    )
    return replace(batch, columns={"kind": kinds})


def states(batch: SequenceBatch, size: int = SIZE) -> Tensor:
    return torch.randn(batch.events, size, generator=torch.Generator().manual_seed(1))


def slow(pooling: Pooling, name: str, events: Tensor, kinds: Tensor) -> Tensor:
    """One sequence, one way of pooling, event by event."""
    if name == "category_mean":
        return slow_by_category(pooling, events, kinds)
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
    if name == "log_sum":
        return events.sum(0).sign() * (1 + events.sum(0).abs()).log()
    assert pooling.scores is not None
    weights = torch.softmax(pooling.scores(events), dim=0)
    width = events.shape[1] // pooling.heads
    return torch.cat(
        [
            (weights[:, h, None] * events[:, h * width : (h + 1) * width]).sum(0)
            for h in range(pooling.heads)
        ]
    )


def slow_by_category(pooling: Pooling, events: Tensor, kinds: Tensor) -> Tensor:
    """Return the mean numbers and the count per category; overflow goes to unseen, code 1."""
    assert pooling.by_category is not None
    parts = []
    for slot in range(pooling.by_category.slots):
        own = [
            e
            for e, kind in zip(events, kinds.tolist(), strict=True)
            if (kind if kind < 5 else 1) == slot
        ]
        numbers = [pooling.by_category.inner(e) for e in own]
        mean = torch.stack(numbers).mean(0) if own else torch.zeros(2)
        parts.append(torch.cat([mean, torch.tensor([float(len(own))]).log1p()]))
    return torch.cat(parts)


def all_slow(pooling: Pooling, name: str, x: Tensor, batch: SequenceBatch) -> Tensor:
    """Sequence by sequence."""
    parts = zip(
        *(values.split(batch.lengths.tolist()) for values in (x, batch.columns["kind"])),
        strict=True,
    )
    return torch.stack([slow(pooling, name, events, kinds) for events, kinds in parts])


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("lengths", [LENGTHS, [1], [0], [5, 5], [0, 0, 4]], ids=str)
def test_pooling_is_the_statistic_of_each_sequence(name: str, lengths: list[int]) -> None:
    batch, pooling = batch_of(lengths), made(name)
    x = states(batch)
    expected = all_slow(pooling, name, x, batch)
    torch.testing.assert_close(pooling(x, batch), expected, rtol=1e-5, atol=1e-6)


def test_several_poolings_stand_side_by_side_in_the_order_of_their_names() -> None:
    batch, pooling = batch_of(LENGTHS), made("max", "category_mean", "mean", "last")
    x = states(batch)
    found = pooling(x, batch)
    assert found.shape == (len(LENGTHS), pooling.output_size)
    for name, columns in zip(pooling.names, found.split(pooling.sizes, dim=1), strict=True):
        assert torch.equal(columns, made(name)(x, batch))


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_a_few_sequences_at_a_time_gives_the_same_to_the_bit(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare up to rounding, since by_category multiplies per event, not per sequence."""
    batch, pooling = batch_of(LENGTHS), made(name)
    x = states(batch)
    whole = pooling(x, batch).detach()
    for numbers in (1, 4 * SIZE, 10 * SIZE, 1000 * SIZE):
        monkeypatch.setattr(seqmel.nn.pooling, "_BLOCK_NUMBERS", numbers)
        with torch.no_grad():
            for found in (pooling(x, batch), pooling([x[:, :3], x[:, 3:]], batch)):
                torch.testing.assert_close(
                    found, whole, rtol=0, atol=1e-6 if name == "category_mean" else 0
                )


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
    weights = torch.randn(
        len(LENGTHS), pooling.output_size, generator=torch.Generator().manual_seed(2)
    )
    expected = all_slow(pooling, name, x, batch)
    (mine,) = torch.autograd.grad((pooling(x, batch) * weights).sum(), x)
    (other,) = torch.autograd.grad((expected * weights).sum(), x)
    torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_of_equal_largest_events_the_first_takes_the_gradient() -> None:
    batch = batch_of([3])
    x = torch.tensor([[1.0], [2.0], [2.0]], requires_grad=True)
    segment_max(x, batch).sum().backward()
    assert x.grad is not None
    assert x.grad[:, 0].tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("lengths", [[4, 1, 0, 3], [0, 2], [3, 0], [0], [1]])
def test_a_gpu_has_the_same_sums_largest_values_and_gradients(lengths: list[int]) -> None:
    """What it does is done on the CPU here; of equal events too, below and above zero."""
    batch = batch_of(lengths)
    x = torch.randint(-2, 2, (batch.events, 3), generator=torch.Generator().manual_seed(1)).float()
    for mine, other in zip(
        _largest_and_places(x, batch), _largest_and_places_on_cpu(x, batch), strict=True
    ):
        assert mine.tolist() == other.tolist()
    weights = torch.tensor([-1.0, 2.0, 0.5])
    one, two = x.clone().requires_grad_(), x.clone().requires_grad_()
    given, expected = (
        _SumRows.apply(one, batch.sequence_index, len(batch), batch.offsets[:-1]),
        segment_sum(two, batch),
    )
    assert given.tolist() == expected.tolist()
    (given * weights).sum().backward()
    (expected * weights).sum().backward()
    assert one.grad is not None
    assert two.grad is not None
    assert one.grad.tolist() == two.grad.tolist()


def test_attention_with_large_scores_stays_finite() -> None:
    batch, pooling = batch_of(LENGTHS), made("attention")
    assert pooling(states(batch) * 1e3, batch).isfinite().all()


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.5, 1.0])
def test_the_merged_summaries_of_two_parts_are_that_of_the_whole(cut: float) -> None:
    batch, pooling = batch_of(LENGTHS), made(*POOLINGS)
    x = states(batch) * 3
    cuts = [int(cut * length) for length in LENGTHS]
    sizes = (cuts, [length - k for length, k in zip(LENGTHS, cuts, strict=True)])

    def side(values: Tensor, which: int) -> Tensor:
        pieces = [(own[:k], own[k:]) for own, k in zip(values.split(LENGTHS), cuts, strict=True)]
        return torch.cat([piece[which] for piece in pieces])

    parts = []
    for which in (0, 1):
        columns = {"kind": side(batch.columns["kind"], which)}
        parts.append(
            pooling.summarise(side(x, which), replace(batch_of(sizes[which]), columns=columns))
        )
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


def test_a_rare_kind_is_seen_whatever_else_there_is() -> None:
    pooling, kinds = made("category_mean"), torch.tensor([2] * 200 + [4], dtype=torch.int32)
    batch = replace(small.batch_of([201]), columns={"kind": kinds})
    x = torch.zeros(201, SIZE)
    before = pooling(x, batch)
    x[200] = 1.0
    moved = (pooling(x, batch) - before).abs()[0].view(5, 3)
    assert moved[4, :2].min() > 0.01
    assert moved[:4].max() == 0


def vocabulary(within: str | None = None, **sizes: int) -> Vocabulary:
    codes = {
        n: CategoryCodes(values=tuple(map(str, range(size))), null=False)
        for n, size in sizes.items()
    }
    scale = NumericScale(log_unit=None, center=0.0, scale=1.0)
    numbers = NumericScales(
        overall=scale, by=within, within=(None,) * codes[within].size if within else ()
    )
    time = TimeScale(daily=False, span_days=1.0, gap_center=0.0, gap_scale=1.0)
    return Vocabulary(categorical=codes, numeric={"amount": numbers}, time=time)


def test_events_are_pooled_by_the_column_that_numbers_lie_within_or_the_largest_that_fits() -> None:
    options = CategoryMeanOptions(values=40)
    assert column_to_pool_by(options, vocabulary("a", a=3, b=30)) == "a"
    assert column_to_pool_by(options, vocabulary(a=3, b=30, c=500)) == "b"
    assert column_to_pool_by(options, vocabulary(a=5000, b=300)) == "b"
    assert column_to_pool_by(CategoryMeanOptions(column="a"), vocabulary("b", a=3, b=30)) == "a"
    assert column_to_pool_by(options, vocabulary()) is None
    with pytest.raises(ConfigError, match=r"category_mean.column is 'c'.* Expected one of: a, b"):
        column_to_pool_by(CategoryMeanOptions(column="c"), vocabulary(a=3, b=30))


def test_without_categories_it_adds_nothing_and_cannot_stand_alone() -> None:
    config = Config.from_dict(
        {"pooling": ["mean", "category_mean"], "event_encoder": {"hidden_size": 8}}
    )
    assert SequenceEncoder(config, vocabulary()).vector_size == 8
    with pytest.raises(ConfigError, match="the events have no categorical column"):
        SequenceEncoder(Config.from_dict({"pooling": "category_mean"}), vocabulary())
