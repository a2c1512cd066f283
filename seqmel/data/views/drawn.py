"""Drawn views: whose they are, and which of the client's events they have."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["DAY_US", "Views", "distinct", "random_rank", "spread"]

DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Views:
    """S views: view s is `lengths[s]` events of client `clients[s]`, a run from its event `starts[s]` on.

    Attributes:
        events: where the views are no runs, the places of all their events within their clients, (sum of lengths,) int64,
            view after view; `starts` then say nothing.
    """

    clients: Tensor
    starts: Tensor
    lengths: Tensor
    events: Tensor | None = None

    def places(self) -> tuple[Tensor, Tensor]:
        """To which view each event belongs, and its place within its client: twice (sum of lengths,) int64."""
        which, within = spread(self.lengths)
        return which, self.starts[which] + within if self.events is None else self.events


def spread(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """To which of some parts of these lengths each element belongs, and its place in it: twice (sum of lengths,) int64."""
    which = torch.repeat_interleave(lengths)
    return which, torch.arange(len(which)) - (lengths.cumsum(0) - lengths)[which]


def random_rank(which: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
    """A random order of the elements of each part: the rank of each element within its own, from 0 on."""
    keys = which + torch.rand(len(which), generator=generator, dtype=torch.float64)
    order = torch.argsort(keys)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    return place - (lengths.cumsum(0) - lengths)[which]


def distinct(views: Views) -> Views:
    """The first of each set of equal views, in their order."""
    if views.events is None:
        rows = torch.stack([views.clients, views.starts, views.lengths], dim=1)
    else:
        rows = torch.stack([views.clients, views.lengths, _digests(views)], dim=1)
    order = torch.arange(len(rows))
    _, which = torch.unique(rows, dim=0, return_inverse=True)
    first = torch.full((len(rows),), len(rows)).scatter_reduce(0, which, order, "amin")
    keep = first[first < len(rows)].sort().values
    if views.events is None:
        return Views(views.clients[keep], views.starts[keep], views.lengths[keep])
    kept = torch.zeros(len(rows), dtype=torch.bool).index_fill(0, keep, True)
    events = views.events[torch.repeat_interleave(kept, views.lengths)]
    return Views(views.clients[keep], views.starts[keep], views.lengths[keep], events)


def _digests(views: Views) -> Tensor:
    """(S,) int64: equal for equal sets of places, and different for others but for one chance in 2^60 or so."""
    which, places = views.places()
    mixed = places + 1
    for odd in (-7046029254386353131, -4658895280553007687, -7723592293110705685):  # splitmix64's constants
        mixed = (mixed ^ (mixed >> 29)) * odd
    return torch.zeros_like(views.lengths).index_add(0, which, mixed ^ (mixed >> 32))
