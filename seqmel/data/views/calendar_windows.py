"""Calendar windows: the events of a client in one day, one week or one month."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from seqmel.core.units import DAY_US, DAYS_SINCE_MONDAY
from seqmel.data.views.base import ViewSampler
from seqmel.data.views.drawn_views import Views, random_rank, segment_positions

__all__ = ["CalendarWindows"]


@dataclass(frozen=True, kw_only=True)
class CalendarWindows(ViewSampler):
    """All events of a random day, week or month.

    K different days, weeks (from Monday) or months of each client, in UTC.

    Windows with too few events (see `ViewSampler`) are drawn only if a client would have fewer than
    two views otherwise. A window with more than max_length events is truncated to its first ones. A
    client with all events in one window gives one view, which has no positive and is only a
    negative of others.

    Attributes:
        unit: Length of the window: "day", "week" or "month".
    """

    how: ClassVar[str] = (
        "all events of a random day, week or month (`unit`) in which the client has some"
    )
    when: ClassVar[str] = "days, weeks or months are the natural unit, as in budgets and shifts"
    unit: Literal["day", "week", "month"] = "week"
    by_time: ClassVar[bool] = True

    def choose(
        self, clients: Tensor, lengths: Tensor, generator: torch.Generator, times: Tensor | None
    ) -> Views:
        """Choose contiguous events."""
        assert times is not None, "draw() checks it"
        which, within = segment_positions(lengths)
        period = self._period(times)
        opens = (within == 0) | (period != period.roll(1))
        owner = which[opens]
        start = within[opens]
        length = torch.diff(opens.nonzero()[:, 0], append=torch.tensor([len(times)]))
        enough = length >= self.shortest(lengths)[owner]
        rank = _rank_long_first(owner, enough, len(lengths), generator)
        chosen = (rank < self.count) & (enough | (rank < 2))
        return Views(
            clients[owner[chosen]], start[chosen], length[chosen].clamp(max=self.max_length)
        )

    def _period(self, times: Tensor) -> Tensor:
        if self.unit == "month":
            months = times.numpy().astype("datetime64[us]").astype("datetime64[M]").astype("int64")
            return torch.from_numpy(months)
        days = times.div(DAY_US, rounding_mode="floor")
        if self.unit == "day":
            return days
        return (days + DAYS_SINCE_MONDAY).div(7, rounding_mode="floor")


def _rank_long_first(
    owner: Tensor, enough: Tensor, owners: int, generator: torch.Generator
) -> Tensor:
    """Return a random rank among each owner's windows. Those with enough events come first."""
    halves = owner * 2 + (~enough).long()
    sizes = torch.bincount(halves, minlength=2 * owners)
    order = torch.argsort(halves, stable=True)
    rank = torch.empty_like(order).scatter_(0, order, random_rank(halves[order], sizes, generator))
    return rank + torch.where(enough, 0, sizes[halves - 1])
