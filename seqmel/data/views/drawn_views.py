"""Views as drawn: their clients, and which events of the clients they have."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqmel.core.units import DAY_US

__all__ = ["DAY_US", "Views", "distinct", "random_rank", "segment_positions", "select_clients"]


@dataclass(frozen=True)
class Views:
    """S views.

    View s has `lengths[s]` events of client `clients[s]`, from its event `starts[s]` on.

    Attributes:
        clients: (S,) int64.
        starts: (S,) int64.
        lengths: (S,) int64.
        events: (sum of lengths,) int64, for views that are not contiguous: the positions of all
            their events within their clients, view by view. `starts` then has no meaning.
    """

    clients: Tensor
    starts: Tensor
    lengths: Tensor
    events: Tensor | None = None

    def positions(self) -> tuple[Tensor, Tensor]:
        """Return each event's view and its position within its client: (sum of lengths,) each."""
        which, within = segment_positions(self.lengths)
        return which, self.starts[which] + within if self.events is None else self.events


def segment_positions(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return the part of each element and its position in it: (sum of lengths,) int64 each."""
    which = torch.repeat_interleave(lengths)
    return which, torch.arange(len(which)).sub_(
        (lengths.cumsum(0) - lengths).index_select(0, which)
    )


def random_rank(which: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
    """Order the elements of each part randomly. Return the rank of each element within its part."""
    keys = which + torch.rand(len(which), generator=generator, dtype=torch.float64)
    order = torch.argsort(keys)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    return place - (lengths.cumsum(0) - lengths)[which]


def distinct(views: Views) -> Views:
    """Keep the first of each set of equal views, in their order."""
    content = views.starts if views.events is None else _hashes(views)
    order = torch.argsort(views.lengths, stable=True)
    # Stable sorts: the views end up ordered by all three keys, and equal ones keep their order.
    for key in (content, views.clients):
        order = order[torch.argsort(key[order], stable=True)]
    same = torch.stack([key[order] for key in (views.clients, content, views.lengths)])
    again = (same[:, 1:] == same[:, :-1]).all(0)
    if not bool(again.any()):
        return views
    kept = torch.ones_like(views.lengths, dtype=torch.bool).index_fill_(0, order[1:][again], False)
    return _select(views, kept)


def select_clients(views: Views, clients: Tensor) -> Views:
    """Select the views of these clients, in their order."""
    kept = torch.isin(views.clients, clients)
    if bool(kept.all()):
        return views
    return _select(views, kept)


def _select(views: Views, kept: Tensor) -> Views:
    events = (
        None if views.events is None else views.events[torch.repeat_interleave(kept, views.lengths)]
    )
    return Views(views.clients[kept], views.starts[kept], views.lengths[kept], events)


def _hashes(views: Views) -> Tensor:
    """Return (S,) int64 hashes of the sets of positions.

    They collide with probability 2^-60 or so.
    """
    which, places = views.positions()
    mixed = places + 1
    for odd in (-7046029254386353131, -4658895280553007687, -7723592293110705685):  # of splitmix64
        mixed = (mixed ^ (mixed >> 29)) * odd
    return torch.zeros_like(views.lengths).index_add(0, which, mixed ^ (mixed >> 32))
