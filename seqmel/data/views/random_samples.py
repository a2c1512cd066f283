"""Random samples: subsets of a client's events, in their order (MeLES, Babaev et al., arXiv 2002.08232, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqmel.data.views.base import ViewSampler
from seqmel.data.views.drawn_views import Views, random_rank, spread

__all__ = ["RandomSamples"]


@dataclass(frozen=True, kw_only=True)
class RandomSamples(ViewSampler):
    """K random subsets of each client's events, possibly overlapping.

    A subset's size is drawn uniformly from what is allowed, then its events, all equally likely.
    """

    def choose(self, clients: Tensor, lengths: Tensor, generator: torch.Generator, times: Tensor | None) -> Views:
        """Explicit events."""
        n = lengths.repeat_interleave(self.count)
        shortest = self.shortest(n)
        drawn = torch.rand(len(n), generator=generator, dtype=torch.float64)
        size = shortest + (drawn * (self.longest(n) - shortest + 1)).long()
        which, within = spread(n)
        events = within[random_rank(which, n, generator) < size[which]]
        return Views(clients.repeat_interleave(self.count), torch.zeros_like(size), size, events)
