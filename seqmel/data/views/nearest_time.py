"""Nearest in time: the events that lie nearest to a random moment, however densely they lie there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from seqmel.data.views.base import ViewSampler
from seqmel.data.views.drawn_views import Views

__all__ = ["NearestTime"]


@dataclass(frozen=True, kw_only=True)
class NearestTime(ViewSampler):
    """K times the events of each client that are nearest to a moment, which is drawn uniformly from what its events span.

    How many is drawn uniformly from the lengths that are allowed. Random slices begin the more often at a time, the more
    events lie there; these come from busy and quiet times alike. Of events that are equally near the earlier is taken.
    """

    by_time: ClassVar[bool] = True

    def choose(self, clients: Tensor, lengths: Tensor, generator: torch.Generator, times: Tensor | None) -> Views:
        """Runs of events."""
        assert times is not None, "draw() sees to it"
        n = lengths.repeat_interleave(self.count)
        begin = (lengths.cumsum(0) - lengths).repeat_interleave(self.count)
        drawn = torch.rand((2, len(n)), generator=generator, dtype=torch.float64)
        shortest = self.shortest(n)
        length = shortest + (drawn[0] * (self.longest(n) - shortest + 1)).long()
        first = times[begin]
        moment = first + (drawn[1] * (times[begin + n - 1] - first + 1)).long()
        low, high = torch.zeros_like(n), n - length  # the nearest events are a run: where it begins, by halving
        for _ in range(int(high.max()).bit_length()):
            middle = (low + high) // 2
            later = times[begin + torch.minimum(middle + length, n - 1)] - moment < moment - times[begin + middle]
            moves = later & (low < high)
            low, high = torch.where(moves, middle + 1, low), torch.where(moves, high, torch.minimum(high, middle))
        return Views(clients.repeat_interleave(self.count), low, length)
