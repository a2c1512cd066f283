"""Modifiers: what is done to views of any kind after they are drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.data.views.drawn_views import DAY_US, Views

__all__ = ["drop_days", "drop_events", "shuffled"]


def drop_events(views: Views, *, share: float, generator: torch.Generator) -> Views:
    """Leave out each event with this chance; one of each view stays."""
    which, places = views.places()
    return _kept(views, which, places, _spared(which, len(views.lengths), share, generator))


def drop_days(
    views: Views, clients: Tensor, lengths: Tensor, times: Tensor, *, share: float, generator: torch.Generator
) -> Views:
    """Leave out each day (UTC) of a view with this chance, and with it all its events there; one day of each view stays.

    Args:
        views: in the order of time.
        clients, lengths, times: those that the views were drawn from; see `ViewSampler.draw`.
        share: the chance.
        generator: the source of randomness.
    """
    which, places = views.places()
    order = torch.argsort(clients)
    row = order[torch.searchsorted(clients[order], views.clients)]
    day = times[(lengths.cumsum(0) - lengths)[row][which] + places].div(DAY_US, rounding_mode="floor")
    opens = torch.ones_like(which, dtype=torch.bool)
    opens[1:] = (which[1:] != which[:-1]) | (day[1:] != day[:-1])
    kept = _spared(which[opens], len(views.lengths), share, generator)
    return _kept(views, which, places, kept[opens.cumsum(0) - 1])


def shuffled(views: Views, generator: torch.Generator) -> Views:
    """The events of each view in random order.

    Which events a view has is settled before, so slices and windows still are of neighbours. Each event keeps its time: its
    cycles (time of day, day of the week, of the month, of the year) stay as they are, and its gap becomes that to the event
    which chance puts before it, without a sign. So an encoder is not kept from all that has to do with order, only from the
    order in which events come and from the true gaps. Views are drawn in training only: held-out clients are watched, and
    clients embedded, in the order of time.
    """
    which, places = views.places()
    order = torch.argsort(which + torch.rand(len(which), generator=generator, dtype=torch.float64))
    return Views(views.clients, views.starts, views.lengths, places[order])


def _spared(which: Tensor, views: int, share: float, generator: torch.Generator) -> Tensor:
    """Bool: what is not dropped, and of each view what was nearest to not being so."""
    chance = torch.rand(len(which), generator=generator, dtype=torch.float64)
    best = torch.zeros(views, dtype=torch.float64).scatter_reduce(0, which, chance, "amax")
    return (chance >= share) | (chance == best[which])


def _kept(views: Views, which: Tensor, places: Tensor, kept: Tensor) -> Views:
    lengths = torch.bincount(which[kept], minlength=len(views.lengths))
    return Views(views.clients, views.starts, lengths, places[kept])
