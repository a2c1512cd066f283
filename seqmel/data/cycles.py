"""Cycles of the calendar: behaviour, or an address in time that identifies a client.

If clients are active at different times, two slices of a client share hour, weekday, month and
season. A contrastive loss exploits this: it learns when clients were active instead of what they
are like. But the calendar is behaviour too, such as shopping on Saturdays. The data shows which of
the two it is. For events of one client at times s and t, and a cycle of period P with H harmonics,
let

    a(s, t) = mean over h = 1 ... H of cos(2 pi h (s - t) / P).

    likeness(client)  mean of a over all pairs of its events
    habit(client)     mean of a over pairs at least one period and less than n periods apart, with n
                      the number of whole periods between its first and its last event
    chance            mean of a over pairs of events of two different clients

All three are U-statistics: no event is paired with itself, so clients with few events do not seem
to have strong habits. Over whole periods, the lags of steady activity have no phase, so it does not
seem to be a habit either. The likeness beyond chance, averaged over clients, is what a contrastive
loss can exploit. The habit beyond chance is how much of it recurs after a whole period. A client
that is active for less than two periods shows no habit and counts as zero.

A cycle is an address if less than half of the likeness beyond chance is habit. It is an address too
if each client has a constant phase of its own, such as the offset of its time zone.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqmel.core.random_streams import Stream, generator
from seqmel.core.units import DAY_US
from seqmel.data.local_time import LocalTime
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.vocabulary import TimeScale

__all__ = [
    "CYCLES",
    "Cycle",
    "CycleLikeness",
    "address_cycles",
    "cycle_likeness",
    "cycles_of",
    "drawn_shifts",
    "shifts_of",
]

_MOST_CLIENTS, _MOST_EVENTS = 2_000, 48  # a million pairs
_LEAST_LIKENESS = 0.05
"""A likeness beyond chance below this hardly distinguishes clients."""
_CONSTANT = 0.95
"""A likeness above this, including chance, is that of a constant phase."""


@dataclass(frozen=True)
class Cycle:
    """A cycle of the calendar.

    Attributes:
        name: The name in options.
        period_us: Period in microseconds.
        harmonics: Number of sines and cosines that describe it.
        least_span_days: Minimum span of the data to use it.
    """

    name: str
    period_us: int
    harmonics: int
    least_span_days: float


CYCLES = (
    Cycle("day", DAY_US, 3, 0.0),
    Cycle("week", 7 * DAY_US, 3, 14.0),
    Cycle("month", round(30.436875 * DAY_US), 2, 60.0),
    Cycle("year", round(365.2425 * DAY_US), 2, 400.0),
)


def cycles_of(scale: TimeScale) -> tuple[Cycle, ...]:
    """Return the cycles that data of this span shows.

    The day is excluded if times are whole days.

    Args:
        scale: Gives the span and the resolution of the times.
    """
    return tuple(
        c
        for c in CYCLES
        if scale.span_days >= c.least_span_days and not (scale.daily and c.name == "day")
    )


@dataclass(frozen=True)
class CycleLikeness:
    """Similarity of the phases of a cycle within clients, beyond chance. See `seqmel.data.cycles`.

    Attributes:
        likeness: Over all pairs of events of a client.
        habit: Over pairs whole periods apart.
        chance: Over pairs of events of two clients. It is subtracted from the other two.
    """

    likeness: float
    habit: float
    chance: float

    @property
    def address(self) -> bool:
        """Whether the cycle shows when a client was active rather than what it is like."""
        constant = self.likeness + self.chance > _CONSTANT
        return self.likeness >= _LEAST_LIKENESS and (constant or self.habit < self.likeness / 2)


def address_cycles(
    sequences: EncodedSequences, scale: TimeScale, *, seed: int = 0
) -> tuple[str, ...]:
    """Return the names of the cycles that are an address, measured on a sample of clients.

    Args:
        sequences: The sequences of the training clients.
        scale: Gives the span of the data.
        seed: The seed of the sample.
    """
    able = (sequences.lengths >= 2).nonzero()[:, 0]
    random = generator(seed, Stream.CYCLES)
    chosen = able[torch.randperm(len(able), generator=random)[:_MOST_CLIENTS]].sort().values
    clients = _sampled(sequences, chosen, random, LocalTime(scale))
    return tuple(cycle.name for cycle in cycles_of(scale) if cycle_likeness(clients, cycle).address)


def _sampled(
    sequences: EncodedSequences,
    clients: Tensor,
    random: torch.Generator,
    local: LocalTime,
) -> tuple[Tensor, ...]:
    """Sample the local times of some distinct events of each client, without reading others."""
    places = [_places(n, random) for n in sequences.lengths[clients].tolist()]
    counts = torch.tensor([len(own) for own in places], dtype=torch.int64)
    none = torch.zeros(0, dtype=torch.int64)
    batch = sequences.gather(
        clients, torch.zeros_like(clients), counts, torch.cat([none, *places])
    ).to("cpu")
    offsets = local(batch)
    times = batch.time if offsets is None else batch.time + offsets
    return torch.split(times, counts.tolist())


def _places(events: int, random: torch.Generator) -> Tensor:
    if events <= _MOST_EVENTS:
        return torch.arange(events)
    drawn: Tensor = torch.unique(torch.randint(events, (_MOST_EVENTS,), generator=random))
    return drawn if len(drawn) > 1 else torch.arange(2)


def cycle_likeness(clients: Sequence[Tensor], cycle: Cycle) -> CycleLikeness:
    """Measure a cycle on the times of some clients.

    Args:
        clients: The times of each client, int64 microseconds, at least two per client.
        cycle: The cycle.

    Returns:
        The measures. They are zero for fewer than two clients.
    """
    if len(clients) < 2:
        return CycleLikeness(0.0, 0.0, 0.0)
    harmonics = torch.arange(1, cycle.harmonics + 1, dtype=torch.float64) * (
        2 * math.pi / cycle.period_us
    )
    alike, habit, far = torch.zeros(3, len(clients), dtype=torch.float64)
    means = torch.zeros(len(clients), 2 * cycle.harmonics, dtype=torch.float64)
    for i, times in enumerate(clients):
        angles = (times % cycle.period_us).double().unsqueeze(1) * harmonics
        waves = torch.cat([angles.cos(), angles.sin()], dim=1)
        means[i] = waves.mean(0)
        first, second = torch.triu_indices(len(times), len(times), 1)
        pairs = (waves @ waves.T)[first, second] / cycle.harmonics
        lags = (times[first] - times[second]).abs()
        whole = lags.max() // cycle.period_us * cycle.period_us
        apart = (lags >= cycle.period_us) & (lags < whole)
        alike[i], far[i] = pairs.mean(), bool(apart.any())
        habit[i] = pairs[apart].mean() if bool(apart.any()) else 0.0
    total = means.sum(0)
    count = len(clients)
    chance = float(
        (total.square().sum() - means.square().sum()) / (count * (count - 1) * cycle.harmonics)
    )
    return CycleLikeness(
        float((alike - chance).mean()), float(((habit - chance) * far).mean()), chance
    )


def drawn_shifts(views: int, names: Container[str], random: torch.Generator) -> Tensor:
    """Draw (views, C) int64 microseconds, see `shifts_of`.

    Args:
        views: Number V of views.
        names: The cycles to shift.
        random: The random generator.

    Returns:
        (V, C) int64 microseconds, uniform over a period.
    """
    return shifts_of(torch.rand(views, len(CYCLES), generator=random, dtype=torch.float64), names)


def shifts_of(fractions: Tensor, names: Container[str]) -> Tensor:
    """Return (V, C) int64 microseconds: fractions of the periods of the named cycles, else 0.

    Args:
        fractions: (V, C) float64 in [0, 1), C the number of cycles.
        names: The cycles to shift.
    """
    return (
        fractions
        * torch.tensor([cycle.period_us if cycle.name in names else 0 for cycle in CYCLES])
    ).long()
