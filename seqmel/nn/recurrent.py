"""GRU and LSTM over ragged batches, exact twins of torch.nn.GRU and torch.nn.LSTM.

Sequences are sorted by length, so that at step t the ones still running are the first b_t rows: no padding is computed.
On a GPU cuDNN does that. On the CPU torch's own backward over packed sequences takes time quadratic in the number of
steps, so there it is written out (`seqmel.nn.layer`, `gru`, `lstm`): the recurrence keeps only what each step must wait
for, one product and a few pointwise operations, and several threads have sequences of their own. Under bfloat16 autocast the products are in bfloat16; states, gates and
sums stay in float32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from seqmel.data.batch import SequenceBatch
from seqmel.nn.gru import GRU
from seqmel.nn.layer import RecurrentLayer, Run, layer_alone
from seqmel.nn.lstm import LSTM
from seqmel.nn.products import type_of_products
from seqmel.threads import MOST_THREADS

__all__ = ["Packing", "Recurrent"]


_LEAST_SEQUENCES = 32  # of a run: with fewer its products are too small


@dataclass(frozen=True)
class Packing:
    """Time-major order of a batch's events, longest sequence first, dealt out to one or several runs.

    Attributes:
        order: (E,) int64, packed position -> event of the batch.
        back: (E,) int64, event of the batch -> packed position.
        runs: one after the other, each with its running batch sizes, not increasing.
        sequences: of each run, (S,) int64, longest first.
    """

    order: Tensor
    back: Tensor
    runs: list[Run]
    sequences: list[Tensor]

    @classmethod
    def of(cls, batch: SequenceBatch, *, runs: int = 1) -> Packing:
        """Worked out on the host from the lengths, then sent to where the events lie."""
        lengths = batch.lengths
        ranked = torch.argsort(lengths, descending=True, stable=True)
        rank = torch.empty_like(ranked)
        rank[ranked] = torch.arange(len(ranked))
        longest = int(lengths.max()) if len(lengths) else 0
        running = (len(lengths) - torch.bincount(lengths, minlength=longest + 1).cumsum(0))[:longest]
        number = torch.arange(runs)
        sizes = (
            running + runs - 1 - number.unsqueeze(1)
        ) // runs  # (runs, longest): sequences go round the runs by rank
        begins = (sizes.flatten().cumsum(0) - sizes.flatten()).view(sizes.shape)
        which = torch.repeat_interleave(lengths)
        step = torch.arange(batch.events) - (lengths.cumsum(0) - lengths)[which]
        back = begins[(rank % runs)[which], step] + (rank // runs)[which]
        order = torch.empty_like(back)
        order[back] = torch.arange(len(back))
        order, back = (x.to(batch.device, non_blocking=True) for x in (order, back))
        ends = sizes.sum(1).cumsum(0).tolist()
        dealt = [
            Run(slice(begin, end), [size for size in of_run if size])
            for begin, end, of_run in zip([0, *ends], ends, sizes.tolist(), strict=False)
        ]
        return cls(order, back, dealt, [ranked[i::runs] for i in range(runs)])


class Recurrent(nn.Module):
    """A stack of GRU or LSTM layers: (E, D) -> (E, H), the state after each event.

    The weights lie in a torch.nn.GRU or torch.nn.LSTM, so that a model means the same outside seqmel.
    """

    def __init__(
        self, kind: Literal["gru", "lstm"], input_size: int, *, hidden_size: int, layers: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.kind = kind
        self.output_size = hidden_size
        make = nn.GRU if kind == "gru" else nn.LSTM
        self.cells = make(input_size, hidden_size, layers, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)

    @property
    def memory_size(self) -> int:
        """M, how many numbers carry a sequence on: the hidden state of each layer, and the cell of an LSTM's."""
        return self.cells.num_layers * self.output_size * (1 if self.kind == "gru" else 2)

    def forward(self, events: Tensor, batch: SequenceBatch) -> Tensor:
        """The state after each event.

        Args:
            events: (E, D) encoded events.
            batch: whose events they are.

        Returns:
            (E, H), in the order of the batch.
        """
        if batch.events == 0:
            return events.new_zeros(0, self.output_size)
        packing = Packing.of(batch, runs=self._runs(batch))
        packed = _Reordered.apply(events, packing.order, packing.back)
        return _Reordered.apply(self._layers(packed, packing, None)[-1][0], packing.back, packing.order)

    def advance(self, events: Tensor, batch: SequenceBatch, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Go on from where earlier events of the same sequences left off. No gradient goes back into the memory.

        Args:
            events: (E, D) encoded events.
            batch: whose events they are.
            memory: (B, M) what `advance` gave for the earlier events; zeros at the beginning.

        Returns:
            (E, H) the state after each event, and (B, M) the memory after all of them.
        """
        if batch.events == 0:
            return events.new_zeros(0, self.output_size), memory
        packing = Packing.of(batch, runs=self._runs(batch))
        parts = memory.unflatten(1, (self.cells.num_layers, -1, self.output_size))
        layers = self._layers(events.index_select(0, packing.order), packing, parts)
        ended = (batch.offsets[1:] - 1).clamp(min=0)
        last = torch.stack([torch.stack([x[packing.back[ended]] for x in layer], dim=1) for layer in layers], dim=1)
        after = torch.where((batch.offsets.diff() > 0).view(-1, 1, 1, 1), last.float(), parts)
        return layers[-1][0].index_select(0, packing.back), after.flatten(1)

    @staticmethod
    def _runs(batch: SequenceBatch) -> int:
        """How many threads work on a batch: one where no gradient is asked for, since there batches are worked on side by side."""
        if batch.device.type != "cpu" or not torch.is_grad_enabled():
            return 1
        return max(1, min(torch.get_num_threads(), MOST_THREADS, int((batch.lengths > 0).sum()) // _LEAST_SEQUENCES))

    def _layers(self, packed: Tensor, packing: Packing, memory: Tensor | None) -> list[tuple[Tensor, ...]]:
        """For each layer what is carried on after each packed event, each (E, H): the states, and the cells of an LSTM."""
        if packed.device.type != "cpu" and memory is None:
            sizes = torch.tensor(packing.runs[0].sizes)
            return [(self.cells(PackedSequence(packed, sizes))[0].data,)]
        layer = RecurrentLayer.apply if torch.is_grad_enabled() else layer_alone
        products = type_of_products(packed)
        found: list[tuple[Tensor, ...]] = []
        for i, weights in enumerate(self.cells.all_weights):
            runs = [replace(run, products=products) for run in packing.runs]
            if memory is not None:
                begin = memory[:, i].to(weights[0].dtype)
                pairs = zip(runs, packing.sequences, strict=True)
                runs = [replace(run, first=begin[sequences].unbind(1)) for run, sequences in pairs]
            inner = self.dropout(found[-1][0]) if found else packed
            found.append(layer(inner, *weights, GRU if self.kind == "gru" else LSTM, runs))
        return found


class _Reordered(torch.autograd.Function):
    """Rows in another order. Going back is a gather too, where torch would add into zeros."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].index_select(0, ctx.saved_tensors[0]), None, None
