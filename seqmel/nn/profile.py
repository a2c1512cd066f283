"""The profile of a client: how many events there are, and how long ago the first and the last were.

What the contrastive objective has to overlook (how long a slice is, and when it was, tell nothing
of the client) is often what a downstream model asks first. So it is not learnt but put beside the
vector, as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.core.units import DAY_US
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.nn.segments import final_rows, first_rows

__all__ = ["PROFILE_SIZE", "first_and_last", "profile"]

PROFILE_SIZE = 3


def first_and_last(batch: SequenceBatch) -> tuple[Tensor, Tensor]:
    """Return (B,) int64 times of the first and of the last event; 0 without events."""
    return first_rows(batch.time, batch), final_rows(batch.time, batch)


def profile(count: Tensor, first: Tensor, last: Tensor, now: Tensor) -> Tensor:
    """Return the recency features: (B, 3) float32.

    They are ln(1 + events), and sign(d) ln(1 + |d|) of the days d from the first and the last event
    to `now`.

    Args:
        count: (B,) events; all three numbers are 0 for a client without any.
        first: (B,) int64 microseconds of the first event.
        last: (B,) int64 microseconds of the last event.
        now: (B,) int64 microseconds of the reference time.
    """
    days = (now.unsqueeze(1) - torch.stack([first, last], dim=1)).double() / DAY_US
    ago = (days.sign() * days.abs().log1p()).float()
    some = (count > 0).unsqueeze(1)
    return torch.cat([count.unsqueeze(1).float().log1p(), torch.where(some, ago, 0.0)], dim=1)
