"""GRU and LSTM over ragged batches, exact twins of torch.nn.GRU and torch.nn.LSTM.

Sequences are sorted by length, so that at step t the ones still running are the first b_t rows: no padding is computed.
On a GPU cuDNN does that. On the CPU torch's own backward over packed sequences takes time quadratic in the number of
steps, so here it is written out: the recurrence keeps only what each step must wait for (one product, a few pointwise
operations); input products, gate derivatives and weight gradients are done for all events at once, before and after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.nn.utils.rnn import PackedSequence

from seqmel.data.batch import SequenceBatch

__all__ = ["Packing", "Recurrent"]


@dataclass(frozen=True)
class Packing:
    """Time-major order of a batch's events, longest sequence first.

    Attributes:
        order: (E,) int64, packed position -> event of the batch.
        back: (E,) int64, event of the batch -> packed position.
        sizes: T running batch sizes, not increasing; step t is the next `sizes[t]` packed rows.
        ranked: (B,) int64, the sequences, longest first.
    """

    order: Tensor
    back: Tensor
    sizes: list[int]
    ranked: Tensor

    @classmethod
    def of(cls, batch: SequenceBatch) -> Packing:
        """Worked out on the host from the lengths, then sent to where the events lie."""
        lengths = batch.lengths
        ranked = torch.argsort(lengths, descending=True, stable=True)
        rank = torch.empty_like(ranked)
        rank[ranked] = torch.arange(len(ranked))
        longest = int(lengths.max()) if len(lengths) else 0
        counts = torch.bincount(lengths, minlength=longest + 1)
        sizes = (len(lengths) - counts.cumsum(0))[:longest]
        begins = sizes.cumsum(0) - sizes
        which = torch.repeat_interleave(lengths)
        step = torch.arange(batch.events) - (lengths.cumsum(0) - lengths)[which]
        back = begins[step] + rank[which]
        order = torch.empty_like(back)
        order[back] = torch.arange(len(back))
        order, back, ranked = (x.to(batch.device, non_blocking=True) for x in (order, back, ranked))
        return cls(order, back, sizes.tolist(), ranked)


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
        packing = Packing.of(batch)
        return self._layers(events.index_select(0, packing.order), packing, None)[-1][0].index_select(0, packing.back)

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
        packing = Packing.of(batch)
        parts = memory.unflatten(1, (self.cells.num_layers, -1, self.output_size))
        layers = self._layers(events.index_select(0, packing.order), packing, parts)
        ended = (batch.offsets[1:] - 1).clamp(min=0)
        last = torch.stack([torch.stack([x[packing.back[ended]] for x in layer], dim=1) for layer in layers], dim=1)
        after = torch.where((batch.offsets.diff() > 0).view(-1, 1, 1, 1), last.float(), parts)
        return layers[-1][0].index_select(0, packing.back), after.flatten(1)

    def _layers(self, packed: Tensor, packing: Packing, memory: Tensor | None) -> list[tuple[Tensor, ...]]:
        """For each layer the packed (E, H) states, and the cells of an LSTM where there is a memory to go on from."""
        if packed.device.type != "cpu" and memory is None:
            return [(self.cells(PackedSequence(packed, torch.tensor(packing.sizes)))[0].data,)]
        found: list[tuple[Tensor, ...]] = []
        for i, weights in enumerate(self.cells.all_weights):
            begin = None if memory is None else memory[packing.ranked, i].to(packed.dtype)
            inner = self.dropout(found[-1][0]) if found else packed
            if self.kind == "gru" and not torch.is_grad_enabled():
                found.append((_gru_states(inner, weights, packing.sizes, begin),))
            elif self.kind == "gru":
                found.append((_GRULayer.apply(inner, *weights, packing.sizes, begin),))
            else:
                found.append(_LSTMLayer.apply(inner, *weights, packing.sizes, begin))
        return found


def _begins(sizes: list[int]) -> list[int]:
    begins, total = [], 0
    for size in sizes:
        begins.append(total)
        total += size
    return begins


def _before(states: Tensor, sizes: list[int], first: Tensor | None) -> Tensor:
    """(E, H) the state before each event: `first` or zero, then the rows of the step before that still run."""
    running = torch.tensor(sizes)
    step = torch.repeat_interleave(running)[sizes[0] :]
    source = torch.arange(sizes[0], len(states)) - running[step - 1]
    before = torch.zeros_like(states)
    torch.index_select(states, 0, source, out=before[sizes[0] :])
    if first is not None:
        before[: sizes[0]] = first[: sizes[0]]
    return before


def _gru_states(x: Tensor, weights: list[nn.Parameter], sizes: list[int], memory: Tensor | None) -> Tensor:
    """What `_GRULayer` gives where no gradient is asked for: nothing is kept but the states, so that the gates of a step stay
    in the cache of the CPU. 1.5 times as fast."""
    w_in, w_state, b_in, b_state = weights
    both = 2 * w_state.shape[1]
    with torch.autocast("cpu", enabled=False):
        x = x.to(w_in.dtype)
        bias = b_in.clone()
        bias[:both] += b_state[:both]
        gates, fresh = x.new_empty(sizes[0], len(bias)), x.new_empty(sizes[0], w_state.shape[1])
        states = x.new_empty(len(x), w_state.shape[1])
        state = torch.zeros_like(fresh) if memory is None else memory[: sizes[0], 0].to(w_in.dtype)
        for begin, size in zip(_begins(sizes), sizes, strict=True):
            rows, state = slice(begin, begin + size), state[:size]
            g = torch.addmm(bias, x[rows], w_in.t(), out=gates[:size])
            r, z = g[:, :both].addmm_(state, w_state[:both].t()).sigmoid_().chunk(2, dim=1)
            u = torch.addmm(b_state[both:], state, w_state[both:].t(), out=fresh[:size])
            n = g[:, both:].addcmul_(r, u).tanh_()
            state = torch.lerp(n, state, z, out=states[rows])
    return states


class _GRULayer(torch.autograd.Function):
    """h' = (1 - z) n + z h;  r, z = sigmoid(x W + h U);  n = tanh(x W_n + r (h U_n))   (as torch.nn.GRU defines it)."""

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any,
        x: Tensor,
        w_in: Tensor,
        w_state: Tensor,
        b_in: Tensor,
        b_state: Tensor,
        sizes: list[int],
        memory: Tensor | None,
    ) -> Tensor:
        hidden = w_state.shape[1]
        first = None if memory is None else memory[:, 0]
        bias = b_in.clone()
        bias[: 2 * hidden] += b_state[: 2 * hidden]
        from_input = torch.addmm(bias, x, w_in.t())
        gates = from_input.clone()  # becomes r, z and h U_n + b_n of every event
        gates[:, 2 * hidden :] = b_state[2 * hidden :]
        new = from_input[:, 2 * hidden :].contiguous()  # becomes n
        states = x.new_empty(len(x), hidden)
        transposed = w_state.t()
        state = x.new_zeros(sizes[0], hidden) if first is None else first[: sizes[0]]
        for begin, size in zip(_begins(sizes), sizes, strict=True):
            rows = slice(begin, begin + size)
            g, n, state = gates[rows], new[rows], state[:size]
            torch.addmm(g, state, transposed, out=g)
            rz = g[:, : 2 * hidden].sigmoid_()
            n.addcmul_(rz[:, :hidden], g[:, 2 * hidden :]).tanh_()
            state = torch.lerp(n, state, rz[:, hidden:], out=states[rows])
        ctx.sizes, ctx.first = sizes, first
        ctx.save_for_backward(x, w_in, w_state, gates, new, states)
        return states

    @staticmethod
    @custom_bwd(device_type="cpu")
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, w_in, w_state, gates, n, states = ctx.saved_tensors
        sizes, hidden = ctx.sizes, states.shape[1]
        r, z, u = gates[:, :hidden], gates[:, hidden : 2 * hidden], gates[:, 2 * hidden :]
        before = _before(states, sizes, ctx.first)
        through_n = (1 - n * n).mul_(1 - z)
        slopes = torch.empty_like(gates)  # d(gate before its activation) / d(state), for r, z and h U_n
        torch.mul(through_n, u, out=slopes[:, :hidden]).mul_(r).mul_(1 - r)
        torch.sub(before, n, out=slopes[:, hidden : 2 * hidden]).mul_(z).mul_(1 - z)
        torch.mul(through_n, r, out=slopes[:, 2 * hidden :])
        d_states = gradients[0].clone()
        kept = z.contiguous()
        d_gates = slopes
        carry = x.new_zeros(0, hidden)
        for begin, size in zip(reversed(_begins(sizes)), reversed(sizes), strict=True):
            rows = slice(begin, begin + size)
            d = d_states[rows]
            d[: len(carry)] += carry
            s = d_gates[rows].view(size, 3, hidden).mul_(d.unsqueeze(1)).view(size, 3 * hidden)
            carry = torch.addmm(kept[rows].mul_(d), s, w_state)
        d_w_state = d_gates.t() @ before
        d_b_state = d_gates.sum(0)
        torch.mul(d_states, through_n, out=d_gates[:, 2 * hidden :])
        d_x = d_gates @ w_in if ctx.needs_input_grad[0] else None
        return d_x, d_gates.t() @ x, d_w_state, d_gates.sum(0), d_b_state, None, None


class _LSTMLayer(torch.autograd.Function):
    """c' = f c + i g;  h' = o tanh(c');  i, f, o = sigmoid(x W + h U);  g = tanh(x W_g + h U_g)   (as torch.nn.LSTM)."""

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any,
        x: Tensor,
        w_in: Tensor,
        w_state: Tensor,
        b_in: Tensor,
        b_state: Tensor,
        sizes: list[int],
        memory: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        hidden = w_state.shape[1]
        gates = torch.addmm(b_in + b_state, x, w_in.t())  # becomes i, f, g, o of every event
        cells, squashed, states = (x.new_empty(len(x), hidden) for _ in range(3))
        transposed = w_state.t()
        state = cell = x.new_zeros(sizes[0], hidden)
        if memory is not None:
            state, cell = memory[: sizes[0], 0], memory[: sizes[0], 1]
        for begin, size in zip(_begins(sizes), sizes, strict=True):
            rows = slice(begin, begin + size)
            a = gates[rows]
            torch.addmm(a, state[:size], transposed, out=a)
            i_f = a[:, : 2 * hidden].sigmoid_()
            g = a[:, 2 * hidden : 3 * hidden].tanh_()
            o = a[:, 3 * hidden :].sigmoid_()
            cell = torch.mul(i_f[:, hidden:], cell[:size], out=cells[rows]).addcmul_(i_f[:, :hidden], g)
            state = torch.mul(o, torch.tanh(cell, out=squashed[rows]), out=states[rows])
        ctx.sizes, ctx.memory = sizes, memory
        ctx.save_for_backward(x, w_in, w_state, gates, cells, squashed, states)
        ctx.mark_non_differentiable(cells)
        return states, cells

    @staticmethod
    @custom_bwd(device_type="cpu")
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, w_in, w_state, gates, cells, squashed, states = ctx.saved_tensors
        sizes, hidden = ctx.sizes, states.shape[1]
        first, first_cell = (None, None) if ctx.memory is None else ctx.memory.unbind(1)
        i, f, g, o = gates.view(len(x), 4, hidden).unbind(1)
        to_cell = o * (1 - squashed * squashed)
        slopes = torch.empty_like(gates)  # d(gate before its activation) / d(cell) for i, f, g; / d(state) for o
        by_gate = slopes.view(len(x), 4, hidden)
        torch.mul(g, i, out=by_gate[:, 0]).mul_(1 - i)
        torch.mul(_before(cells, sizes, first_cell), f, out=by_gate[:, 1]).mul_(1 - f)
        torch.mul(i, 1 - g * g, out=by_gate[:, 2])
        torch.mul(squashed, o, out=by_gate[:, 3]).mul_(1 - o)
        kept = f.contiguous()
        d_states = gradients[0].clone()
        carry_state = carry_cell = x.new_zeros(0, hidden)
        for begin, size in zip(reversed(_begins(sizes)), reversed(sizes), strict=True):
            rows = slice(begin, begin + size)
            d = d_states[rows]
            d[: len(carry_state)] += carry_state
            d_cell = d * to_cell[rows]
            d_cell[: len(carry_cell)] += carry_cell
            s = by_gate[rows]
            s[:, :3].mul_(d_cell.unsqueeze(1))
            s[:, 3].mul_(d)
            carry_cell = kept[rows].mul_(d_cell)
            carry_state = slopes[rows] @ w_state
        d_bias = slopes.sum(0)
        d_x = slopes @ w_in if ctx.needs_input_grad[0] else None
        return d_x, slopes.t() @ x, slopes.t() @ _before(states, sizes, first), d_bias, d_bias, None, None
