"""Views: right client, within its sequence, right lengths, in order, different each time."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from seqmel.data.views import (
    VIEWS,
    CalendarWindows,
    LastK,
    NearestTime,
    RandomDisjointSamples,
    RandomSamples,
    RandomSlices,
    TimeWindows,
    Views,
    ViewSampler,
)
from seqmel.data.views.drawn_views import DAY_US, distinct

LENGTHS = torch.tensor([2, 3, 4, 7, 25, 26, 49, 50, 51, 199, 200, 201, 1_000, 1])


def times_of(lengths: Tensor, *, days: float = 1.0) -> Tensor:
    """Times of all events, client after client: `days` apart, with some hours more or less."""
    random = torch.Generator().manual_seed(1)
    parts = [torch.arange(n) + torch.rand(n, generator=random) * 0.9 for n in lengths.tolist()]
    return (torch.cat(parts) * days * DAY_US).long() + 19_000 * DAY_US


TIMES = times_of(LENGTHS)
BEGINS = (LENGTHS.cumsum(0) - LENGTHS).tolist()


def drawn(
    sampler: ViewSampler,
    lengths: Tensor = LENGTHS,
    *,
    seed: int = 0,
    times: Tensor | None = None,
    first: int = 0,
) -> Views:
    """Views of clients `first`, `first` + 1, ..."""
    clients = torch.arange(first, first + len(lengths))
    times = times_of(lengths) if times is None else times
    return sampler.draw(clients, lengths, torch.Generator().manual_seed(seed), times)


def listed(views: Views) -> list[tuple[int, list[int]]]:
    """Whose each view is, and the places of its events."""
    which, places = views.positions()
    assert torch.equal(torch.bincount(which, minlength=len(views.clients)), views.lengths)
    parts = torch.split(places, views.lengths.tolist())
    return [(int(client), part.tolist()) for client, part in zip(views.clients, parts, strict=True)]


SAMPLERS: list[ViewSampler] = [
    RandomSlices(count=5, min_length=25, max_length=200),
    RandomSlices(count=2, min_length=1, max_length=1),
    RandomSlices(count=9, min_length=3, max_length=4),
    RandomSlices(count=3, min_length=500, max_length=5_000),
    RandomSamples(count=5, min_length=25, max_length=200),
    RandomSamples(count=9, min_length=3, max_length=4),
    RandomDisjointSamples(count=5, min_length=25, max_length=200),
    RandomDisjointSamples(count=3, min_length=1, max_length=2),
    LastK(count=5, min_length=25, max_length=200),
    TimeWindows(count=5, min_length=5, max_length=200, days=30),
    TimeWindows(count=3, min_length=1, max_length=20, days=0.5),
    NearestTime(count=5, min_length=5, max_length=200),
    NearestTime(count=3, min_length=1, max_length=3),
    CalendarWindows(count=4, min_length=5, max_length=200, unit="month"),
    CalendarWindows(count=4, min_length=1, max_length=3, unit="week"),
    CalendarWindows(count=4, min_length=9, max_length=20, unit="day"),
]
MODIFIERS: list[dict[str, Any]] = [{"event_dropout": 0.3}, {"day_dropout": 0.4}, {"shuffle": True}]


def test_all_views_are_tested() -> None:
    assert {type(sampler) for sampler in SAMPLERS} == set(VIEWS.values())


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_views_lie_within_their_sequence_in_its_order_and_have_the_lengths_asked_for(
    sampler: ViewSampler, seed: int
) -> None:
    for client, places in listed(drawn(sampler, seed=seed)):
        events = int(LENGTHS[client])
        assert places == sorted(set(places))
        assert 0 <= places[0] <= places[-1] < events
        assert len(places) <= min(sampler.max_length, events)
        if not isinstance(sampler, (CalendarWindows, RandomDisjointSamples)):
            assert len(places) >= min(sampler.min_length, (events + 1) // 2)


@pytest.mark.parametrize("modifier", [{}, *MODIFIERS], ids=str)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_no_two_views_of_a_client_are_equal_and_every_client_has_some(
    sampler: ViewSampler, modifier: dict[str, Any]
) -> None:
    for seed in range(3):
        found = [
            (client, tuple(sorted(places)))
            for client, places in listed(drawn(replace(sampler, **modifier), seed=seed))
        ]
        counts = Counter(client for client, _ in found)
        assert len(set(found)) == len(found)
        assert set(counts) == set(range(len(LENGTHS)))
        assert max(counts.values()) <= sampler.count
        assert all(len(places) > 0 for _, places in found)


@pytest.mark.parametrize("modifier", [{}, *MODIFIERS], ids=str)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_the_same_generator_seed_gives_the_same_views_and_another_gives_others(
    sampler: ViewSampler, modifier: dict[str, Any]
) -> None:
    changed = replace(sampler, **modifier)
    assert listed(drawn(changed, seed=3)) == listed(drawn(changed, seed=3))
    assert listed(drawn(changed, seed=3)) != listed(drawn(changed, seed=4))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_the_views_of_a_client_stand_together_in_the_order_of_the_batch(
    sampler: ViewSampler,
) -> None:
    lengths = torch.tensor([300, 100, 200])
    views = sampler.draw(
        torch.tensor([30, 10, 20]), lengths, torch.Generator().manual_seed(0), times_of(lengths)
    )
    assert list(dict.fromkeys(views.clients.tolist())) == [30, 10, 20]
    assert views.clients.tolist() == sorted(views.clients.tolist(), key=[30, 10, 20].index)
    assert all(places[-1] < {30: 300, 10: 100, 20: 200}[client] for client, places in listed(views))


@pytest.mark.parametrize(
    "kind", [RandomSlices, RandomSamples, RandomDisjointSamples, LastK, TimeWindows]
)
def test_a_short_client_gives_different_parts_and_not_the_whole_again(
    kind: type[ViewSampler],
) -> None:
    found = listed(drawn(kind(count=5, min_length=25, max_length=200), torch.tensor([10]), seed=1))
    assert len(found) >= 2
    assert len({tuple(places) for _, places in found}) == len(found)
    assert min(len(places) for _, places in found) <= 6


def test_a_client_of_two_events_gives_its_three_different_parts() -> None:
    two = torch.tensor([2])
    slices = {tuple(p) for seed in range(30) for _, p in listed(drawn(SAMPLERS[0], two, seed=seed))}
    assert slices == {(0,), (1,), (0, 1)}
    dealt = [
        sorted(places for _, places in listed(drawn(SAMPLERS[6], two, seed=seed)))
        for seed in range(10)
    ]
    assert dealt == [[[0], [1]]] * 10


def test_a_client_of_one_event_is_not_eligible_and_of_two_is() -> None:
    assert SAMPLERS[0].eligible(torch.tensor([0, 1, 2, 50])).tolist() == [False, False, True, True]


def test_lengths_and_starts_of_slices_are_uniform() -> None:
    slices = RandomSlices(count=2, min_length=3, max_length=6)
    views = drawn(slices, torch.full((30_000,), 10))
    lengths = Counter(views.lengths.tolist())
    assert set(lengths) == {3, 4, 5, 6}
    shares = torch.tensor([lengths[n] / len(views.lengths) for n in (3, 4, 5, 6)])
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.01, rtol=0)
    starts = Counter(views.starts[views.lengths == 6].tolist())
    assert set(starts) == set(range(5))
    assert max(starts.values()) < 1.1 * min(starts.values())


def length_of(sampler: ViewSampler, n: int, drawn: float) -> int:
    """The length that a number from 0 to 1 stands for, of a client of n events."""
    allowed = range(min(sampler.min_length, -(-n // 2)), min(sampler.max_length, n) + 1)
    return allowed[int(drawn * len(allowed))]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", [LastK, RandomSamples])
@pytest.mark.parametrize("lengths", [(25, 200), (3, 4), (1, 1), (60, 60)])
def test_lengths_of_the_last_k_and_sizes_of_samples_are_those_of_a_loop(
    kind: type[ViewSampler], lengths: tuple[int, int], seed: int
) -> None:
    sampler = kind(count=4, min_length=lengths[0], max_length=lengths[1])
    views = sampler.choose(
        torch.arange(len(LENGTHS)), LENGTHS, torch.Generator().manual_seed(seed), None
    )
    numbers = torch.rand(
        4 * len(LENGTHS), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).tolist()
    found = listed(views)
    assert len(found) == len(numbers)
    for view, (client, places) in enumerate(found):
        n = int(LENGTHS[client])
        assert client == view // 4
        assert len(places) == length_of(sampler, n, numbers[view])
        assert places == sorted(set(places))
        assert 0 <= places[0] <= places[-1] < n
        assert kind is RandomSamples or places == list(range(n - len(places), n))


# --------------------------------------------------------------------------------------------------
# samples


def test_every_event_is_in_a_random_sample_equally_often() -> None:
    views = drawn(RandomSamples(count=2, min_length=4, max_length=4), torch.full((1_500,), 12))
    seen = Counter(place for _, places in listed(views) for place in places)
    assert set(views.lengths.tolist()) == {4}
    assert max(seen.values()) < 1.25 * min(seen.values())


def test_disjoint_samples_share_no_event_and_leave_none_out_below_the_maximum() -> None:
    sampler = RandomDisjointSamples(count=5, min_length=4, max_length=60)
    dealt: dict[int, list[list[int]]] = {}
    for client, places in listed(drawn(sampler)):
        dealt.setdefault(client, []).append(places)
    for client, parts in dealt.items():
        events = int(LENGTHS[client])
        together = sorted(place for places in parts for place in places)
        assert len(set(together)) == len(together)
        assert len(parts) == min(events, max(2, min(5, events // 4)))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert len(together) == min(events, 60 * len(parts))


# --------------------------------------------------------------------------------------------------
# time


def spans(views: Views, lengths: Tensor, times: Tensor) -> list[float]:
    """Days from the first to the last event of each view."""
    begins = (lengths.cumsum(0) - lengths).tolist()
    return [
        float(times[begins[c] + p[-1]] - times[begins[c] + p[0]]) / DAY_US for c, p in listed(views)
    ]


def test_a_window_holds_all_events_of_its_days_and_only_those() -> None:
    sampler = TimeWindows(count=5, min_length=1, max_length=10_000, days=7.5)
    lengths = torch.tensor([100, 300])
    times = times_of(lengths)
    views = drawn(sampler, lengths, times=times)
    assert max(spans(views, lengths, times)) < 7.5
    for client, places in listed(views):
        assert places == list(range(places[0], places[-1] + 1))
        around = [p for p in (places[0] - 1, places[-1] + 1) if 0 <= p < lengths[client]]
        begin = 0 if client == 0 else 100
        ends = times[begin + torch.tensor([min(places[0], *around), max(places[-1], *around)])]
        assert len(around) < 2 or float(ends[1] - ends[0]) / DAY_US >= 7.5


@pytest.mark.parametrize("seed", range(5))
def test_a_window_goes_on_until_it_has_enough_events_and_ends_where_it_has_too_many_as_in_a_loop(
    seed: int,
) -> None:
    """Bursts of twenty events within a day or two, and single ones ten days apart."""
    burst, sparse = torch.arange(20) * DAY_US // 15, torch.arange(12) * 10 * DAY_US
    whole = (
        torch.cat([sparse, sparse[-1] + DAY_US + burst, sparse[-1] + 5 * DAY_US + sparse])
        + 19_000 * DAY_US
    )
    times, lengths = torch.cat([whole, whole[:6], whole[12:32]]), torch.tensor([44, 6, 20])
    sampler = TimeWindows(count=30, min_length=4, max_length=9, days=3)
    views = sampler.choose(torch.arange(3), lengths, torch.Generator().manual_seed(seed), times)
    numbers = torch.rand(
        (2, 90), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).tolist()
    kinds = set()
    for view, (client, places) in enumerate(listed(views)):
        own = times[sum(lengths[:client].tolist()) :][: lengths[client]].tolist()
        width = max(1, min(3 * DAY_US, (own[-1] - own[0] + 1) // 2))
        begin = own[int(numbers[0][view] * len(own))] - int(numbers[1][view] * width)
        expected = [p for p, time in enumerate(own) if begin <= time < begin + width]
        assert expected
        kinds.add((len(expected) < 4, len(expected) > 9))
        while len(expected) < min(4, -(-len(own) // 2)):
            expected = (
                [*expected, expected[-1] + 1]
                if expected[-1] + 1 < len(own)
                else [expected[0] - 1, *expected]
            )
        assert places == expected[:9]
    assert kinds == {(True, False), (False, True), (False, False)}


def test_a_client_that_spans_less_than_two_windows_has_windows_of_half_of_it() -> None:
    lengths = torch.tensor([40])
    times = times_of(lengths, days=0.1)
    views = drawn(TimeWindows(count=5, min_length=1, max_length=99, days=30), lengths, times=times)
    assert len(views.clients) > 1
    assert max(spans(views, lengths, times)) <= 2.01


def test_a_client_whose_events_are_all_at_one_time_gives_one_view_by_time() -> None:
    times = torch.full((20,), 5 * DAY_US)
    assert listed(drawn(TimeWindows(count=5, min_length=5), torch.tensor([20]), times=times)) == [
        (0, list(range(20)))
    ]
    assert listed(
        drawn(CalendarWindows(count=5, min_length=5), torch.tensor([20]), times=times)
    ) == [(0, list(range(20)))]


def period(time: int, unit: str) -> tuple[int, ...]:
    when = dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=time)
    return {
        "day": (when.toordinal(),),
        "week": when.isocalendar()[:2],
        "month": (when.year, when.month),
    }[unit]


@pytest.mark.parametrize("unit", ["day", "week", "month"])
@pytest.mark.parametrize("before", [0, 25_000])
def test_a_calendar_window_is_a_whole_day_week_or_month(unit: Any, before: int) -> None:
    """Also before 1970."""
    lengths = torch.tensor([200, 300])
    times = times_of(lengths, days=0.4) - before * DAY_US
    owner = torch.repeat_interleave(torch.arange(2), lengths).tolist()
    periods = [
        (client, *period(time, unit)) for client, time in zip(owner, times.tolist(), strict=True)
    ]
    found = listed(
        drawn(
            CalendarWindows(count=4, min_length=1, max_length=999, unit=unit), lengths, times=times
        )
    )
    for client, places in found:
        begin = 200 * client
        (which,) = {periods[begin + place] for place in places}
        assert periods.count(which) == len(places)
    assert Counter(client for client, _ in found) == {
        0: min(4, len({p for p in periods if p[0] == 0})),
        1: 4,
    }


@pytest.mark.parametrize("unit", ["day", "week", "month"])
def test_of_a_calendar_window_with_too_many_events_the_first_are_taken(unit: Any) -> None:
    lengths = torch.tensor([200, 300])
    times = times_of(lengths, days=0.04)
    periods = [period(time, unit) for time in times.tolist()]
    found = listed(
        drawn(CalendarWindows(count=6, min_length=1, max_length=7, unit=unit), lengths, times=times)
    )
    for client, places in found:
        own = periods[200 * client :][: lengths[client]]
        assert places == [place for place, one in enumerate(own) if one == own[places[0]]][:7]
    assert {len(places) for _, places in found} >= {7}


def test_windows_with_too_few_events_are_drawn_only_for_clients_with_fewer_than_two_views() -> None:
    days = [0] * 9 + [1] * 2 + [2] * 8 + [3] + [0] * 9 + [1] + [2] * 2
    lengths, times = torch.tensor([20, 12]), torch.tensor(days) * DAY_US
    sampler = CalendarWindows(count=4, min_length=5, max_length=99, unit="day")
    for seed in range(10):
        found = listed(drawn(sampler, lengths, times=times, seed=seed))
        assert sorted(len(places) for client, places in found if client == 0) == [8, 9]
        rest = sorted(len(places) for client, places in found if client == 1)
        assert rest[-1] == 9
        assert len(rest) == 2


def test_the_last_k_end_with_the_last_event() -> None:
    found = listed(drawn(LastK(count=5, min_length=3, max_length=30)))
    assert all(places == list(range(places[0], int(LENGTHS[client]))) for client, places in found)


# --------------------------------------------------------------------------------------------------
# modifiers


def test_event_dropout_leaves_out_that_share_and_keeps_the_order() -> None:
    whole = drawn(RandomSlices(count=2, min_length=40, max_length=60), torch.full((100,), 3_000))
    some = drawn(
        RandomSlices(count=2, min_length=40, max_length=60, event_dropout=0.3),
        torch.full((100,), 3_000),
    )
    assert int(some.lengths.sum()) / int(whole.lengths.sum()) == pytest.approx(0.7, abs=0.02)
    for (client, places), (same, kept) in zip(listed(whole), listed(some), strict=True):
        assert (client, kept) == (same, sorted(kept))
        assert set(kept) <= set(places)


def test_day_dropout_leaves_out_whole_days() -> None:
    lengths = torch.tensor([300, 300])
    times = times_of(lengths, days=0.2)
    day = [t // DAY_US for t in times.tolist()]
    plain = RandomSlices(count=4, min_length=100, max_length=100)
    whole = drawn(plain, lengths, times=times, first=7)
    some = drawn(replace(plain, day_dropout=0.4), lengths, times=times, first=7)
    left = []
    for (client, places), (same, kept) in zip(listed(whole), listed(some), strict=True):
        assert client == same
        begin = (client - 7) * 300
        days, kept_days = {day[begin + p] for p in places}, {day[begin + p] for p in kept}
        assert kept == [p for p in places if day[begin + p] in kept_days]
        left.append(len(kept_days) / len(days))
    assert sum(left) / len(left) == pytest.approx(0.6, abs=0.1)


@pytest.mark.parametrize("modifier", [{"event_dropout": 0.999}, {"day_dropout": 0.999}], ids=str)
def test_something_of_each_view_always_stays(modifier: dict[str, Any]) -> None:
    views = drawn(RandomSlices(count=3, min_length=3, max_length=9, **modifier))
    assert set(views.clients.tolist()) == set(range(len(LENGTHS)))
    assert views.lengths.min() == 1


def test_shuffled_views_have_the_same_events_in_another_order() -> None:
    plain = drawn(RandomSlices(count=2, min_length=30, max_length=40), torch.tensor([100, 90]))
    mixed = drawn(
        RandomSlices(count=2, min_length=30, max_length=40, shuffle=True), torch.tensor([100, 90])
    )
    for (client, places), (same, others) in zip(listed(plain), listed(mixed), strict=True):
        assert (client, places) == (same, sorted(others))
        assert places != others


def test_shuffling_changes_no_slice_but_in_its_order() -> None:
    plain = RandomSlices(count=3, min_length=5, max_length=20)
    mixed = drawn(replace(plain, shuffle=True))
    assert [(client, sorted(places)) for client, places in listed(mixed)] == listed(drawn(plain))


def test_equal_sets_of_events_are_found_whatever_the_view() -> None:
    events = torch.tensor([0, 1, 2, 0, 1, 3, 0, 1, 2, 0, 1, 2, 5])
    views = Views(
        torch.tensor([0, 0, 0, 1, 1]), torch.zeros(5).long(), torch.tensor([3, 3, 3, 3, 1]), events
    )
    assert listed(distinct(views)) == [(0, [0, 1, 2]), (0, [0, 1, 3]), (1, [0, 1, 2]), (1, [5])]


def test_nearest_in_time_are_the_events_nearest_to_one_moment() -> None:
    """Return whether the view holds the events nearest to some moment, by a slow search."""
    views = drawn(NearestTime(count=4, min_length=2, max_length=30), LENGTHS, times=TIMES)
    for client, places in listed(views):
        own = TIMES[BEGINS[client] : BEGINS[client] + int(LENGTHS[client])].tolist()
        first, last = places[0], places[-1]
        # nearer to the moment than the event before and the one after: it lies between these two
        # middles
        after = (own[first - 1] + own[last]) / 2 if first > 0 else own[0]
        before = (own[first] + own[last + 1]) / 2 if last + 1 < len(own) else own[-1]
        assert after <= before
    crowded = torch.cat(
        [torch.arange(900), 1_000 + 1_000 * torch.arange(100)]
    )  # nine in ten of the events at the beginning
    places = [
        p
        for _, p in listed(
            drawn(
                NearestTime(count=40, min_length=5, max_length=5),
                torch.tensor([1_000]),
                times=crowded,
            )
        )
    ]
    assert sum(p[0] < 900 for p in places) <= 8


def test_nearest_in_time_is_what_a_loop_over_all_runs_finds() -> None:
    times, lengths = (
        torch.tensor([0, 1, 2, 50, 60, 61, 62, 63, 200, 7, 7, 7, 9]),
        torch.tensor([9, 4]),
    )
    sampler = NearestTime(count=6, min_length=1, max_length=4)
    for seed in range(5):
        views = sampler.choose(torch.arange(2), lengths, torch.Generator().manual_seed(seed), times)
        random = torch.rand(
            (2, 12), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        for view in range(12):
            own = times[:9] if view < 6 else times[9:]
            moment = int(own[0] + (random[1, view] * (own[-1] - own[0] + 1)).long())
            size, start = int(views.lengths[view]), int(views.starts[view])
            away = [
                sorted(abs(int(t) - moment) for t in own[s : s + size])
                for s in range(len(own) - size + 1)
            ]
            assert sum(away[start]) == min(map(sum, away))
