"""Attention over ragged batches: each event attends to the events of its own sequence.

On a GPU torch's nested tensors use kernels for sequences of variable length, without padding or
mask: flash attention (Dao, arXiv 2307.08691) in half precision, else memory-efficient attention.
Elsewhere sequences of similar length are padded and masked in groups, so little is padded. Event
positions are computed on the host, so no step waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from seqmel.core.scatter import take_rows
from seqmel.data.sequences.batch import SequenceBatch, to_device_async

__all__ = ["Attend", "attention_over", "grouped", "nested"]

_GROUP_WASTE = 0.85  # the shortest sequence of a group has at least this fraction of its longest
_KERNEL_SIZES = 8  # the kernels need a head size that is a multiple of this

Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values of E events, each (E, heads, d) -> attention output (E, heads, d)."""


def attention_over(batch: SequenceBatch, size: int, *, causal: bool) -> Attend:
    """Choose the fastest attention within the sequences of a batch for its device.

    Args:
        batch: E > 0 events.
        size: d, the size of a head.
        causal: Whether an event attends only to itself and earlier events.
    """
    if batch.device.type == "cuda" and size % _KERNEL_SIZES == 0:
        return nested(batch, causal=causal)
    return grouped(batch, causal=causal)


def nested(batch: SequenceBatch, *, causal: bool) -> Attend:
    """Attend without padding, over nested tensors. Causal attention works on a GPU only."""
    lengths = batch.lengths[batch.lengths > 0]  # empty sequences have no events
    shortest = int(lengths.min())
    longest = int(lengths.max())
    offsets = to_device_async(F.pad(lengths.cumsum(0), (1, 0)), batch.device)

    def sequences(events: Tensor) -> Tensor:
        """View (E, heads, d) events as a nested tensor (S, heads, ragged, d)."""
        return torch.nested.nested_tensor_from_jagged(
            events, offsets, min_seqlen=shortest, max_seqlen=longest
        ).transpose(1, 2)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen = F.scaled_dot_product_attention(
            sequences(q), sequences(k), sequences(v), is_causal=causal
        )
        return seen.transpose(1, 2).values()

    return attend


def grouped(batch: SequenceBatch, *, causal: bool) -> Attend:
    """Attend in padded groups of similar length. Off the CPU all sequences are one group."""
    groups = [
        _Group(batch, rows) for rows in _groups(batch.lengths, on_cpu=batch.device.type == "cpu")
    ]
    back = torch.cat([group.flat for group in groups])

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen = torch.cat([group.attend(q, k, v, causal=causal) for group in groups])
        return torch.zeros_like(seen).index_copy(0, back, seen)

    return attend


def _groups(lengths: Tensor, *, on_cpu: bool) -> list[Tensor]:
    """Group the sequences by length, longest first. Empty sequences are in no group."""
    order = torch.argsort(lengths, stable=True)
    order = order[lengths[order] > 0]
    if not on_cpu:
        return [order]
    groups: list[Tensor] = []
    end = len(order)
    while end > 0:
        longest = int(lengths[order[end - 1]])
        begin = int(torch.searchsorted(lengths[order], int(_GROUP_WASTE * longest)))
        groups.append(order[begin:end])
        end = begin
    return groups


class _Group:
    """Some sequences of a batch, padded to one length: S sequences of L positions, F real events.

    Attributes:
        shape: (S, L).
        events: (S * L,) the event at each position.
        real: (S, L) bool, False where a position is padding. None without padding.
        flat: (F,) the real events.
        places: (F,) the positions of the real events. None without padding.
    """

    def __init__(self, batch: SequenceBatch, rows: Tensor) -> None:
        lengths = batch.lengths[rows]
        place = torch.arange(int(lengths.max()))
        real = place < lengths.unsqueeze(1)
        begins = (batch.lengths.cumsum(0) - batch.lengths)[rows]
        events = torch.where(real, begins.unsqueeze(1) + place, 0)
        places = real.flatten().nonzero()[:, 0]

        self.shape = tuple(events.shape)
        self.events = to_device_async(events.flatten(), batch.device)
        self.flat = to_device_async(events.flatten()[places], batch.device)
        unpadded = len(places) == real.numel()
        self.real, self.places = (
            None if unpadded else to_device_async(x, batch.device) for x in (real, places)
        )

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> Tensor:
        """Return (F, heads, d), the attention output of the real events."""
        q, k, v = (
            take_rows(x, self.events).unflatten(0, self.shape).transpose(1, 2) for x in (q, k, v)
        )
        # Padding is at the end, so causal attention never reaches it.
        mask = None if self.real is None or causal else self.real[:, None, None, :]
        seen = (
            F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
            .transpose(1, 2)
            .flatten(0, 1)
        )
        return seen if self.places is None else take_rows(seen, self.places)
