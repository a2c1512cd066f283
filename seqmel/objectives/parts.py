"""Shared by several objectives: subsequences of views, views of other clients, heads."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from seqmel.data.sequences.batch import SequenceBatch, to_device_async
from seqmel.nn.encoder import SequenceEncoder

__all__ = [
    "embed_subsequences",
    "mlp_head",
    "sample_other_views",
    "subsequence_rows",
    "subsequences",
    "zero_loss",
]


def mlp_head(size: int, head_size: int, *, outputs: int = 1) -> nn.Sequential:
    """Build a network with one hidden layer: (R, size) -> (R, outputs)."""
    return nn.Sequential(
        nn.LayerNorm(size), nn.Linear(size, head_size), nn.GELU(), nn.Linear(head_size, outputs)
    )


def zero_loss(part: nn.Module) -> Tensor:
    """Return zero with zero gradients: the loss of a batch without targets."""
    return next(part.parameters()).float().sum() * 0.0


def subsequence_rows(starts: Tensor, lengths: Tensor) -> Tensor:
    """Return (E',) int64, the events of the subsequences in order, see `subsequences`."""
    before = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum())) + torch.repeat_interleave(starts - before, lengths)


def subsequences(events: SequenceBatch, starts: Tensor, lengths: Tensor) -> SequenceBatch:
    """Cut R subsequences from the events of a batch. The time of the event before them is unknown.

    Args:
        events: E events.
        starts: (R,) int64 on the host, the first event of each subsequence.
        lengths: (R,) int64 on the host, the number of events of each.
    """
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    taken = events.take(to_device_async(subsequence_rows(starts, lengths), events.device))
    return replace(taken, offsets=to_device_async(offsets, events.device), lengths=lengths)


def embed_subsequences(
    encoder: SequenceEncoder, events: SequenceBatch, starts: Tensor, lengths: Tensor
) -> Tensor:
    """Compute the vectors (R, D) of subsequences, see `subsequences`."""
    cut = subsequences(events, starts, lengths)
    return encoder.encode(cut).float()


def sample_other_views(clients: Tensor, views: Tensor) -> Tensor:
    """Draw a view of another client for each of these views, uniformly.

    Args:
        clients: (S,) on the host, the client of each view. Views of one client are consecutive.
        views: (R,) int64 on the host, sorted, of at least two clients.

    Returns:
        (R,) int64, elements of `views`.
    """
    _, client_index, counts = torch.unique_consecutive(
        clients[views], return_inverse=True, return_counts=True
    )
    after = counts.cumsum(0)[client_index]
    step = (
        torch.rand(len(views), dtype=torch.float64) * (len(views) - counts[client_index])
    ).long()
    return views[(after + step) % len(views)]
