"""The LSTM layer on the CPU, an exact twin of torch.nn.LSTM: forward, backward, and forward alone.

Input products are done for as many steps at once as stay in the cache, gate derivatives and weight gradients after the
recurrence for all steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd

from seqmel.nn.products import Factor, add_product
from seqmel.nn.steps import most_rows, rows_of, step_blocks

__all__ = ["LSTMLayer", "lstm_alone"]


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


def _lstm_states(
    x: Tensor,
    weights: Sequence[Tensor],
    sizes: list[int],
    memory: Tensor | None,
    *,
    keep: bool,
    products: torch.dtype | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States and cells (E, H); gates i, f, g, o (E, 4H) and tanh c (E, H) where they are to be kept, else of one block.

    tanh is taken as in `seqmel.nn.gru`.
    """
    w_in, w_state, b_in, b_state = weights
    hidden = w_state.shape[1]
    squash, minus_one = slice(2 * hidden, 3 * hidden), x.new_tensor(-1.0)
    inner, before, bias = w_in.t().clone(), w_state.t().clone(), b_in + b_state
    for doubled in (inner, before, bias):
        doubled[..., squash] *= 2
    inner, before = inner.to(products or x.dtype), before.to(products or x.dtype)
    blocks = step_blocks(sizes, 4 * hidden)
    most = most_rows(blocks)
    states, cells = x.new_empty(len(x), hidden), x.new_empty(len(x), hidden)
    gates, squashed = (x.new_empty(len(x) if keep else most, width) for width in (4 * hidden, hidden))
    state = cell = x.new_zeros(sizes[0], hidden)
    if memory is not None:
        state, cell = memory[: sizes[0], 0], memory[: sizes[0], 1]
    events, recurring = Factor(most, x.shape[1], products), Factor(sizes[0], hidden, products)
    for block in blocks:
        rows, running = rows_of(block), [size for _, _, size in block]
        kept = rows if keep else slice(0, rows.stop - rows.start)
        part, tanh_part = gates[kept], squashed[kept]
        part[:] = bias
        add_product(part, events(x[rows]), inner)
        columns = [part, *part.chunk(4, dim=1), cells[rows], tanh_part, states[rows]]
        by_step = zip(running, *(c.split_with_sizes(running) for c in columns), strict=True)
        for size, a, i, f, g, o, cell_out, tanh, out in by_step:
            add_product(a, recurring(state[:size]), before)
            a.sigmoid_()
            torch.add(minus_one, g, alpha=2, out=g)
            cell = torch.mul(f, cell[:size], out=cell_out).addcmul_(i, g)
            torch.mul(cell, 2, out=tanh).sigmoid_()
            state = torch.mul(o, torch.add(minus_one, tanh, alpha=2, out=tanh), out=out)
    return states, cells, gates, squashed


def lstm_alone(
    x: Tensor, weights: list[nn.Parameter], sizes: list[int], memory: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What `LSTMLayer` gives where no gradient is asked for: nothing is kept but states and cells."""
    with torch.autocast("cpu", enabled=False):
        x = x.to(weights[0].dtype)
        memory = None if memory is None else memory.to(x.dtype)
        return _lstm_states(x, weights, sizes, memory, keep=False)[:2]


class LSTMLayer(torch.autograd.Function):
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
        weights = w_in, w_state, b_in, b_state
        states, cells, gates, squashed = _lstm_states(x, weights, sizes, memory, keep=True, products=products)
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
        recurring = Factor(sizes[0], 4 * hidden, ctx.products)
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
