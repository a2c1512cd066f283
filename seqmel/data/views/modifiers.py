"""Modifiers of views: dropout of events and days, and shuffling."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.data.views.drawn_views import DAY_US, Views

__all__ = ["drop_days", "drop_events", "shuffled"]


def drop_events(views: Views, *, probability: float, generator: torch.Generator) -> Views:
    """Drop each event with probability `probability`. One event of each view stays."""
    which, places = views.positions()
    return _select(
        views, which, places, _keep_mask(which, len(views.lengths), probability, generator)
    )


def drop_days(
    views: Views,
    clients: Tensor,
    lengths: Tensor,
    times: Tensor,
    *,
    probability: float,
    generator: torch.Generator,
) -> Views:
    """Drop each day (UTC) of a view with all its events with probability `probability`.

    One day stays.

    Args:
        views: The views, in the order of time.
        clients: The clients that the views were drawn from, see `ViewSampler.draw`.
        lengths: Their numbers of events.
        times: The times of their events.
        probability: The probability.
        generator: The source of randomness.
    """
    which, places = views.positions()
    order = torch.argsort(clients)
    row = order[torch.searchsorted(clients[order], views.clients)]
    day = times[(lengths.cumsum(0) - lengths)[row][which] + places].div(
        DAY_US, rounding_mode="floor"
    )
    opens = torch.ones_like(which, dtype=torch.bool)
    opens[1:] = (which[1:] != which[:-1]) | (day[1:] != day[:-1])
    kept = _keep_mask(which[opens], len(views.lengths), probability, generator)
    return _select(views, which, places, kept[opens.cumsum(0) - 1])


def shuffled(views: Views, generator: torch.Generator) -> Views:
    """Shuffle the events of each view.

    The views are cut before, so slices and windows still consist of neighbouring events. Each event
    keeps its time. So the cycles (time of day, day of the week, month and year) are unchanged, and
    the gap becomes the absolute difference to the event before it in the shuffled order. An encoder
    can still use these, but not the order of the events and the true gaps. Only training shuffles.
    Validation and embedding keep the order of time.
    """
    which, places = views.positions()
    order = torch.argsort(which + torch.rand(len(which), generator=generator, dtype=torch.float64))
    return Views(views.clients, views.starts, views.lengths, places[order])


def _keep_mask(which: Tensor, views: int, probability: float, generator: torch.Generator) -> Tensor:
    """Return a keep-mask.

    If a view would be emptied, it keeps its element with the highest draw.
    """
    draw = torch.rand(len(which), generator=generator, dtype=torch.float64)
    best = torch.zeros(views, dtype=torch.float64).scatter_reduce(0, which, draw, "amax")
    return (draw >= probability) | (draw == best[which])


def _select(views: Views, which: Tensor, places: Tensor, kept: Tensor) -> Views:
    lengths = torch.bincount(which[kept], minlength=len(views.lengths))
    return Views(views.clients, views.starts, lengths, places[kept])
