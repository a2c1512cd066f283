"""GRU and LSTM over ragged batches, exact twins of torch.nn.GRU and torch.nn.LSTM.

Sequences are sorted by length, so that at step t the ones still running are the first b_t rows: no padding is computed.
On a GPU cuDNN does that. On the CPU torch's own backward over packed sequences takes time quadratic in the number of
steps, so here it is written out: the recurrence keeps only what each step must wait for (one product, a few pointwise
operations). Input products, gate derivatives and weight gradients are done before and after for several steps at once: of a
GRU for as many as stay in the cache of the CPU, of an LSTM for all. Under bfloat16 autocast the products are in bfloat16;
states, gates and sums stay in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.nn.utils.rnn import PackedSequence

from seqmel.data.batch import SequenceBatch

__all__ = ["Packing", "Recurrent"]

_BLOCK_NUMBERS = 2**19  # two megabytes: about what a core's second cache and its share of the third hold


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
        products = _products(packed)
        found: list[tuple[Tensor, ...]] = []
        for i, weights in enumerate(self.cells.all_weights):
            begin = None if memory is None else memory[packing.ranked, i].to(packed.dtype)
            inner = self.dropout(found[-1][0]) if found else packed
            if self.kind == "gru" and not torch.is_grad_enabled():
                found.append((_gru_alone(inner, weights, packing.sizes, begin),))
            elif self.kind == "gru":
                found.append((_GRULayer.apply(inner, *weights, packing.sizes, begin, products),))
            else:
                found.append(_LSTMLayer.apply(inner, *weights, packing.sizes, begin, products))
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


def _products(packed: Tensor) -> torch.dtype | None:
    """What a layer on the CPU computes products in, where not as all else."""
    if packed.dtype == torch.float64 or not torch.is_autocast_enabled("cpu"):
        return None
    return torch.bfloat16 if torch.get_autocast_dtype("cpu") == torch.bfloat16 else None


class _Factor:
    """Rows as a factor of a product: as they are, or in bfloat16 with rows of zeros after them up to a multiple of 32.

    For bfloat16 oneDNN compiles a kernel for every shape that it meets, which takes longer than the products here: so there
    are to be few shapes.
    """

    def __init__(self, rows: int, width: int, products: torch.dtype | None) -> None:
        rounded = _rounded_up(rows)
        self.buffer = None if products is None else torch.zeros(rounded, width, dtype=products)

    def __call__(self, rows: Tensor) -> Tensor:
        """(R or more, width); good until the next call."""
        if self.buffer is None:
            return rows
        factor = self.buffer[: _rounded_up(len(rows))]
        factor[: len(rows)] = rows
        factor[len(rows) :] = 0
        return factor


def _rounded_up(rows: int) -> int:
    return -(-rows // 32) * 32


def _add_product(out: Tensor, a: Tensor, b: Tensor) -> None:
    """out += a b; computed in the type of the factors, added in that of `out`, which may have fewer rows."""
    if out.dtype == b.dtype:
        out.addmm_(a, b)
    else:
        out.add_(torch.mm(a, b)[: len(out)])


def _blocks(sizes: list[int], width: int) -> list[list[tuple[int, int, int]]]:
    """Runs of steps whose events, `width` numbers each, fit in the cache together: (step, first row, rows) of each step."""
    most = max(sizes[0], _BLOCK_NUMBERS // width)
    blocks: list[list[tuple[int, int, int]]] = []
    begin, held = 0, most
    for step, size in enumerate(sizes):
        if held + size > most:
            blocks.append([])
            held = 0
        blocks[-1].append((step, begin, size))
        begin, held = begin + size, held + size
    return blocks


def _rows(block: list[tuple[int, int, int]]) -> slice:
    return slice(block[0][1], block[-1][1] + block[-1][2])


def _most_rows(blocks: list[list[tuple[int, int, int]]]) -> int:
    return max(rows.stop - rows.start for rows in map(_rows, blocks))


def _put_before(
    states: Tensor, block: list[tuple[int, int, int]], sizes: list[int], first: Tensor | None, out: Tensor
) -> None:
    """(R, H) the state before each event of a block: `first` or zero, or the rows of the step before that still run."""
    at = 0
    for step, begin, size in block:
        if step:
            source = begin - sizes[step - 1]
            out[at : at + size] = states[source : source + size]
        elif first is None:
            out[at : at + size] = 0
        else:
            out[at : at + size] = first[:size]
        at += size


def _gru_states(
    x: Tensor,
    weights: Sequence[Tensor],
    sizes: list[int],
    first: Tensor | None,
    *,
    keep: bool,
    products: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """The states (E, H), and the gates of all events where they are to be kept, else of one block: (E, 4H) h U_n, r, z, n.

    tanh a is taken as 2 sigmoid(2 a) - 1, which is four times as fast; the doubling is in the weights.
    """
    w_in, w_state, b_in, b_state = weights
    hidden = w_state.shape[1]
    before, inner, bias = w_state.roll(hidden, 0).t(), w_in.clone(), b_in.clone()
    bias[: 2 * hidden] += b_state[: 2 * hidden]
    inner[2 * hidden :] *= 2
    bias[2 * hidden :] *= 2
    before, inner = before.to(products or x.dtype), inner.t().to(products or x.dtype)
    minus_one = x.new_tensor(-1.0)
    blocks = _blocks(sizes, 4 * hidden)
    states = x.new_empty(len(x), hidden)
    gates = x.new_empty(len(x) if keep else _most_rows(blocks), 4 * hidden)
    state = x.new_zeros(sizes[0], hidden) if first is None else first[: sizes[0]]
    events, recurring = _Factor(_most_rows(blocks), x.shape[1], products), _Factor(sizes[0], hidden, products)
    for block in blocks:
        rows, running = _rows(block), [size for _, _, size in block]
        part = gates[rows] if keep else gates[: rows.stop - rows.start]
        part[:, :hidden] = b_state[2 * hidden :]
        part[:, hidden:] = bias
        _add_product(part[:, hidden:], events(x[rows]), inner)
        columns = [part[:, : 3 * hidden], part[:, hidden : 3 * hidden], *part.chunk(4, dim=1), states[rows]]
        by_step = zip(running, *(c.split_with_sizes(running) for c in columns), strict=True)
        for size, u_r_z, r_z, u, r, z, n, out in by_step:
            state = state.narrow(0, 0, size)
            _add_product(u_r_z, recurring(state), before)
            r_z.sigmoid_()
            torch.add(minus_one, n.addcmul_(r, u, value=2).sigmoid_(), alpha=2, out=n)
            state = torch.lerp(n, state, z, out=out)
    return states, gates


def _gru_slopes(u: Tensor, r: Tensor, z: Tensor, n: Tensor, r_z: Tensor, before: Tensor, out: Tensor) -> None:
    """(R, 4H) d(gate before its activation) / d(state) for h U_n, r, z, n: (1-z)(1-n^2) r, ... u r(1-r), (h-n) z(1-z), ..."""
    hidden = u.shape[1]
    by_u, by_r, by_z, by_n = out.chunk(4, dim=1)
    torch.ops.aten.tanh_backward(torch.sub(1, z, out=by_n), n, grad_input=by_n)
    torch.mul(by_n, r, out=by_u)
    torch.mul(by_n, u, out=by_r)
    torch.sub(before, n, out=by_z)
    by_r_z = out[:, hidden : 3 * hidden]
    torch.ops.aten.sigmoid_backward(by_r_z, r_z, grad_input=by_r_z)


def _gru_alone(x: Tensor, weights: list[nn.Parameter], sizes: list[int], memory: Tensor | None) -> Tensor:
    """What `_GRULayer` gives where no gradient is asked for: nothing is kept but the states."""
    first = None if memory is None else memory[:, 0].to(weights[0].dtype)
    with torch.autocast("cpu", enabled=False):
        return _gru_states(x.to(weights[0].dtype), weights, sizes, first, keep=False)[0]


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
        products: torch.dtype | None,
    ) -> Tensor:
        first = None if memory is None else memory[:, 0]
        weights = w_in, w_state, b_in, b_state
        states, gates = _gru_states(x, weights, sizes, first, keep=True, products=products)
        ctx.sizes, ctx.first, ctx.products = sizes, first, products
        ctx.save_for_backward(x, w_in, w_state, gates, states)
        return states

    @staticmethod
    @custom_bwd(device_type="cpu")
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, w_in, w_state, gates, states = ctx.saved_tensors
        sizes, hidden = ctx.sizes, states.shape[1]
        blocks = _blocks(sizes, 4 * hidden)
        most = _most_rows(blocks)
        slopes, before = x.new_empty(most, 4 * hidden), x.new_empty(most, hidden)
        w_before, w_in = (w.to(ctx.products or x.dtype) for w in (w_state.roll(hidden, 0), w_in))
        by_event, by_slope, by_state = (
            _Factor(most, width, ctx.products) for width in (x.shape[1], 4 * hidden, hidden)
        )
        recurring = _Factor(sizes[0], 3 * hidden, ctx.products)
        # transposed, and sums as products with ones: faster than the other way round
        d_w_before, d_w_in = x.new_zeros(hidden, 3 * hidden), x.new_zeros(w_in.shape[1], 3 * hidden)
        d_bias, ones = x.new_zeros(1, 4 * hidden), x.new_ones(1, len(slopes))
        d_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        d_state = x.new_zeros(sizes[0], hidden)
        for block in reversed(blocks):
            rows, running = _rows(block), [size for _, _, size in block]
            u, r, z, n = gates[rows].chunk(4, dim=1)
            h, s = before[: len(u)], slopes[: len(u)]
            _put_before(states, block, sizes, ctx.first, h)
            _gru_slopes(u, r, z, n, gates[rows, hidden : 3 * hidden], h, s)
            columns = (gradients[0][rows], z, s.view(-1, 4, hidden), s[:, : 3 * hidden])
            by_step = zip(running[::-1], *(c.split_with_sizes(running)[::-1] for c in columns), strict=True)
            for size, d_out, kept, gate, u_r_z in by_step:
                d = d_state.narrow(0, 0, size).add_(d_out)
                gate.mul_(d.unsqueeze(1))
                _add_product(d.mul_(kept), recurring(u_r_z), w_before)
            d_bias.addmm_(ones[:, : len(s)], s)
            s = by_slope(s)
            _add_product(d_w_before, by_state(h).t(), s[:, : 3 * hidden])
            _add_product(d_w_in, by_event(x[rows]).t(), s[:, hidden:])
            if d_x is not None:
                _add_product(d_x[rows], s[:, hidden:], w_in)
        d_w_state, d_b_state = d_w_before.t().roll(-hidden, 0), d_bias[0, : 3 * hidden].roll(-hidden)
        return d_x, d_w_in.t().contiguous(), d_w_state, d_bias[0, hidden:].clone(), d_b_state, None, None, None


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
        products: torch.dtype | None,
    ) -> tuple[Tensor, Tensor]:
        hidden = w_state.shape[1]
        squash, minus_one = slice(2 * hidden, 3 * hidden), x.new_tensor(-1.0)
        inner, before, bias = w_in.t().clone(), w_state.t().clone(), b_in + b_state
        for doubled in (inner, before, bias):  # see `_gru_states` for tanh
            doubled[..., squash] *= 2
        inner, before = inner.to(products or x.dtype), before.to(products or x.dtype)
        gates = bias.repeat(len(x), 1)  # becomes i, f, g, o of every event
        _add_product(gates, x.to(inner.dtype), inner)
        recurring = _Factor(sizes[0], hidden, products)
        cells, squashed, states = (x.new_empty(len(x), hidden) for _ in range(3))
        state = cell = x.new_zeros(sizes[0], hidden)
        if memory is not None:
            state, cell = memory[: sizes[0], 0], memory[: sizes[0], 1]
        for begin, size in zip(_begins(sizes), sizes, strict=True):
            rows = slice(begin, begin + size)
            a = gates[rows]
            _add_product(a, recurring(state[:size]), before)
            i, f, g, o = a.sigmoid_().chunk(4, dim=1)
            torch.add(minus_one, g, alpha=2, out=g)
            cell = torch.mul(f, cell[:size], out=cells[rows]).addcmul_(i, g)
            tanh = torch.mul(cell, 2, out=squashed[rows]).sigmoid_()
            state = torch.mul(o, torch.add(minus_one, tanh, alpha=2, out=tanh), out=states[rows])
        ctx.sizes, ctx.memory, ctx.products = sizes, memory, products
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
        w_in, w_state = (w.to(ctx.products or x.dtype) for w in (w_in, w_state))
        recurring = _Factor(sizes[0], 4 * hidden, ctx.products)
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
            carry_state = (recurring(slopes[rows]) @ w_state)[:size]
        d_bias = slopes.sum(0)
        slopes = slopes.to(w_in.dtype)
        d_x = (slopes @ w_in).to(x.dtype) if ctx.needs_input_grad[0] else None
        d_w_in, d_w_state = ((slopes.t() @ y.to(w_in.dtype)).to(x.dtype) for y in (x, _before(states, sizes, first)))
        return d_x, d_w_in, d_w_state, d_bias, d_bias, None, None, None
