"""Sums and largest values over the events of each sequence, which lie side by side: (E, H) -> (B, H), zeros for an empty one.

On a GPU the sequences are bags of an embedding whose rows are the events: each is gone through in the order of its events.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmel.core.scatter import sum_rows
from seqmel.data.sequences.batch import SequenceBatch

__all__ = ["segment_max", "segment_sum"]

_MAX = 2  # what torch.embedding_bag calls it


def segment_sum(values: Tensor, batch: SequenceBatch) -> Tensor:
    """(E, H) -> (B, H): sum over the events of each sequence."""
    return sum_rows(values, batch.sequence_index, len(batch), begins=batch.offsets[:-1])


def segment_max(values: Tensor, batch: SequenceBatch) -> Tensor:
    """(E, H) -> (B, H): largest over the events of each sequence; of equal ones the first takes the gradient."""
    if values.requires_grad and torch.is_grad_enabled():
        return _Max.apply(values, batch)
    return _largest_on_cpu(values, batch) if values.device.type == "cpu" else _largest_and_places(values, batch)[0]


class _Max(torch.autograd.Function):
    """That of torch.segment_reduce takes ten times as long on the CPU, and is wrong where several are the largest: a gradient
    below zero goes to each of them in full."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, batch: SequenceBatch) -> Tensor:
        largest, places = (_largest_and_places_on_cpu if values.is_cpu else _largest_and_places)(values, batch)
        ctx.save_for_backward(places)
        ctx.events = len(values)
        return largest

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        d_values = gradients[0].new_zeros(ctx.events + 1, places.shape[1])
        return d_values.scatter_(0, places, gradients[0])[:-1], None


def _largest_and_places(values: Tensor, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
    """(B, H) the largest, and (B, H) int64 of which event each is: of the one after the last where there is none."""
    if not len(values):
        return values.new_zeros(len(batch), values.shape[1]), batch.offsets.new_zeros(len(batch), values.shape[1])
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
    """Without the places, which only a gradient needs, five times as fast."""
    largest = values.new_zeros(len(batch), values.shape[1])
    for row, part in zip(largest, values.split(batch.lengths.tolist()), strict=True):
        if len(part):
            torch.amax(part, dim=0, out=row)
    return largest
