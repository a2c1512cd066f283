"""What one event tells the encoder: its categories, its numbers, and its time."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from small import batch_of, offsets, vocabulary_of
from torch import Tensor

from seqmel.data.kinds.number import KNOTS
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.vocabulary import UNSEEN, CategoryCodes, NumericScale, NumericScales, Vocabulary
from seqmel.nn.events import EventEncoder, TimeFeatures, weighted_rows

DAY_US = 86_400_000_000


# ---------------------------------------------------------------------------------------------
# weighted rows


def bag(seed: int = 0, *, events: int = 7, kinds: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Return a table with unused and repeated rows, and weights of which some are zero."""
    random = torch.Generator().manual_seed(seed)
    table = torch.randn(9, 4, dtype=torch.float64, generator=random)
    weights = torch.rand(events, kinds, dtype=torch.float64, generator=random)
    weights[::2, 0] = 0.0
    return table, torch.randint(0, 6, (events, kinds), generator=random), weights


@pytest.mark.parametrize("events", [0, 1, 7])
def test_weighted_rows_and_their_gradient_are_those_of_a_plain_sum(events: int) -> None:
    table, rows, weights = bag(events=events)
    ours, theirs = table.clone().requires_grad_(), table.clone().requires_grad_()
    mine, other = weighted_rows(ours, rows, weights), (theirs[rows] * weights.unsqueeze(2)).sum(1)
    torch.testing.assert_close(mine, other)
    factor = torch.randn(
        mine.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    (mine * factor).sum().backward()
    (other * factor).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_gradient_of_weighted_rows_is_the_numeric_one() -> None:
    table, rows, weights = bag()
    assert torch.autograd.gradcheck(
        lambda t: weighted_rows(t, rows, weights), table.requires_grad_()
    )


# ---------------------------------------------------------------------------------------
# categories, numbers


def encoder(vocabulary: Vocabulary | None = None, **options: float) -> EventEncoder:
    torch.manual_seed(0)
    network = EventEncoder(vocabulary or vocabulary_of(), hidden_size=8, **options).eval()  # type: ignore[arg-type]
    torch.nn.init.normal_(network.table)  # any curve, not only the line that it begins as
    return network


def events(**columns: list[float]) -> SequenceBatch:
    """Return simultaneous events of a sequence, by default with the columns of `vocabulary_of`."""
    count = len(next(iter(columns.values())))
    filled = {"kind": [2.0] * count, "size": [0.0] * count, "level": [0.0] * count} | columns
    tensors = {
        n: torch.tensor(v, dtype=torch.int32 if n == "kind" else torch.float32)
        for n, v in filled.items()
    }
    sizes = torch.tensor([count])
    return SequenceBatch(tensors, torch.zeros(count, dtype=torch.int64), offsets(sizes), sizes)


def summed(network: EventEncoder, batch: SequenceBatch) -> Tensor:
    """(E, H): what categories and numbers add up to, before the network."""
    return weighted_rows(network.table, *network.rows(batch))


@pytest.mark.parametrize("name", ["size", "level"])
def test_a_number_between_knots_lies_on_the_line_between_their_vectors(name: str) -> None:
    network = encoder()
    for left, right in itertools.pairwise(KNOTS):
        for share in (0.25, 0.5, 0.9):
            low, high, between = summed(
                network, events(**{name: [left, right, left + share * (right - left)]})
            )
            assert not torch.equal(low, high)
            torch.testing.assert_close(between, torch.lerp(low, high, share), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["size", "level"])
def test_a_missing_number_has_a_vector_of_its_own(name: str) -> None:
    found = summed(encoder(), events(**{name: [math.nan, *KNOTS]}))
    assert ((found[1:] - found[0]).abs().amax(1) > 1e-3).all()


def test_the_ends_of_the_scale_are_finite_and_so_are_their_gradients() -> None:
    network = encoder()
    found = network(events(size=[-10.0, 10.0, math.nan], level=[math.nan, -10.0, 10.0]))
    found.sum().backward()
    assert found.isfinite().all()
    assert network.table.grad is not None
    assert network.table.grad.isfinite().all()


def test_a_number_within_a_category_takes_the_curve_of_its_category() -> None:
    network = encoder()

    def curve(code: float) -> Tensor:
        """How the vector of an event moves with `level`."""
        found = summed(network, events(level=list(KNOTS), kind=[code] * len(KNOTS)))
        return found - found[:1]

    assert not torch.allclose(curve(2.0), curve(3.0), atol=1e-3)
    sizes = summed(network, events(size=list(KNOTS), kind=[2.0] * len(KNOTS)))
    others = summed(network, events(size=list(KNOTS), kind=[3.0] * len(KNOTS)))
    torch.testing.assert_close(sizes - sizes[:1], others - others[:1])


def test_a_number_begins_on_a_straight_line() -> None:
    torch.manual_seed(0)
    low, middle, high = summed(
        EventEncoder(vocabulary_of(), hidden_size=8).eval(), events(size=[-3.0, 0.0, 3.0])
    )
    torch.testing.assert_close(high - middle, middle - low)


def test_no_two_rows_of_the_table_are_shared_between_columns() -> None:
    network = encoder()
    rows = [
        network.rows(events(kind=[code], size=[x], level=[x]))[0][0]
        for code in range(5)
        for x in (*KNOTS, math.nan)
    ]
    kind, size, level = (
        set(torch.stack(rows)[:, list(part)].flatten().tolist()) for part in ((0,), (1, 2), (3, 4))
    )
    assert kind | size | level == set(range(len(network.table)))
    assert len(kind) + len(size) + len(level) == len(network.table)


def test_training_hides_a_share_of_the_codes_as_unseen_and_evaluation_none() -> None:
    network = encoder(category_dropout=0.2)
    batch = events(kind=[4.0] * 20_000)
    assert (network.rows(batch)[0][:, 0] == 4).all()
    network.train()
    rows = network.rows(batch)[0]
    hidden = rows[:, 0] == UNSEEN
    assert float(hidden.float().mean()) == pytest.approx(0.2, abs=0.02)
    curve = (rows[:, 3] - network.begins["level"]) // (len(KNOTS) + 1)
    assert torch.equal(curve, rows[:, 0])


# --------------------------------------------------------------------------------------------------
# time


def timed(times_us: list[int], lengths: list[int]) -> SequenceBatch:
    sizes = torch.tensor(lengths)
    return SequenceBatch({}, torch.tensor(times_us, dtype=torch.int64), offsets(sizes), sizes)


def test_the_gap_is_that_to_the_event_before_in_the_same_sequence() -> None:
    features = TimeFeatures(vocabulary_of().time)
    hour = 3_600_000_000
    batch = timed([0, hour, 10 * DAY_US, 10 * DAY_US, 11 * DAY_US], [2, 0, 3])
    gaps = [0.0, 3_600.0, 0.0, 0.0, 86_400.0]
    expected = [max(-5.0, min(5.0, (math.log1p(gap) - 8.0) / 2.0)) for gap in gaps]
    found = features(batch)
    assert found[:, 0].tolist() == pytest.approx(expected, abs=1e-5)
    assert found[:, 1].tolist() == [float(gap == 0.0) for gap in gaps]


def test_reordered_events_keep_their_cycles_and_take_the_gap_to_the_event_before() -> None:
    features, batch = TimeFeatures(vocabulary_of().time), batch_of([9])
    order = torch.tensor([4, 0, 8, 2, 1, 7, 3, 6, 5])
    mixed = SequenceBatch(
        {name: values[order] for name, values in batch.columns.items()},
        batch.time[order],
        batch.offsets,
        batch.lengths,
    )
    before, after = features(batch), features(mixed)
    assert torch.equal(after[:, 2:], before[order, 2:])
    seconds = (mixed.time[1:] - mixed.time[:-1]).abs() / 1e6
    expected = (torch.log1p(seconds.float()) - features.scale.gap_center) / features.scale.gap_scale
    torch.testing.assert_close(after[1:, 0], expected.clamp(-5, 5))
    assert not torch.allclose(after[:, 0], before[order, 0])


def test_the_time_of_day_is_a_cycle_also_before_1970() -> None:
    features = TimeFeatures(vocabulary_of(span_days=1.0).time)
    quarter = DAY_US // 4
    found = features(timed([quarter, quarter + 7 * DAY_US, quarter - 3 * DAY_US], [3]))[:, 2:]
    assert found.shape == (3, 6)
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])
    assert found[0, :2].tolist() == pytest.approx([1.0, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    ("span_days", "daily", "width"),
    [(1, False, 8), (1, True, 2), (14, True, 8), (60, True, 12), (400, False, 22)],
)
def test_only_cycles_that_the_data_shows_are_used(
    span_days: float, daily: bool, width: int
) -> None:
    assert TimeFeatures(vocabulary_of(span_days=span_days, daily=daily).time).output_size == width


def test_times_of_this_century_keep_their_seconds() -> None:
    features = TimeFeatures(vocabulary_of(span_days=1.0).time)
    now = 19_900 * DAY_US
    morning, later = features(timed([now, now + 60_000_000], [1, 1]))[:, 2:]
    assert float(later[0] - morning[0]) == pytest.approx(
        math.sin(2 * math.pi * 60 / 86_400), abs=1e-6
    )


# --------------------------------------------------------------------------------------------------
# together


def test_events_become_vectors_of_the_width_asked_for_and_missing_numbers_harm_nothing() -> None:
    found = encoder()(batch_of([5, 0, 9]))
    assert found.shape == (14, 8)
    assert found.isfinite().all()


@pytest.mark.parametrize("name", ["kind", "size", "level"])
def test_every_column_is_seen(name: str) -> None:
    batch, network = batch_of([9]), encoder()
    other = dict(batch.columns)
    other[name] = (
        torch.where(other[name] == 2, 3, 2).int()
        if name == "kind"
        else other[name].nan_to_num(0) + 1.0
    )
    changed = SequenceBatch(other, batch.time, batch.offsets, batch.lengths)
    assert ((network(changed) - network(batch)).abs().amax(1) > 1e-6).sum() >= 7


@pytest.mark.parametrize("lengths", [[], [0, 0]])
def test_a_batch_without_events_has_no_vectors(lengths: list[int]) -> None:
    assert encoder()(batch_of(lengths)).shape == (0, 8)


@pytest.mark.parametrize("name", ["a.b", "forward", "type", "größe %", "", "training"])
def test_any_column_name_can_be_a_feature(name: str) -> None:
    codes = CategoryCodes(values=("a", "b", "c"), null=True)
    batch = batch_of([4])
    named = SequenceBatch({name: batch.columns["kind"]}, batch.time, batch.offsets, batch.lengths)
    network = encoder(Vocabulary(categorical={name: codes}, numeric={}, time=vocabulary_of().time))
    assert network(named).shape == (4, 8)
    scales = NumericScales(overall=NumericScale(log_unit=None, center=0.0, scale=1.0))
    named = SequenceBatch({name: batch.columns["size"]}, batch.time, batch.offsets, batch.lengths)
    network = encoder(Vocabulary(categorical={}, numeric={name: scales}, time=vocabulary_of().time))
    assert network(named).shape == (4, 8)


def test_noise_is_added_in_training_only_and_is_as_large_as_asked_for() -> None:
    batch, plain, noisy = (
        events(size=[1.0] * 4000),
        encoder(),
        encoder(noise=0.003, category_dropout=0.0),
    )
    assert torch.equal(noisy(batch), plain(batch))
    noisy.network, plain.network = torch.nn.Identity(), torch.nn.Identity()  # type: ignore[assignment]
    added = (noisy.train()(batch) - plain(batch)).detach()
    assert float(added.std()) == pytest.approx(0.003, rel=0.05)
    assert abs(float(added.mean())) < 0.0003
