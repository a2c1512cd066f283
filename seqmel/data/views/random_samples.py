"""Random subsets of a client's events (MeLES, Babaev et al., arXiv 2002.08232, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from seqmel.data.views.base import ViewSampler
from seqmel.data.views.drawn_views import Views, random_rank, segment_positions

__all__ = ["RandomSamples"]


@dataclass(frozen=True, kw_only=True)
class RandomSamples(ViewSampler):
    """Random subsets of a client's events, in time order.

    K random subsets of each client's events, in their order, possibly overlapping.

    The size of a subset is drawn uniformly from the allowed lengths, then its events uniformly.
    """

    how: ClassVar[str] = "random subsets, order kept"
    source: ClassVar[str] = "Babaev et al., 2002.08232"
    when: ClassVar[str] = (
        "the order of events carries nothing, or a short stretch of time should not be "
        "recognised by its dates"
    )

    def choose(
        self, clients: Tensor, lengths: Tensor, generator: torch.Generator, times: Tensor | None
    ) -> Views:
        """Choose explicit events."""
        n = lengths.repeat_interleave(self.count)
        shortest = self.shortest(n)
        drawn = torch.rand(len(n), generator=generator, dtype=torch.float64)
        size = shortest + (drawn * (self.longest(n) - shortest + 1)).long()
        which, within = segment_positions(n)
        events = within[random_rank(which, n, generator) < size[which]]
        return Views(clients.repeat_interleave(self.count), torch.zeros_like(size), size, events)
