"""GRU and LSTM over ragged batches, exact twins of torch.nn.GRU and torch.nn.LSTM.

Sequences are sorted by length, so the running sequences of step t are the first b_t rows and
nothing is padded. On a GPU this is cuDNN's own layout. On the CPU torch's backward pass over packed
sequences is quadratic in the number of steps, so `seqmel.nn.layer` implements it by hand. Under
bfloat16 autocast the products are in bfloat16. States, gates and sums stay in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from seqmel.data.sequences.batch import SequenceBatch, to_device_async
from seqmel.nn.gru import GRU
from seqmel.nn.layer import PackedLayout, recurrent_layer
from seqmel.nn.lstm import LSTM
from seqmel.nn.products import Linear, product_dtype

__all__ = ["Packing", "Recurrent"]


@dataclass(frozen=True)
class Packing:
    """Time-major order of the events of a batch, longest sequence first.

    Attributes:
        order: (E,) int64, packed position -> event of the batch.
        back: (E,) int64, event of the batch -> packed position.
        sizes: Number of running sequences at each of the T steps, not increasing. Step t is the
            next `sizes[t]` packed rows.
        ranked: (B,) int64, the sequences, longest first.
    """

    order: Tensor
    back: Tensor
    sizes: list[int]
    ranked: Tensor

    @classmethod
    def of(cls, batch: SequenceBatch) -> Packing:
        """Compute the packing of a batch.

        Per-sequence and per-step indices are computed on the CPU, per-event indices on the device
        of the events.
        """
        lengths = batch.lengths
        ranked = torch.argsort(lengths, descending=True, stable=True)
        rank = torch.empty_like(ranked)
        rank[ranked] = torch.arange(len(ranked))
        longest = int(lengths.max()) if len(lengths) else 0
        counts = torch.bincount(lengths, minlength=longest + 1)
        sizes = (len(lengths) - counts.cumsum(0))[:longest]
        begins = sizes.cumsum(0) - sizes
        begins, rank, ranked = (to_device_async(x, batch.device) for x in (begins, rank, ranked))
        back = begins.index_select(0, batch.positions()) + rank.index_select(
            0, batch.sequence_index
        )
        order = torch.empty_like(back).scatter_(
            0, back, torch.arange(len(back), device=batch.device)
        )
        return cls(order, back, sizes.tolist(), ranked)


class Recurrent(nn.Module):
    """A stack of GRU or LSTM layers: (E, D) -> (E, H), the state after each event.

    The weights are those of a torch.nn.GRU or torch.nn.LSTM, so they can be used outside seqmel.

    Args:
        kind: The cell.
        input_size: D, width of the encoded events.
        hidden_size: H, width of the state.
        layers: Number of layers.
        dropout: Dropout probability of the states between layers.
        projected_size: Width of a linear projection of the events before the first cell. None has
            no projection.

    Attributes:
        for_few: Run a batch of one sequence by torch's own layer, which is faster for so few rows
            and differs in the last bits.
    """

    for_few = False

    def __init__(
        self,
        kind: Literal["gru", "lstm"],
        input_size: int,
        *,
        hidden_size: int,
        layers: int = 1,
        dropout: float = 0.0,
        projected_size: int | None = None,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.output_size = hidden_size
        make = nn.GRU if kind == "gru" else nn.LSTM
        self.project = Linear(input_size, projected_size) if projected_size else None
        self.cells = make(
            projected_size or input_size,
            hidden_size,
            layers,
            dropout=dropout if layers > 1 else 0.0,
        )
        self.dropout = nn.Dropout(dropout)

    @property
    def memory_size(self) -> int:
        """M, the size of the memory: the hidden state of each layer, and the cell of an LSTM."""
        return self.cells.num_layers * self.output_size * (1 if self.kind == "gru" else 2)

    def forward(self, events: Tensor, batch: SequenceBatch) -> Tensor:
        """Compute the state after each event.

        Args:
            events: (E, D) encoded events.
            batch: The sequences of the events.

        Returns:
            (E, H), in the order of the batch.
        """
        if batch.events == 0:
            return events.new_zeros(0, self.output_size)
        events = events if self.project is None else self.project(events)
        if self.for_few and len(batch) == 1:
            return self._one_sequence(events, None)[0]
        packing = Packing.of(batch)
        layers = self._layers(_Permuted.apply(events, packing.order, packing.back), packing, None)
        return _Permuted.apply(layers.pop()[0], packing.back, packing.order)

    def advance(
        self, events: Tensor, batch: SequenceBatch, memory: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Continue sequences after their earlier events. No gradient flows into the memory.

        Args:
            events: (E, D) encoded events.
            batch: The sequences of the events.
            memory: (B, M) memory after the earlier events. Zeros at the beginning.

        Returns:
            The state after each event (E, H), and the memory after all of them (B, M).
        """
        if batch.events == 0:
            return events.new_zeros(0, self.output_size), memory
        events = events if self.project is None else self.project(events)
        parts = memory.unflatten(1, (self.cells.num_layers, -1, self.output_size))
        if self.for_few and len(batch) == 1:
            return self._one_sequence(events, parts)
        packing = Packing.of(batch)
        layers = self._layers(events.index_select(0, packing.order), packing, parts)
        ended = (batch.offsets[1:] - 1).clamp(min=0)
        last = torch.stack(
            [torch.stack([x[packing.back[ended]] for x in layer], dim=1) for layer in layers], dim=1
        )
        after = torch.where((batch.offsets.diff() > 0).view(-1, 1, 1, 1), last.float(), parts)
        return layers[-1][0].index_select(0, packing.back), after.flatten(1)

    def _one_sequence(self, events: Tensor, parts: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the state after each event (E, H) and the memory after all of them (1, M).

        Args:
            events: (E, D), at least one.
            parts: (1, layers, carried, H), the memory before. None stands for zeros.
        """
        first: Any = None
        if parts is not None:
            carried = [part.transpose(0, 1).contiguous() for part in parts.unbind(2)]
            first = carried[0] if self.kind == "gru" else tuple(carried)
        states, after = self.cells(events.unsqueeze(1), first)
        last = (after,) if self.kind == "gru" else after
        return states.squeeze(1), torch.stack(last, dim=2).transpose(0, 1).flatten(1)

    def _layers(
        self, packed: Tensor, packing: Packing, memory: Tensor | None
    ) -> list[tuple[Tensor, ...]]:
        """Return the packed (E, H) states of each layer, and for an LSTM on the CPU its cells."""
        if packed.device.type != "cpu" and memory is None:
            return [(self.cells(PackedSequence(packed, torch.tensor(packing.sizes)))[0].data,)]
        cell = GRU() if self.kind == "gru" else LSTM()
        products = product_dtype(packed)
        outputs: list[tuple[Tensor, ...]] = []
        for i, weights in enumerate(self.cells.all_weights):
            inner = self.dropout(outputs[-1][0]) if outputs else packed
            first = None if memory is None else memory[packing.ranked, i]
            outputs.append(
                recurrent_layer(inner, weights, cell, PackedLayout(packing.sizes, first, products))
            )
        return outputs


class _Permuted(torch.autograd.Function):
    """Permute rows. The backward pass is a gather too, where torch would scatter into zeros."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].index_select(0, ctx.saved_tensors[0]), None, None
