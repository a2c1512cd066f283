"""What all views share: how many and how long they are, and the modifiers.

A client of n events gives views of min(min_length, ceil(n / 2)) to min(max_length, n) events, so that a short client gives
different parts of its sequence and not K times the whole. Of equal views of one client one is kept: an identical pair
would teach nothing. A client with fewer than two events has no two different parts and is not trained on.

Drawn for a whole batch at once, on the host and from a generator that is passed in; only the gather that follows runs
where the events lie.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from seqmel.data.views.drawn_views import Views, distinct
from seqmel.data.views.modifiers import drop_days, drop_events, shuffled

__all__ = ["ViewSampler"]


@dataclass(frozen=True, kw_only=True)
class ViewSampler(ABC):
    """Draws views of clients.

    Attributes:
        count: K, views a client; fewer where some would be equal.
        min_length, max_length: events a view; see the module's text for clients with fewer.
        event_dropout: share of a view's events that are left out at random; one always stays.
        day_dropout: share of a view's days of which all events are left out; one always stays.
        shuffle: mix the order of a view's events once it is cut; what stays of their order is said at `shuffled`.
    """

    count: int = 5
    min_length: int = 25
    max_length: int = 200
    event_dropout: float = 0.0
    day_dropout: float = 0.0
    shuffle: bool = False

    by_time: ClassVar[bool] = False
    """Whether the times of the events decide what a view is."""

    @property
    def needs_times(self) -> bool:
        """Whether `draw` has to be given the times of the events."""
        return self.by_time or self.day_dropout > 0

    @staticmethod
    def eligible(lengths: Tensor) -> Tensor:
        """(N,) bool: the clients that have two different parts."""
        return lengths >= 2

    def draw(self, clients: Tensor, lengths: Tensor, generator: torch.Generator, times: Tensor | None = None) -> Views:
        """Draw the views of a batch.

        Args:
            clients: (B,) int64, positions of the clients in the set, all different.
            lengths: (B,) int64, their numbers of events, each at least 1.
            generator: the source of randomness, on the CPU.
            times: (sum of lengths,) int64, microseconds, the times of all their events, client after client; where
                `needs_times`.
        """
        assert times is not None or not self.needs_times, "these views are drawn by time"
        views = self.choose(clients, lengths, generator, times)
        if self.day_dropout and times is not None:
            views = drop_days(views, clients, lengths, times, share=self.day_dropout, generator=generator)
        if self.event_dropout:
            views = drop_events(views, share=self.event_dropout, generator=generator)
        views = distinct(views)
        return shuffled(views, generator) if self.shuffle else views

    @abstractmethod
    def choose(self, clients: Tensor, lengths: Tensor, generator: torch.Generator, times: Tensor | None) -> Views:
        """The views before they are modified; the arguments are those of `draw`."""

    def shortest(self, lengths: Tensor) -> Tensor:
        """The fewest events of a view of clients of these lengths."""
        return torch.minimum(torch.full_like(lengths, self.min_length), (lengths + 1) // 2)

    def longest(self, lengths: Tensor) -> Tensor:
        """The most events of a view of clients of these lengths."""
        return lengths.clamp(max=self.max_length)
