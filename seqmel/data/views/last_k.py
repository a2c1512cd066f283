"""The last k events: all views end with the client's last event and begin at different ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from seqmel.data.views.base import ViewSampler
from seqmel.data.views.drawn_views import Views

__all__ = ["LastK"]


@dataclass(frozen=True, kw_only=True)
class LastK(ViewSampler):
    """The last events, in several lengths.

    The last k events of each client, K times, with k drawn uniformly from the allowed lengths.
    There is one view per length. So the options refuse min_length = max_length unless a dropout
    makes the views differ.
    """

    how: ClassVar[str] = (
        "the last events, of several lengths, or of one where a dropout tells the views apart"
    )
    when: ClassVar[str] = (
        "what counts is how a history ends, and models will be used on the most recent events"
    )
    one_per_length: ClassVar[bool] = True

    def choose(
        self, clients: Tensor, lengths: Tensor, generator: torch.Generator, times: Tensor | None
    ) -> Views:
        """Choose contiguous events."""
        n = lengths.repeat_interleave(self.count)
        shortest = self.shortest(n)
        drawn = torch.rand(len(n), generator=generator, dtype=torch.float64)
        length = shortest + (drawn * (self.longest(n) - shortest + 1)).long()
        return Views(clients.repeat_interleave(self.count), n - length, length)
