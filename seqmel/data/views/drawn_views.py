"""Drawn views: whose they are, and which of the client's events they have."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["DAY_US", "Views", "distinct", "of_clients", "random_rank", "spread"]

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
    return which, torch.arange(len(which)).sub_((lengths.cumsum(0) - lengths).index_select(0, which))


def random_rank(which: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
    """A random order of the elements of each part: the rank of each element within its own, from 0 on."""
    keys = which + torch.rand(len(which), generator=generator, dtype=torch.float64)
    order = torch.argsort(keys)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    return place - (lengths.cumsum(0) - lengths)[which]


def distinct(views: Views) -> Views:
    """The first of each set of equal views, in their order."""
    content = views.starts if views.events is None else _digests(views)
    order = torch.argsort(views.lengths, stable=True)
    for key in (content, views.clients):  # sorted by all three at the end; equal ones in their order
        order = order[torch.argsort(key[order], stable=True)]
    same = torch.stack([key[order] for key in (views.clients, content, views.lengths)])
    again = (same[:, 1:] == same[:, :-1]).all(0)
    if not bool(again.any()):
        return views
    kept = torch.ones_like(views.lengths, dtype=torch.bool).index_fill_(0, order[1:][again], False)
    return _kept(views, kept)


def of_clients(views: Views, clients: Tensor) -> Views:
    """The views of these clients, in their order; the views themselves where none is left out."""
    kept = torch.isin(views.clients, clients)
    if bool(kept.all()):
        return views
    return _kept(views, kept)


def _kept(views: Views, kept: Tensor) -> Views:
    events = None if views.events is None else views.events[torch.repeat_interleave(kept, views.lengths)]
    return Views(views.clients[kept], views.starts[kept], views.lengths[kept], events)


def _digests(views: Views) -> Tensor:
    """(S,) int64: equal for equal sets of places, and different for others but for one chance in 2^60 or so."""
    which, places = views.places()
    mixed = places + 1
    for odd in (-7046029254386353131, -4658895280553007687, -7723592293110705685):  # splitmix64's constants
        mixed = (mixed ^ (mixed >> 29)) * odd
    return torch.zeros_like(views.lengths).index_add(0, which, mixed ^ (mixed >> 32))
