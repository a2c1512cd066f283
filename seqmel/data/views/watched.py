"""The slices by which clients are watched: two of each, the same for training, report and retrieval.

A client's two slices follow from its own row of random numbers, so that they hang neither on which other clients are
looked at with it nor on how many at a time.
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

_OF_SLICES = 4


def watched_numbers(clients: int, random: torch.Generator) -> Tensor:
    """(clients, 4 + 2 C) float64 in [0, 1): of each client the row that its slices and their shifts are drawn by."""
    return torch.rand(clients, _OF_SLICES + 2 * len(CYCLES), generator=random, dtype=torch.float64)


def watched_views(clients: Tensor, lengths: Tensor, numbers: Tensor, *, min_length: int, max_length: int) -> Views:
    """Two different random slices of each client, next to each other; they may overlap.

    Args:
        clients: (B,) int64 positions.
        lengths: (B,) int64, events of each, two or more.
        numbers: (B, 4 or more), see `watched_numbers`.
        min_length, max_length: events of a slice; of a short client from half of its events on.
    """
    allowed = RandomSlices(count=2, min_length=min_length, max_length=max_length)
    n, drawn = lengths.repeat_interleave(2), numbers[:, :_OF_SLICES].reshape(-1, 2)
    shortest = allowed.shortest(n)
    length = shortest + (drawn[:, 0] * (allowed.longest(n) - shortest + 1)).long()
    start = (drawn[:, 1] * (n - length + 1)).long()
    first, second = slice(0, None, 2), slice(1, None, 2)
    equal = (length[first] == length[second]) & (start[first] == start[second])
    whole = length[second] == n[second]
    length[second] -= (equal & whole).long()  # then the second is without the last event
    start[second] = torch.where(equal & ~whole, (start[second] + 1) % (n - length + 1)[second], start[second])
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
    """Two slices of each client as a batch, and (2B,) whose they are.

    Args:
        sequences: of all clients.
        clients: (B,) int64 positions, of clients with two or more events.
        numbers: (B, 4 + 2 C), see `watched_numbers`.
        min_length, max_length: see `watched_views`.
        shifted: names of the `CYCLES` whose phase is shifted.
    """
    views = watched_views(clients, sequences.lengths[clients], numbers, min_length=min_length, max_length=max_length)
    batch = sequences.gather(views.clients, views.starts, views.lengths)
    if shifted:
        shares = numbers[:, _OF_SLICES:].reshape(-1, len(CYCLES))
        batch = batch.with_shifted_clock(shifts_of(shares, shifted))
    return batch, views.clients
