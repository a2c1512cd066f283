"""Attention over ragged batches: each event sees the events of its own sequence, of whatever length.

On a GPU the events are attended to as they lie: torch's nested tensors lead to kernels for sequences of variable length (flash
attention, Dao, arXiv 2307.08691, in half precision; a memory-efficient one else), which take no padding and need no mask.
Elsewhere sequences are laid side by side in groups of like length, so that little is padded, and what is padded is masked.
Which events are where is worked out on the host, so that no step waits for the device.
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

_GROUP_WASTE = 0.85  # a group's shortest sequence has at least this share of its longest
_KERNEL_SIZES = 8  # what kernels of variable length want the size of a head to be a multiple of

Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values of the E events of a batch, each (E, heads, d) -> what each event is answered, (E, heads, d)."""


def attention_over(batch: SequenceBatch, size: int, *, causal: bool) -> Attend:
    """The way to attend within the sequences of a batch that its device is fastest with.

    Args:
        batch: E > 0 events.
        size: d, of a head.
        causal: whether an event sees only itself and those before it.
    """
    if batch.device.type == "cuda" and size % _KERNEL_SIZES == 0:
        return nested(batch, causal=causal)
    return grouped(batch, causal=causal)


def nested(batch: SequenceBatch, *, causal: bool) -> Attend:
    """Attend to the events as they lie, without padding. Causal on a GPU only."""
    lengths = batch.lengths[batch.lengths > 0]  # an empty one takes no place among the events
    shortest, longest = int(lengths.min()), int(lengths.max())
    offsets = to_device_async(F.pad(lengths.cumsum(0), (1, 0)), batch.device)

    def sequences(events: Tensor) -> Tensor:
        """(S, heads, ragged, d)"""
        return torch.nested.nested_tensor_from_jagged(
            events, offsets, min_seqlen=shortest, max_seqlen=longest
        ).transpose(1, 2)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen = F.scaled_dot_product_attention(sequences(q), sequences(k), sequences(v), is_causal=causal)
        return seen.transpose(1, 2).values()

    return attend


def grouped(batch: SequenceBatch, *, causal: bool) -> Attend:
    """Attend to sequences of like length side by side; off the CPU to all of them, padded to the longest."""
    groups = [_Group(batch, rows) for rows in _groups(batch.lengths, on_cpu=batch.device.type == "cpu")]
    back = torch.cat([group.flat for group in groups])

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen = torch.cat([group.attend(q, k, v, causal=causal) for group in groups])
        return torch.zeros_like(seen).index_copy(0, back, seen)

    return attend


def _groups(lengths: Tensor, *, on_cpu: bool) -> list[Tensor]:
    """Sequences of like length together, longest first; empty ones in none."""
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
    """Some sequences of a batch side by side.

    (S, L) event numbers and which of them are real, None where all are; (F,) the numbers of the real ones, and their places
    among the S L, None where all are real.
    """

    def __init__(self, batch: SequenceBatch, rows: Tensor) -> None:
        lengths = batch.lengths[rows]
        place = torch.arange(int(lengths.max()))
        real = place < lengths.unsqueeze(1)
        begins = (batch.lengths.cumsum(0) - batch.lengths)[rows]
        events = torch.where(real, begins.unsqueeze(1) + place, 0)
        places = real.flatten().nonzero()[:, 0]

        self.shape = tuple(events.shape)
        self.events, self.flat = (
            to_device_async(x, batch.device) for x in (events.flatten(), events.flatten()[places])
        )
        whole = len(places) == real.numel()
        self.real, self.places = (None if whole else to_device_async(x, batch.device) for x in (real, places))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> Tensor:
        """(F, heads, d) for the real events of the group, in its order."""
        q, k, v = (take_rows(x, self.events).unflatten(0, self.shape).transpose(1, 2) for x in (q, k, v))
        # what is not real comes last, so that looking back never meets it
        mask = None if self.real is None or causal else self.real[:, None, None, :]
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal).transpose(1, 2).flatten(0, 1)
        return seen if self.places is None else take_rows(seen, self.places)
