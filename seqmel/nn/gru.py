"""The GRU layer on the CPU, an exact twin of torch.nn.GRU: forward, backward, and forward alone.

Input products, gate derivatives and weight gradients are done for as many steps at once as stay in the cache; the recurrence
between them does only what each step must wait for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd

from seqmel.nn.products import Factor, add_product
from seqmel.nn.steps import Step, most_rows, rows_of, step_blocks

__all__ = ["GRULayer", "gru_alone"]


def _put_before(states: Tensor, block: list[Step], sizes: list[int], first: Tensor | None, out: Tensor) -> None:
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
    before, inner, bias = w_state.roll(hidden, 0).t(), w_in.clone(), torch.cat([b_state[2 * hidden :], b_in])
    bias[hidden : 3 * hidden] += b_state[: 2 * hidden]
    inner[2 * hidden :] *= 2
    bias[3 * hidden :] *= 2
    before, inner = before.to(products or x.dtype), inner.t().to(products or x.dtype)
    minus_one = x.new_tensor(-1.0)
    blocks = step_blocks(sizes, 4 * hidden)
    states = x.new_empty(len(x), hidden)
    gates = x.new_empty(len(x) if keep else most_rows(blocks), 4 * hidden)
    state = x.new_zeros(sizes[0], hidden) if first is None else first[: sizes[0]]
    events, recurring = Factor(most_rows(blocks), x.shape[1], products), Factor(sizes[0], hidden, products)
    for block in blocks:
        rows, running = rows_of(block), [size for _, _, size in block]
        part = gates[rows] if keep else gates[: rows.stop - rows.start]
        part[:] = bias
        add_product(part[:, hidden:], events(x[rows]), inner)
        columns = [part[:, : 3 * hidden], part[:, hidden : 3 * hidden], *part.chunk(4, dim=1), states[rows]]
        by_step = zip(running, *(c.split_with_sizes(running) for c in columns), strict=True)
        for size, u_r_z, r_z, u, r, z, n, out in by_step:
            state = state.narrow(0, 0, size)
            add_product(u_r_z, recurring(state), before)
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


def gru_alone(x: Tensor, weights: list[nn.Parameter], sizes: list[int], memory: Tensor | None) -> Tensor:
    """What `GRULayer` gives where no gradient is asked for: nothing is kept but the states."""
    first = None if memory is None else memory[:, 0].to(weights[0].dtype)
    with torch.autocast("cpu", enabled=False):
        return _gru_states(x.to(weights[0].dtype), weights, sizes, first, keep=False)[0]


class GRULayer(torch.autograd.Function):
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
        blocks = step_blocks(sizes, 4 * hidden)
        most = most_rows(blocks)
        slopes, before = x.new_empty(most, 4 * hidden), x.new_empty(most, hidden)
        w_before, w_in = (w.to(ctx.products or x.dtype) for w in (w_state.roll(hidden, 0), w_in))
        by_event, by_slope, by_state = (Factor(most, width, ctx.products) for width in (x.shape[1], 4 * hidden, hidden))
        recurring = Factor(sizes[0], 3 * hidden, ctx.products)
        # transposed, and sums as products with ones: faster than the other way round
        d_w_before, d_w_in = x.new_zeros(hidden, 3 * hidden), x.new_zeros(w_in.shape[1], 3 * hidden)
        d_bias, ones = x.new_zeros(1, 4 * hidden), x.new_ones(1, len(slopes))
        d_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        d_state = x.new_zeros(sizes[0], hidden)
        for block in reversed(blocks):
            rows, running = rows_of(block), [size for _, _, size in block]
            u, r, z, n = gates[rows].chunk(4, dim=1)
            h, s = before[: len(u)], slopes[: len(u)]
            _put_before(states, block, sizes, ctx.first, h)
            _gru_slopes(u, r, z, n, gates[rows, hidden : 3 * hidden], h, s)
            columns = (gradients[0][rows], z, s.view(-1, 4, hidden), s[:, : 3 * hidden])
            by_step = zip(running[::-1], *(c.split_with_sizes(running)[::-1] for c in columns), strict=True)
            for size, d_out, kept, gate, u_r_z in by_step:
                d = d_state.narrow(0, 0, size).add_(d_out)
                gate.mul_(d.unsqueeze(1))
                add_product(d.mul_(kept), recurring(u_r_z), w_before)
            d_bias.addmm_(ones[:, : len(s)], s)
            s = by_slope(s)
            add_product(d_w_before, by_state(h).t(), s[:, : 3 * hidden])
            add_product(d_w_in, by_event(x[rows]).t(), s[:, hidden:])
            if d_x is not None:
                add_product(d_x[rows], s[:, hidden:], w_in)
        d_w_state, d_b_state = d_w_before.t().roll(-hidden, 0), d_bias[0, : 3 * hidden].roll(-hidden)
        return d_x, d_w_in.t().contiguous(), d_w_state, d_bias[0, hidden:].clone(), d_b_state, None, None, None
