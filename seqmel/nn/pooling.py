"""Pooling: from the (E, H) vectors of events to one vector a sequence, as statistics over its events, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seqmel.data.batch import SequenceBatch

__all__ = ["POOLINGS", "Pooling", "segment_max", "segment_softmax", "segment_sum"]


def segment_sum(values: Tensor, batch: SequenceBatch) -> Tensor:
    """(E, H) -> (B, H): sum over the events of each sequence; zero for an empty one."""
    return values.new_zeros(len(batch), values.shape[1]).index_add(0, batch.sequence_index(), values)


def segment_max(values: Tensor, batch: SequenceBatch) -> Tensor:
    """(E, H) -> (B, H): largest over the events of each sequence; zero for an empty one."""
    if values.device.type == "cpu":
        return _MaxOnCpu.apply(values, batch.lengths.tolist())
    longest = torch.segment_reduce(values, "max", offsets=batch.offsets)
    return torch.where((batch.offsets.diff() > 0).unsqueeze(1), longest, 0.0)


class _MaxOnCpu(torch.autograd.Function):
    """Ten times as fast as the backward of torch.segment_reduce there; of equal values the first takes the gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, lengths: list[int]) -> Tensor:
        out = values.new_zeros(len(lengths), values.shape[1])
        where = torch.full(out.shape, -1, dtype=torch.int64)
        begin = 0
        for row, length in enumerate(lengths):
            if length:
                torch.max(values[begin : begin + length], dim=0, out=(out[row], where[row]))
                where[row] += begin
            begin += length
        ctx.save_for_backward(where)
        ctx.events = len(values)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (where,) = ctx.saved_tensors
        filled = where[:, 0] >= 0
        d_values = gradients[0].new_zeros(ctx.events, where.shape[1])
        d_values.scatter_(0, where[filled], gradients[0][filled])
        return d_values, None


def segment_softmax(scores: Tensor, batch: SequenceBatch) -> Tensor:
    """(E, A) -> (E, A): softmax over the events of each sequence."""
    which = batch.sequence_index()
    shifted = (scores - segment_max(scores.detach(), batch)[which]).exp()
    return shifted / segment_sum(shifted, batch)[which]


def _mean(states: Tensor, batch: SequenceBatch) -> Tensor:
    return segment_sum(states, batch) / batch.offsets.diff().clamp(min=1).unsqueeze(1)


def _std(states: Tensor, batch: SequenceBatch) -> Tensor:
    """Zero for a single event; the small constant keeps the gradient finite where all events are equal."""
    away = states - _mean(states, batch)[batch.sequence_index()]
    return (_mean(away * away, batch) + 1e-6).sqrt() - 1e-3


def _last(states: Tensor, batch: SequenceBatch) -> Tensor:
    if batch.events == 0:
        return states.new_zeros(len(batch), states.shape[1])
    last = states[(batch.offsets[1:] - 1).clamp(min=0)]
    return torch.where((batch.offsets.diff() > 0).unsqueeze(1), last, 0.0)


_STATISTICS: dict[str, Callable[[Tensor, SequenceBatch], Tensor]] = {
    "last": _last,
    "mean": _mean,
    "max": segment_max,
    "std": _std,
}
POOLINGS = (*_STATISTICS, "attention")
"""Names of the ways to pool."""


class Pooling(nn.Module):
    """Several ways of pooling, their results side by side: (E, H) -> (B, len(names) * H).

    "attention" is a learned weight for each event and head of 32 numbers (self-attentive embedding, Lin et al.,
    arXiv 1703.03130); the others have nothing to learn. An empty sequence gives zeros.
    """

    def __init__(self, names: Sequence[str], *, size: int) -> None:
        super().__init__()
        self.names = tuple(names)
        self.output_size = len(self.names) * size
        self.heads = next(h for h in range(max(1, size // 32), 0, -1) if size % h == 0)
        self.scores = nn.Linear(size, self.heads) if "attention" in self.names else None

    def forward(self, states: Tensor, batch: SequenceBatch) -> Tensor:
        """Pool the events of each sequence."""
        states = states.float()
        return torch.cat([self._one(name, states, batch) for name in self.names], dim=1)

    def _one(self, name: str, states: Tensor, batch: SequenceBatch) -> Tensor:
        if self.scores is None or name != "attention":
            return _STATISTICS[name](states, batch)
        weights = segment_softmax(self.scores(states).float(), batch)
        weighted = states.unflatten(1, (self.heads, -1)) * weights.unsqueeze(2)
        return segment_sum(weighted.flatten(1), batch)
