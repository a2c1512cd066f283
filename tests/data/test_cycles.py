"""Which calendar cycles locate events in time or describe behaviour, and how clocks shift."""

from __future__ import annotations

import math
from collections.abc import Callable

import pyarrow as pa
import pytest
import torch
from small import batch_of, vocabulary_of
from torch import Tensor

from seqmel.data.cycles import (
    CYCLES,
    Cycle,
    CycleLikeness,
    _sampled,
    address_cycles,
    cycle_likeness,
    cycles_of,
    drawn_shifts,
)
from seqmel.data.local_time import LocalTime
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import TimeScale
from seqmel.nn.decoder import EventDecoder
from seqmel.nn.events import TimeFeatures

DAY = 86_400_000_000
WEEK = next(cycle for cycle in CYCLES if cycle.name == "week")
SCALE = TimeScale(daily=False, span_days=1_000.0, gap_center=0.0, gap_scale=1.0)


def drawn(client: Callable[[torch.Generator], Tensor], count: int = 300) -> list[Tensor]:
    """The sorted times, in days, of so many clients, as microseconds."""
    random = torch.Generator().manual_seed(0)
    return [(client(random).sort().values * DAY).long() for _ in range(count)]


def uniform(random: torch.Generator, events: int, begin: float, end: float) -> Tensor:
    return begin + torch.rand(events, generator=random, dtype=torch.float64) * (end - begin)


def one_weekday(random: torch.Generator) -> Tensor:
    """Forty weeks with most events on one weekday, another one for each client."""
    day = torch.randint(7, (1,), generator=random)
    weeks = torch.randint(40, (60,), generator=random)
    away = torch.randint(7, (60,), generator=random) * (torch.rand(60, generator=random) < 0.3)
    return (7 * weeks + day + away).double() + uniform(random, 60, 0.0, 1.0)


def one_visit(random: torch.Generator) -> Tensor:
    """Two days somewhere in three years."""
    begin = float(uniform(random, 1, 0.0, 1_000.0))
    return uniform(random, 30, begin, begin + 2.0)


def two_visits(random: torch.Generator) -> Tensor:
    """Two visits of an hour each, on days that have nothing to do with one another."""
    begins = uniform(random, 2, 0.0, 1_000.0)
    return torch.cat([uniform(random, 10, float(b), float(b) + 1 / 24) for b in begins])


def steady(random: torch.Generator) -> Tensor:
    """Two weeks and a half of steady activity that begins at any moment."""
    begin = float(uniform(random, 1, 0.0, 1_000.0))
    return uniform(random, 40, begin, begin + 17.5)


def always(random: torch.Generator) -> Tensor:
    return uniform(random, int(torch.randint(2, 5, (1,), generator=random)), 0.0, 1_000.0)


def own_clock(random: torch.Generator) -> Tensor:
    """Events on many days, always at the same moment of the week."""
    moment = float(uniform(random, 1, 0.0, 7.0))
    return 7.0 * torch.randperm(50, generator=random)[:20].double() + moment


def slow_likeness(clients: list[Tensor], cycle: Cycle) -> CycleLikeness:
    """Pair by pair."""

    def alike(s: int, t: int) -> float:
        turns = (s - t) / cycle.period_us * 2 * math.pi
        return sum(math.cos(h * turns) for h in range(1, cycle.harmonics + 1)) / cycle.harmonics

    times = [client.tolist() for client in clients]
    chance_of_pairs = []
    for i, a in enumerate(times):
        for j, b in enumerate(times):
            if i != j:
                pairs = [alike(s, t) for s in a for t in b]
                chance_of_pairs.append(sum(pairs) / len(pairs))
    chance = sum(chance_of_pairs) / len(chance_of_pairs)
    likeness, habit = [], []
    for own in times:
        pairs = [(abs(s - t), alike(s, t)) for i, s in enumerate(own) for t in own[:i]]
        likeness.append(sum(a for _, a in pairs) / len(pairs) - chance)
        whole = max(lag for lag, _ in pairs) // cycle.period_us
        far = [a for lag, a in pairs if cycle.period_us <= lag < whole * cycle.period_us]
        habit.append(sum(far) / len(far) - chance if far else 0.0)
    return CycleLikeness(sum(likeness) / len(likeness), sum(habit) / len(habit), chance)


@pytest.mark.parametrize("cycle", CYCLES, ids=lambda cycle: cycle.name)
@pytest.mark.parametrize("client", [one_weekday, one_visit, steady, always])
def test_likeness_is_that_of_a_slow_twin(
    client: Callable[[torch.Generator], Tensor], cycle: Cycle
) -> None:
    clients = drawn(client, 7)
    found, expected = cycle_likeness(clients, cycle), slow_likeness(clients, cycle)
    assert (found.likeness, found.habit, found.chance) == pytest.approx(
        (expected.likeness, expected.habit, expected.chance), abs=1e-6
    )


def test_a_weekday_of_ones_own_is_behaviour() -> None:
    found = cycle_likeness(drawn(one_weekday), WEEK)
    assert found.likeness > 0.1
    assert found.habit == pytest.approx(found.likeness, rel=0.1)
    assert not found.address


@pytest.mark.parametrize("client", [one_visit, two_visits, own_clock])
def test_when_a_client_was_there_is_an_address(client: Callable[[torch.Generator], Tensor]) -> None:
    assert cycle_likeness(drawn(client), WEEK).address


def test_steady_activity_shows_no_habit() -> None:
    found = cycle_likeness(drawn(steady), WEEK)
    assert found.habit == pytest.approx(0.0, abs=0.003)


def test_clients_of_few_events_are_no_more_alike_than_chance() -> None:
    found = cycle_likeness(drawn(always, 2_000), WEEK)
    assert found.likeness == pytest.approx(0.0, abs=0.03)
    assert not found.address


def test_a_moment_that_all_clients_share_is_no_address() -> None:
    found = cycle_likeness([torch.arange(5) * 7 * DAY + 3 for _ in range(9)], WEEK)
    assert (found.likeness, found.chance) == pytest.approx((0.0, 1.0), abs=1e-9)
    assert not found.address


def test_fewer_than_two_clients_say_nothing() -> None:
    assert cycle_likeness([torch.tensor([0, 1])], WEEK) == CycleLikeness(0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("span_days", "daily", "names"),
    [
        (1, True, []),
        (1, False, ["day"]),
        (14, True, ["week"]),
        (400, False, ["day", "week", "month", "year"]),
    ],
)
def test_cycles_are_those_that_the_data_shows(
    span_days: float, daily: bool, names: list[str]
) -> None:
    assert [
        cycle.name for cycle in cycles_of(vocabulary_of(span_days=span_days, daily=daily).time)
    ] == names


def encoded(clients: list[Tensor]) -> EncodedSequences:
    columns = {
        "c": range(len(clients)),
        "t": pa.array([c.tolist() for c in clients], pa.list_(pa.int64())),
    }
    return EncodedSequences.from_batches([pa.RecordBatch.from_pydict(columns)], time="t")


def test_visits_at_any_time_make_addresses_of_week_month_and_year_but_not_of_a_shared_day() -> None:
    clients = drawn(one_visit)
    assert address_cycles(encoded(clients), SCALE) == ("week", "month", "year")
    assert address_cycles(encoded(clients), SCALE.model_copy(update={"span_days": 20.0})) == (
        "week",
    )
    assert address_cycles(encoded(drawn(one_weekday)), SCALE) == ()


def test_of_a_long_sequence_some_different_events_are_looked_at() -> None:
    clients = [torch.arange(n) * DAY for n in (2, 48, 5_000)]
    found = _sampled(
        encoded(clients),
        torch.tensor([2, 0, 1]),
        torch.Generator().manual_seed(0),
        LocalTime(SCALE),
    )
    assert torch.equal(found[1], clients[0])
    assert torch.equal(found[2], clients[1])
    assert 40 < len(found[0]) == len(found[0].unique()) <= 48
    assert float(found[0].double().mean()) == pytest.approx(2_500 * DAY, rel=0.25)


def test_the_decision_hangs_on_the_seed_alone() -> None:
    clients = encoded(drawn(steady, 2_500))
    state = torch.random.get_rng_state()
    assert address_cycles(clients, SCALE, seed=3) == address_cycles(clients, SCALE, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)


# --------------------------------------------------------------------------------------------------
# shifting


def test_shifts_are_parts_of_a_period_and_none_of_what_is_not_named() -> None:
    shifts = drawn_shifts(500, ("week", "year"), torch.Generator().manual_seed(0))
    assert (shifts[:, [0, 2]] == 0).all()
    for column in (1, 3):
        period = CYCLES[column].period_us
        assert int(shifts[:, column].min()) >= 0
        assert int(shifts[:, column].max()) < period
        assert float(shifts[:, column].double().mean()) == pytest.approx(period / 2, rel=0.1)


def test_a_shifted_clock_moves_the_phases_of_its_cycle_and_nothing_else() -> None:
    batch, features = batch_of([4, 0, 3]), TimeFeatures(SCALE)
    shifts = torch.zeros(3, 4, dtype=torch.int64)
    shifts[2, 1] = 2 * DAY
    plain, moved = features(batch), features(batch.with_shifted_clock(shifts))
    week = slice(2 + 6, 2 + 12)
    expected = features(batch.with_shifted_clock(shifts).take(torch.arange(4, 7)))[:, week]
    assert torch.equal(moved[4:, week], expected)
    assert not torch.allclose(moved[4:, week], plain[4:, week], atol=0.1)
    moved[4:, week] = plain[4:, week]
    assert torch.equal(moved, plain)


def test_a_shift_of_a_whole_period_is_none() -> None:
    batch, features = batch_of([5, 2]), TimeFeatures(SCALE)
    periods = torch.tensor([cycle.period_us for cycle in CYCLES])
    assert torch.equal(features(batch.with_shifted_clock(periods.repeat(2, 1))), features(batch))


def test_the_decoder_reads_hours_and_weekdays_from_the_clock() -> None:
    decoder, batch = EventDecoder(vocabulary_of(), input_size=8), batch_of([6])
    hours, weekdays = (list(decoder.sizes).index(name) for name in ("time of day", "day of week"))
    plain = decoder._codes(batch, None)
    moved = decoder._codes(
        batch.with_shifted_clock(torch.tensor([[DAY // 24, 2 * DAY, 0, 0]])), None
    )
    assert torch.equal(moved[:, hours], (plain[:, hours] + 1) % 24)
    assert torch.equal(moved[:, weekdays], (plain[:, weekdays] + 2) % 7)


def test_the_decoder_leaves_out_cycles_that_cannot_be_predicted() -> None:
    every = EventDecoder(vocabulary_of(), input_size=8).sizes
    assert every.keys() - EventDecoder(
        vocabulary_of(), input_size=8, without=("day",)
    ).sizes.keys() == {"time of day"}
    assert every.keys() - EventDecoder(
        vocabulary_of(), input_size=8, without=("week",)
    ).sizes.keys() == {"day of week"}
