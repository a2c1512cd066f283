"""Validation slices: two per client, the same for training, report and retrieval.

The slices of a client depend only on its own row of random numbers. So they are the same for any
batch and any other clients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqmel.data.cycles import CYCLES, shifts_of
from seqmel.data.sequences.batch import SequenceBatch
from seqmel.data.sequences.encoded_sequences import EncodedSequences
from seqmel.data.views.drawn_views import Views
from seqmel.data.views.random_slices import RandomSlices

__all__ = ["watched_numbers", "watched_slices", "watched_views"]

_SLICE_NUMBERS = 4


def watched_numbers(clients: int, random: torch.Generator) -> Tensor:
    """Draw (clients, 4 + 2 C) float64 in [0, 1).

    A row per client for its slices and their shifts.
    """
    return torch.rand(
        clients, _SLICE_NUMBERS + 2 * len(CYCLES), generator=random, dtype=torch.float64
    )


def watched_views(
    clients: Tensor, lengths: Tensor, numbers: Tensor, *, min_length: int, max_length: int
) -> Views:
    """Return two different random slices per client, which are consecutive and may overlap.

    Args:
        clients: (B,) int64, positions.
        lengths: (B,) int64, number of events of each client, at least two.
        numbers: (B, 4 or more), see `watched_numbers`.
        min_length: Minimum number of events of a slice, or half of the events of a short client.
        max_length: Maximum number of events of a slice.
    """
    allowed = RandomSlices(count=2, min_length=min_length, max_length=max_length)
    n = lengths.repeat_interleave(2)
    drawn = numbers[:, :_SLICE_NUMBERS].reshape(-1, 2)
    shortest = allowed.shortest(n)
    length = shortest + (drawn[:, 0] * (allowed.longest(n) - shortest + 1)).long()
    start = (drawn[:, 1] * (n - length + 1)).long()
    first = slice(0, None, 2)
    second = slice(1, None, 2)
    equal = (length[first] == length[second]) & (start[first] == start[second])
    whole = length[second] == n[second]
    length[second] -= (equal & whole).long()  # drops the last event
    start[second] = torch.where(
        equal & ~whole, (start[second] + 1) % (n - length + 1)[second], start[second]
    )
    return Views(clients.repeat_interleave(2), start, length)


def watched_slices(
    sequences: EncodedSequences,
    clients: Tensor,
    numbers: Tensor,
    *,
    min_length: int,
    max_length: int,
    shifted: tuple[str, ...],
) -> tuple[SequenceBatch, Tensor]:
    """Gather two slices per client.

    Args:
        sequences: The sequences of all clients.
        clients: (B,) int64, positions of clients with at least two events.
        numbers: (B, 4 + 2 C), see `watched_numbers`.
        min_length: See `watched_views`.
        max_length: See `watched_views`.
        shifted: Names of the `CYCLES` whose phase is shifted.

    Returns:
        The slices, and (2B,) their clients.
    """
    views = watched_views(
        clients, sequences.lengths[clients], numbers, min_length=min_length, max_length=max_length
    )
    batch = sequences.gather(views.clients, views.starts, views.lengths)
    if shifted:
        fractions = numbers[:, _SLICE_NUMBERS:].reshape(-1, len(CYCLES))
        batch = batch.with_shifted_clock(shifts_of(fractions, shifted))
    return batch, views.clients
