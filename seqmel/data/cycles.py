"""The cycles of the calendar, and which of them are an address in time rather than behaviour.

Two slices of one client share its hour, weekday, month and season wherever clients are active at different times. A
contrastive loss takes that gift: it learns when clients were there instead of what they are like. But the calendar is
behaviour too, such as shopping on Saturdays. The data tells the two apart. For events of one client at times s and t,
and a cycle of period P with H harmonics, let

    a(s, t) = mean over h = 1 ... H of cos(2 pi h (s - t) / P).

    likeness(client)  mean of a over all pairs of its events
    habit(client)     mean of a over those pairs that are one period or more, and less than n periods apart, where n is the
                      number of whole periods between its first and its last event
    chance            mean of a over pairs of events of two different clients

All three are U-statistics: no event is paired with itself, so that a client of few events is not taken for one of strong
habits. Over whole periods the lags of steady activity have no phase, so that it is not taken for a habit either. The
likeness beyond chance, averaged over clients, is what a contrastive loss can use. The habit beyond chance is how much of
it returns after a whole period; a client that is active for less than two periods has shown no habit and counts as zero.

A cycle is an address where less than half of the likeness beyond chance is habit. It is one too where each client has
a phase of its own that never varies, such as the offset of its time zone: people do not keep time so well.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqmel.core.random_streams import Stream, generator
from seqmel.core.units import DAY_US
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
"""Less than this beyond chance hardly tells clients apart."""
_CONSTANT = 0.95
"""A likeness of more than this, chance included, is that of a phase that never varies."""


@dataclass(frozen=True)
class Cycle:
    """A cycle of the calendar.

    Attributes:
        name: as options name it.
        period_us: microseconds.
        harmonics: how many sines and cosines describe it.
        least_span_days: it is seen in data from that span on.
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
    """The cycles that data of this span shows; no time of day where all times are whole days."""
    return tuple(c for c in CYCLES if scale.span_days >= c.least_span_days and not (scale.daily and c.name == "day"))


@dataclass(frozen=True)
class CycleLikeness:
    """How alike the phases of a cycle are within clients, beyond chance; see the module's text.

    Attributes:
        likeness: over all pairs of events of a client.
        habit: over pairs whole periods apart.
        chance: over pairs of events of two clients, which is taken off the other two.
    """

    likeness: float
    habit: float
    chance: float

    @property
    def address(self) -> bool:
        """Whether the cycle says when a client was there rather than what it is like."""
        constant = self.likeness + self.chance > _CONSTANT
        return self.likeness >= _LEAST_LIKENESS and (constant or self.habit < self.likeness / 2)


def address_cycles(sequences: EncodedSequences, scale: TimeScale, *, seed: int = 0) -> tuple[str, ...]:
    """The names of the cycles that are an address in time, measured on a sample of clients.

    Args:
        sequences: the training clients.
        scale: which cycles the data shows.
        seed: of the sample.
    """
    able = (sequences.lengths >= 2).nonzero()[:, 0]
    random = generator(seed, Stream.CYCLES)
    chosen = able[torch.randperm(len(able), generator=random)[:_MOST_CLIENTS]].sort().values
    clients = _sampled(sequences, chosen, random)
    return tuple(cycle.name for cycle in cycles_of(scale) if cycle_likeness(clients, cycle).address)


def _sampled(sequences: EncodedSequences, clients: Tensor, random: torch.Generator) -> tuple[Tensor, ...]:
    """The times of some different events of each client; no others are read."""
    places = [_places(n, random) for n in sequences.lengths[clients].tolist()]
    counts = torch.tensor([len(own) for own in places], dtype=torch.int64)
    none = torch.zeros(0, dtype=torch.int64)
    times = sequences.gather(clients, torch.zeros_like(clients), counts, torch.cat([none, *places])).time.cpu()
    return torch.split(times, counts.tolist())


def _places(events: int, random: torch.Generator) -> Tensor:
    if events <= _MOST_EVENTS:
        return torch.arange(events)
    drawn = torch.randint(events, (_MOST_EVENTS,), generator=random).unique()
    return drawn if len(drawn) > 1 else torch.arange(2)


def cycle_likeness(clients: Sequence[Tensor], cycle: Cycle) -> CycleLikeness:
    """What the times of some clients say of a cycle.

    Args:
        clients: the times of each, int64, microseconds; two or more of each.
        cycle: which one.

    Returns:
        Zeros for fewer than two clients.
    """
    if len(clients) < 2:
        return CycleLikeness(0.0, 0.0, 0.0)
    harmonics = torch.arange(1, cycle.harmonics + 1, dtype=torch.float64) * (2 * math.pi / cycle.period_us)
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
    total, count = means.sum(0), len(clients)
    chance = float((total.square().sum() - means.square().sum()) / (count * (count - 1) * cycle.harmonics))
    return CycleLikeness(float((alike - chance).mean()), float(((habit - chance) * far).mean()), chance)


def drawn_shifts(views: int, names: Container[str], random: torch.Generator) -> Tensor:
    """(views, C) int64 microseconds, see `shifts_of`."""
    return shifts_of(torch.rand(views, len(CYCLES), generator=random, dtype=torch.float64), names)


def shifts_of(shares: Tensor, names: Container[str]) -> Tensor:
    """(V, C) int64 microseconds: these shares of the periods of the `CYCLES` that are named, 0 for the others."""
    return (shares * torch.tensor([cycle.period_us if cycle.name in names else 0 for cycle in CYCLES])).long()
