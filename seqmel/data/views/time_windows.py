"""Windows of time: what a client did within so many days from a random moment on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from seqmel.data.views.base import ViewSampler
from seqmel.data.views.drawn_views import DAY_US, Views, spread

__all__ = ["TimeWindows"]


@dataclass(frozen=True, kw_only=True)
class TimeWindows(ViewSampler):
    """K windows of `days` days of each client, possibly overlapping.

    A window lies at random around an event that is drawn uniformly, so that none is empty. Where a client's events span less
    than twice the days, its windows are half of what they span. A window with fewer events than min_length goes on until
    it has them, one with more than max_length ends there. A client whose events are all at one time gives one view only.

    Attributes:
        days: how long a window is.
    """

    days: float = 30.0
    by_time: ClassVar[bool] = True

    def choose(self, clients: Tensor, lengths: Tensor, generator: torch.Generator, times: Tensor | None) -> Views:
        """Runs of events."""
        assert times is not None, "draw() sees to it"
        begin = lengths.cumsum(0) - lengths
        span = times[begin + lengths - 1] - times[begin]
        width = torch.minimum((span + 1) // 2, torch.full_like(span, round(self.days * DAY_US))).clamp(min=1)
        n, begin, width = (x.repeat_interleave(self.count) for x in (lengths, begin, width))
        drawn = torch.rand((2, len(n)), generator=generator, dtype=torch.float64)
        opens = times[begin + (drawn[0] * n).long()] - (drawn[1] * width).long()
        which, within = spread(n)
        since = times[begin[which] + within] - opens[which]
        before = torch.bincount(which[since < 0], minlength=len(n))
        inside = torch.bincount(which[(since >= 0) & (since < width[which])], minlength=len(n))
        length = torch.minimum(torch.maximum(inside, self.shortest(n)), self.longest(n))
        return Views(clients.repeat_interleave(self.count), torch.minimum(before, n - length), length)
