"""Time windows: the events of a client within a number of days from a random time on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from seqmel.data.views.base import ViewSampler
from seqmel.data.views.drawn_views import DAY_US, Views, segment_positions

__all__ = ["TimeWindows"]


@dataclass(frozen=True, kw_only=True)
class TimeWindows(ViewSampler):
    """All events within a number of days from a random time on.

    K windows of `days` days of each client, possibly overlapping.

    A window is placed at random around an event that is drawn uniformly, so no window is empty. If
    the events of a client span less than twice the days, its windows have half of the span. A
    window with fewer than min_length events is extended to min_length, one with more than
    max_length is truncated. A client with all events at one time gives one view.

    Attributes:
        days: Length of the window in days.
    """

    how: ClassVar[str] = (
        "all events of `days` days around a random event; half of what a client spans where "
        "that is less"
    )
    when: ClassVar[str] = (
        "behaviour changes over months, and activity differs: a view is a stretch of time, "
        "however many events it has"
    )
    days: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    by_time: ClassVar[bool] = True

    def choose(
        self, clients: Tensor, lengths: Tensor, generator: torch.Generator, times: Tensor | None
    ) -> Views:
        """Choose contiguous events."""
        assert times is not None, "draw() checks it"
        begin = lengths.cumsum(0) - lengths
        span = times[begin + lengths - 1] - times[begin]
        width = torch.minimum(
            (span + 1) // 2, torch.full_like(span, round(self.days * DAY_US))
        ).clamp(min=1)
        n, begin, width = (x.repeat_interleave(self.count) for x in (lengths, begin, width))
        drawn = torch.rand((2, len(n)), generator=generator, dtype=torch.float64)
        opens = times[begin + (drawn[0] * n).long()] - (drawn[1] * width).long()
        which, within = segment_positions(n)
        since = times[begin[which] + within] - opens[which]
        before = torch.bincount(which[since < 0], minlength=len(n))
        inside = torch.bincount(which[(since >= 0) & (since < width[which])], minlength=len(n))
        length = torch.minimum(torch.maximum(inside, self.shortest(n)), self.longest(n))
        return Views(
            clients.repeat_interleave(self.count), torch.minimum(before, n - length), length
        )
