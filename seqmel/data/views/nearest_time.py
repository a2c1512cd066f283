"""Nearest in time: the events nearest to a random time, however dense they are."""

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
    """The events nearest in time to a random time.

    The events of each client that are nearest to a time, K times.

    The time is drawn uniformly from the span of the client's events, the number of events uniformly
    from the allowed lengths. Random slices prefer times with many events. These views come from
    busy and quiet times alike. Of two equally near events the earlier one is taken.
    """

    how: ClassVar[str] = (
        "the events nearest to a random moment between the client's first and last event: "
        "busy and quiet times alike"
    )
    when: ClassVar[str] = (
        "bursts of events should not dominate: quiet times are as likely to be seen as busy ones"
    )
    by_time: ClassVar[bool] = True

    def choose(
        self, clients: Tensor, lengths: Tensor, generator: torch.Generator, times: Tensor | None
    ) -> Views:
        """Choose contiguous events."""
        assert times is not None, "draw() checks it"
        n = lengths.repeat_interleave(self.count)
        begin = (lengths.cumsum(0) - lengths).repeat_interleave(self.count)
        drawn = torch.rand((2, len(n)), generator=generator, dtype=torch.float64)
        shortest = self.shortest(n)
        length = shortest + (drawn[0] * (self.longest(n) - shortest + 1)).long()
        first = times[begin]
        moment = first + (drawn[1] * (times[begin + n - 1] - first + 1)).long()
        # The nearest events are contiguous. Bisect where they begin.
        low = torch.zeros_like(n)
        high = n - length
        for _ in range(int(high.max()).bit_length()):
            middle = (low + high) // 2
            later = (
                times[begin + torch.minimum(middle + length, n - 1)] - moment
                < moment - times[begin + middle]
            )
            moves = later & (low < high)
            high = torch.where(moves, high, torch.minimum(high, middle))
            low = torch.where(moves, middle + 1, low)
        return Views(clients.repeat_interleave(self.count), low, length)
