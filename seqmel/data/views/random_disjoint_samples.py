"""Random disjoint samples of events (MeLES, Babaev et al., arXiv 2002.08232, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from seqmel.data.views.base import ViewSampler
from seqmel.data.views.drawn_views import Views, random_rank, segment_positions

__all__ = ["RandomDisjointSamples"]


@dataclass(frozen=True, kw_only=True)
class RandomDisjointSamples(ViewSampler):
    """A random partition of a client's events into subsets, in time order.

    The events of each client, split at random into K disjoint subsets.

    A client with fewer than K * min_length events is split into fewer subsets, but at least two. A
    subset with more than max_length events is reduced to max_length at random.
    """

    how: ClassVar[str] = (
        "the events dealt into subsets, order kept; a short client is dealt into fewer, but "
        "at least two"
    )
    source: ClassVar[str] = "Babaev et al., 2002.08232"
    when: ClassVar[str] = "as random_samples, where views of one client must not share an event"

    def choose(
        self, clients: Tensor, lengths: Tensor, generator: torch.Generator, times: Tensor | None
    ) -> Views:
        """Choose explicit events."""
        parts = torch.minimum((lengths // self.min_length).clamp(2, self.count), lengths)
        which, within = segment_positions(lengths)
        rank = random_rank(which, lengths, generator)
        view = (parts.cumsum(0) - parts)[which] + rank % parts[which]
        kept = rank // parts[which] < self.max_length
        order = torch.argsort(view[kept], stable=True)
        sizes = torch.bincount(view[kept], minlength=int(parts.sum()))
        return Views(
            clients.repeat_interleave(parts), torch.zeros_like(sizes), sizes, within[kept][order]
        )
