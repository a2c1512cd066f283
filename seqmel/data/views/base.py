"""Base class of all view samplers: the number and length of views, and modifiers.

A client of n events gives views of min(min_length, ceil(n / 2)) to min(max_length, n) events. So a
short client gives different parts of its sequence rather than K copies of it. Equal views of a
client are merged, because an identical pair teaches nothing. A client with fewer than two events
has no two different parts and is not trained on.

Views are drawn for a whole batch on the host, from a given generator. Only the gather runs on the
device of the events.
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
    """Draws views of clients, see the rules on lengths in `seqmel.data.views.base`.

    Attributes:
        count: K, number of views per client. There are fewer if some would be equal.
        min_length: Minimum number of events per view. Short clients have shorter views.
        max_length: Maximum number of events per view.
        event_dropout: Probability that an event of a view is dropped. One always stays.
        day_dropout: Probability that a day of a view is dropped with all its events. One always
            stays.
        shuffle: Whether to shuffle the events of a view after it is cut, see `shuffled`.
    """

    count: int = 5
    min_length: int = 25
    max_length: int = 200
    event_dropout: float = 0.0
    day_dropout: float = 0.0
    shuffle: bool = False

    how: ClassVar[str] = ""
    """What the views are, for the table of views in the documentation."""
    when: ClassVar[str] = ""
    """For which data, or for what, to choose them, for their page."""
    source: ClassVar[str] = ""
    """Where the views were published, for the same table."""
    one_per_length: ClassVar[bool] = False
    """Whether a client has only one view of each length, unless a dropout makes them differ."""
    by_time: ClassVar[bool] = False
    """Whether the times of the events determine the views."""

    @property
    def needs_times(self) -> bool:
        """Whether `draw` needs the times of the events."""
        return self.by_time or self.day_dropout > 0

    @staticmethod
    def eligible(lengths: Tensor) -> Tensor:
        """Return (N,) bool, the clients with two different parts."""
        return lengths >= 2

    def draw(
        self,
        clients: Tensor,
        lengths: Tensor,
        generator: torch.Generator,
        times: Tensor | None = None,
    ) -> Views:
        """Draw the views of a batch.

        Args:
            clients: (B,) int64, positions of the clients in the set, all different.
            lengths: (B,) int64, their numbers of events, each at least 1.
            generator: The source of randomness, on the CPU.
            times: (sum of lengths,) int64, microseconds, the times of all their events, client by
                client. Required if `needs_times`.

        Returns:
            The views.
        """
        assert times is not None or not self.needs_times, "these views are drawn by time"
        views = self.choose(clients, lengths, generator, times)
        if self.day_dropout and times is not None:
            views = drop_days(
                views, clients, lengths, times, probability=self.day_dropout, generator=generator
            )
        if self.event_dropout:
            views = drop_events(views, probability=self.event_dropout, generator=generator)
        views = distinct(views)
        return shuffled(views, generator) if self.shuffle else views

    @abstractmethod
    def choose(
        self, clients: Tensor, lengths: Tensor, generator: torch.Generator, times: Tensor | None
    ) -> Views:
        """Choose the views before they are modified. The arguments are those of `draw`."""

    def shortest(self, lengths: Tensor) -> Tensor:
        """Return the minimum number of events of a view of clients of these lengths."""
        return torch.minimum(torch.full_like(lengths, self.min_length), (lengths + 1) // 2)

    def longest(self, lengths: Tensor) -> Tensor:
        """Return the maximum number of events of a view of clients of these lengths."""
        return lengths.clamp(max=self.max_length)
