"""What several objectives need: parts of views as sequences of their own, views of other clients, and a loss of nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqmel.data.sequences.batch import SequenceBatch, to_device_async
from seqmel.nn.encoder import SequenceEncoder

__all__ = ["answer_head", "nothing", "rows_of_runs", "runs", "vectors_of_runs", "views_of_others"]


def answer_head(size: int, head_size: int, *, answers: int = 1) -> nn.Sequential:
    """(R, size) -> (R, answers), the log-odds of one answer or the logits of several: a small network with one layer between."""
    return nn.Sequential(nn.LayerNorm(size), nn.Linear(size, head_size), nn.GELU(), nn.Linear(head_size, answers))


def nothing(part: nn.Module) -> Tensor:
    """Zero, with zero gradient for the first weights of a part: the loss of a batch in which there is nothing to ask."""
    return next(part.parameters()).float().sum() * 0.0


def rows_of_runs(starts: Tensor, lengths: Tensor) -> Tensor:
    """(E',) int64: the numbers of the events of runs, one run after the other; see `runs`."""
    before = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum())) + torch.repeat_interleave(starts - before, lengths)


def runs(events: SequenceBatch, starts: Tensor, lengths: Tensor) -> SequenceBatch:
    """R runs of a batch's events as sequences of their own; what was before a run is not known of it.

    Args:
        events: E events.
        starts: (R,) int64 on the host, the number of the first event of each run among all events of the batch.
        lengths: (R,) int64 on the host, events of each run.
    """
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    taken = events.take(to_device_async(rows_of_runs(starts, lengths), events.device))
    return SequenceBatch(taken.columns, taken.time, to_device_async(offsets, events.device), lengths)


def vectors_of_runs(encoder: SequenceEncoder, events: SequenceBatch, starts: Tensor, lengths: Tensor) -> Tensor:
    """(R, D) the vectors of runs, see `runs`."""
    cut = runs(events, starts, lengths)
    return encoder.encode(cut).float()


def views_of_others(clients: Tensor, views: Tensor) -> Tensor:
    """For each of these views (numbers, on the host) a random view of another client, any of them equally likely.

    Args:
        clients: (S,) on the host, whose each view is; those of one client stand together.
        views: (R,) int64, sorted, of at least two clients.

    Returns:
        (R,) int64, numbers from among `views`.
    """
    _, run, counts = torch.unique_consecutive(clients[views], return_inverse=True, return_counts=True)
    after = counts.cumsum(0)[run]
    step = (torch.rand(len(views), dtype=torch.float64) * (len(views) - counts[run])).long()
    return views[(after + step) % len(views)]
