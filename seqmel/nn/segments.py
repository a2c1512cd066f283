"""Sum and maximum over the events of each sequence: (E, H) -> (B, H), zeros for an empty sequence.

On a GPU they are embedding bags, which read the events of a sequence in order.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from seqmel.core.scatter import sum_rows, take_rows
from seqmel.data.sequences.batch import SequenceBatch

__all__ = [
    "decayed_count",
    "final_rows",
    "first_rows",
    "last_rows",
    "merged_ago",
    "merged_last_rows",
    "recency",
    "segment_max",
    "segment_sum",
    "where_some",
]

_MAX = 2  # the mode of torch.embedding_bag


def segment_sum(values: Tensor, batch: SequenceBatch) -> Tensor:
    """Sum over the events of each sequence: (E, H) -> (B, H)."""
    if batch.is_one:
        return values.sum(0, keepdim=True)
    return sum_rows(values, batch.sequence_index, len(batch), begins=batch.offsets[:-1])


def segment_max(values: Tensor, batch: SequenceBatch) -> Tensor:
    """Maximum over the events of each sequence: (E, H) -> (B, H).

    The first of equal events gets the gradient.
    """
    if batch.is_one:
        return values.amax(0, keepdim=True)
    if values.requires_grad and torch.is_grad_enabled():
        return _Max.apply(values, batch)
    return (
        _largest_on_cpu(values, batch)
        if values.device.type == "cpu"
        else _largest_and_places(values, batch)[0]
    )


def first_rows(values: Tensor, batch: SequenceBatch) -> Tensor:
    """Return the row of the first event of each sequence: (E, ...) -> (B, ...)."""
    if batch.is_one:
        return values[:1]
    return _rows_or_zeros(values, batch.offsets[:-1].clamp(max=max(0, batch.events - 1)), batch)


def final_rows(values: Tensor, batch: SequenceBatch) -> Tensor:
    """Return the row of the last event of each sequence: (E, ...) -> (B, ...)."""
    if batch.is_one:
        return values[-1:].clone()  # a view would keep all events in the client's state
    return _rows_or_zeros(values, (batch.offsets[1:] - 1).clamp(min=0), batch)


def _rows_or_zeros(values: Tensor, rows: Tensor, batch: SequenceBatch) -> Tensor:
    if not batch.events:
        return values.new_zeros(len(batch), *values.shape[1:])
    some = (batch.counts > 0).view(-1, *(1 for _ in values.shape[1:]))
    return torch.where(some, take_rows(values, rows), 0)


def decayed_count(number: Tensor, rate: float) -> Tensor:
    """Return 1 + q + ... + q^(number - 1) with q = e^-rate: the weight of a decayed sum."""
    return torch.expm1(number * -rate) / math.expm1(-rate)


def where_some(number: Tensor, values: Tensor, others: Tensor) -> Tensor:
    """Return the rows of `values` of sequences with some events, and `others` for those without.

    Args:
        number: (B, 1), the number of events.
        values: (B, ...).
        others: (B, ...).
    """
    if number.numel() == 1 and number.device.type == "cpu":  # a tenth of the time
        return values if number.item() > 0 else others
    return torch.where(number > 0, values, others)


def recency(ago: Tensor) -> Tensor:
    """Return 1 / (1 + events since), 0 for -1, which is never."""
    return (1 / (1 + ago.clamp(min=0))).masked_fill(ago < 0, 0.0)


def merged_ago(earlier: Tensor, later: Tensor, passed: Tensor) -> Tensor:
    """Merge how long ago something was, -1 for never, of consecutive parts.

    Args:
        earlier: (B, K), at the end of the earlier part.
        later: (B, K), at the end of the later one.
        passed: (B, 1), what passed from one end to the other, in the same unit.
    """
    waited = (earlier + passed).masked_fill(earlier < 0, -1.0)
    return torch.where(later < 0, waited, later)


def last_rows(values: Tensor, batch: SequenceBatch, events: int) -> Tensor:
    """Return the rows of the last events: (E, D) -> (B, events * D), the last event first.

    A missing event has zeros.
    """
    if batch.is_one:
        found = values[-events:].flip(0).reshape(1, -1)
        return F.pad(found, (0, events * values.shape[1] - found.shape[1]))
    back = torch.arange(1, events + 1, device=batch.device)
    rows = batch.offsets[1:].unsqueeze(1) - back
    there = rows >= batch.offsets[:-1].unsqueeze(1)
    padded = torch.cat([values, values.new_zeros(1, values.shape[1])])
    rows = torch.where(there, rows, batch.events)
    return padded.index_select(0, rows.flatten()).view(len(batch), events * values.shape[1])


def merged_last_rows(earlier: Tensor, later: Tensor, new: Tensor, events: int) -> Tensor:
    """Merge `last_rows` of consecutive parts, the later one of `new` (B, 1) events."""
    size = later.shape[1] // events
    if len(new) == 1 and new.device.type == "cpu":
        newest = min(int(new), events)
        return torch.cat([later[:, : newest * size], earlier[:, : (events - newest) * size]], dim=1)
    ends = torch.cat([later, earlier], dim=1).view(len(new), 2 * events, size)
    back = torch.arange(events, device=new.device)
    # The new events come first, then the earlier ones.
    rows = torch.where(back < new, back, back - new.long().clamp(max=events) + events)
    return ends.gather(1, rows.unsqueeze(2).expand(len(new), events, size)).flatten(1)


class _Max(torch.autograd.Function):
    """A maximum with a correct and fast gradient.

    That of torch.segment_reduce is ten times slower on the CPU. It also gives a negative gradient
    in full to each of several equal events.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, batch: SequenceBatch) -> Tensor:
        largest, places = (_largest_and_places_on_cpu if values.is_cpu else _largest_and_places)(
            values, batch
        )
        ctx.save_for_backward(places)
        ctx.events = len(values)
        return largest

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        d_values = gradients[0].new_zeros(ctx.events + 1, places.shape[1])
        return d_values.scatter_(0, places, gradients[0])[:-1], None


def _largest_and_places(values: Tensor, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
    """Return the maxima (B, H) and their events (B, H) int64. An empty sequence has event E."""
    if not len(values):
        return values.new_zeros(len(batch), values.shape[1]), batch.offsets.new_zeros(
            len(batch), values.shape[1]
        )
    events = torch.arange(len(values), device=values.device)
    largest, _, _, places = torch.embedding_bag(values, events, batch.offsets[:-1], False, _MAX)
    return largest, places.masked_fill((batch.offsets.diff() == 0).unsqueeze(1), len(values))


def _largest_and_places_on_cpu(values: Tensor, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
    largest = values.new_zeros(len(batch), values.shape[1])
    places = torch.full(largest.shape, len(values))
    begin = 0
    for row, length in enumerate(batch.lengths.tolist()):
        if length:
            torch.max(values[begin : begin + length], dim=0, out=(largest[row], places[row]))
            places[row] += begin
        begin += length
    return largest, places


def _largest_on_cpu(values: Tensor, batch: SequenceBatch) -> Tensor:
    """Compute the maxima alone, five times as fast. Only a gradient needs the events."""
    largest = values.new_zeros(len(batch), values.shape[1])
    for row, part in zip(largest, values.split(batch.lengths.tolist()), strict=True):
        if len(part):
            torch.amax(part, dim=0, out=row)
    return largest
